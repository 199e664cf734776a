// See executor.h.
#include "exec/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "exec/kv_store.h"
#include "exec/memory_plan.h"
#include "op/rope/rope.h"

namespace apr {
namespace {

template <typename Real>
constexpr DType kDType = sizeof(Real) == 8 ? DType::kF64 : DType::kF32;

template <typename Real>
void Call(const Op& op, const OpContext<Real>& context) {
  if constexpr (sizeof(Real) == 8) {
    op.Reference(context);
  } else {
    op.Cpu(context);
  }
}

bool IsAttention(const Node& node) { return node.op == &AttentionOp(); }

std::vector<AttentionAttributes> CacheSlots(const Graph& graph) {
  std::vector<AttentionAttributes> slots(static_cast<size_t>(graph.cache_slots));
  for (const Node& node : graph.nodes) {
    if (!IsAttention(node)) continue;
    const auto& a = node.As<AttentionAttributes>();
    slots[static_cast<size_t>(a.cache_slot)] = a;
  }
  return slots;
}

std::vector<const WeightRef*> WeightsOf(const BoundGraph& model, const Node& node) {
  std::vector<const WeightRef*> out;
  for (const WeightId id : node.weights) out.push_back(&model.weights[static_cast<size_t>(id)]);
  return out;
}

// The tokens of one forward pass, laid out behind one another.
struct BatchStorage {
  std::vector<int32_t> ids;
  std::vector<int32_t> positions;
  std::vector<SequenceSpan> sequences;
  std::vector<int64_t> logit_rows;
  Batch view() const { return {ids, positions, sequences, logit_rows}; }
};

// Collects the parts of the stages that a sink wants and hands each over when it is complete.
template <typename Real>
class TapCollector {
 public:
  TapCollector(const Graph& graph, TapSink* sink) : graph_(graph), sink_(sink) {
    if (sink == nullptr) return;
    for (const Stage& stage : graph.stages) {
      if (!sink->Wants(stage)) continue;
      pending_.push_back({&stage, stage.parts.size(), {}});
      pending_.back().parts.resize(stage.parts.size());
      for (size_t i = 0; i < stage.parts.size(); ++i) users_[stage.parts[i]].push_back({pending_.size() - 1, i});
    }
  }

  bool Wants(ValueId id) const { return users_.count(id) > 0; }

  void Made(ValueId id, std::span<const Real> data, const Batch& batch) {
    const auto it = users_.find(id);
    if (it == users_.end()) return;
    for (const auto& [index, part] : it->second) {
      Pending& pending = pending_[index];
      pending.parts[part].assign(data.begin(), data.end());
      if (--pending.missing == 0) Deliver(pending, batch);
    }
  }

 private:
  struct Pending {
    const Stage* stage;
    size_t missing;
    std::vector<std::vector<Real>> parts;
  };

  void Deliver(Pending& pending, const Batch& batch) {
    const Value& first = graph_.values[static_cast<size_t>(pending.stage->parts[0])];
    std::vector<Real> joined;
    Shape shape;
    if (first.kind == ValueKind::kScores) {
      const SequenceSpan& span = batch.sequences[0];
      if (batch.sequences.size() != 1) throw Error(ErrorCode::kUsage, "attention matrices are traced for one sequence at a time");
      shape = Shape{first.width, span.count, span.position + span.count};
      joined = std::move(pending.parts[0]);
    } else {
      joined = Join(pending, shape);
    }
    sink_->Take(*pending.stage, {kDType<Real>, shape,
                                 {reinterpret_cast<const std::byte*>(joined.data()), joined.size() * sizeof(Real)}});
    pending.parts.clear();
  }

