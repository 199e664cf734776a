// The walk shown to fail: runs of faulty engines, made by running a changed graph, must be located and named; runs of sound
// ones must be left alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "base/json.h"
#include "compare/bisect/bisection.h"
#include "compare/bisect/edited_run.h"
#include "compare/bisect/recorded_model.h"
#include "compare/bisect/walk.h"
#include "generate/trace.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

fs::path ModelFolder() { return fs::path(APR_SOURCE_DIR) / "testdata" / "model"; }

std::vector<int32_t> Ids(int64_t vocabulary, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>((i * 37 + 11) % vocabulary));
  return out;
}

// What an engine with `config` and `slots` records, walked against `trusted`.
struct Planted {
  explicit Planted(const std::string& name) : trusted(OpenSide((ModelFolder() / name).string())) {
    config = trusted.config;
    slots = trusted.slots;
  }

  // `alternatives`: other configurations of A that count as right.
  Report Walked(ExecutorKind kind = ExecutorKind::kCpu, Precision precision = Precision::kExact, const char* activations = "f32",
                const std::vector<ModelConfig>& alternatives = {}) {
    const auto faulty = BindWalkModel(config, *trusted.architecture, slots, trusted.file);
    const auto right = BindWalkModel(trusted.config, *trusted.architecture, trusted.slots, trusted.file);
    const std::vector<int32_t> ids = Ids(trusted.config.vocab_size, std::min<int64_t>(40, trusted.config.max_positions));
    run = RecordRun(kind, {faulty, &faulty->bound}, ids, {.threads = 1, .precision = precision});
    StageManifest manifest;
    manifest.precision = {.weights = "", .activations = activations, .accumulate = "f32"};
    Bisection b;
    ThreadPool pool(1);
    b.pool = &pool;
    Evaluator evaluator(*run, ids, FormatsOf(manifest), pool);
    std::vector<Variation> also_right;
    if (!alternatives.empty()) also_right.push_back({.model = right});
    for (const ModelConfig& c : alternatives) also_right.push_back({.model = BindWalkModel(c, *trusted.architecture, trusted.slots, trusted.file)});
    Walk(b, evaluator, trusted.slots, right, std::move(also_right)).Run();
    return std::move(b.report);
  }

  Side trusted;
  ModelConfig config;
  SlotTable slots;
  std::unique_ptr<RecordedRun> run;
};

// The tensor of a layer, all zeros.
void Zero(Planted& p, Slot slot, int layer) {
  WeightRef& weight = p.slots.slots.at({slot, layer, -1}).weight;
  auto zeros = std::make_shared<Tensor>(DType::kF32, weight.view.shape);
  weight = WeightRef{.view = zeros->view(), .owned = zeros};
}

struct Fault {
  const char* cause;
  std::set<std::string> stages;    // where it may be met first
  // Changes the engine; false: the model has nothing of the kind.
  std::function<bool(Planted&)> plant;
};

bool Rotates(const Planted& p) { return !p.config.ropes.empty() && p.config.layers[0].rope >= 0; }

std::vector<Fault> RopeFaults() {
  const std::set<std::string> rope = {"q_post_rope", "k_post_rope", "attn_scores"};
  return {
      {"rope_theta", rope, [](Planted& p) { return Rotates(p) && (p.config.ropes[0].table.theta *= 7.3, true); }},
      {"rope_theta", rope, [](Planted& p) { return Rotates(p) && (p.config.ropes[0].table.theta /= 9, true); }},
      {"rope_scaling", rope,
       [](Planted& p) {
         if (!Rotates(p) || p.config.ropes[0].table.scaling != "none") return false;
         p.config.ropes[0].table.scaling = "linear";
         p.config.ropes[0].table.factor = 3;
         return true;
       }},
      {"rope_scaling", rope, [](Planted& p) { return Rotates(p) && (p.config.ropes[0].table.attention_factor *= 1.261, true); }},
      {"rope_scaling", rope,
       [](Planted& p) {
         if (!Rotates(p) || p.config.ropes[0].table.scaling == "none") return false;
         p.config.ropes[0].table.scaling = "none";
         return true;
       }},
      {"rope_style", rope,
       [](Planted& p) {
         if (!Rotates(p) || p.config.latent.kv_rank > 0) return false;
         p.config.ropes[0].adjacent = !p.config.ropes[0].adjacent;
         return true;
       }},
      {"rope_dim", rope,
       [](Planted& p) {
         if (!Rotates(p) || p.config.latent.kv_rank > 0) return false;
         RopeTableAttributes& table = p.config.ropes[0].table;
         if (table.rotary_dim < 8 || !table.factors.empty()) return false;
         table.rotary_dim /= 2;
         return true;
       }},
      {"rope_layers", rope,
       [](Planted& p) {
         if (p.config.ropes.empty() || p.config.layers.back().rope < 0) return false;
         p.config.layers.back().rope = -1;
         return true;
       }},
  };
}

