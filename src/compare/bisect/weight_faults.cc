// See weight_faults.h.
#include "compare/bisect/weight_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/progress.h"
#include "format/packed_weights.h"
#include "model/inventory.h"
#include "op/context.h"

namespace apr::bisect {
namespace {

// Tensors that nothing explains after which the two are taken for different weights altogether.
constexpr int kUnexplainedLimit = 12;

std::string WithoutPart(const std::string& name) { return name.substr(0, name.find('[')); }

bool IsBias(const SlotKey& key) { return std::string_view(SlotName(key.slot)).ends_with("_bias"); }
bool IsZero(const WeightRef& weight) {
  const std::vector<float> values = ReadWeightF32(weight);
  return std::all_of(values.begin(), values.end(), [](float v) { return v == 0; });
}

std::vector<int64_t> CoordinateOf(int64_t index, const Shape& shape) {
  std::vector<int64_t> out(static_cast<size_t>(shape.ndim()));
  for (int i = shape.ndim() - 1; i >= 0; --i) {
    out[static_cast<size_t>(i)] = index % shape[i];
    index /= shape[i];
  }
  return out;
}

int64_t LayerInName(const std::string& name) {
  for (const std::string_view mark : {"layers.", "blk.", ".h."}) {
    const size_t at = name.find(mark);
    if (at == std::string::npos) continue;
    const size_t first = at + mark.size();
    size_t end = first;
    while (end < name.size() && name[end] >= '0' && name[end] <= '9' && end - first < 6) ++end;
    if (end > first) return std::stoll(name.substr(first, end - first));
  }
  return -1;
}

class Comparison {
 public:
  Comparison(const WeightPairs& pairs, bool causes, ThreadPool& pool) : pairs_(pairs), causes_(causes), pool_(pool), search_(pairs, pool) {}

  void Values(WeightComparison& out) {
    uint64_t total = 0;
    for (const WeightPair& pair : pairs_.pairs) total += pair.a.view.bytes.size();
    Progress progress("comparing weights", total);
    int unexplained = 0;
    for (size_t i = 0; i < pairs_.pairs.size(); ++i) {
      const WeightPair& pair = pairs_.pairs[i];
      progress.Add(pair.a.view.bytes.size());
      const bool same_shape = pair.a.view.shape == pair.b.view.shape && pair.a.view.shape.num_elements() > 0;
      if (!same_shape) {
        out.faults.push_back(Shapes(i));
        continue;
      }
      const StorageJudgement judged = JudgeStorage(ValuesOf(pair.a), ValuesOf(pair.b), pool_);
      ++out.compared;
      if (judged.explained) {
        out.rounded += !judged.diff.is_identical();
        continue;
      }
      out.truncated |= unexplained >= kUnexplainedLimit;
      out.faults.push_back(Values(i, judged, causes_ && unexplained < kUnexplainedLimit));
      unexplained += causes_ && out.faults.back().why.cause.empty();
    }
  }

  // A pair whose shapes contradict each other.
  WeightFault Shapes(size_t i) {
    const WeightPair& pair = pairs_.pairs[i];
    WeightFault fault = Begin(pair);
    fault.shape_a = pair.a.view.shape.ToString();
    fault.shape_b = pair.b.view.shape.ToString();
    if (causes_) fault.why = search_.Explain(i, nullptr);
    if (!fault.why.cause.empty()) return fault;
    fault.why.cause = "wrong_shape";
    fault.why.group = "wrong_shape " + (pair.key ? std::string(SlotName(pair.key->slot)) : pair.name);
    fault.why.a = fault.shape_a;
    fault.why.b = fault.shape_b;
    fault.why.evidence = fmt::format("{} has shape {} in A and {} in B", fault.tensor, fault.shape_a, fault.shape_b);
    fault.why.fix = "write the tensor with the shape that the configuration demands";
    return fault;
  }

 private:
  static WeightFault Begin(const WeightPair& pair) {
    WeightFault fault;
    if (pair.key) fault.keys = {*pair.key};
    fault.tensor = WithoutPart(pair.name);
    fault.name_b = pair.name_b;
    fault.layer = pair.key ? pair.key->layer : LayerInName(pair.name);
    return fault;
  }