  // [rows, w1], [rows, w2] -> [rows, w1 + w2].
  std::vector<Real> Join(const Pending& pending, Shape& shape) const {
    int64_t width = 0;
    for (const ValueId id : pending.stage->parts) width += graph_.values[static_cast<size_t>(id)].width;
    const int64_t first = graph_.values[static_cast<size_t>(pending.stage->parts[0])].width;
    const int64_t rows = static_cast<int64_t>(pending.parts[0].size()) / first;
    shape = Shape{rows, width};
    std::vector<Real> out(static_cast<size_t>(rows * width));
    int64_t column = 0;
    for (size_t p = 0; p < pending.parts.size(); ++p) {
      const int64_t w = graph_.values[static_cast<size_t>(pending.stage->parts[p])].width;
      for (int64_t r = 0; r < rows; ++r) {
        std::copy_n(pending.parts[p].begin() + r * w, w, out.begin() + r * width + column);
      }
      column += w;
    }
    return out;
  }

  const Graph& graph_;
  TapSink* sink_;
  std::vector<Pending> pending_;
  std::map<ValueId, std::vector<std::pair<size_t, size_t>>> users_;
};

template <typename Real>
class GraphExecutor final : public Executor {
 public:
  GraphExecutor(std::shared_ptr<const BoundGraph> model, const ExecutorOptions& options)
      : model_(std::move(model)),
        held_(model_->Hold()),
        precision_(sizeof(Real) == 8 ? Precision::kExact : options.precision),
        pool_(options.threads > 0 ? options.threads : ThreadPool::HardwareThreads()),
        store_(CacheSlots(model_->graph), options.cache_type),
        plan_(PlanMemory(model_->graph)),
        buffers_(plan_.widths.size()) {
    APR_CHECK(model_->weights.size() == model_->graph.weights.size());
    for (const Node& node : model_->graph.nodes) {
      weights_.push_back(WeightsOf(*model_, node));
      states_.push_back(sizeof(Real) == 8 ? nullptr
                                          : node.op->PrepareCpu({node, model_->graph, weights_.back(), precision_}));
    }
  }

  ExecutorKind kind() const override { return sizeof(Real) == 8 ? ExecutorKind::kReference : ExecutorKind::kCpu; }
  Precision precision() const override { return precision_; }
  int threads() const override { return pool_.threads(); }
  DType cache_type() const override { return store_.type(); }
  const BoundGraph& model() const override { return *model_; }

  int NewSequence() override { return store_.New(); }
  void FreeSequence(int sequence) override { store_.Free(sequence); }
  int64_t Length(int sequence) const override { return Get(sequence).length; }
  void Truncate(int sequence, int64_t length) override {
    auto& s = Get(sequence);
    APR_CHECK(length >= 0 && length <= s.length);
    s.length = length;
  }
  uint64_t CacheBytes() const override { return store_.bytes(); }
  uint64_t ActivationBytes() const override { return activation_bytes_; }

  bool IsStale(int sequence, int64_t total_length) const override {
    const auto& s = Get(sequence);
    if (s.length == 0) return false;
    return std::ranges::any_of(model_->graph.nodes, [&](const Node& node) {
      return node.op == &RopeTableOp() &&
             FrequenciesChange(node.As<RopeTableAttributes>(), s.rope_length, total_length);
    });
  }

  int64_t RopeLength(int sequence) const override { return Get(sequence).rope_length; }
  uint64_t CacheBytesPerToken() const override { return store_.BytesPerToken(); }
  void SaveCache(int sequence, const std::function<void(Bytes)>& sink) const override {
    store_.VisitRows(const_cast<Sequence&>(Get(sequence)), [&](std::span<const std::byte> rows) { sink(rows); });
  }
  void RestoreCache(int sequence, int64_t rope_length, Bytes rows) override {
    auto& s = Get(sequence);
    APR_CHECK(s.length == 0);
    const uint64_t each = store_.BytesPerToken();
    if (each == 0 || rows.size() % each != 0) {
      throw Error(ErrorCode::kInvalidFormat, fmt::format("{} bytes are no whole number of tokens of {} bytes", rows.size(), each));
    }
    const auto tokens = static_cast<int64_t>(rows.size() / each);
    store_.Reserve(s, tokens);
    s.length = tokens;
    s.rope_length = rope_length;
    store_.VisitRows(s, [&](std::span<std::byte> to) {
      std::ranges::copy(rows.first(to.size()), to.begin());
      rows = rows.subspan(to.size());
    });
  }

