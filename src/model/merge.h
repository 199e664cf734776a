// Several models of one architecture into one: by their weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/export_model.h"

namespace apr {

enum class MergeStrategy {
  kAverage,   // mean
  kWeighted,  // sum of w_i x_i, the weights divided by their sum
  kSlerp,     // along the great circle between two models; weight 2 is the part of the second
  kTies,      // Yadav et al. 2023, arXiv 2306.01708: trimmed task vectors, one sign elected per element
  kDare,      // Yu et al. 2023, arXiv 2311.03099: task vectors thinned at random and rescaled
};
// "average", "weighted", "slerp", "ties", "dare"; throws kUsage.
MergeStrategy ParseMergeStrategy(const std::string& name);

struct MergeOptions {
  MergeStrategy strategy = MergeStrategy::kAverage;
  std::vector<double> weights;                 // one per model, or none: all the same
  std::shared_ptr<const Model> base;           // ties and dare: what the models were tuned from
  double density = 0.2;                        // ties: part of each task vector that is kept, largest first
  double drop_rate = 0.9;                      // dare: part of each task vector that is dropped
  uint64_t seed = 42;                          // dare
};

// Throws kUsage for options that do not fit the strategy.
void CheckMerge(const std::vector<std::shared_ptr<const Model>>& models, const MergeOptions& options);

// The elements of one tensor. `parts`: one per model; `base`: empty unless the strategy needs it. In
// f64, rounded once. `name` enters dare's random numbers, so that tensors differ and order does not matter.
std::vector<float> MergeTensor(const std::vector<std::vector<float>>& parts, const std::vector<float>& base, const std::string& name,
                               const MergeOptions& options);

// The tensors of `target` names for the merge of `models`, in the types of the first. Throws kModelLoad
// naming the first difference when configurations differ.
std::vector<TensorToWrite> MergedTensors(const std::vector<std::shared_ptr<const Model>>& models, const MergeOptions& options,
                                         const std::vector<TensorRule>& target, const ChooseType& choose, const EncodeContext& context);

}  // namespace apr