  WeightFault Values(size_t i, const StorageJudgement& judged, bool search) {
    const WeightPair& pair = pairs_.pairs[i];
    WeightFault fault = Begin(pair);
    if (search) {
      fault.why = search_.Explain(i, &judged);
    } else {
      fault.why.error_before = judged.error();
      fault.why.floor = judged.floor();
    }
    const int64_t index = fault.why.index >= 0 ? fault.why.index : judged.diff.max_index;
    if (index >= 0) {
      fault.coordinate = CoordinateOf(index, pair.a.view.shape);
      fault.value_a = ValuesOf(pair.a).Range(index, 1)[0];
      fault.value_b = ValuesOf(pair.b).Range(index, 1)[0];
    }
    if (pair.key && IsRopeFactors(pair.key->slot)) {
      fault.why.cause = "rope_scaling";
      fault.why.group = "rope_scaling";
      fault.why.evidence = fmt::format("the rope factors in {} are not A's: {} against {}", pair.name_b, *fault.value_a, *fault.value_b);
      fault.why.fix = "write the factors that the model's rope scaling gives";
    }
    return fault;
  }

  const WeightPairs& pairs_;
  const bool causes_;
  ThreadPool& pool_;
  WeightSearch search_;
};

// Slots that one side lacks, and tensors that nothing names.
class Presence {
 public:
  Presence(const BoundSide& a, const BoundSide& b, const std::function<bool(const SlotKey&)>& reads) : a_(a), b_(b), reads_(reads) {
    for (const BindProblem& p : b.problems) broken_.insert(p.keys.begin(), p.keys.end());
    for (const auto& [key, slot] : a.slots.slots) {
      const auto it = b.slots.slots.find(key);
      if (it != b.slots.slots.end()) shared_.insert({slot.tensor, it->second.tensor});
    }
    for (const PackedWeight& weight : FindPackedWeights(*b.file)) packed_.insert(weight.parts.begin(), weight.parts.end());
  }

  void Run(WeightComparison& out) {
    for (const auto& [key, slot] : a_.slots.slots) {
      if (b_.slots.slots.count(key) == 0) MissingSlot(key, slot, out);
    }
    for (const auto& [key, slot] : b_.slots.slots) {
      if (a_.slots.slots.count(key) == 0) ExtraSlot(key, slot, out);
    }
    // Tensors of B with a place in the table that neither graph has.
    for (const BindProblem& p : b_.problems) {
      const bool known = std::ranges::any_of(p.keys, [&](const SlotKey& key) { return a_.slots.slots.count(key) > 0 || reads_(key); });
      const bool of_a_too = std::ranges::any_of(a_.problems, [&](const BindProblem& q) { return q.keys == p.keys; });
      if (known || of_a_too) continue;
      WeightFault fault = Extra(WithoutPart(HfName(*a_.architecture, p.keys.front())), p.tensor->name, p.keys.front().layer);
      fault.why.evidence = fmt::format("B holds {}, which A does not hold and nothing reads", p.tensor->name);
      fault.no_effect = true;
      out.only_b.push_back(p.tensor->name);
      out.faults.push_back(std::move(fault));
    }
    const std::vector<std::string>& of_a = a_.slots.unclaimed;
    for (const std::string& name : b_.slots.unclaimed) {
      if (std::ranges::find(of_a, name) != of_a.end() || IsDerivedBuffer(name) || packed_.count(name) > 0) continue;
      WeightFault fault = Extra(name, name, LayerInName(name));
      fault.why.evidence = fmt::format("B holds {}, which A does not hold and no table of {} names", name, b_.architecture->name);
      out.only_b.push_back(name);
      out.faults.push_back(std::move(fault));
    }
    for (const std::string& name : of_a) {
      const std::vector<std::string>& of_b = b_.slots.unclaimed;
      if (std::ranges::find(of_b, name) == of_b.end() && !IsDerivedBuffer(name)) out.only_a.push_back(name);
    }
  }

