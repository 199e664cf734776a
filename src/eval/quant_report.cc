// See quant_report.h.
#include "eval/quant_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "compare/storage_errors.h"
#include "base/json.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr DType kSuperBlockTypes[] = {DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kQ8_0, DType::kF16};
constexpr DType kBlockTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kIQ4_NL, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kF16};

double Decibels(double signal, double noise) { return noise == 0 ? INFINITY : 10 * std::log10(signal / noise); }

std::vector<TensorNoise> NoiseOf(const WeightDiff& weights) {
  std::vector<TensorNoise> out;
  for (const WeightRow& row : weights.rows) {
    const double rms = row.diff.rms_a();
    out.push_back({row, Decibels(row.diff.sum_aa, row.diff.sum_sq), Decibels(rms * rms, row.expected_rmse * row.expected_rmse),
                   StorageBytes(row.dtype_b, row.shape_b).value_or(0)});
  }
  return out;
}

// Rows spread over the weights, [n, cols].
std::vector<float> SampleOf(const BoundGraph& model, const std::vector<size_t>& weights, int64_t cols) {
  constexpr int64_t kElements = 1 << 15;
  std::vector<float> out;
  for (const size_t w : weights) {
    const WeightRef& weight = model.weights[w];
    const int64_t want = std::clamp<int64_t>(kElements / cols / static_cast<int64_t>(weights.size()), 1, weight.rows());
    for (int64_t i = 0; i < want; ++i) {
      std::vector<float> row(static_cast<size_t>(cols));
      ReadWeightRow(weight, i * weight.rows() / want, std::span<float>(row));
      out.insert(out.end(), row.begin(), row.end());
    }
  }
  return out;
}

// The mean KLD grows with the square of a small error: what another type would cost follows from the errors of both.
TensorChoices ChoicesOf(const BoundGraph& a, const TensorCost& cost) {
  TensorChoices out{.tensor = cost.tensor, .choices = {}, .now = {}};
  int64_t rows = 0;
  const int64_t cols = a.weights[cost.weights.front()].cols();
  for (const size_t w : cost.weights) rows += a.weights[w].rows();
  const std::vector<float> sample = SampleOf(a, cost.weights, cols);
  const double error_now = StorageError(cost.type, sample, cols);
  const auto add = [&](DType type) {
    const auto bytes = StorageBytes(type, Shape{rows, cols});
    if (!bytes || error_now <= 0) return;
    const double ratio = StorageError(type, sample, cols) / error_now;
    out.choices.push_back({type, *bytes, cost.kld * ratio * ratio});
  };
  const bool super = cols % 256 == 0;
  for (const DType type : super ? std::span<const DType>(kSuperBlockTypes) : std::span<const DType>(kBlockTypes)) {
    if (CanEncode(type) && cols % InfoOf(type).block_elems == 0) add(type);
  }
  out.now = {cost.type, StorageBytes(cost.type, Shape{rows, cols}).value_or(0), cost.kld};
  if (std::ranges::none_of(out.choices, [&](const TypeChoice& c) { return c.type == cost.type; })) out.choices.push_back(out.now);
  return out;
}

// GGUF names of the tensors, by the name that B's file has for them.
std::map<std::string, std::string> GgufNamesOf(const WeightDiff& weights, const Model& a, const Model& b) {
  std::map<std::string, std::string> out;
  const bool of_b = b.file().container() == Container::kGguf;
  if (!of_b && a.file().container() != Container::kGguf) {
    throw Error(ErrorCode::kUsage, "a list for --tensor-type needs the names of a GGUF, and neither model is one");
  }
  for (const WeightRow& row : weights.rows) out[row.name_b] = of_b ? row.name_b : row.name_a;
  return out;
}

Suggestion Suggest(const QuantReport& report, const Model& a, const Model& b, uint64_t budget) {
  const auto names = GgufNamesOf(report.weights, a, b);
  std::vector<TensorChoices> tensors;
  Suggestion out;
  for (const TensorCost& cost : report.costs) {
    tensors.push_back(ChoicesOf(*a.bound(), cost));
    out.bytes_now += tensors.back().now.bytes;
    out.cost_now += tensors.back().now.cost;
  }
  const CheapestTypes plan = PlanTensorTypes(tensors, budget > 0 ? budget : out.bytes_now);
  out.bytes = plan.bytes;
  out.cost = plan.cost;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const auto name = names.find(tensors[t].tensor);
    out.lines.push_back({name == names.end() ? tensors[t].tensor : name->second, tensors[t].now.type, plan.chosen[t].type});
  }
  std::ranges::sort(out.lines, {}, &Suggestion::Line::tensor);
  return out;
}

Json OpsJson(const std::vector<OpError>& ops) {
  Json out = Json::array();
  for (const OpError& op : ops) {
    out.push_back({{"node", op.node}, {"op", op.op}, {"layer", op.layer}, {"tensors", op.tensors}, {"own", JsonNumber(op.own)}, {"propagated", JsonNumber(op.propagated)}});
  }
  return out;
}

