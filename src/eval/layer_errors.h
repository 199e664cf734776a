// Model B against model A op by op on the same tokens: the error that an op of B makes by itself, on what A's op got
// (teacher-forced), and the error that has come together by then.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "exec/executor.h"

namespace apr {

struct OpError {
  std::string node;   // "layer-3/q_proj"
  std::string op;     // "linear"
  int layer = -1;     // -1: whole model
  std::vector<std::string> tensors;  // of B's file, that the op reads
  // sqrt(sum (a - b)^2 / sum a^2) of the op's result; infinite where one side is not finite.
  double own = 0;         // B's op on A's inputs
  double propagated = 0;  // B's op on B's inputs
};

// One entry for every op of the graphs, in the order of the computation; both run in f32 with their weights as
// stored. Holds only the values that later ops need. Throws kValidationFailed if the graphs are not alike.
std::vector<OpError> OpErrors(const BoundGraph& a, const BoundGraph& b, std::span<const int32_t> ids, ThreadPool& pool,
                              const std::function<void(int64_t nodes)>& progress);

}  // namespace apr
