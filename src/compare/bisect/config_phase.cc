// The config phase of a bisection: resolved parameters field by field, each difference's effect established by running
// it, B corrected in memory so that later phases see the rest.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/json.h"
#include "compare/bisect/bisection.h"
#include "compare/bisect/config_fields.h"
#include "compare/bisect/effect.h"
#include "compare/stage_diff.h"
#include "compare/weight_diff.h"

namespace apr::bisect {
namespace {

bool OtherLayersWindowed(const ModelConfig& a, const ModelConfig& b) {
  for (size_t i = 0; i < std::min(a.layers.size(), b.layers.size()); ++i) {
    if ((a.layers[i].window > 0) != (b.layers[i].window > 0)) return true;
  }
  return false;
}

// The key as a config.json of these models spells it (granite: attention_multiplier), where one side has it from there.
std::string KeyOf(const ConfigField& field, const ModelConfig& a, const ModelConfig& b) {
  constexpr std::string_view kFrom = "config.json: ";
  const auto listed = [](const ModelConfig& c) {
    return std::ranges::any_of(c.sources, [](const ConfigSource& s) { return s.field == "sliding_window_layers" && s.origin == "config.json: layer_types"; });
  };
  const std::string_view name = field.name;
  if ((name == "rope_layers" || name == "sliding_window") && OtherLayersWindowed(a, b) && (listed(a) || listed(b))) return "layer_types";
  for (const ModelConfig* config : {&a, &b}) {
    for (const ConfigSource& source : config->sources) {
      if (source.field != field.name || !source.origin.starts_with(kFrom)) continue;
      std::string key = source.origin.substr(kFrom.size());
      if (key.find('.') == std::string::npos) return key;  // rope_theta is called so wherever it is nested
    }
  }
  return name == "norm_eps" && a.layer_norm ? "layer_norm_eps" : field.key;
}

// B with its configuration as it stands now: tensors bound anew, shapes and row orders may follow from it. Factors of
// its rope that could not be read before are, now.
void Rebind(Side& side) { BindAnew(side, side.slot_problem.has_value()); }

// The same model with every constant at another value: where one of them first matters, whatever B says.
ModelConfig Otherwise(ModelConfig c) {
  c.num_kv_heads = c.num_kv_heads == c.num_heads ? 1 : c.num_heads;
  c.num_heads *= 2;
  c.head_dim *= 2;
  c.v_head_dim *= 2;
  c.vocab_size += 8;
  c.ffn_size += 8;
  for (RopeSpec& rope : c.ropes) {
    rope.table.theta *= 2;
    rope.table.scaling = rope.table.scaling == "linear" ? "none" : "linear";
    rope.table.factor = rope.table.factor * 2;
    rope.table.rotary_dim = rope.table.rotary_dim > 2 ? rope.table.rotary_dim - 2 : 2;
  }
  c.norm_eps = c.norm_eps * 100 + 1e-3;
  c.activation = c.activation == "relu" ? "silu" : "relu";
  c.attention_scale *= 2;
  c.embedding_scale *= 2;
  c.residual_scale *= 2;
  c.logit_scale *= 2;
  c.attention_softcap = c.attention_softcap * 2 + 1;
  c.logit_softcap = c.logit_softcap * 2 + 1;
  c.moe.top_k = c.moe.top_k > 1 ? c.moe.top_k - 1 : 1;
  for (LayerSpec& layer : c.layers) layer.window = layer.window > 0 ? layer.window + 1 : 4;
  return c;
}

// Slots of B, and those of A where B has none that fits.
SlotTable Merged(const Bisection& b) {
  SlotTable out = b.b.slots;
  for (const auto& [key, slot] : b.a.slots.slots) {
    const auto it = out.slots.find(key);
    if (it == out.slots.end()) out.slots[key] = slot;
  }
  return out;
}

class ConfigPhase {
 public:
  explicit ConfigPhase(Bisection& b) : b_(b) {}