  Tensor Forward(std::span<const Chunk> chunks, TapSink* taps) override {
    const BatchStorage storage = Layout(chunks);
    const Batch batch = storage.view();
    if (batch.tokens() == 0) throw Error(ErrorCode::kUsage, "no tokens to run");
    TapCollector<Real> collector(model_->graph, taps);
    SizeBuffers(batch);
    for (size_t i = 0; i < model_->graph.nodes.size(); ++i) RunNode(i, batch, collector);
    for (const SequenceSpan& span : batch.sequences) {
      auto& s = Get(span.sequence);
      s.length = span.position + span.count;
      s.rope_length = span.total_length;
    }
    return CopyLogits(batch);
  }

 private:
  using Sequence = typename KvStore<Real>::Sequence;

  const Sequence& Get(int id) const {
    const Sequence* s = store_.Find(id);
    APR_CHECK(s != nullptr);
    return *s;
  }
  Sequence& Get(int id) { return const_cast<Sequence&>(std::as_const(*this).Get(id)); }

  BatchStorage Layout(std::span<const Chunk> chunks) {
    BatchStorage out;
    for (const Chunk& chunk : chunks) {
      Sequence& s = Get(chunk.sequence);
      const auto count = static_cast<int64_t>(chunk.ids.size());
      const auto first = static_cast<int64_t>(out.ids.size());
      for (const SequenceSpan& other : out.sequences) APR_CHECK(other.sequence != chunk.sequence);
      const int64_t total = chunk.total_length > 0 ? chunk.total_length : s.length + count;
      out.sequences.push_back({chunk.sequence, first, count, s.length, total});
      for (int64_t t = 0; t < count; ++t) {
        out.ids.push_back(chunk.ids[static_cast<size_t>(t)]);
        out.positions.push_back(static_cast<int32_t>(s.length + t));
        if (t >= count - chunk.logits) out.logit_rows.push_back(first + t);
      }
      store_.Reserve(s, s.length + count);
    }
    return out;
  }

  static int64_t RowsOf(const Value& value, const Batch& batch) {
    return value.kind == ValueKind::kLogitRows ? static_cast<int64_t>(batch.logit_rows.size()) : batch.tokens();
  }

  // Buffers only grow within a pass; after a long prompt they shrink back, so that decoding does not
  // keep the prompt's memory.
  void SizeBuffers(const Batch& batch) {
    const auto rows = static_cast<size_t>(std::max<int64_t>(batch.tokens(), 1));
    uint64_t total = 0;
    std::vector<size_t> need(buffers_.size(), 0);
    for (size_t v = 0; v < plan_.buffer_of.size(); ++v) {
      if (plan_.buffer_of[v] < 0) continue;
      const Value& value = model_->graph.values[v];
      size_t& n = need[static_cast<size_t>(plan_.buffer_of[v])];
      n = std::max(n, static_cast<size_t>(RowsOf(value, batch) * value.width));
    }
    for (size_t b = 0; b < buffers_.size(); ++b) {
      if (buffers_[b].size() < need[b] || (rows == 1 && buffers_[b].size() > 4 * need[b] + 1024)) {
        std::vector<Real>().swap(buffers_[b]);
        buffers_[b].resize(need[b]);
      }
      total += buffers_[b].size() * sizeof(Real);
    }
    activation_bytes_ = std::max(activation_bytes_, total);
  }

  std::span<Real> DataOf(ValueId id, const Batch& batch) {
    const auto v = static_cast<size_t>(id);
    if (plan_.buffer_of[v] < 0) return {};
    const Value& value = model_->graph.values[v];
    return std::span<Real>(buffers_[static_cast<size_t>(plan_.buffer_of[v])])
        .first(static_cast<size_t>(RowsOf(value, batch) * value.width));
  }

  static size_t ScoreElements(const Value& value, const Batch& batch) {
    int64_t total = 0;
    for (const SequenceSpan& span : batch.sequences) total += value.width * span.count * (span.position + span.count);
    return static_cast<size_t>(total);
  }

