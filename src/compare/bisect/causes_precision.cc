// Causes in number formats: a step computed in a narrower type than declared, values beyond a type's range.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compare/bisect/diagnose.h"
#include "op/attention/attention.h"
#include "op/embedding/embedding.h"
#include "op/linear/linear.h"
#include "op/rope/rope.h"

namespace apr::bisect {
namespace {

// How large a value was before the last step made it smaller: scores are products of q and k times the scale.
double BeforeScale(const Diagnosis& d) {
  if (d.stage().name != "attn_scores" || d.cone().empty()) return 1;
  const Node& node = d.graph().nodes[static_cast<size_t>(d.cone().back())];
  if (node.op != &AttentionOp()) return 1;
  const double scale = node.As<AttentionAttributes>().scale;
  return scale > 0 && scale < 1 ? scale : 1;
}

// Where every failing value is one that the type's range has cut, itself or before it was scaled.
void TryOverflow(Diagnosis& d, double scale) {
  const auto expected = d.evaluator().Evaluate(d.base(), d.index());
  const RecordedStage* recorded = d.evaluator().run().Find(d.stage().Path());
  if (!expected || recorded == nullptr || expected->values.size() != recorded->values.size()) return;
  for (const char* name : {"f16", "f8", "f8_e5m2", "bf16"}) {
    const FloatType type = *FloatTypeFromName(name);
    int64_t beyond = 0, cut = 0, wrong = 0;
    for (size_t i = 0; i < recorded->values.size(); ++i) {
      const double f = expected->values[i], b = recorded->values[i];
      const bool outside = std::abs(f) > type.largest * scale;
      const bool limited = !std::isfinite(b) || std::abs(b) >= 0.999 * type.largest * scale;
      beyond += outside;
      cut += outside && limited;
      wrong += !outside && !std::isfinite(b);
    }
    if (beyond == 0 || cut < beyond || wrong > 0) continue;
    Hypothesis h{.name = "overflow", .detail = fmt::format("{} values{} exceed the largest {}", beyond, scale < 1 ? ", not scaled yet," : "", name), .a = nullptr, .b = name,
                 .fix = fmt::format("compute this stage in a wider type than {}", name), .rank = 1, .variation = d.base()};
    const std::vector<double>& values = recorded->values;
    const std::string target = d.graph().nodes[static_cast<size_t>(d.cone().back())].name;
    const double largest = type.largest * scale;
    h.variation.rules.emplace_back([values, largest, target](const NodeCall& call, std::vector<double>& out) {
      if (call.node.name != target || out.size() != values.size()) return false;
      for (size_t i = 0; i < out.size(); ++i) {
        if (std::abs(out[i]) > largest) out[i] = std::isfinite(values[i]) ? std::copysign(values[i], out[i]) : values[i];
      }
      return true;
    });
    if (!d.Try(h) && type.unit > d.evaluator().formats().activations.unit) {  // what is in range was rounded to the type, too
      RunFormats narrow = d.evaluator().formats();
      narrow.activations = type;
      Evaluator evaluator(d.evaluator().run(), d.evaluator().ids(), narrow, d.evaluator().pool());
      const Judged judged = Judge(evaluator, h.variation, d.index());
      if (judged.compared && !judged.fails()) d.Accept(std::move(h), judged);
    }
    return;
  }
}

void Round(std::vector<double>& x, const FloatType& type) {
  for (double& v : x) v = RoundTo(type, v);
}

// The same steps with one of them rounded: exact where the engine does just that.
void TrySteps(Diagnosis& d, const FloatType& type) {
  const auto attempt = [&](const std::string& where, NodeRule rule) {
    Hypothesis h{.name = "reduced_precision", .detail = fmt::format("{} in {}", where, type.name), .a = d.evaluator().formats().activations.name, .b = type.name,
                 .fix = fmt::format("compute {} in the type that is declared", where), .rank = 2, .variation = d.base()};
    h.variation.rules.push_back(std::move(rule));
    d.Try(std::move(h));
  };
  if (!d.HasOp(RopeTableOp())) return;
  const int64_t tokens = d.evaluator().tokens();
  const auto table = [tokens](const FloatType& t, bool round_frequency, bool round_angle, bool round_table) {
    return [=](const NodeCall& call, std::vector<double>& out) {
      if (call.node.op != &RopeTableOp()) return false;
      const auto& a = call.node.As<RopeTableAttributes>();
      std::vector<double> frequency = InverseFrequencies(a, tokens);
      if (round_frequency) Round(frequency, t);
      const auto half = frequency.size();
      for (int64_t p = 0; p < tokens; ++p) {
        double* row = out.data() + p * a.rotary_dim;
        for (size_t i = 0; i < half; ++i) {
          double angle = (round_angle ? RoundTo(t, static_cast<double>(p)) : static_cast<double>(p)) * frequency[i];
          if (round_angle) angle = RoundTo(t, angle);
          row[i] = std::cos(angle) * a.attention_factor;
          row[half + i] = std::sin(angle) * a.attention_factor;
        }
      }
      if (round_table) Round(out, t);
      return true;
    };
  };
  for (const unsigned mask : {4U, 2U, 1U, 3U, 6U, 7U, 5U}) {
    std::string where = "rope ";
    if (mask & 1) where += "frequencies ";
    if (mask & 2) where += "angles ";
    if (mask & 4) where += "cosines and sines ";
    attempt(where.substr(0, where.size() - 1), table(type, mask & 1, mask & 2, mask & 4));
  }
}

// Inputs, weights or results of the step rounded: exact where the engine does just that.
void TryNarrow(Diagnosis& d, const FloatType& type) {
  const bool product = d.HasOp(LinearOp());
  for (const char* what : {"results", "inputs", "weights", "inputs and weights", "inputs and results"}) {
    const std::string_view words(what);
    const bool weights = words.find("weights") != words.npos;
    if (weights && !product) continue;
    Hypothesis h{.name = "reduced_precision", .detail = fmt::format("{} of this stage in {}", what, type.name), .a = d.evaluator().formats().activations.name,
                 .b = type.name, .fix = fmt::format("compute {} in the type that is declared", d.stage().name), .rank = 2, .variation = d.base()};
    if (words.find("inputs") != words.npos) h.variation.narrow.inputs = type;
    if (weights) h.variation.narrow.weights = type;
    if (words.find("results") != words.npos) {
      h.variation.narrow.outputs = type;
      h.narrow = type.name;
    }
    d.Try(std::move(h));
  }
}

void TryInt8(Diagnosis& d) {
  if (!d.HasOp(LinearOp()) || d.evaluator().formats().int8_activations) return;
  for (const int64_t block : {32, 256, -1}) {
    Hypothesis h{.name = "reduced_precision", .detail = fmt::format("inputs of the product as int8, a scale for {}", block < 0 ? "a row" : fmt::format("{} elements", block)),
                 .a = d.evaluator().formats().activations.name, .b = "int8", .fix = "multiply with activations in the type that is declared", .rank = 2, .variation = d.base()};
    h.variation.narrow.int8_block = block;
    d.Try(std::move(h));
  }
}

bool Holds(const FloatType& type, const std::vector<double>& values) {
  int64_t nonzero = 0;
  for (const double v : values) {
    if (std::isfinite(v) && RoundTo(type, v) != v) return false;
    nonzero += v != 0 ? 1 : 0;
  }
  return nonzero > 0;
}

// Two orders of rounding at once: every recorded value is one of a narrower type, or the error is that of a run in it.
void TryStatistics(Diagnosis& d, const FloatType& type, bool held) {
  RunFormats narrow = d.evaluator().formats();
  if (type.unit <= narrow.activations.unit * 1.5) return;
  narrow.activations = type;
  Evaluator evaluator(d.evaluator().run(), d.evaluator().ids(), narrow, d.evaluator().pool());
  const Judged judged = Judge(evaluator, d.base(), d.index());
  if (!judged.compared || judged.fails() || judged.ratio < 0.02) return;
  d.Accept({.name = "reduced_precision", .detail = held ? fmt::format("every value is a {}, and the error is that of one", type.name) : fmt::format("the error is that of {}", type.name),
            .a = d.evaluator().formats().activations.name, .b = type.name, .fix = fmt::format("compute {} in the type that is declared", d.stage().name),
            .rank = held ? 3 : 4, .narrow = held ? type.name : "", .variation = d.base()}, judged);
}

}  // namespace

void TryPrecisionCauses(Diagnosis& d) {
  TryOverflow(d, 1);
  if (!d.explained() && BeforeScale(d) < 1) TryOverflow(d, BeforeScale(d));
  if (d.explained() || d.before().nonfinite) return;
  for (const char* name : {"f16", "bf16", "f8", "f8_e5m2"}) {
    const FloatType type = *FloatTypeFromName(name);
    if (type.unit <= d.evaluator().formats().activations.unit * 1.5) continue;
    TrySteps(d, type);
    TryNarrow(d, type);
  }
  TryInt8(d);
  if (d.explained()) return;
  const RecordedStage* recorded = d.evaluator().run().Find(d.stage().Path());
  for (const char* name : {"f16", "bf16", "f8", "f8_e5m2"}) {
    const FloatType type = *FloatTypeFromName(name);
    if (recorded != nullptr && Holds(type, recorded->values)) TryStatistics(d, type, true);
    if (d.explained()) return;
  }
  // The error of an f8 is that of anything which is somewhat wrong: its values must show it.
  for (const char* name : {"tf32", "f16", "bf16"}) {
    TryStatistics(d, *FloatTypeFromName(name), false);
    if (d.explained()) return;
  }
}

}  // namespace apr::bisect