  void Run() {
    if (!b_.a.is_model() || !b_.b.is_model()) return;
    if (b_.a.config_problem) {
      b_.inconclusive = fmt::format("A's configuration cannot be read: {}", b_.a.config_problem->what());
      return;
    }
    if (b_.b.config_problem) {
      Unresolved();
      return;
    }
    if (b_.a.architecture != b_.b.architecture && !SameFamily(b_.a, b_.b)) {
      Architectures();
      return;
    }
    if (b_.a.architecture != b_.b.architecture) {  // one computation by two names (mistral, llama)
      b_.b.architecture = b_.a.architecture;
      Rebind(b_.b);
    }
    Keys();
    b_.Covered(Phase::kConfig);
    Heads();
    Windows();
    for (const ConfigField& field : ConfigFields()) Compare({&field});
    Tie();
    std::ranges::stable_sort(found_, [](const Finding& x, const Finding& y) { return Rank(x) < Rank(y); });
    for (Finding& finding : found_) b_.Add(std::move(finding));
  }

 private:
  static std::tuple<bool, int64_t, int> Rank(const Finding& f) {
    const int64_t layer = f.first.stage.empty() ? INT64_MAX : f.first.layer.value_or(INT64_MAX - 1);
    return {f.no_effect, layer, CausalRank(f.first.stage)};
  }

  void Keys() {
    Coverage& c = b_.report.coverage;
    c.config_compared = static_cast<int64_t>(ConfigFields().size()) + 1;
    for (const std::string& key : b_.a.config.unread_keys) c.config_only_a.push_back(key);
    for (const std::string& key : b_.b.config.unread_keys) {
      const auto it = std::ranges::find(c.config_only_a, key);
      if (it == c.config_only_a.end()) c.config_only_b.push_back(key);
      else c.config_only_a.erase(it);
    }
    if (!c.config_only_b.empty()) b_.Note(fmt::format("nothing reads key '{}' of B's configuration", c.config_only_b.front()));
  }

  // B says something that cannot be, or lacks what must be there.
  void Unresolved() {
    Finding f;
    f.first.phase = Phase::kConfig;
    f.first.key = b_.b.config_problem->context().tensor;
    f.first.note = b_.b.config_problem->what();
    if (const ConfigField* field = FieldOfKey(f.first.key); field != nullptr && field->name[0] != 0) {
      Side trial = b_.b;
      trial.architecture = b_.a.architecture;
      trial.config = b_.a.config;
      Rebind(trial);
      if (!trial.slot_problem) {
        ModelConfig other = b_.a.config;
        field->copy(other, Otherwise(b_.a.config));
        const Effect effect = FindEffect(b_, b_.a.config, other, *b_.a.architecture, b_.a.slots, b_.a.weights);
        f.first.layer = effect.layer;
        f.first.stage = effect.stage;
        f.cause = Cause{.name = field->name, .a = field->value(b_.a.config), .b = nullptr, .evidence = "with A's value every tensor of B has its place",
                        .error_before = INFINITY, .error_after = 0.0, .fix = fmt::format("set {} in B's configuration", field->key)};
      }
    }
    b_.b.architecture = b_.a.architecture;
    b_.b.config = b_.a.config;
    Rebind(b_.b);
    b_.Covered(Phase::kConfig);
    b_.Add(std::move(f));
  }

  void Architectures() {
    Finding f;
    f.first.phase = Phase::kConfig;
    f.first.key = "model_type";
    f.first.note = fmt::format("A is a {}, B a {}: these are two architectures", b_.a.architecture->name, b_.b.architecture->name);
    b_.Covered(Phase::kConfig);
    b_.Add(std::move(f));
    b_.stop = true;
  }

