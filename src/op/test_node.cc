// See test_node.h.
#include "op/test_node.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/float16.h"

namespace apr {
namespace {

void PutF16(std::byte* p, float value) {
  const uint16_t bits = F32ToF16(value);
  std::memcpy(p, &bits, 2);
}

// Where the f16 scales of a block stand and how large they should be, so that weights are near 1.
struct ScaleField {
  DType dtype;
  int offset;
  float size;
};
constexpr ScaleField kScales[] = {
    {DType::kQ4_0, 0, 0.2f},    {DType::kQ4_1, 0, 0.2f},     {DType::kQ4_1, 2, -1.5f},   {DType::kQ5_0, 0, 0.1f},
    {DType::kQ5_1, 0, 0.1f},    {DType::kQ5_1, 2, -1.5f},    {DType::kQ8_0, 0, 0.015f},  {DType::kQ8_1, 0, 0.015f},
    {DType::kQ2_K, 80, 0.1f},   {DType::kQ2_K, 82, 0.1f},    {DType::kQ3_K, 108, 0.02f}, {DType::kQ4_K, 0, 0.004f},
    {DType::kQ4_K, 2, 0.03f},   {DType::kQ5_K, 0, 0.002f},   {DType::kQ5_K, 2, 0.03f},   {DType::kQ6_K, 208, 0.0008f},
};

template <typename T>
std::span<const std::span<const T>> Spans(const std::vector<std::span<const T>>& list) {
  return list;
}

}  // namespace

TestNode::TestNode(const Op& op, std::shared_ptr<const Attributes> attributes, int64_t tokens,
                   std::vector<int64_t> input_widths, std::vector<WeightRef> weights)
    : ids(static_cast<size_t>(tokens)),
      sequences{{.count = tokens, .total_length = tokens}},
      weights_(std::move(weights)),
      tokens_(tokens) {
  graph_.values.push_back({.width = 1, .name = "ids"});
  Node node{.op = &op, .attributes = std::move(attributes), .name = "node"};
  for (const int64_t width : input_widths) {
    node.inputs.push_back(static_cast<int>(graph_.values.size()));
    graph_.values.push_back({.width = width, .name = "input"});
    inputs_.push_back(RandomFloats(tokens * width, 17 + node.inputs.size()));
  }
  for (const WeightRef& weight : weights_) {
    node.weights.push_back(static_cast<int>(graph_.weights.size()));
    graph_.weights.push_back({"weight", weight.view.shape});
    weight_pointers_.push_back(&weight);
  }
  std::vector<Value> outputs = op.Infer(node, graph_);
  for (Value& value : outputs) {
    node.outputs.push_back(static_cast<int>(graph_.values.size()));
    graph_.values.push_back(std::move(value));
  }
  graph_.nodes.push_back(std::move(node));
}

template <typename Real>
void TestNode::Run(std::span<const std::span<const Real>> inputs, std::span<const KvCache<Real>> cache_list,
                   std::span<const std::span<Real>> more, ThreadPool& pool, Precision precision,
                   CpuState* state, std::span<Real> out) {
  std::vector<int32_t> positions(static_cast<size_t>(tokens_));
  for (const SequenceSpan& span : sequences) {
    for (int64_t t = 0; t < span.count; ++t) {
      positions[static_cast<size_t>(span.first + t)] = static_cast<int32_t>(span.position + t);
    }
  }
  const Batch batch{.ids = ids, .positions = positions, .sequences = sequences, .logit_rows = {}};
  std::vector<std::span<Real>> outputs(graph_.nodes[0].outputs.size());
  outputs[0] = out;
  std::copy(more.begin(), more.end(), outputs.begin() + 1);
  const OpContext<Real> context{.node = graph_.nodes[0],
                                .graph = graph_,
                                .batch = batch,
                                .inputs = inputs,
                                .outputs = outputs,
                                .weights = weight_pointers_,
                                .caches = cache_list,
                                .pool = pool,
                                .precision = precision,
                                .state = state};
  if constexpr (std::is_same_v<Real, float>) {
    graph_.nodes[0].op->Cpu(context);
  } else {
    graph_.nodes[0].op->Reference(context);
  }
}

std::unique_ptr<CpuState> TestNode::Prepare(Precision precision) const {
  return graph_.nodes[0].op->PrepareCpu(
      {.node = graph_.nodes[0], .graph = graph_, .weights = weight_pointers_, .precision = precision});
}

void TestNode::RunCpu(CpuState* state, ThreadPool& pool, Precision precision, std::span<float> out) {
  const std::vector<std::span<const float>> inputs(inputs_.begin(), inputs_.end());
  Run<float>(inputs, caches, more_outputs, pool, precision, state, out);
}

std::vector<float> TestNode::Cpu(const std::string& isa, int threads, Precision precision) {
  if (!isa.empty()) ForceIsa(isa);
  ThreadPool pool(threads);
  const std::unique_ptr<CpuState> state = Prepare(precision);
  const int64_t width = graph_.values[static_cast<size_t>(graph_.nodes[0].outputs[0])].width;
  std::vector<float> out(static_cast<size_t>(tokens_ * width), -12345.0f);
  RunCpu(state.get(), pool, precision, out);
  return out;
}

std::vector<double> TestNode::Reference() {
  ThreadPool pool(1);
  std::vector<std::vector<double>> wide;
  for (const std::vector<float>& input : inputs_) wide.emplace_back(input.begin(), input.end());
  const std::vector<std::span<const double>> inputs(wide.begin(), wide.end());
  const int64_t width = graph_.values[static_cast<size_t>(graph_.nodes[0].outputs[0])].width;
  std::vector<double> out(static_cast<size_t>(tokens_ * width));
  Run<double>(inputs, caches_f64, more_outputs_f64, pool, Precision::kExact, nullptr, out);
  return out;
}

std::vector<float> RandomFloats(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) value = normal(random);
  return out;
}

