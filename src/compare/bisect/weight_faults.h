// The weights of two models of one architecture: which tensors differ beyond their storage, why, and which
// of those differences are one fault.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "compare/channel_scales.h"
#include "compare/storage_floor.h"
#include "compare/weight_diff.h"
#include "compare/weight_search.h"
#include "model/model.h"

namespace apr::bisect {

// One tensor of B that is not A's.
struct WeightFault {
  std::vector<SlotKey> keys;             // slots concerned; empty: a tensor that no slot names
  std::string tensor;                    // Hugging Face name, without parts of fused tensors; else B's own
  std::string name_b;                    // as B spells it; empty: absent
  std::string shape_a, shape_b;          // where they contradict each other
  WeightExplanation why;
  std::vector<int64_t> coordinate;
  std::optional<double> value_a, value_b;
  int64_t layer = -1;
  bool no_effect = false;                // changes nothing: zero biases
};

// Faults of one cause that belong together, first in the data flow first.
struct FaultGroup {
  std::vector<WeightFault> members;
  const WeightFault& front() const { return members.front(); }
};

struct WeightComparison {
  int64_t compared = 0;
  int64_t rounded = 0;                   // pairs that differ as their types explain
  std::vector<std::string> only_a, only_b;
  std::string basis;
  std::vector<WeightFault> faults;
  bool truncated = false;                // too many differ for no reason found: the rest was not searched
};

// One side, bound as far as its tensors fit.
struct BoundSide {
  std::shared_ptr<const ModelFile> file;
  const Architecture* architecture = nullptr;
  const ModelConfig* config = nullptr;
  SlotTable slots;
  std::vector<BindProblem> problems;
};
BoundSide BindSide(std::shared_ptr<const ModelFile> file, const Architecture& architecture, const ModelConfig& config);

// Factors that B's quantiser moved inside layers whose norms differ (channel_scales.h), through slots.
std::map<SlotKey, ChannelScale> FindScales(const BoundSide& a, const BoundSide& b, ThreadPool& pool);

// Through slots. `reads`: whether A's computation reads a slot.
WeightComparison CompareBound(const BoundSide& a, const BoundSide& b, const std::function<bool(const SlotKey&)>& reads, bool causes,
                              ThreadPool& pool);
// By tensor names, for files whose architecture is unknown or not the same.
WeightComparison CompareNamed(std::shared_ptr<const ModelFile> a, std::shared_ptr<const ModelFile> b, bool causes, ThreadPool& pool);

// `order` gives a slot's place in the data flow.
std::vector<FaultGroup> GroupFaults(std::vector<WeightFault> faults, const std::function<std::pair<int64_t, int64_t>(const SlotKey&)>& order);

}  // namespace apr::bisect