Json TensorsJson(const std::vector<TensorNoise>& tensors) {
  Json out = Json::array();
  for (const TensorNoise& t : tensors) {
    out.push_back({{"name", t.row.name},
                   {"name_b", t.row.name_b},
                   {"dtype_a", t.row.stored_a},
                   {"dtype_b", t.row.stored_b},
                   {"bytes", t.bytes},
                   {"sqnr_db", JsonNumber(t.sqnr)},
                   {"expected_sqnr_db", JsonNumber(t.expected_sqnr)},
                   {"error_ratio", JsonNumber(t.row.ratio)},
                   {"verdict", WeightVerdictName(t.row.verdict)}});
  }
  return out;
}

}  // namespace

std::string Suggestion::FlagList() const {
  std::string out;
  for (const Line& line : lines) {
    std::string pattern;
    for (const char c : line.tensor) pattern += c == '.' ? "\\." : std::string(1, c);
    out += fmt::format("--tensor-type ^{}$={}\n", pattern, NameOf(line.type));
  }
  return out;
}

Json QuantReport::ToJson() const {
  Json out = {{"schema", "apr-quant-report-v1"}, {"model_a", path_a}, {"model_b", path_b}, {"basis", weights.basis}};
  out["tensors"] = TensorsJson(tensors);
  out["only_a"] = weights.only_a;
  out["only_b"] = weights.only_b;
  out["probe_tokens"] = probe_tokens;
  out["ops"] = OpsJson(ops);
  out["logits"] = divergence.ToJson();
  out["floor"] = floor ? floor->ToJson() : Json(nullptr);
  out["costs"] = Json::array();
  for (const TensorCost& c : costs) {
    out["costs"].push_back({{"tensor", c.tensor}, {"type", NameOf(c.type)}, {"kld", JsonNumber(c.kld)}, {"error", JsonNumber(c.kld_error)}});
  }
  out["suggestion"] = nullptr;
  if (suggestion) {
    Json lines = Json::array();
    for (const Suggestion::Line& l : suggestion->lines) lines.push_back({{"tensor", l.tensor}, {"now", NameOf(l.now)}, {"type", NameOf(l.type)}});
    out["suggestion"] = {{"bytes_now", suggestion->bytes_now}, {"bytes", suggestion->bytes}, {"expected_kld_now", JsonNumber(suggestion->cost_now)},
                         {"expected_kld", JsonNumber(suggestion->cost)}, {"tensor_types", std::move(lines)}};
  }
  return out;
}

QuantReport MakeQuantReport(std::shared_ptr<const Model> a, std::shared_ptr<const Model> b, std::span<const int32_t> ids,
                            const QuantReportOptions& options) {
  QuantReport out;
  out.path_a = a->file().path();
  out.path_b = b->file().path();
  const auto report = [&](const char* phase, int64_t of) {
    return [&options, phase, of, done = int64_t{0}](int64_t n) mutable {
      if (options.progress) options.progress(phase, done += n, of);
      if (options.cancelled && options.cancelled()) throw Error(ErrorCode::kCancelled, "interrupted");
    };
  };
  ThreadPool pool(options.compute.threads > 0 ? options.compute.threads : ThreadPool::HardwareThreads());
  out.weights = DiffWeights(PairWeights(a->shared_file(), b->shared_file()), {}, pool);
  out.tensors = NoiseOf(out.weights);

  const auto probe = ids.first(std::min(ids.size(), static_cast<size_t>(std::max<int64_t>(options.probe_tokens, 2))));
  out.probe_tokens = static_cast<int64_t>(probe.size());
  out.ops = OpErrors(*a->bound(), *b->bound(), probe, pool, report("ops", static_cast<int64_t>(a->graph().nodes.size())));

  const SessionOptions session_options{.compute = options.compute};
  Session session_a(a, session_options);
  Session session_b(b, session_options);
  out.divergence = Diverge(session_a, session_b, ids, options.plan, {.progress = report("logits", static_cast<int64_t>(ids.size())), .cancelled = options.cancelled});
  if (options.floor_tokens > 0) {
    Session reference(a, {.executor = ExecutorKind::kReference, .compute = options.compute});
    const WindowPlan plan = options.plan.First(options.floor_tokens);
    out.floor = Diverge(reference, session_a, ids, plan, {.progress = report("floor", plan.scored()), .cancelled = options.cancelled});
  }
  if (options.costs) {
    out.costs = TensorCosts(a, *b, probe, options.compute, report("tensors", static_cast<int64_t>(b->graph().weights.size())));
  }
  if (options.suggest) out.suggestion = Suggest(out, *a, *b, options.budget);
  return out;
}

}  // namespace apr