 private:
  bool Ties(const SlotKey& key) const {
    // Where one side stores the head and the other ties it, the embedding was compared with it.
    return key.slot == Slot::kHead;
  }

  void MissingSlot(const SlotKey& key, const BoundSlot& slot, WeightComparison& out) {
    const std::string name = HfName(*a_.architecture, key);
    if (broken_.count(key) > 0 || shared_.count(slot.tensor) > 0 || IsRopeFactors(key.slot)) return;
    if (Ties(key) && (b_.config->tie_embeddings || a_.config->tie_embeddings)) return;
    out.only_a.push_back(name);
    if (!reads_(key)) return;
    WeightFault fault;
    fault.keys = {key};
    fault.tensor = WithoutPart(name);
    fault.layer = key.layer;
    fault.why.cause = IsBias(key) ? "missing_bias" : "missing_tensor";
    fault.why.group = IsBias(key) ? "missing_bias" : std::string("missing_tensor ") + SlotName(key.slot);
    fault.why.evidence = fmt::format("A's {} {} has no counterpart in B", name, slot.weight.view.shape.ToString());
    fault.why.fix = fmt::format("convert again with {}", fault.tensor);
    fault.no_effect = IsBias(key) && IsZero(slot.weight);
    out.faults.push_back(std::move(fault));
  }

  void ExtraSlot(const SlotKey& key, const BoundSlot& slot, WeightComparison& out) {
    if (shared_.count(slot.tensor) > 0 || IsRopeFactors(key.slot) || (Ties(key) && (a_.config->tie_embeddings || b_.config->tie_embeddings))) return;
    for (const BindProblem& p : a_.problems) {
      if (std::ranges::find(p.keys, key) != p.keys.end()) return;
    }
    const std::string name = HfName(*a_.architecture, key);
    WeightFault fault = Extra(WithoutPart(name), slot.tensor->name, key.layer);
    fault.keys = {key};
    fault.why.group = std::string("extra_tensor ") + SlotName(key.slot);
    fault.why.evidence = fmt::format("B holds {} {} ({}), A does not", slot.tensor->name, slot.weight.view.shape.ToString(), name);
    fault.no_effect = IsBias(key) && IsZero(slot.weight);
    out.only_b.push_back(name);
    out.faults.push_back(std::move(fault));
  }

  static WeightFault Extra(const std::string& tensor, const std::string& name_b, int64_t layer) {
    WeightFault fault;
    fault.tensor = tensor;
    fault.name_b = name_b;
    fault.layer = layer;
    fault.why.cause = "extra_tensor";
    fault.why.group = "extra_tensor";
    fault.why.fix = "leave the tensor out, or find out which model it belongs to";
    return fault;
  }

