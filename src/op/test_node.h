// For tests and benchmarks of ops: a graph of one node with owned inputs, weights and outputs, run by
// the reference or the cpu executor's function.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "op/context.h"

namespace apr {

class TestNode {
 public:
  // `tokens` tokens of one sequence from position 0. Inputs are kTokens values of the given widths.
  template <typename Struct>
  TestNode(const Op& op, Struct attributes, int64_t tokens, std::vector<int64_t> input_widths,
           std::vector<WeightRef> weights)
      : TestNode(op, std::shared_ptr<const Attributes>(new AttributesOf<Struct>(std::move(attributes))),
                 tokens, std::move(input_widths), std::move(weights)) {}
  TestNode(const Op& op, std::shared_ptr<const Attributes> attributes, int64_t tokens,
           std::vector<int64_t> input_widths, std::vector<WeightRef> weights);

  std::vector<float>& input(size_t i) { return inputs_[i]; }
  const Node& node() const { return graph_.nodes[0]; }

  // Output 0. Caches and further outputs as set in the members below. `isa` is forced before PrepareCpu
  // ("" leaves the choice), the pool has `threads` threads.
  std::vector<float> Cpu(const std::string& isa, int threads, Precision precision = Precision::kExact);
  std::vector<double> Reference();
  // The same with a state prepared by the caller.
  std::unique_ptr<CpuState> Prepare(Precision precision) const;
  void RunCpu(CpuState* state, ThreadPool& pool, Precision precision, std::span<float> out);

  std::vector<int32_t> ids;                  // zeros
  std::vector<SequenceSpan> sequences;       // one of all tokens
  std::vector<KvCache<float>> caches;
  std::vector<KvCache<double>> caches_f64;
  std::vector<std::span<float>> more_outputs;       // outputs 1 ...
  std::vector<std::span<double>> more_outputs_f64;

 private:
  template <typename Real>
  void Run(std::span<const std::span<const Real>> inputs, std::span<const KvCache<Real>> cache_list,
           std::span<const std::span<Real>> more, ThreadPool& pool, Precision precision, CpuState* state,
           std::span<Real> out);

  Graph graph_;
  std::vector<std::vector<float>> inputs_;
  std::vector<WeightRef> weights_;
  std::vector<const WeightRef*> weight_pointers_;
  int64_t tokens_;
};

// A weight that owns its bytes: `values` [rows, cols] in f32, or random blocks of a quantised type.
WeightRef FloatWeight(const std::vector<float>& values, Shape shape);
// Values of about unit size: normal for floats, random codes with sane scales for blocks. cols is a
// multiple of the block.
WeightRef RandomWeight(DType dtype, int64_t rows, int64_t cols, uint64_t seed);
std::vector<float> RandomFloats(int64_t count, uint64_t seed);

// Names of the tables that this machine runs: "scalar", "avx2" ...
std::vector<std::string> AvailableIsas();
// The largest difference relative to the root mean square of `want`; infinity where one is NaN alone.
double RelativeError(std::span<const float> got, std::span<const double> want);

}  // namespace apr
