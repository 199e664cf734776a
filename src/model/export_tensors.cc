// See export_tensors.h.
#include "model/export_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

bool Is(Transform t, std::initializer_list<Transform> set) { return std::find(set.begin(), set.end(), t) != set.end(); }

bool IsStacked(Transform t) {
  return Is(t, {Transform::kStackedExperts, Transform::kStackedExpertsTransposed, Transform::kStackedExpertsInterleaved,
                Transform::kStackedExpertsInterleavedTransposed});
}
bool IsTransposed(Transform t) {
  return Is(t, {Transform::kTransposed, Transform::kStackedExpertsTransposed, Transform::kStackedExpertsInterleavedTransposed});
}
bool IsInterleaved(Transform t) {
  return Is(t, {Transform::kStackedExpertsInterleaved, Transform::kStackedExpertsInterleavedTransposed});
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
  std::vector<RowMap> matrices;        // one, or one per expert
  int64_t cols = 0;
  bool transposed = false;
  double add = 0;
  DType dtype = DType::kF32;
};

// Canonical row as f32; vectors give one element.
void ReadRow(const RowSource& source, int64_t cols, double add, float* out) {
  if (source.weight->view.shape.ndim() == 1) {
    std::vector<double> all = ReadWeightF64(*source.weight);
    *out = static_cast<float>(all[static_cast<size_t>(source.row)] + add);
    return;
  }
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
  return std::all_of(job.matrices.begin(), job.matrices.end(), [&](const RowMap& rows) {
    return std::all_of(rows.begin(), rows.end(), [&](const RowSource& s) {
      return s.weight->view.dtype == job.dtype && s.weight->add == 0 && s.weight->view.shape.ndim() == 2;
    });
  });
}

void Emit(DType dtype, std::span<const float> values, int64_t rows, int64_t cols, const ByteSink& sink) {
  const std::optional<uint64_t> bytes = StorageBytes(dtype, Shape{rows, cols});
  if (!bytes) throw Error(ErrorCode::kValidationFailed, fmt::format("rows of {} are no whole blocks of {}", cols, NameOf(dtype)));
  std::vector<std::byte> encoded(*bytes);
  if (dtype == DType::kF32) std::memcpy(encoded.data(), values.data(), encoded.size());
  else EncodeRows(dtype, values.data(), rows, cols, nullptr, encoded.data());
  sink(encoded);
}

void WriteTransposed(const Job& job, const RowMap& rows, const ByteSink& sink) {
  const auto n = static_cast<int64_t>(rows.size());
  std::vector<float> row(static_cast<size_t>(job.cols));
  std::vector<float> turned(static_cast<size_t>(n * job.cols));
  for (int64_t r = 0; r < n; ++r) {
    ReadRow(rows[static_cast<size_t>(r)], job.cols, job.add, row.data());
    for (int64_t c = 0; c < job.cols; ++c) turned[static_cast<size_t>(c * n + r)] = row[static_cast<size_t>(c)];
  }
  Emit(job.dtype, turned, job.cols, n, sink);
}

void WriteRows(const Job& job, const RowMap& rows, const ByteSink& sink) {
  if (job.cols == 1) {
    const std::vector<float> values = ReadVector(rows, job.add);
    return Emit(job.dtype, values, 1, static_cast<int64_t>(values.size()), sink);
  }
  if (CanCopyRows(job)) {
    for (const RowSource& s : rows) {
      const int64_t stored = s.weight->row_order ? (*s.weight->row_order)[static_cast<size_t>(s.row)] : s.row;
      sink(s.weight->view.Rows(stored, 1).bytes);
    }
    return;
  }
  const int64_t piece = std::max<int64_t>(1, 262144 / job.cols);
  std::vector<float> values;
  for (int64_t first = 0; first < static_cast<int64_t>(rows.size()); first += piece) {
    const int64_t count = std::min<int64_t>(piece, static_cast<int64_t>(rows.size()) - first);
    values.resize(static_cast<size_t>(count * job.cols));
    for (int64_t r = 0; r < count; ++r) ReadRow(rows[static_cast<size_t>(first + r)], job.cols, job.add, values.data() + r * job.cols);
    Emit(job.dtype, values, count, job.cols, sink);
  }
}

class Exporter {
 public:
  Exporter(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target, const ChooseType& choose)
      : model_(std::move(model)), target_(target), choose_(choose) {
    for (const SlotKey& key : model_->graph_slots()) wanted_.insert(key);
  }

  std::vector<TensorToWrite> Run() {
    for (const TensorRule& rule : target_) {
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
  const WeightRef* Find(Slot slot, int layer, int expert) {
    const SlotKey key{slot, layer, expert};
    const auto it = model_->slots().slots.find(key);
    if (it == model_->slots().slots.end() || (wanted_.count(key) == 0 && used_.count(key) == 0)) return nullptr;
    wanted_.erase(key);
    used_.insert(key);
    return &it->second.weight;
  }

  // The slots of one matrix, or nothing if the model has none of them.
  std::vector<const WeightRef*> Parts(const TensorRule& rule, int layer, int expert) {
    std::vector<const WeightRef*> out;
    for (const Slot slot : rule.slots) {
      if (const WeightRef* weight = Find(slot, layer, expert)) out.push_back(weight);
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
    job->transposed = IsTransposed(rule.transform);
    job->add = rule.transform == Transform::kPlusOne ? 1 : 0;
    DType stored = DType::kF32;
    const int matrices = IsStacked(rule.transform) ? static_cast<int>(model_->config().moe.experts) : 1;
    const bool by_head = rule.transform == Transform::kHeadByHead;
    for (int e = 0; e < matrices; ++e) {
      const auto parts = Parts(rule, layer, by_head ? -1 : IsStacked(rule.transform) ? e : expert);
      if (parts.empty()) return;
      job->matrices.push_back(by_head ? RowMap{{parts[0], expert}} : Rows(rule.transform, rule, parts));
      job->cols = ColsOf(*parts[0]);
      stored = parts[0]->view.dtype;
    }
    const Shape shape = by_head ? Shape{job->cols} : FileShape(*job, rule.transform);
    const std::string name = ExpandName(rule.name, layer, expert);
    job->dtype = choose_(name, shape, stored);
    out_.push_back({name, job->dtype, shape, [job](const ByteSink& sink) {
                      for (const RowMap& rows : job->matrices) {
                        if (job->transposed && job->cols > 1) WriteTransposed(*job, rows, sink);
                        else WriteRows(*job, rows, sink);
                      }
                    }});
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
  std::set<SlotKey> wanted_;
  std::set<SlotKey> used_;
  std::vector<TensorToWrite> out_;
};

}  // namespace

std::vector<TensorToWrite> ExportTensors(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target,
                                         const ChooseType& choose) {
  return Exporter(std::move(model), target, choose).Run();
}

}  // namespace apr