  // Counts and width of heads follow from each other: where several differ and the tensors fit both, they are one
  // setting, named by the first.
  void Heads() {
    std::vector<const ConfigField*> fields;
    for (const char* name : {"head_count", "kv_head_count", "head_dim"}) {
      for (const ConfigField& field : ConfigFields()) {
        if (std::string_view(field.name) == name && !field.same(b_.a.config, b_.b.config)) fields.push_back(&field);
      }
    }
    if (fields.size() < 2) return;
    const Side before = b_.b;
    Compare(fields);
    if (!found_.empty() && !found_.back().no_effect && found_.back().first.a) return;
    b_.b = before;  // the tensors show which of them is wrong
    found_.clear();
  }

  // Which layers have a window also says how they rotate where the two kinds have bases of their own: one setting.
  void Windows() {
    const ModelConfig &a = b_.a.config, &b = b_.b.config;
    if (a.ropes.size() < 2 || b.ropes.size() < 2 || a.layers.size() != b.layers.size() || !OtherLayersWindowed(a, b)) return;
    for (size_t i = 0; i < a.layers.size(); ++i) {
      if ((a.layers[i].rope != b.layers[i].rope) != ((a.layers[i].window > 0) != (b.layers[i].window > 0))) return;
    }
    std::vector<const ConfigField*> fields;
    for (const char* name : {"sliding_window", "rope_layers"}) {
      for (const ConfigField& field : ConfigFields()) {
        if (std::string_view(field.name) == name) fields.push_back(&field);
      }
    }
    Compare(fields);
  }

  // B has the values of A in all of `fields` but not otherwise: what that changes.
  void Compare(const std::vector<const ConfigField*>& fields) {
    const ConfigField& field = *fields.front();
    const ModelConfig before = b_.b.config;
    if (field.same(b_.a.config, before)) return;
    Finding f;
    f.first.phase = Phase::kConfig;
    f.first.key = KeyOf(field, b_.a.config, before);
    const Json value_a = field.value(b_.a.config), value_b = field.value(before);
    ModelConfig right = before;
    for (const ConfigField* each : fields) each->copy(right, b_.a.config);
    const bool named = field.name[0] != 0;
    if (std::string_view(field.name) == "missing_bias" && AbsentUnder(right) > AbsentUnder(before)) return;  // the weights phase misses the tensors
    const SlotTable slots = field.shapes ? b_.a.slots : Merged(b_);
    const Effect effect = FindEffect(b_, right, before, *b_.b.architecture, slots, b_.b.weights);
    b_.b.config = right;
    Rebind(b_.b);
    if (effect.runs && !effect.differs) {
      f.no_effect = true;
      f.first.note = fmt::format("{} against {}: nothing changes on any probe", DumpJson(value_a, -1), DumpJson(value_b, -1));
      found_.push_back(std::move(f));
      return;
    }
    f.first.layer = effect.layer;
    f.first.stage = effect.stage;
    f.first.tensor = effect.tensor;
    if (effect.position >= 0) f.first.position = effect.position;
    f.first.coordinate = effect.coordinate;
    if (effect.runs) {
      f.first.a = effect.a;
      f.first.b = effect.b;
      f.first.error = effect.error;
      f.first.floor = 1e-8;
    }
    f.first.note = fmt::format("{} is {} in A and {} in B{}{}", f.first.key, DumpJson(value_a, -1), DumpJson(value_b, -1), effect.note.empty() ? "" : "; ", effect.note);
    if (named && !(field.shapes && b_.b.slot_problem)) {
      f.cause = Cause{.name = field.name, .a = value_a, .b = value_b,
                      .evidence = effect.runs ? fmt::format("on the same inputs this stage differs by {:.3g} between the two values and by 0 with A's", effect.error)
                                              : std::string("with A's value every tensor of B has its place"),
                      .error_before = effect.runs ? effect.error : INFINITY, .error_after = 0.0,
                      .fix = fmt::format("set {} to {} in B's configuration", f.first.key, DumpJson(value_a, -1))};
    }
    found_.push_back(std::move(f));
  }