std::vector<Fault> ParameterFaults() {
  return {
      {"norm_eps", {"attn_norm", "q_norm", "k_norm", "post_attn_norm", "ffn_norm"}, [](Planted& p) { return (p.config.norm_eps = p.config.norm_eps * 300 + 1e-3, true); }},
      {"norm_offset", {"attn_norm", "q_norm", "k_norm", "post_attn_norm"},
       [](Planted& p) {
         if (!p.config.norm_has_weight || p.config.layer_norm) return false;
         p.config.norm_offset = 1 - p.config.norm_offset;
         return true;
       }},
      {"norm_offset", {"attn_norm", "q_norm", "k_norm", "post_attn_norm"},
       [](Planted& p) {
         if (!p.config.norm_has_weight || p.config.layer_norm) return false;
         p.config.norm_offset -= 1;
         return true;
       }},
      {"activation", {"ffn_silu", "moe_ffn_out", "ffn_swigl"},
       [](Planted& p) {
         if (p.config.swiglu_limit > 0) return false;
         p.config.activation = p.config.activation == "gelu_tanh" ? "silu" : "gelu_tanh";
         return true;
       }},
      {"attention_scale", {"attn_scores"}, [](Planted& p) { return (p.config.attention_scale *= 1.37, true); }},
      {"attention_softcap", {"attn_scores"},
       [](Planted& p) {
         if (p.config.attention_softcap == 0) return false;
         p.config.attention_softcap = 0;
         return true;
       }},
      {"logit_softcap", {"lm_head"},
       [](Planted& p) {
         if (p.config.logit_softcap == 0) return false;
         p.config.logit_softcap = 0;
         return true;
       }},
      {"logit_scale", {"lm_head"}, [](Planted& p) { return p.config.logit_softcap == 0 && (p.config.logit_scale *= 0.4, true); }},
      {"sliding_window", {"attn_softmax"}, [](Planted& p) { return (p.config.layers.back().window = p.config.layers.back().window > 0 ? 0 : 9, true); }},
      {"sliding_window", {"attn_softmax"}, [](Planted& p) { return p.config.layers.back().window > 1 && (p.config.layers.back().window += 1, true); }},
      {"embedding_scale", {"embedding"}, [](Planted& p) { return !p.config.learned_positions && (p.config.embedding_scale *= 1.7, true); }},
      {"residual_scale", {"post_attn_residual", "post_ffn_residual"}, [](Planted& p) { return (p.config.residual_scale *= 0.8, true); }},
      {"moe_norm_topk", {"moe_router"},
       [](Planted& p) {
         if (p.config.moe.experts == 0 || p.config.moe.top_k < 2 || p.config.moe.scoring == "softmax_after_top_k") return false;
         p.config.moe.normalize = !p.config.moe.normalize;
         return true;
       }},
      {"missing_bias", {"qkv_bias", "attn_out", "ffn_gate", "ffn_up"},
       [](Planted& p) {
         if (!p.config.q_bias) return false;
         p.config.q_bias = false;
         return true;
       }},
  };
}

