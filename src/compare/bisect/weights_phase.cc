// The weights phase of a bisection: tensors of B that are not A's, why, and where the computation first
// feels it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "compare/bisect/bisection.h"
#include "compare/bisect/weight_effect.h"
#include "compare/bisect/weight_faults.h"
#include "compare/channel_scales.h"

namespace apr::bisect {
namespace {

constexpr int kMostRuns = 12;         // of the model, to find where a fault is felt
constexpr size_t kMostIds = 48;

class WeightsPhase {
 public:
  explicit WeightsPhase(Bisection& b) : b_(b) {}

  void Run() {
    if (SameFamily(b_.a, b_.b)) BySlots();
    else ByNames();
  }

 private:
  void BySlots() {
    const BoundSide a = BindSide(b_.a.weights, *b_.a.architecture, b_.a.config);
    BoundSide b = BindSide(b_.b.weights, *b_.b.architecture, b_.b.config);
    TakeBackScales(a, b);
    WeightEffect effect(b_.a.config, *b_.a.architecture, a.slots, b_.a.weights, b_.pool->threads());
    const WeightComparison compared = CompareBound(a, b, [&](const SlotKey& key) { return effect.Reads(key); }, b_.options.causes, *b_.pool);
    Cover(compared);
    std::vector<FaultGroup> groups = GroupFaults(compared.faults, [&](const SlotKey& key) { return effect.Order(key); });
    std::map<SlotKey, BoundSlot> right;
    for (const FaultGroup& group : groups) {
      Report(group, compared, effect, b.slots);
      Correct(group, a.slots, b.slots);
    }
    b_.b.slots = std::move(b.slots);
    if (b_.b.slot_problem) b_.b.slot_problem.reset();
  }

  // A quantiser like AWQ moves factors between norms and matrices: B computes the same as before, with other values inside. Both its
  // weights and its stages are A's once they are moved back.
  void TakeBackScales(const BoundSide& a, BoundSide& b) {
    const std::map<SlotKey, ChannelScale> scales = FindScales(a, b, *b_.pool);
    for (const auto& [key, scale] : scales) {
      const bool norm = scale.rows.empty() && scale.cols.empty();
      WeightRef& weight = b.slots.slots.at(key).weight;
      weight = norm ? a.slots.slots.at(key).weight : ScaledBack(weight, scale);
    }
    if (!scales.empty()) b_.Note(fmt::format("B's channels are scaled, as AWQ does: {} weights and what they compute are compared with the factors taken back", scales.size()));
  }

  void ByNames() {
    const bool known = b_.a.architecture != nullptr && b_.b.architecture != nullptr;
    const WeightComparison compared = CompareNamed(b_.a.weights, b_.b.weights, b_.options.causes && !known, *b_.pool);
    Cover(compared);
    if (known) {
      Finding finding;
      finding.first = {.phase = Phase::kConfig, .key = "model_type"};
      finding.first.note = fmt::format("two architectures, {} and {}: {} tensors have the same name and shape, {} are only in A, {} only in B",
                                       b_.a.architecture->name, b_.b.architecture->name, compared.compared, compared.only_a.size(), compared.only_b.size());
      const bool said = std::ranges::any_of(b_.report.findings, [](const Finding& f) { return f.first.key == "model_type"; });
      if (!said) b_.Add(std::move(finding));
      return;
    }
    for (const FaultGroup& group : GroupFaults(compared.faults, [](const SlotKey& key) { return std::pair<int64_t, int64_t>{key.layer, 0}; })) {
      b_.Add(Describe(group, compared));
    }
  }

  void Cover(const WeightComparison& compared) {
    Coverage& c = b_.report.coverage;
    c.tensors_compared += compared.compared;
    b_.rounding |= compared.rounded > 0;
    c.tensors_only_a.insert(c.tensors_only_a.end(), compared.only_a.begin(), compared.only_a.end());
    c.tensors_only_b.insert(c.tensors_only_b.end(), compared.only_b.begin(), compared.only_b.end());
    if (compared.compared > 0 && std::ranges::find(c.phases, Phase::kWeights) == c.phases.end()) c.phases.push_back(Phase::kWeights);
    if (compared.truncated) b_.Note("many tensors differ and no small change explains the first of them: the others were not searched for a cause");
  }

