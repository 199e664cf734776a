// See export_tensors.h.
#include "model/export_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "format/apr_header.h"
#include "model/encode_stream.h"
#include "op/context.h"
#include "quant/apr_native.h"
#include "quant/quant.h"

namespace apr {
namespace {

bool IsInterleaved(Transform t) {
  return t == Transform::kStackedExpertsInterleaved || t == Transform::kStackedExpertsInterleavedTransposed;
}

// A vector is a matrix of one element per row for the row arithmetic below.
int64_t RowsOf(const WeightRef& w) { return w.view.shape.ndim() == 1 ? w.view.shape[0] : w.rows(); }
int64_t ColsOf(const WeightRef& w) { return w.view.shape.ndim() == 1 ? 1 : w.cols(); }

// One matrix of the file (one expert of a stack): which canonical row of which slot each row is.
struct RowSource {
  const WeightRef* weight;
  int64_t row;
};
using RowMap = std::vector<RowSource>;

// One tensor to be written.
struct Job {
  std::shared_ptr<const Model> model;  // keeps the weights alive
  std::shared_ptr<const EncodeContext> context;
  std::string name;
  std::vector<RowMap> matrices;            // one, or one per expert
  std::set<const TensorInfo*> sources;     // of the model's file, for telling what was read
  int64_t cols = 0;
  bool transposed = false;
  double add = 0;
  DType dtype = DType::kF32;
};

// Canonical row as f32.
void ReadRow(const RowSource& source, int64_t cols, double add, float* out) {
  if (add == 0) return ReadWeightRow(*source.weight, source.row, std::span<float>(out, static_cast<size_t>(cols)));
  std::vector<double> row(static_cast<size_t>(cols));
  ReadWeightRow(*source.weight, source.row, std::span<double>(row));
  for (int64_t i = 0; i < cols; ++i) out[i] = static_cast<float>(row[static_cast<size_t>(i)] + add);
}

// The whole of one small vector, decoded once.
std::vector<float> ReadVector(const RowMap& rows, double add) {
  std::map<const WeightRef*, std::vector<double>> decoded;
  std::vector<float> out;
  for (const RowSource& source : rows) {
    auto& values = decoded[source.weight];
    if (values.empty()) values = ReadWeightF64(*source.weight);
    out.push_back(static_cast<float>(values[static_cast<size_t>(source.row)] + add));
  }
  return out;
}

bool CanCopyRows(const Job& job) {
  if (job.transposed || job.add != 0 || job.cols == 1) return false;
  const Shape row{1, job.cols};
  const std::optional<uint64_t> bytes = job.context->container == Container::kApr ? AprStorageBytes(job.dtype, row) : StorageBytes(job.dtype, row);
  if (!bytes || job.dtype == DType::kAprQ4 || job.dtype == DType::kAprQ8) return false;
  return std::all_of(job.matrices.begin(), job.matrices.end(), [&](const RowMap& rows) {
    return std::all_of(rows.begin(), rows.end(), [&](const RowSource& s) {
      const TensorView& view = s.weight->view;
      return view.dtype == job.dtype && s.weight->add == 0 && view.shape.ndim() == 2 && view.row_bytes() == *bytes;
    });
  });
}

int64_t StoredRow(const RowSource& s) {
  return s.weight->row_order ? (*s.weight->row_order)[static_cast<size_t>(s.row)] : s.row;
}

// Runs of rows that lie one behind the other go out in one piece.
void CopyRows(const RowMap& rows, const ByteSink& sink) {
  constexpr size_t kMostRows = 4096;
  for (size_t first = 0; first < rows.size();) {
    const int64_t stored = StoredRow(rows[first]);
    size_t count = 1;
    while (first + count < rows.size() && count < kMostRows && rows[first + count].weight == rows[first].weight &&
           StoredRow(rows[first + count]) == stored + static_cast<int64_t>(count)) {
      ++count;
    }
    sink(rows[first].weight->view.Rows(stored, static_cast<int64_t>(count)).bytes);
    first += count;
  }
}

void WriteValues(const Job& job, const std::vector<float>& values, int64_t rows, int64_t cols, int64_t matrix, const ByteSink& sink) {
  const float* importance = job.context->importance ? job.context->importance(job.name, matrix, cols) : nullptr;
  EncodeStream({.dtype = job.dtype, .rows = rows, .cols = cols, .importance = importance,
                .read_row = [&](int64_t r, float* out) { std::memcpy(out, values.data() + r * cols, static_cast<size_t>(cols) * sizeof(float)); },
                .name = job.name},
               *job.context, sink);
}

void WriteTransposed(const Job& job, const RowMap& rows, int64_t matrix, const ByteSink& sink) {
  const auto n = static_cast<int64_t>(rows.size());
  std::vector<float> row(static_cast<size_t>(job.cols));
  std::vector<float> turned(static_cast<size_t>(n * job.cols));
  for (int64_t r = 0; r < n; ++r) {
    ReadRow(rows[static_cast<size_t>(r)], job.cols, job.add, row.data());
    for (int64_t c = 0; c < job.cols; ++c) turned[static_cast<size_t>(c * n + r)] = row[static_cast<size_t>(c)];
  }
  WriteValues(job, turned, job.cols, n, matrix, sink);
}

void WriteRows(const Job& job, const RowMap& rows, int64_t matrix, const ByteSink& sink) {
  if (job.cols == 1) {
    const std::vector<float> values = ReadVector(rows, job.add);
    return WriteValues(job, values, 1, static_cast<int64_t>(values.size()), matrix, sink);
  }
  if (CanCopyRows(job)) return CopyRows(rows, sink);
  const float* importance = job.context->importance ? job.context->importance(job.name, matrix, job.cols) : nullptr;
  EncodeStream({.dtype = job.dtype, .rows = static_cast<int64_t>(rows.size()), .cols = job.cols, .importance = importance,
                .read_row = [&](int64_t r, float* out) { ReadRow(rows[static_cast<size_t>(r)], job.cols, job.add, out); },
                .name = job.name},
               *job.context, sink);
}

// What one matrix is made of stays there while it is written.
std::vector<std::shared_ptr<const void>> HoldSources(const RowMap& rows) {
  std::vector<std::shared_ptr<const void>> out;
  const WeightRef* last = nullptr;
  std::set<const WeightRef*> seen;
  for (const RowSource& source : rows) {
    if (source.weight == last) continue;
    last = source.weight;
    if (seen.insert(last).second) out.push_back(last->Hold());
  }
  return out;
}

void WriteMatrices(const Job& job, const ByteSink& sink) {
  for (size_t m = 0; m < job.matrices.size(); ++m) {
    const auto held = HoldSources(job.matrices[m]);
    if (job.transposed && job.cols > 1) WriteTransposed(job, job.matrices[m], static_cast<int64_t>(m), sink);
    else WriteRows(job, job.matrices[m], static_cast<int64_t>(m), sink);
  }
}

// Of a type with one scale for the whole tensor, or blocks across its matrices.
void WriteAsOne(Job job, const ByteSink& sink) {
  const DType dtype = std::exchange(job.dtype, DType::kF32);
  std::vector<float> values;
  WriteMatrices(job, [&](Bytes bytes) {
    const size_t at = values.size();
    values.resize(at + bytes.size() / sizeof(float));
    std::memcpy(values.data() + at, bytes.data(), bytes.size());
  });
  job.dtype = dtype;
  WriteValues(job, values, 1, static_cast<int64_t>(values.size()), 0, sink);
}

void WriteJob(const Job& job, const ByteSink& sink) {
  if (IsAprNative(job.dtype) && job.matrices.size() > 1) WriteAsOne(job, sink);
  else WriteMatrices(job, sink);
  const ModelFile& file = job.model->file();
  for (const TensorInfo* info : job.sources) file.DontNeed(*info);
}

class Exporter {
 public:
  Exporter(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target, const ChooseType& choose, const EncodeContext& context)
      : model_(std::move(model)), target_(target), choose_(choose), context_(std::make_shared<const EncodeContext>(context)) {
    for (const SlotKey& key : model_->graph_slots()) wanted_.insert(key);
  }