std::vector<Fault> WeightFaults() {
  return {
      {"zeroed_tensor", {"attn_out"},
       [](Planted& p) {
         const int last = static_cast<int>(p.config.num_layers) - 1;
         return p.slots.slots.contains({Slot::kO, last, -1}) && (Zero(p, Slot::kO, last), true);
       }},
      {"swapped_tensors", {"ffn_gate"},
       [](Planted& p) {
         const auto gate = p.slots.slots.find({Slot::kGate, 0, -1}), up = p.slots.slots.find({Slot::kUp, 0, -1});
         if (gate == p.slots.slots.end() || up == p.slots.slots.end()) return false;
         std::swap(gate->second.weight, up->second.weight);
         return true;
       }},
      {"layer_order", {"ffn_out"},
       [](Planted& p) {
         const auto first = p.slots.slots.find({Slot::kDown, 0, -1}), second = p.slots.slots.find({Slot::kDown, 1, -1});
         if (first == p.slots.slots.end() || second == p.slots.slots.end()) return false;
         std::swap(first->second.weight, second->second.weight);
         return true;
       }},
  };
}

std::vector<Fault> Faults() {
  std::vector<Fault> out = RopeFaults();
  for (std::vector<Fault> more : {ParameterFaults(), WeightFaults()}) out.insert(out.end(), more.begin(), more.end());
  return out;
}

std::string Said(const Report& report) {
  std::string out;
  for (const Finding& f : report.findings) {
    out += "  " + f.first.stage + (f.first.layer ? " " + std::to_string(*f.first.layer) : "") + " " + (f.cause ? f.cause->name + ": " + f.cause->evidence : "no cause") + "\n";
    for (const Trial& t : f.trials) out += "      " + t.name + " " + t.detail + " " + std::to_string(t.error_after) + "\n";
  }
  return out;
}

TEST(Walk, SoundEnginesAreLeftAlone) {
  int64_t stages = 0;
  for (const std::string& name : SmallModels()) {
    for (const auto& [kind, precision] : {std::pair{ExecutorKind::kReference, Precision::kExact}, std::pair{ExecutorKind::kCpu, Precision::kExact},
                                          std::pair{ExecutorKind::kCpu, Precision::kFast}}) {
      Planted p(name);
      const Report report = p.Walked(kind, precision);
      EXPECT_TRUE(report.findings.empty()) << name << " " << ExecutorName(kind) << "\n" << Said(report);
      stages += report.coverage.stages_compared;
      for (const std::string& note : report.coverage.notes) ADD_FAILURE() << name << ": " << note;
    }
  }
  EXPECT_GT(stages, 2000);
}

// What rounding may do is measured by moving inputs: numbers of experts are no such inputs.
TEST(Walk, NoErrorMovesTheChoiceOfExperts) {
  for (const char* name : {"deepseek-v3", "mixtral", "gpt-oss"}) {
    Planted p(name);
    const auto right = BindWalkModel(p.config, *p.trusted.architecture, p.slots, p.trusted.file);
    const std::vector<int32_t> ids = Ids(p.config.vocab_size, 12);
    const auto run = RecordRun(ExecutorKind::kCpu, {right, &right->bound}, ids, {.threads = 1, .precision = Precision::kExact});
    ThreadPool pool(1);
    Evaluator evaluator(*run, ids, FormatsOf({}), pool);
    const auto& stages = right->bound.graph.stages;
    const auto stage = std::ranges::find(stages, "moe_ffn_out", &Stage::name);
    ASSERT_NE(stage, stages.end());
    const auto index = static_cast<int>(stage - stages.begin());
    const auto still = evaluator.Evaluate({.model = right}, index);
    for (const uint64_t seed : {1, 2, 3, 4}) {
      const auto moved = evaluator.Evaluate({.model = right}, index, seed);
      ASSERT_TRUE(still && moved);
      double sum = 0, total = 0;
      for (size_t i = 0; i < still->values.size(); ++i) {
        sum += std::pow(moved->values[i] - still->values[i], 2);
        total += std::pow(still->values[i], 2);
      }
      EXPECT_LT(std::sqrt(sum / total), 1e-3) << name;
      EXPECT_GT(sum, 0) << name;
    }
  }
}