  // How many tensors a configuration asks for that are not in B's file.
  int64_t AbsentUnder(const ModelConfig& config) const {
    const auto model = BindWalkModel(config, *b_.b.architecture, b_.b.slots, b_.b.weights);
    return std::ranges::count(model->present, false);
  }

  static const WeightRef* Find(const SlotTable& table, Slot slot) {
    const auto it = table.slots.find({slot, -1, -1});
    return it == table.slots.end() ? nullptr : &it->second.weight;
  }
  static const WeightRef* HeadOf(const Side& side, bool tied) { return Find(side.slots, tied ? Slot::kTokenEmbedding : Slot::kHead); }

  std::optional<WeightRow> Weigh(const WeightRef* x, const WeightRef* y) {
    if (x == nullptr || y == nullptr) return std::nullopt;
    return CompareWeights({.name = "lm_head.weight", .name_a = x->source, .name_b = y->source, .a = *x, .b = *y}, false, *b_.pool);
  }
  static bool Agrees(const std::optional<WeightRow>& row) {
    return row && (row->verdict == WeightVerdict::kIdentical || row->verdict == WeightVerdict::kExplained);
  }

  // What the logits are computed with on each side; and a head that B stores although it says that it has none.
  void Tie() {
    const bool tied_a = b_.a.config.tie_embeddings, tied_b = b_.b.config.tie_embeddings;
    const WeightRef* head_a = HeadOf(b_.a, tied_a);
    const WeightRef* head_b = HeadOf(b_.b, tied_b);
    const auto used = Weigh(head_a, head_b);
    const WeightRef* stored_b = Find(b_.b.slots, Slot::kHead);
    const WeightRef* stored_a = Find(b_.a.slots, Slot::kHead);
    const WeightRef* embedding_b = Find(b_.b.slots, Slot::kTokenEmbedding);
    const bool contradicts = tied_b && stored_b != nullptr && !Agrees(Weigh(stored_b, embedding_b)) && !(tied_a && stored_a != nullptr);
    if (tied_a == tied_b ? !contradicts : Agrees(used) && !contradicts) {
      if (tied_a != tied_b) b_.b.config.tie_embeddings = tied_b;
      return;
    }
    // Would B agree if it did the other thing?
    const auto other = Weigh(head_a, HeadOf(b_.b, !tied_b));
    const bool missing = !tied_a && tied_b && stored_b == nullptr;
    if (!Agrees(other) && !contradicts && !missing) return;  // the weights phase has it
    Finding f;
    f.first.phase = Phase::kConfig;
    f.first.key = "tie_word_embeddings";
    f.first.stage = "lm_head";
    f.first.tensor = "lm_head.weight";
    if (used) f.first.error = used->diff.relative_error();
    f.first.note = contradicts ? "B says that head and embedding are one tensor and stores a head that is another: engines disagree about such a file"
                   : missing   ? "B says that head and embedding are one tensor and lacks the head that A has"
                               : "the logits are computed with another tensor";
    f.cause = Cause{.name = "tie_word_embeddings", .a = tied_a, .b = tied_b,
                    .evidence = contradicts && !used ? "the stored head is not the embedding" : fmt::format("the heads in use differ by {:.3g}", used ? used->diff.relative_error() : INFINITY),
                    .error_before = used ? used->diff.relative_error() : INFINITY, .error_after = other && Agrees(other) ? other->diff.relative_error() : 0.0,
                    .fix = tied_a ? "remove the stored head, or set tie_word_embeddings to false" : "set tie_word_embeddings to false and store the head"};
    b_.b.config.tie_embeddings = tied_a;
    found_.push_back(std::move(f));
  }

  Bisection& b_;
  std::vector<Finding> found_;
};

}  // namespace

void RunConfigPhase(Bisection& b) { ConfigPhase(b).Run(); }

}  // namespace apr::bisect