WeightRef FloatWeight(const std::vector<float>& values, Shape shape) {
  auto tensor = std::make_shared<Tensor>(DType::kF32, shape);
  std::copy(values.begin(), values.end(), tensor->f32().begin());
  return {.view = tensor->view(), .owned = tensor, .source = "test"};
}

WeightRef RandomWeight(DType dtype, int64_t rows, int64_t cols, uint64_t seed) {
  auto tensor = std::make_shared<Tensor>(dtype, Shape{rows, cols});
  const std::span<std::byte> bytes = tensor->mutable_bytes();
  const std::vector<float> normal = RandomFloats(rows * cols, seed);
  if (dtype == DType::kF32) {
    std::memcpy(bytes.data(), normal.data(), bytes.size());
  } else if (dtype == DType::kF64) {
    for (size_t i = 0; i < normal.size(); ++i) {
      const double value = normal[i];
      std::memcpy(bytes.data() + 8 * i, &value, 8);
    }
  } else if (dtype == DType::kF16 || dtype == DType::kBF16) {
    for (size_t i = 0; i < normal.size(); ++i) {
      const uint16_t bits = dtype == DType::kF16 ? F32ToF16(normal[i]) : F32ToBf16(normal[i]);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    }
  } else {
    std::mt19937_64 random(seed + 1);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    std::uniform_real_distribution<float> around(0.5f, 1.5f);
    const uint32_t block = InfoOf(dtype).block_bytes;
    for (const ScaleField& field : kScales) {
      if (field.dtype != dtype) continue;
      for (size_t at = 0; at < bytes.size(); at += block) {
        PutF16(bytes.data() + at + field.offset, field.size * around(random));
      }
    }
  }
  return {.view = tensor->view(), .owned = tensor, .source = "test"};
}

std::vector<std::string> AvailableIsas() {
  std::vector<std::string> names;
  for (const IsaInfo& info : AllIsas()) {
    if (info.available) names.emplace_back(info.name);
  }
  return names;
}

double RelativeError(std::span<const float> got, std::span<const double> want) {
  APR_CHECK(got.size() == want.size() && !got.empty());
  double squares = 0;
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) != std::isnan(want[i])) return std::numeric_limits<double>::infinity();
    if (std::isnan(want[i]) || want[i] == got[i]) continue;
    squares += want[i] * want[i];
    worst = std::max(worst, std::abs(got[i] - want[i]));
  }
  if (worst == 0) return 0;
  return worst / std::sqrt(squares / static_cast<double>(got.size()));
}

}  // namespace apr