// A run that computes in f16 and says f32 is one finding, and a fault beside it is found all the same.
TEST(Walk, ARunInANarrowerTypeThanDeclaredIsOneFinding) {
  for (const bool also_theta : {false, true}) {
    Planted p("llama");
    if (also_theta) p.config.ropes[0].table.theta *= 9;
    const auto faulty = BindWalkModel(p.config, *p.trusted.architecture, p.slots, p.trusted.file);
    const auto right = BindWalkModel(p.trusted.config, *p.trusted.architecture, p.trusted.slots, p.trusted.file);
    const std::vector<int32_t> ids = Ids(p.config.vocab_size, 24);
    const auto run = RecordRun(ExecutorKind::kCpu, {faulty, &faulty->bound}, ids, {.threads = 1, .precision = Precision::kExact});
    EditedRun narrow(*run, [](const std::string&, std::vector<double>& values) {
      for (double& v : values) v = RoundTo(*FloatTypeFromName("f16"), v);
    });
    StageManifest manifest;
    manifest.precision = {.weights = "", .activations = "f32", .accumulate = "f32"};
    Bisection b;
    ThreadPool pool(1);
    b.pool = &pool;
    Evaluator evaluator(narrow, ids, FormatsOf(manifest), pool);
    Walk(b, evaluator, p.trusted.slots, right).Run();
    ASSERT_EQ(b.report.findings.size(), also_theta ? 2 : 1) << Said(b.report);
    EXPECT_EQ(b.report.findings[0].cause->name, "reduced_precision");
    EXPECT_EQ(b.report.findings[0].first.stage, "attn_norm");
    if (also_theta) {
      ASSERT_TRUE(b.report.findings[1].cause) << Said(b.report);
      EXPECT_EQ(b.report.findings[1].cause->name, "rope_theta");
      EXPECT_EQ(b.report.findings[1].first.stage, "q_post_rope");
    }
  }
}

// Two faults of one kind, each in a layer of its own, are both found, the second without the first in force.
TEST(Walk, EachLayerMayHaveItsOwnFault) {
  Planted p("llama");
  ASSERT_GE(p.config.num_layers, 2);
  p.config.ropes.push_back(p.config.ropes[0]);
  p.config.ropes[0].table.theta *= 7.3;
  p.config.ropes[1].table.rotary_dim /= 2;
  for (size_t layer = 1; layer < p.config.layers.size(); ++layer) p.config.layers[layer].rope = 1;
  const Report report = p.Walked();
  ASSERT_EQ(report.findings.size(), 2) << Said(report);
  EXPECT_EQ(report.findings[0].cause->name, "rope_theta");
  EXPECT_EQ(report.findings[0].first.layer, 0);
  ASSERT_TRUE(report.findings[1].cause) << Said(report);
  EXPECT_EQ(report.findings[1].cause->name, "rope_dim") << Said(report);
  EXPECT_EQ(report.findings[1].first.layer, 1);
}

// A reading of A that lacks the stage does not keep the others from being tried.
TEST(Walk, ACauseIsSoughtInTheReadingsThatHaveTheStage) {
  Planted p("llama");
  ModelConfig no_positions = p.config;
  for (LayerSpec& layer : no_positions.layers) layer.rope = -1;
  p.config.ropes[0].table.theta *= 7.3;
  const Report report = p.Walked(ExecutorKind::kCpu, Precision::kExact, "f32", {no_positions});
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.stage, "q_post_rope");
  ASSERT_TRUE(report.findings[0].cause) << Said(report);
  EXPECT_EQ(report.findings[0].cause->name, "rope_theta");
}

TEST(Walk, AReadingWithoutTheStageIsPassedOver) {
  Planted p("qwen3");
  ASSERT_NE(p.config.qk_norm, ModelConfig::QkNorm::kNone);
  ModelConfig without = p.config;
  without.qk_norm = ModelConfig::QkNorm::kNone;
  Zero(p, Slot::kQNorm, 0);
  const Report report = p.Walked(ExecutorKind::kCpu, Precision::kExact, "f32", {without});
  ASSERT_EQ(report.findings.size(), 1) << Said(report);
  EXPECT_EQ(report.findings[0].first.stage, "q_norm");
  ASSERT_TRUE(report.findings[0].cause) << Said(report);
  EXPECT_EQ(report.findings[0].cause->name, "zeroed_tensor");
}