  std::vector<TensorToWrite> Run() {
    for (const TensorRule& rule : target_) {
      if (rule.read_only) continue;
      const bool by_layer = rule.name.find("{L}") != std::string_view::npos;
      const bool by_expert = rule.name.find("{E}") != std::string_view::npos;
      const auto layers = by_layer ? static_cast<int>(model_->config().num_layers) : 1;
      const bool by_head = rule.transform == Transform::kHeadByHead;
      const auto experts = by_head     ? static_cast<int>(HeadsOf(model_->config(), rule.slots[0]))
                           : by_expert ? static_cast<int>(model_->config().moe.experts)
                                       : 1;
      for (int layer = 0; layer < layers; ++layer) {
        for (int expert = 0; expert < experts; ++expert) Tensor(rule, by_layer ? layer : -1, by_expert ? expert : -1);
      }
    }
    if (!wanted_.empty()) {
      throw Error(ErrorCode::kModelLoad, fmt::format("the target format has no name for {}", ToString(*wanted_.begin())));
    }
    return std::move(out_);
  }

 private:
  const BoundSlot* Find(Slot slot, int layer, int expert) {
    const SlotKey key{slot, layer, expert};
    const auto it = model_->slots().slots.find(key);
    if (it == model_->slots().slots.end() || (wanted_.count(key) == 0 && used_.count(key) == 0)) return nullptr;
    wanted_.erase(key);
    used_.insert(key);
    return &it->second;
  }

  // The slots of one matrix, or nothing if the model has none of them.
  std::vector<const WeightRef*> Parts(const TensorRule& rule, int layer, int expert, std::set<const TensorInfo*>& sources) {
    std::vector<const WeightRef*> out;
    for (const Slot slot : rule.slots) {
      const BoundSlot* bound = Find(slot, layer, expert);
      if (bound == nullptr) continue;
      out.push_back(&bound->weight);
      sources.insert(bound->tensor);
    }
    if (!out.empty() && out.size() != rule.slots.size()) {
      throw Error(ErrorCode::kModelLoad, fmt::format("{} needs all of its parts", ExpandName(rule.name, layer, expert)));
    }
    return out;
  }

