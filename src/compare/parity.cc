// See parity.h. Verdict bounds: paiml/aprender, crates/apr-cli/src/commands/parity.rs; the bound by number
// formats is this project's own (docs/parity.md).
#include "compare/parity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/json.h"
#include "compare/element_diff.h"
#include "compare/run_capture.h"
#include "tensor/dtype.h"

namespace apr {
namespace {

constexpr double kCatastrophic = 0.90;
constexpr double kDivergent = 0.95;
constexpr double kNearTieCosine = 0.98;
constexpr double kSpecLimit = 4.0;     // of a logit's difference
// Relative error of logits that number formats explain: f32 against f64 or in another order, and
// activations rounded to int8 on quantised weights (measured up to 0.08 on real models: docs/numerics.md).
constexpr double kExactError = 1e-3;
constexpr double kFastError = 0.25;

bool HasQuantizedWeights(const Model& model) {
  return std::ranges::any_of(model.bound()->weights, [](const WeightRef& w) { return IsQuantized(w.view.dtype); });
}

class IsaGuard {
 public:
  IsaGuard() : before_(IsaName(ActiveIsa())) {}
  ~IsaGuard() { ForceIsa(before_); }
  IsaGuard(const IsaGuard&) = delete;
  IsaGuard& operator=(const IsaGuard&) = delete;
  void Use(const std::string& isa) const { ForceIsa(isa.empty() ? before_ : isa); }