  const BoundSide& a_;
  const BoundSide& b_;
  const std::function<bool(const SlotKey&)>& reads_;
  std::set<SlotKey> broken_;
  std::set<const TensorInfo*> shared_;  // tensors that stand for a slot of both; a table may give them a second one
  std::set<std::string> packed_;
};

// A tensor of B in its own shape beside the slot that it should have become.
void AddBroken(const BoundSide& a, const BoundSide& b, WeightPairs& pairs) {
  for (const BindProblem& p : b.problems) {
    for (const SlotKey& key : p.keys) {
      const auto slot = a.slots.slots.find(key);
      if (slot == a.slots.slots.end()) continue;
      WeightPair pair{HfName(*a.architecture, key), slot->second.tensor->name, p.tensor->name, slot->second.weight, {}, key};
      pair.b = TensorAsWeight(*b.file, *p.tensor);
      // Both as the files hold them, where they hold them alike: a part of a fused tensor tells little of the whole.
      if (pair.name_a == pair.name_b && a.file->container() == b.file->container()) pair.a = TensorAsWeight(*a.file, *slot->second.tensor);
      pairs.pairs.push_back(std::move(pair));
      break;  // one fault for the tensor, whatever it holds
    }
  }
}

// Rows of the tensor before those of `slot`, where several slots lie one below the other.
int64_t RowsBefore(const TensorRule& rule, const ModelConfig& config, const SlotKey& key) {
  int64_t rows = 0;
  for (const Slot slot : rule.slots) {
    if (slot == key.slot) break;
    rows += SlotShape(config, {slot, key.layer, key.expert})[0];
  }
  return rows;
}

// The coordinate of a fault in the tensor that it names: slots have canonical orientation, and may be parts of a tensor.
void PlaceInTensor(const Architecture& architecture, const ModelConfig& config, WeightFault& fault) {
  if (fault.keys.size() != 1 || fault.coordinate.empty() || fault.coordinate.size() > 2) return;
  const SlotKey& key = fault.keys[0];
  const auto has = [&](const TensorRule& r) { return std::ranges::find(r.slots, key.slot) != r.slots.end(); };
  const auto rule = std::ranges::find_if(architecture.hf, has);
  if (rule == architecture.hf.end() || rule->transform == Transform::kHeadByHead) return;
  const auto slots = static_cast<int64_t>(rule->slots.size());
  const int64_t which = std::ranges::find(rule->slots, key.slot) - rule->slots.begin();
  int64_t row = fault.coordinate[0];
  if (rule->transform == Transform::kPerHeadInterleaved) {
    const int64_t head = SlotShape(config, key)[0] / HeadsOf(config, key.slot);
    row = (row / head * slots + which) * head + row % head;
  } else if (rule->transform == Transform::kStackedExpertsInterleaved || rule->transform == Transform::kStackedExpertsInterleavedTransposed) {
    row = row * slots + which;
  } else {
    row += RowsBefore(*rule, config, key);
  }
  std::vector<int64_t> out = fault.coordinate;
  out[0] = row;
  if (out.size() == 2 && IsTransposed(rule->transform)) std::swap(out[0], out[1]);
  if (IsStacked(rule->transform) && key.expert >= 0) out.insert(out.begin(), key.expert);
  fault.coordinate = std::move(out);
  if (slots > 1 && !fault.why.evidence.empty()) fault.why.evidence += fmt::format(", counted in its part {}", SlotName(key.slot));
}

// Where a tensor for each head stands for one slot, that of the head in which the worst element is.
void NameHead(const Architecture& architecture, WeightFault& fault) {
  if (fault.keys.size() != 1 || fault.coordinate.size() != 2 || fault.keys[0].expert >= 0) return;
  SlotKey first = fault.keys[0], head = fault.keys[0];
  first.expert = 0;
  head.expert = static_cast<int>(fault.coordinate[0]);
  if (HfName(architecture, first) == fault.tensor) fault.tensor = HfName(architecture, head);
}

}  // namespace

BoundSide BindSide(std::shared_ptr<const ModelFile> file, const Architecture& architecture, const ModelConfig& config) {
  BoundSide out;
  out.file = std::move(file);
  out.architecture = &architecture;
  out.config = &config;
  out.slots = BindSlots(*out.file, architecture, config, out.problems);
  return out;
}

std::map<SlotKey, ChannelScale> FindScales(const BoundSide& a, const BoundSide& b, ThreadPool& pool) {
  WeightPairs pairs;
  pairs.config = *a.config;
  PairSlots(*a.architecture, *a.config, a.slots, b.slots, pairs);
  std::erase_if(pairs.pairs, [](const WeightPair& pair) { return !pair.key || pair.key->layer < 0 || pair.a.view.shape != pair.b.view.shape; });
  std::set<int> layers;
  for (const WeightPair& pair : pairs.pairs) {
    const bool norm = pair.key->slot == Slot::kAttnNorm || pair.key->slot == Slot::kFfnNorm;
    if (norm && CompareWeights(pair, false, pool).verdict == WeightVerdict::kDifferent) layers.insert(pair.key->layer);
  }
  std::erase_if(pairs.pairs, [&](const WeightPair& pair) { return layers.count(pair.key->layer) == 0; });
  std::vector<WeightRow> rows;
  for (const WeightPair& pair : pairs.pairs) rows.push_back(CompareWeights(pair, false, pool));
  return ExplainChannelScales(pairs, rows, pool);
}

WeightComparison CompareBound(const BoundSide& a, const BoundSide& b, const std::function<bool(const SlotKey&)>& reads, bool causes,
                              ThreadPool& pool) {
  WeightPairs pairs;
  pairs.file_a = a.file;
  pairs.file_b = b.file;
  PairSlots(*a.architecture, *a.config, a.slots, b.slots, pairs);
  pairs.only_a.clear();
  pairs.only_b.clear();
  // Where neither side ties the head, an embedding does not stand for a head that is missing.
  if (!a.config->tie_embeddings && !b.config->tie_embeddings) {
    std::erase_if(pairs.pairs, [&](const WeightPair& pair) {
      const SlotKey head{Slot::kHead, -1, -1};
      return pair.key && *pair.key == head && (a.slots.slots.count(head) == 0 || b.slots.slots.count(head) == 0);
    });
  }
  AddBroken(a, b, pairs);
  WeightComparison out;
  out.basis = pairs.basis;
  Comparison(pairs, causes, pool).Values(out);
  for (WeightFault& fault : out.faults) {
    PlaceInTensor(*a.architecture, *a.config, fault);
    NameHead(*a.architecture, fault);
  }
  Presence(a, b, reads).Run(out);
  return out;
}

WeightComparison CompareNamed(std::shared_ptr<const ModelFile> a, std::shared_ptr<const ModelFile> b, bool causes, ThreadPool& pool) {
  const WeightPairs pairs = PairWeights(std::move(a), std::move(b));
  WeightComparison out;
  out.basis = pairs.basis;
  out.only_a = pairs.only_a;
  out.only_b = pairs.only_b;
  Comparison(pairs, causes, pool).Values(out);
  for (const std::string& name : pairs.only_a) {
    WeightFault fault;
    fault.tensor = name;
    fault.layer = LayerInName(name);
    const bool bias = name.ends_with("bias");
    fault.why.cause = bias ? "missing_bias" : "missing_tensor";
    fault.why.group = fault.why.cause;
    fault.why.evidence = fmt::format("A holds {}, B does not", name);
    fault.why.fix = "convert again with this tensor";
    if (!IsDerivedBuffer(name)) out.faults.push_back(std::move(fault));
  }
  for (const std::string& name : pairs.only_b) {
    WeightFault fault;
    fault.tensor = fault.name_b = name;
    fault.layer = LayerInName(name);
    fault.why.cause = fault.why.group = "extra_tensor";
    fault.why.evidence = fmt::format("B holds {}, A does not", name);
    fault.why.fix = "leave the tensor out, or find out which model it belongs to";
    if (!IsDerivedBuffer(name)) out.faults.push_back(std::move(fault));
  }
  return out;
}

std::vector<FaultGroup> GroupFaults(std::vector<WeightFault> faults, const std::function<std::pair<int64_t, int64_t>(const SlotKey&)>& order) {
  const auto place = [&](const WeightFault& f) {
    return f.keys.empty() ? std::pair<int64_t, int64_t>{int64_t{1} << 50, f.layer} : order(f.keys.front());
  };
  std::vector<std::pair<std::pair<int64_t, int64_t>, size_t>> ranked;
  for (size_t i = 0; i < faults.size(); ++i) ranked.push_back({place(faults[i]), i});
  std::stable_sort(ranked.begin(), ranked.end());
  std::vector<FaultGroup> out;
  const auto belongs = [](const FaultGroup& group, const WeightFault& fault) {
    if (group.front().why.cause != fault.why.cause || group.front().no_effect != fault.no_effect) return false;
    if (group.front().why.group == fault.why.group) return true;
    // One tensor of B that serves as two slots (a tied head, a fused tensor).
    return !fault.name_b.empty() && !fault.why.cause.empty() &&
           std::ranges::any_of(group.members, [&](const WeightFault& m) { return m.name_b == fault.name_b; });
  };
  for (const auto& [unused, i] : ranked) {
    WeightFault& fault = faults[i];
    const auto it = std::ranges::find_if(out, [&](const FaultGroup& group) { return belongs(group, fault); });
    if (it != out.end()) it->members.push_back(std::move(fault));
    else out.push_back({{std::move(fault)}});
  }
  return out;
}

}  // namespace apr::bisect