// The same fault in every layer is one finding; in some of them, one for each; others beside it stay what they are.
TEST(Walk, OneCauseInEveryLayerIsOneFinding) {
  Planted some("gemma3");
  ASSERT_EQ(some.config.num_layers, 3);
  Zero(some, Slot::kDown, 0);
  Zero(some, Slot::kDown, 1);
  const Report two = some.Walked();
  EXPECT_EQ(two.findings.size(), 2) << Said(two);
  Planted all("gemma3");
  Zero(all, Slot::kO, 0);
  for (int layer = 0; layer < 3; ++layer) Zero(all, Slot::kDown, layer);
  const Report merged = all.Walked();
  ASSERT_EQ(merged.findings.size(), 2) << Said(merged);
  EXPECT_EQ(merged.findings[0].first.stage, "attn_out") << Said(merged);
  EXPECT_NE(merged.findings[1].first.note.find("in 3 layers"), std::string::npos) << merged.findings[1].first.note;
  for (const bool also_eps : {false, true}) {
    Planted down("gemma3");
    for (int layer = 0; layer < 3; ++layer) Zero(down, Slot::kDown, layer);
    if (also_eps) down.config.norm_eps = down.config.norm_eps * 300 + 1e-3;
    const Report report = down.Walked();
    EXPECT_EQ(report.findings.size(), also_eps ? 2 : 1) << Said(report);
  }
  Planted both("llama");
  ASSERT_EQ(both.config.num_layers, 2);
  for (int layer = 0; layer < 2; ++layer) Zero(both, Slot::kDown, layer);
  EXPECT_EQ(both.Walked().findings.size(), 1);
}

// How many layers show a cause is counted for each cause by itself, and the stages outside the layers are none.
TEST(Walk, AFindingSaysInHowManyLayersItShows) {
  Planted p("gemma3");
  ASSERT_EQ(p.config.num_layers, 3);
  p.config.norm_eps = p.config.norm_eps * 300 + 1e-3;
  Zero(p, Slot::kDown, 1);
  for (const std::vector<ModelConfig>& alternatives : {std::vector<ModelConfig>{}, {p.trusted.config}}) {
    const Report report = p.Walked(ExecutorKind::kCpu, Precision::kExact, "f32", alternatives);
    ASSERT_EQ(report.findings.size(), 2) << Said(report);
    EXPECT_EQ(report.findings[0].cause->name, "norm_eps") << Said(report);
    EXPECT_NE(report.findings[0].first.note.find("; in 3 layers"), std::string::npos) << report.findings[0].first.note;
    EXPECT_EQ(report.findings[1].cause->name, "zeroed_tensor") << Said(report);
    EXPECT_EQ(report.findings[1].first.note.find(" layers"), std::string::npos) << report.findings[1].first.note;
  }
  Planted later("gemma3");
  Zero(later, Slot::kO, 0);
  later.config.activation = "silu";
  const Report report = later.Walked();
  ASSERT_EQ(report.findings.size(), 2) << Said(report);
  EXPECT_EQ(report.findings[0].cause->name, "zeroed_tensor") << Said(report);
  EXPECT_EQ(report.findings[0].first.note.find(" layers"), std::string::npos) << report.findings[0].first.note;
  EXPECT_EQ(report.findings[1].cause->name, "activation") << Said(report);
  EXPECT_NE(report.findings[1].first.note.find("; in 3 layers"), std::string::npos) << report.findings[1].first.note;
}

// What only the logits show stands under the logits, unless something before them is wrong.
TEST(Walk, AFaultOfTheHeadAloneIsOneOfTheLogits) {
  Planted head("llama");
  head.config.logit_scale *= 0.4;
  const Report alone = head.Walked();
  ASSERT_EQ(alone.findings.size(), 1) << Said(alone);
  EXPECT_EQ(alone.findings[0].first.phase, Phase::kLogits);
  Zero(head, Slot::kDown, 0);
  const Report both = head.Walked();
  ASSERT_EQ(both.findings.size(), 2) << Said(both);
  EXPECT_EQ(both.findings[0].first.phase, Phase::kOps);
  EXPECT_EQ(both.findings[1].first.stage, "lm_head");
  EXPECT_EQ(both.findings[1].first.phase, Phase::kOps);
}

