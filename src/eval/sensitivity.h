// What each tensor of a quantised model costs by itself: model A with only this tensor taken from B.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "eval/divergence.h"
#include "model/model.h"

namespace apr {

struct TensorCost {
  std::string tensor;      // of B's file
  DType type = DType::kF32;  // in B's file
  std::vector<size_t> weights;  // of A's graph, that come from it
  double kld = 0;          // mean over the tokens, nats
  double kld_error = 0;    // standard error
};

// For every tensor of B that is stored in a quantised type, or in 16 bits where A holds more: mean KLD of A with
// that tensor from B, over `ids` as one window. Graphs must be alike. Most costly first.
std::vector<TensorCost> TensorCosts(std::shared_ptr<const Model> a, const Model& b, std::span<const int32_t> ids,
                                    const ExecutorOptions& options, const std::function<void(int64_t tensors)>& progress);

}  // namespace apr
