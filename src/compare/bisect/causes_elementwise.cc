// Causes in element-wise steps: activation, residual, embedding and logit scales and caps, biases, parallel residual.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/bisect/diagnose.h"
#include "op/activation/activation.h"
#include "op/add_bias/add_bias.h"
#include "op/elementwise/elementwise.h"
#include "op/embedding/embedding.h"
#include "op/linear/linear.h"
#include "op/moe/moe_experts.h"
#include "op/norm/norm.h"

namespace apr::bisect {
namespace {

void Activations(Diagnosis& d) {
  const std::string& current = d.model().config.activation;
  for (const char* kind : {"silu", "gelu_tanh", "gelu", "quick_gelu", "relu", "relu2"}) {
    if (current == kind) continue;
    d.TryConfig({.name = "activation", .detail = fmt::format("{} -> {}", current, kind), .a = current, .b = kind, .key = "hidden_act",
                  .fix = "give B the activation of A", .rank = 1},
              [&](ModelConfig& c) { c.activation = kind; });
  }
  Hypothesis none{.name = "activation", .detail = current + " -> none", .a = current, .b = "none", .key = "hidden_act", .fix = "apply the activation", .rank = 2,
                  .variation = d.base()};
  none.variation.rules.emplace_back([](const NodeCall& call, std::vector<double>& out) {
    if (call.node.op != &ActivationOp()) return false;
    out = call.inputs[0];
    return true;
  });
  d.Try(std::move(none));
}

// One bias among several (of q, k and v) may be the one that is missing.
void Biases(Diagnosis& d) {
  std::vector<const Node*> nodes;
  for (const int index : d.cone()) {
    const Node& node = d.graph().nodes[static_cast<size_t>(index)];
    if (node.op == &AddBiasOp()) nodes.push_back(&node);
  }
  const auto without = [](std::vector<std::string> names, double factor) {
    return [names, factor](const NodeCall& call, std::vector<double>& out) {
      if (std::ranges::find(names, call.node.name) == names.end()) return false;
      for (size_t i = 0; i < out.size(); ++i) out[i] = call.inputs[0][i] + factor * (out[i] - call.inputs[0][i]);
      return true;
    };
  };
  for (unsigned mask = (1U << nodes.size()) - 1; mask > 0; --mask) {
    std::vector<std::string> names;
    std::string tensors;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if ((mask >> i & 1) == 0) continue;
      names.push_back(nodes[i]->name);
      tensors += (tensors.empty() ? "" : ", ") + d.graph().weights[static_cast<size_t>(nodes[i]->weights[0])].name;
    }
    for (const double factor : {0.0, 2.0, -1.0}) {
      Hypothesis h{.name = "missing_bias", .detail = tensors + (factor == 0 ? " not added" : factor == 2 ? " added twice" : " subtracted"), .a = 1, .b = factor,
                   .tensor = d.graph().weights[static_cast<size_t>(nodes[static_cast<size_t>(__builtin_ctz(mask))]->weights[0])].name,
                   .fix = "add the bias once", .rank = factor == 0 ? 1 : 3, .variation = d.base()};
      h.variation.rules.emplace_back(without(names, factor));
      d.Try(std::move(h));
    }
  }
}

void Embeddings(Diagnosis& d) {
  const ModelConfig& config = d.model().config;
  for (const double scale : {1.0, std::sqrt(static_cast<double>(config.hidden_size))}) {
    if (std::abs(scale / config.embedding_scale - 1) < 1e-9) continue;
    d.TryConfig({.name = "embedding_scale", .detail = fmt::format("scale {} -> {}", Shortest(config.embedding_scale), Shortest(scale)), .a = config.embedding_scale,
                  .b = scale, .key = "embedding_multiplier", .fix = "multiply the embedding by A's scale", .rank = 0},
              [&](ModelConfig& c) { c.embedding_scale = scale; });
  }
  if (!d.explained()) {
    d.Solve({.name = "embedding_scale", .detail = "scale", .key = "embedding_multiplier", .fix = "multiply the embedding by A's scale", .rank = 1},
            config.embedding_scale * 1e-3, config.embedding_scale * 1e3, [](ModelConfig& c, double x) { c.embedding_scale = x; }, config.embedding_scale);
  }
  if (!config.learned_positions) return;
  // Rows of the table have nothing in common: the right shift fits, all others are as far off as none.
  const int64_t tokens = d.evaluator().tokens();
  int64_t best = 0;
  double smallest = INFINITY;
  for (int64_t shift = 1 - tokens; shift <= std::max<int64_t>(4, config.max_positions - tokens); ++shift) {
    Variation moved = d.base();
    moved.embedding_shift = shift;
    const double error = shift == 0 ? INFINITY : d.ErrorUnder(moved);
    if (!(error < smallest)) continue;
    smallest = error;
    best = shift;
  }
  if (best == 0) return;
  Hypothesis h{.name = "position_offset", .detail = fmt::format("positions {:+}", best), .a = 0, .b = best, .fix = "count positions from 0", .rank = 1,
               .variation = d.base()};
  h.variation.embedding_shift = best;
  d.Try(std::move(h));
}

// Products of the head before scale and cap, and what was recorded, at places spread over the wrong rows: both constants
// are functions of one element, so a sample tells them.
struct LogitSample {
  std::vector<double> raw, recorded;
};

LogitSample SampleLogits(Diagnosis& d) {
  constexpr size_t kMost = 20000;
  LogitSample out;
  const auto plain = d.WithConfig([](ModelConfig& c) {
    c.logit_scale = 1;
    c.logit_softcap = 0;
  });
  const Stage* stage = plain ? plain->model->bound.graph.FindStage("lm_head", d.stage().layer) : nullptr;
  const RecordedStage* recorded = d.evaluator().run().Find(d.stage().Path());
  if (stage == nullptr || recorded == nullptr) return out;
  const auto raw = d.evaluator().Evaluate(*plain, static_cast<int>(stage - plain->model->bound.graph.stages.data()));
  if (!raw || raw->values.size() != recorded->values.size()) return out;
  const size_t step = raw->values.size() / kMost + 1;
  for (size_t i = 0; i < raw->values.size(); i += step) {
    const size_t row = i / static_cast<size_t>(raw->width);
    if (!std::isfinite(recorded->values[i]) || (row < d.before().bad.size() && !d.before().bad[row])) continue;
    out.raw.push_back(raw->values[i]);
    out.recorded.push_back(recorded->values[i]);
  }
  return out;
}

double Capped(double x, double cap) { return cap == 0 ? x : cap * std::tanh(x / cap); }

void SolveLogits(Diagnosis& d, const LogitSample& sample, Hypothesis h, double low, double high, double current,
                 const std::function<double(double raw, double x)>& value, const std::function<void(ModelConfig&, double)>& change) {
  if (sample.raw.empty() || d.explained()) return;
  const auto error = [&](double x) {
    double sum = 0;
    for (size_t i = 0; i < sample.raw.size(); ++i) {
      const double difference = value(sample.raw[i], x) - sample.recorded[i];
      sum += difference * difference;
    }
    return sum;
  };
  const double x = Minimize(low, high, 49, error);
  const auto variation = d.WithConfig([&](ModelConfig& c) { change(c, x); });
  if (!variation || !std::isfinite(error(x))) return;
  h.variation = *variation;
  h.detail = fmt::format("{} {} -> {} (solved)", h.detail, Shortest(current), Shortest(x));
  h.a = JsonNumber(current);
  h.b = JsonNumber(std::stod(Shortest(x)));
  d.Try(std::move(h));
}

void Logits(Diagnosis& d) {
  const ModelConfig& config = d.model().config;
  d.TryConfig({.name = "tie_word_embeddings", .detail = config.tie_embeddings ? "the stored head is used" : "the embedding is used as head", .a = config.tie_embeddings,
                .b = !config.tie_embeddings, .key = "tie_word_embeddings", .fix = "use the head that A uses", .rank = 0},
            [](ModelConfig& c) { c.tie_embeddings = !c.tie_embeddings; });
  const Hypothesis cap{.name = "logit_softcap", .key = "final_logit_softcapping", .fix = "give B the soft cap of A", .rank = 1};
  if (config.logit_softcap != 0) {
    Hypothesis none = cap;
    none.detail = fmt::format("cap {} -> none", Shortest(config.logit_softcap));
    none.a = config.logit_softcap;
    none.b = 0;
    none.rank = 0;
    d.TryConfig(none, [](ModelConfig& c) { c.logit_softcap = 0; });
  }
  Hypothesis flat{.name = "logit_scale", .detail = fmt::format("scale {} -> 1", Shortest(config.logit_scale)), .a = config.logit_scale, .b = 1, .key = "logit_scale",
                  .fix = "multiply the logits by A's scale", .rank = 0};
  if (config.logit_scale != 1) d.TryConfig(flat, [](ModelConfig& c) { c.logit_scale = 1; });
  if (d.explained()) return;
  const LogitSample sample = SampleLogits(d);
  Hypothesis scale = flat;
  scale.detail = "scale";
  scale.rank = 1;
  const double old_cap = config.logit_softcap;
  SolveLogits(d, sample, scale, config.logit_scale * 1e-3, config.logit_scale * 1e3, config.logit_scale,
              [old_cap](double raw, double x) { return Capped(raw * x, old_cap); }, [](ModelConfig& c, double x) { c.logit_scale = x; });
  Hypothesis other = cap;
  other.detail = "cap";
  const double old_scale = config.logit_scale;
  SolveLogits(d, sample, other, 0.05, 1e5, config.logit_softcap, [old_scale](double raw, double x) { return Capped(raw * old_scale, x); },
              [](ModelConfig& c, double x) { c.logit_softcap = x; });
}

void Residuals(Diagnosis& d) {
  const ModelConfig& config = d.model().config;
  d.Solve({.name = "residual_scale", .detail = "scale", .key = "residual_multiplier", .fix = "multiply what a sub-layer adds by A's scale", .rank = 1},
          config.residual_scale * 1e-3, config.residual_scale * 1e3, [](ModelConfig& c, double x) { c.residual_scale = x; }, config.residual_scale);
}

// Both sub-layers read the layer's input, or the second reads the first one's result.
void Parallel(Diagnosis& d) {
  const bool parallel = d.model().config.parallel_residual;
  for (const bool shared : {false, true}) {
    d.TryConfig({.name = "parallel_residual", .detail = parallel ? "parallel -> serial" : "serial -> parallel", .a = parallel, .b = !parallel,
                  .key = "use_parallel_residual", .fix = "order the sub-layers as A does", .rank = shared ? 2 : 1},
              [&](ModelConfig& c) {
                c.parallel_residual = !parallel;
                c.shared_parallel_norm = shared && !parallel;
              });
  }
  if (!parallel || !d.model().config.shared_parallel_norm) return;
  d.TryConfig({.name = "parallel_residual", .detail = "each sub-layer has its own norm", .a = nullptr, .b = nullptr, .key = "use_parallel_residual", .rank = 3},
            [](ModelConfig& c) { c.shared_parallel_norm = false; });
}

}  // namespace

void TryElementwiseCauses(Diagnosis& d) {
  const std::string& stage = d.stage().name;
  if (d.HasOp(ActivationOp()) || d.HasOp(MoeExpertsOp())) Activations(d);
  if (d.HasOp(AddBiasOp())) Biases(d);
  if (d.HasOp(EmbeddingOp())) Embeddings(d);
  if (stage == "lm_head") Logits(d);
  if (stage == "ffn_norm" || stage == "post_ffn_residual" || stage == "post_attn_residual" || stage == "ffn_gate" || stage == "ffn_up") {
    if (!d.explained() && d.model().architecture != nullptr) Parallel(d);
  }
  if (d.HasOp(AddOp()) && !d.HasOp(EmbeddingOp())) Residuals(d);
}

}  // namespace apr::bisect