  RowMap Rows(Transform transform, const TensorRule& rule, const std::vector<const WeightRef*>& parts) const {
    RowMap out;
    if (transform == Transform::kPerHeadInterleaved) {
      const int64_t dim = model_->config().head_dim;
      for (int64_t h = 0; h < model_->config().num_heads; ++h) {
        for (const WeightRef* part : parts) {
          for (int64_t d = 0; d < dim; ++d) out.push_back({part, h * dim + d});
        }
      }
    } else if (IsInterleaved(transform)) {
      for (int64_t r = 0; r < RowsOf(*parts[0]); ++r) {
        for (const WeightRef* part : parts) out.push_back({part, r});
      }
    } else {
      for (const WeightRef* part : parts) {
        for (int64_t r = 0; r < RowsOf(*part); ++r) out.push_back({part, r});
      }
    }
    if (transform == Transform::kRopeRows) out = RopeRows(rule, out);
    return out;
  }

  RowMap RopeRows(const TensorRule& rule, const RowMap& canonical) const {
    const ModelConfig& c = model_->config();
    const int64_t rotary = c.ropes.empty() ? c.head_dim : c.ropes[0].table.rotary_dim;
    const auto order = RopeRowOrder(static_cast<int64_t>(canonical.size()), HeadsOf(c, rule.slots[0]), rotary);
    RowMap out(canonical.size());
    for (size_t r = 0; r < canonical.size(); ++r) out[static_cast<size_t>(order[r])] = canonical[r];
    return out;
  }

  void Tensor(const TensorRule& rule, int layer, int expert) {
    auto job = std::make_shared<Job>();
    job->model = model_;
    job->context = context_;
    job->name = ExpandName(rule.name, layer, expert);
    job->transposed = IsTransposed(rule.transform);
    job->add = rule.transform == Transform::kPlusOne ? 1 : 0;
    DType stored = DType::kF32;
    const int matrices = IsStacked(rule.transform) ? static_cast<int>(model_->config().moe.experts) : 1;
    const bool by_head = rule.transform == Transform::kHeadByHead;
    for (int e = 0; e < matrices; ++e) {
      const auto parts = Parts(rule, layer, by_head ? -1 : IsStacked(rule.transform) ? e : expert, job->sources);
      if (parts.empty()) return;
      job->matrices.push_back(by_head ? RowMap{{parts[0], expert}} : Rows(rule.transform, rule, parts));
      job->cols = ColsOf(*parts[0]);
      stored = parts[0]->view.dtype;
    }
    const Shape shape = by_head ? Shape{job->cols} : FileShape(*job, rule.transform);
    job->dtype = choose_(job->name, shape, stored);
    out_.push_back({job->name, job->dtype, shape, [job](const ByteSink& sink) { WriteJob(*job, sink); }});
  }

  static Shape FileShape(const Job& job, Transform transform) {
    const auto rows = static_cast<int64_t>(job.matrices[0].size());
    std::vector<int64_t> dims;
    if (IsStacked(transform)) dims.push_back(static_cast<int64_t>(job.matrices.size()));
    if (job.cols == 1) {
      dims.push_back(rows);
    } else {
      dims.push_back(job.transposed ? job.cols : rows);
      dims.push_back(job.transposed ? rows : job.cols);
    }
    return Shape(dims);
  }

  std::shared_ptr<const Model> model_;
  const std::vector<TensorRule>& target_;
  const ChooseType& choose_;
  std::shared_ptr<const EncodeContext> context_;
  std::set<SlotKey> wanted_;
  std::set<SlotKey> used_;
  std::vector<TensorToWrite> out_;
};

}  // namespace

std::vector<TensorToWrite> ExportTensors(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target,
                                         const ChooseType& choose, const EncodeContext& context) {
  return Exporter(std::move(model), target, choose, context).Run();
}

TensorToWrite Recoded(std::shared_ptr<const ModelFile> file, const TensorInfo& info, DType dtype, const EncodeContext& context) {
  const auto write = [file, info, dtype, context](const ByteSink& sink) {
    const TensorView view = file->View(info);
    const int64_t matrices = info.shape.ndim() > 2 ? info.shape[0] : 1;
    const int64_t cols = info.shape.ndim() == 0 ? 1 : info.shape[info.shape.ndim() - 1];
    const int64_t rows = cols == 0 ? 0 : info.shape.num_elements() / cols / matrices;
    const TensorView flat{view.dtype, Shape{rows * matrices, cols}, view.bytes};
    for (int64_t m = 0; m < matrices; ++m) {
      EncodeStream({.dtype = dtype, .rows = rows, .cols = cols,
                    .importance = context.importance ? context.importance(info.name, m, cols) : nullptr,
                    .read_row = [&](int64_t r, float* out) { DecodeTensor(flat.Rows(m * rows + r, 1), std::span<float>(out, static_cast<size_t>(cols))); },
                    .name = info.name},
                   context, sink);
    }
    file->DontNeed(info);
  };
  return {info.name, dtype, info.shape, write};
}

}  // namespace apr