class WithoutStages : public EditedRun {
 public:
  explicit WithoutStages(RecordedRun& run) : EditedRun(run, [](const std::string&, std::vector<double>&) {}) {}
  bool Has(const std::string&) const override { return false; }
};

TEST(Walk, WithoutStagesNothingIsCovered) {
  Planted p("llama");
  const Report whole = p.Walked();
  EXPECT_EQ(std::ranges::count(whole.coverage.phases, Phase::kOps), 1);
  EXPECT_TRUE(whole.coverage.stages_absent.empty());
  WithoutStages run(*p.run);
  Bisection b;
  ThreadPool pool(1);
  b.pool = &pool;
  Evaluator evaluator(run, Ids(p.config.vocab_size, 8), FormatsOf({}), pool);
  Walk(b, evaluator, p.slots, BindWalkModel(p.config, *p.trusted.architecture, p.slots, p.trusted.file)).Run();
  EXPECT_EQ(std::ranges::count(b.report.coverage.phases, Phase::kOps), 0);
  EXPECT_EQ(static_cast<int64_t>(b.report.coverage.stages_absent.size()), whole.coverage.stages_compared);
}

class WithForeignStages : public EditedRun {
 public:
  explicit WithForeignStages(RecordedRun& run) : EditedRun(run, [](const std::string&, std::vector<double>&) {}) {}
  std::vector<std::string> Names() const override {
    std::vector<std::string> out = EditedRun::Names();
    for (const char* name : {"layer-0/hadamard", "layer-1/hadamard"}) out.push_back(name);
    return out;
  }
};

// Stages that the graph of A does not have are said to be there.
TEST(Walk, ForeignStagesAreNoted) {
  Planted p("llama");
  EXPECT_TRUE(p.Walked().coverage.notes.empty());
  WithForeignStages run(*p.run);
  Bisection b;
  ThreadPool pool(1);
  b.pool = &pool;
  Evaluator evaluator(run, Ids(p.config.vocab_size, std::min<int64_t>(40, p.config.max_positions)), FormatsOf({}), pool);
  Walk(b, evaluator, p.slots, BindWalkModel(p.config, *p.trusted.architecture, p.slots, p.trusted.file)).Run();
  const std::vector<std::string> noted = {"recorded stages that A's graph does not have: 2, the first layer-0/hadamard"};
  EXPECT_EQ(b.report.coverage.notes, noted);
}

TEST(Walk, PlantedFaultsAreLocatedAndNamed) {
  int planted = 0, located = 0, named = 0, alone = 0;
  std::string missed;
  for (const std::string& name : SmallModels()) {
    for (const Fault& fault : Faults()) {
      Planted p(name);
      if (!fault.plant(p)) continue;
      const Report report = p.Walked();
      ++planted;
      const bool here = !report.findings.empty() && fault.stages.count(report.findings[0].first.stage) > 0;
      const bool so = here && report.findings[0].cause && report.findings[0].cause->name == fault.cause;
      located += here;
      named += so;
      alone += report.findings.size() == 1;
      if (!so || report.findings.size() != 1) missed += name + " " + fault.cause + "\n" + Said(report);
    }
  }
  EXPECT_GT(planted, 300);
  EXPECT_GE(located, planted * 98 / 100) << missed;
  EXPECT_GE(named, planted * 95 / 100) << missed;
  EXPECT_GE(alone, planted * 90 / 100) << missed;
  RecordProperty("planted", planted);
  RecordProperty("located", located);
  RecordProperty("named", named);
  std::printf("planted %d, located %d, named %d, nothing else found %d\n", planted, located, named, alone);
  std::printf("%s", missed.c_str());
}

}  // namespace
}  // namespace apr::bisect