  // The finding without what only running can tell.
  static Finding Describe(const FaultGroup& group, const WeightComparison& compared) {
    const WeightFault& f = group.front();
    Finding out;
    out.first.phase = Phase::kWeights;
    if (f.layer >= 0) out.first.layer = f.layer;
    out.first.tensor = f.tensor;
    out.first.coordinate = f.coordinate;
    out.first.a = f.value_a;
    out.first.b = f.value_b;
    if (!f.coordinate.empty()) out.first.error = f.why.error_before;
    if (out.first.error) out.first.floor = f.why.floor;
    out.no_effect = f.no_effect;
    std::string others;
    std::vector<std::string> names;
    for (const WeightFault& m : group.members) {
      if (m.tensor != f.tensor && std::ranges::find(names, m.tensor) == names.end()) names.push_back(m.tensor);
    }
    for (size_t i = 0; i < names.size() && i < 6; ++i) others += (i == 0 ? "" : ", ") + names[i];
    if (names.size() > 6) others += fmt::format(" and {} more", names.size() - 6);
    const std::string also = names.empty() ? "" : fmt::format("; likewise {}", others);
    for (const WeightTrial& t : f.why.trials) out.trials.push_back({t.cause, t.detail, t.error_after, t.accepted});
    if (f.why.cause.empty()) {
      out.first.note = fmt::format("{} differs beyond its storage ({} of {} tensors do) and no small change explains it{}", f.tensor,
                                   group.members.size(), compared.compared, also);
      return out;
    }
    out.first.note = f.why.evidence;
    Cause cause{.name = f.why.cause, .a = f.why.a, .b = f.why.b, .evidence = f.why.evidence + also, .fix = f.why.fix};
    if (out.first.error) cause.error_before = f.why.error_before;
    cause.error_after = f.why.error_after;
    out.cause = std::move(cause);
    return out;
  }

  void Report(const FaultGroup& group, const WeightComparison& compared, WeightEffect& effect, const SlotTable& slots) {
    Finding finding = Describe(group, compared);
    const WeightFault& f = group.front();
    std::optional<FeltAt> felt;
    std::map<SlotKey, WeightRef> wrong;
    for (const WeightFault& m : group.members) {
      for (const SlotKey& key : m.keys) {
        const auto it = slots.slots.find(key);
        if (it != slots.slots.end()) wrong[key] = it->second.weight;
        if (key.slot == Slot::kTokenEmbedding && b_.a.config.tie_embeddings) finding.first.layer.reset();
      }
    }
    if (!wrong.empty() && runs_ < kMostRuns) {
      ++runs_;
      felt = effect.Run(wrong, IdsFor(group));
    }
    if (!felt) {
      for (const SlotKey& key : f.keys) {
        if (!felt) felt = effect.Reader(key);
      }
    }
    if (felt) {
      finding.first.layer = felt->layer;
      finding.first.stage = felt->stage;
      finding.first.position = felt->position;
    } else if (!f.keys.empty()) {
      finding.first.stage = StageOfExtra(f.keys.front());
    }
    const bool rope_said = f.why.cause == "rope_scaling" && std::ranges::any_of(b_.report.findings, [](const Finding& x) { return x.cause && x.cause->name == "rope_scaling"; });
    if (!rope_said) b_.Add(std::move(finding));
  }

  // A bias that A's computation does not read changes what its product feeds.
  static std::string StageOfExtra(const SlotKey& key) {
    switch (key.slot) {
      case Slot::kQBias:
      case Slot::kKBias:
      case Slot::kVBias: return "qkv_bias";
      case Slot::kOBias: return "attn_out";
      case Slot::kGateBias: return "ffn_gate";
      case Slot::kUpBias: return "ffn_up";
      case Slot::kDownBias: return "ffn_out";
      case Slot::kQNorm: return "q_norm";
      case Slot::kKNorm: return "k_norm";
      case Slot::kHead:
      case Slot::kHeadBias: return "lm_head";
      case Slot::kAttnNormBias: return "attn_norm";
      case Slot::kFfnNormBias: return "ffn_norm";
      case Slot::kFinalNormBias: return "final_norm";
      default: return "";
    }
  }

  // The user's tokens or the short probe; for tables the rows that are wrong.
  std::vector<int32_t> IdsFor(const FaultGroup& group) const {
    std::vector<int32_t> ids;
    for (const WeightFault& m : group.members) {
      const bool table = !m.keys.empty() && m.keys.front().slot == Slot::kTokenEmbedding;
      if (table && !m.coordinate.empty() && ids.size() < 4) ids.push_back(static_cast<int32_t>(m.coordinate[0]));
    }
    const Probe* chosen = nullptr;
    for (const Probe& probe : b_.probes) {
      if (chosen == nullptr || probe.name == "long") chosen = &probe;
    }
    for (const Probe& probe : b_.probes) {
      if (probe.name == "given") chosen = &probe;
    }
    if (chosen != nullptr) ids.insert(ids.end(), chosen->ids.begin(), chosen->ids.begin() + static_cast<int64_t>(std::min(chosen->ids.size(), kMostIds)));
    if (ids.empty()) {
      for (int32_t i = 0; i < std::min<int64_t>(16, b_.a.config.vocab_size); ++i) ids.push_back(i);
    }
    return ids;
  }

  // What the later phases get is A's.
  static void Correct(const FaultGroup& group, const SlotTable& a, SlotTable& b) {
    for (const WeightFault& fault : group.members) {
      for (const SlotKey& key : fault.keys) {
        const auto right = a.slots.find(key);
        if (right != a.slots.end()) b.slots[key] = right->second;
        else b.slots.erase(key);
      }
    }
  }

  Bisection& b_;
  int runs_ = 0;
};

}  // namespace

void RunWeightsPhase(Bisection& b) {
  if (!b.a.is_model() || !b.b.is_model()) return;
  WeightsPhase(b).Run();
}

}  // namespace apr::bisect