 private:
  std::string before_;
};

Tensor RunSide(const ParityRequest& request, const ParityEngine& engine, std::shared_ptr<const BoundGraph> graph, StageCapture* taps) {
  SessionOptions options;
  options.executor = engine.executor;
  options.compute = {.threads = request.threads, .precision = engine.precision};
  options.chunk = 0;
  Session session(request.model, options, std::move(graph));
  return session.Append(session.NewSequence(), request.ids, static_cast<int64_t>(request.ids.size()), taps, request.hooks);
}

double LogSumExp(std::span<const double> x) {
  const double top = *std::ranges::max_element(x);
  double sum = 0;
  for (const double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

double KlDivergence(std::span<const double> a, std::span<const double> b) {
  const double norm_a = LogSumExp(a), norm_b = LogSumExp(b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::exp(a[i] - norm_a) * ((a[i] - norm_a) - (b[i] - norm_b));
  return std::max(0.0, sum);
}

ParityVerdict Judge(const ParityMetric& m, double allowed) {
  if (m.cosine < kCatastrophic) return ParityVerdict::kFailCatastrophic;
  if (m.cosine < kDivergent) return ParityVerdict::kFailDivergent;
  if (m.relative_error > allowed) return ParityVerdict::kFailFormats;
  if (m.max_abs > kSpecLimit) return ParityVerdict::kWarnOutOfSpec;
  if (m.argmax_a != m.argmax_b) return m.cosine >= kNearTieCosine ? ParityVerdict::kNearTie : ParityVerdict::kWarnArgmax;
  return ParityVerdict::kPass;
}

std::optional<ParityStage> FirstStage(const Graph& graph, const StageCapture& a, const StageCapture& b, double allowed, int64_t& compared) {
  for (const Stage& stage : graph.stages) {
    const StageCapture::Values* in_a = a.Find(stage);
    const StageCapture::Values* in_b = b.Find(stage);
    if (in_a == nullptr || in_b == nullptr) continue;
    ++compared;
    ParityStage out{.name = StageLabel(stage), .allowed = allowed};
    if (in_a->data.size() != in_b->data.size()) {
      out.relative_error = INFINITY;
      return out;
    }
    // Masked scores hold the same infinities on both sides.
    ElementDiff diff;
    Accumulate(diff, std::span<const double>(in_a->data), std::span<const double>(in_b->data), 0);
    out.relative_error = diff.relative_error();
    if (out.relative_error <= allowed) continue;
    if (diff.max_index >= 0 && in_a->width > 0) out.coordinate = {diff.max_index / in_a->width, diff.max_index % in_a->width};
    out.a = diff.a_at_max;
    out.b = diff.b_at_max;
    return out;
  }
  return std::nullopt;
}

}  // namespace

ParityEngine ParseParityEngine(std::string_view text) {
  ParityEngine out;
  out.name = std::string(text);
  std::vector<std::string> parts;
  for (size_t from = 0; from <= text.size();) {
    const size_t colon = std::min(text.find(':', from), text.size());
    parts.emplace_back(text.substr(from, colon - from));
    from = colon + 1;
  }
  if (parts[0] == "cuda") throw Error(ErrorCode::kNotBuilt, "this build has no CUDA support");
  const auto executor = ExecutorFromName(parts[0]);
  if (!executor) throw Error(ErrorCode::kUsage, fmt::format("'{}' is no executor: reference, cpu, cuda", parts[0]));
  out.executor = *executor;
  for (size_t i = 1; i < parts.size(); ++i) {
    if (const auto precision = PrecisionFromName(parts[i]); precision && out.executor == ExecutorKind::kCpu) {
      out.precision = *precision;
      continue;
    }
    const auto isas = AllIsas();
    const auto isa = std::ranges::find_if(isas, [&](const IsaInfo& info) { return parts[i] == info.name; });
    if (isa == isas.end()) throw Error(ErrorCode::kUsage, fmt::format("'{}' in '{}' is neither exact, fast nor an instruction set (apr devices lists them)", parts[i], text));
    if (!isa->available) throw Error(ErrorCode::kNotBuilt, fmt::format("this machine has no {}", parts[i]));
    out.isa = parts[i];
  }
  return out;
}

const char* ParityVerdictName(ParityVerdict verdict) {
  constexpr const char* kNames[] = {"Pass", "NearTie", "WarnArgmax", "WarnOutOfSpec", "FailFormats", "FailDivergent", "FailCatastrophic", "FailNan"};
  return kNames[static_cast<size_t>(verdict)];
}

bool IsFailure(ParityVerdict verdict) { return verdict >= ParityVerdict::kFailFormats; }

ParityMetric MeasureParity(std::span<const double> a, std::span<const double> b, double allowed) {
  ParityMetric m;
  ElementDiff diff;
  Accumulate(diff, a, b, 0);
  m.max_abs = diff.max_abs;
  m.mean_abs = diff.mean_abs();
  m.cosine = diff.cosine();
  m.relative_error = diff.relative_error();
  m.argmax_a = std::ranges::max_element(a) - a.begin();
  m.argmax_b = std::ranges::max_element(b) - b.begin();
  const auto finite = [](std::span<const double> x) { return !x.empty() && std::ranges::all_of(x, [](double v) { return std::isfinite(v); }); };
  if (!finite(a) || !finite(b)) {
    m.kl = m.sigma = m.cpk = m.cosine = std::nan("");
    m.verdict = ParityVerdict::kFailNan;
    return m;
  }
  m.kl = KlDivergence(a, b);
  const auto count = static_cast<double>(a.size());
  double sum = 0, squares = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += b[i] - a[i];
  for (size_t i = 0; i < a.size(); ++i) squares += (b[i] - a[i] - sum / count) * (b[i] - a[i] - sum / count);
  const double deviation = std::sqrt(squares / count);
  m.sigma = kSpecLimit / deviation;
  m.cpk = (kSpecLimit - std::abs(sum / count)) / (3 * deviation);
  m.verdict = Judge(m, allowed);
  return m;
}

int64_t ParityReport::failed() const {
  return std::ranges::count_if(metrics, [](const ParityMetric& m) { return IsFailure(m.verdict); });
}
int64_t ParityReport::warned() const {
  return std::ranges::count_if(metrics, [](const ParityMetric& m) { return m.verdict == ParityVerdict::kWarnArgmax || m.verdict == ParityVerdict::kWarnOutOfSpec; });
}

std::string ParityReport::Diagnosis() const {
  const int64_t bad = failed();
  if (bad == 0) return "";
  if (bad == static_cast<int64_t>(metrics.size()) && bad > 1) return "Every position differs: a systematic fault, in a weight, a constant or a kernel that all tokens use.";
  if (IsFailure(metrics.front().verdict)) return "Position 0 differs, where neither cache nor rotation play a part: look at the embedding, norms and products of the first layers.";
  const bool from_one_on = std::all_of(metrics.begin() + (static_cast<std::ptrdiff_t>(metrics.size()) - bad), metrics.end(), [](const ParityMetric& m) { return IsFailure(m.verdict); });
  if (from_one_on) return fmt::format("The first positions agree and all from {} on differ: look at positions, rotation, mask and cache.", metrics.size() - static_cast<size_t>(bad));
  return "Some positions differ and later ones agree: look at what depends on the token itself (embedding row, expert choice).";
}

Json ParityReport::ToJson() const {
  Json rows = Json::array();
  for (const ParityMetric& m : metrics) {
    rows.push_back({{"position", m.position}, {"token_id", m.token}, {"a_argmax", m.argmax_a}, {"b_argmax", m.argmax_b},
                    {"cpu_argmax", m.argmax_a}, {"gpu_argmax", m.argmax_b}, {"max_abs_diff", JsonNumber(m.max_abs)},
                    {"mean_abs_diff", JsonNumber(m.mean_abs)}, {"cosine_similarity", JsonNumber(m.cosine)},
                    {"relative_error", JsonNumber(m.relative_error)}, {"kl_divergence", JsonNumber(m.kl)},
                    {"sigma_level", JsonNumber(m.sigma)}, {"cpk", JsonNumber(m.cpk)}, {"verdict", ParityVerdictName(m.verdict)}});
  }
  Json stage = nullptr;
  if (first) {
    stage = {{"stage", first->name}, {"relative_error", JsonNumber(first->relative_error)}, {"allowed", first->allowed},
             {"coordinate", first->coordinate}, {"a", JsonNumber(first->a)}, {"b", JsonNumber(first->b)}};
  }
  const std::string diagnosis = Diagnosis();
  return {{"schema", "apr-parity-v1"}, {"model", model}, {"a", a}, {"b", b}, {"tokens", metrics.size()},
          {"passed", static_cast<int64_t>(metrics.size()) - failed()}, {"failed", failed()}, {"warned", warned()}, {"parity", parity()},
          {"allowed_relative_error", allowed}, {"metrics", rows}, {"stages_compared", stages}, {"first_differing_stage", stage},
          {"diagnosis", diagnosis.empty() ? Json(nullptr) : Json(diagnosis)}};
}

ParityReport RunParity(const ParityRequest& request) {
  ParityReport report;
  report.model = request.model->file().path();
  report.a = request.a.name;
  report.b = request.b.name;
  report.ids = request.ids;
  const auto fast = [](const ParityEngine& e) { return e.executor == ExecutorKind::kCpu && e.precision == Precision::kFast; };
  report.allowed = (fast(request.a) || fast(request.b)) && HasQuantizedWeights(*request.model) ? kFastError : kExactError;
  StageCapture taps_a(true), taps_b(true);
  const IsaGuard isa;
  isa.Use(request.a.isa);
  const Tensor logits_a = RunSide(request, request.a, nullptr, request.per_op ? &taps_a : nullptr);
  isa.Use(request.b.isa);
  const Tensor logits_b = RunSide(request, request.b, request.graph_b, request.per_op ? &taps_b : nullptr);
  const std::vector<double> a = ToF64(logits_a.view()), b = ToF64(logits_b.view());
  const size_t vocab = a.size() / request.ids.size();
  for (size_t t = 0; t < request.ids.size(); ++t) {
    ParityMetric m = MeasureParity(std::span(a).subspan(t * vocab, vocab), std::span(b).subspan(t * vocab, vocab), report.allowed);
    m.position = static_cast<int64_t>(t);
    m.token = request.ids[t];
    report.metrics.push_back(m);
  }
  if (request.per_op) report.first = FirstStage(request.model->graph(), taps_a, taps_b, report.allowed, report.stages);
  return report;
}

}  // namespace apr