  void RunNode(size_t index, const Batch& batch, TapCollector<Real>& collector) {
    const Graph& graph = model_->graph;
    const Node& node = graph.nodes[index];
    std::vector<std::span<const Real>> inputs;
    for (const ValueId id : node.inputs) inputs.push_back(DataOf(id, batch));
    std::vector<std::span<Real>> outputs;
    std::vector<std::vector<Real>> matrices(node.outputs.size());
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Value& value = graph.values[static_cast<size_t>(node.outputs[i])];
      if (value.kind == ValueKind::kScores && collector.Wants(node.outputs[i])) {
        matrices[i].resize(ScoreElements(value, batch));
        outputs.push_back(matrices[i]);
      } else {
        outputs.push_back(DataOf(node.outputs[i], batch));
      }
    }
    std::vector<KvCache<Real>> caches;
    if (IsAttention(node)) {
      const int64_t slot = node.As<AttentionAttributes>().cache_slot;
      for (const SequenceSpan& span : batch.sequences) caches.push_back(store_.View(Get(span.sequence), slot));
    }
    Call<Real>(*node.op, {.node = node,
                          .graph = graph,
                          .batch = batch,
                          .inputs = inputs,
                          .outputs = outputs,
                          .weights = weights_[index],
                          .caches = caches,
                          .pool = pool_,
                          .precision = precision_,
                          .state = states_[index].get()});
    for (size_t i = 0; i < node.outputs.size(); ++i) collector.Made(node.outputs[i], outputs[i], batch);
  }

  Tensor CopyLogits(const Batch& batch) {
    const std::span<const Real> data = DataOf(model_->graph.logits, batch);
    const int64_t width = model_->graph.values[static_cast<size_t>(model_->graph.logits)].width;
    Tensor out(kDType<Real>, Shape{static_cast<int64_t>(batch.logit_rows.size()), width});
    std::copy(data.begin(), data.end(), reinterpret_cast<Real*>(out.mutable_bytes().data()));
    return out;
  }

  std::shared_ptr<const BoundGraph> model_;
  std::vector<std::shared_ptr<const void>> held_;
  Precision precision_;
  ThreadPool pool_;
  KvStore<Real> store_;
  MemoryPlan plan_;
  std::vector<std::vector<Real>> buffers_;
  std::vector<std::vector<const WeightRef*>> weights_;
  std::vector<std::unique_ptr<CpuState>> states_;
  uint64_t activation_bytes_ = 0;
};

}  // namespace

const char* ExecutorName(ExecutorKind kind) { return kind == ExecutorKind::kReference ? "reference" : "cpu"; }
std::optional<ExecutorKind> ExecutorFromName(std::string_view name) {
  if (name == "reference") return ExecutorKind::kReference;
  if (name == "cpu") return ExecutorKind::kCpu;
  return std::nullopt;
}
const char* PrecisionName(Precision precision) { return precision == Precision::kExact ? "exact" : "fast"; }
std::optional<Precision> PrecisionFromName(std::string_view name) {
  if (name == "exact") return Precision::kExact;
  if (name == "fast") return Precision::kFast;
  return std::nullopt;
}

const char* CacheTypeName(DType type) {
  switch (type) {
    case DType::kF64: return "f64";
    case DType::kF16: return "f16";
    case DType::kQ8_0: return "q8_0";
    default: return "f32";
  }
}
std::optional<DType> CacheTypeFromName(std::string_view name) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    if (name == CacheTypeName(type)) return type;
  }
  return std::nullopt;
}

std::vector<std::shared_ptr<const void>> BoundGraph::Hold() const {
  std::vector<std::shared_ptr<const void>> out;
  for (const WeightRef& weight : weights) {
    if (weight.computed) out.push_back(weight.Hold());
  }
  return out;
}

std::unique_ptr<Executor> Executor::Create(ExecutorKind kind, std::shared_ptr<const BoundGraph> model,
                                           const ExecutorOptions& options) {
  if (kind == ExecutorKind::kReference) return std::make_unique<GraphExecutor<double>>(std::move(model), options);
  return std::make_unique<GraphExecutor<float>>(std::move(model), options);
}

}  // namespace apr
