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
#include "compare/bisect/walk.h"
#include "generate/trace.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

fs::path ModelFolder() { return fs::path(APR_SOURCE_DIR) / "testdata" / "model"; }

std::vector<std::string> ModelNames() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(ModelFolder())) {
    if (entry.is_directory() && OpenSide(entry.path().string()).architecture != nullptr) out.push_back(entry.path().filename().string());
  }
  std::ranges::sort(out);
  return out;
}

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
  for (const std::string& name : ModelNames()) {
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

// A run with some of its stages changed after they were recorded.
class EditedRun : public RecordedRun {
 public:
  using Edit = std::function<void(const std::string& name, std::vector<double>& values)>;
  EditedRun(RecordedRun& run, Edit edit) : run_(run), edit_(std::move(edit)) {}
  const RecordedStage* Find(const std::string& name) override {
    const auto [it, added] = stages_.try_emplace(name, *run_.Find(name));
    if (added) edit_(name, it->second.values);
    return &it->second;
  }
  bool Has(const std::string& name) const override { return run_.Has(name); }
  std::vector<std::string> Names() const override { return run_.Names(); }
  void Forget(int) override {}

 private:
  RecordedRun& run_;
  Edit edit_;
  std::map<std::string, RecordedStage> stages_;
};

// Findings of a sound run of `model` after such a change, by stage.
std::map<std::string, Finding> Edited(const std::string& model, const EditedRun::Edit& edit, const char* activations = "f32") {
  Planted p(model);
  const auto right = BindWalkModel(p.trusted.config, *p.trusted.architecture, p.trusted.slots, p.trusted.file);
  const std::vector<int32_t> ids = Ids(p.config.vocab_size, 24);
  const auto run = RecordRun(ExecutorKind::kCpu, {right, &right->bound}, ids, {.threads = 1, .precision = Precision::kExact});
  EditedRun edited(*run, edit);
  StageManifest manifest;
  manifest.precision = {.weights = "", .activations = activations, .accumulate = "f32"};
  Bisection b;
  ThreadPool pool(1);
  b.pool = &pool;
  b.options.causes = false;
  Evaluator evaluator(edited, ids, FormatsOf(manifest), pool);
  Walk(b, evaluator, p.trusted.slots, right).Run();
  std::map<std::string, Finding> out;
  for (const Finding& f : b.report.findings) out.emplace(f.first.stage, f);
  return out;
}

TEST(Walk, ScoresOfKeysThatNobodySeesAreNotCompared) {
  const auto found = Edited("llama", [](const std::string& name, std::vector<double>& values) {
    if (!name.ends_with("/attn_scores")) return;
    for (size_t i = 0; i < values.size(); ++i) values[i] = i % 24 > i / 24 % 24 ? -1e30 : values[i];
  });
  EXPECT_TRUE(found.empty()) << found.begin()->first;
}

// Of what a query sees the first key and itself are compared too, and the coordinate is head, query, key.
TEST(Walk, AWrongScoreIsFoundAtEitherEndOfWhatAQuerySees) {
  constexpr int64_t kTokens = 24, kHead = 1, kQuery = 20;
  for (const std::string model : {"llama", "mistral"}) {
    const ModelConfig config = OpenSide((ModelFolder() / model).string()).config;
    const int64_t window = config.layers[0].window, first = window > 0 ? kQuery - window + 1 : 0;
    ASSERT_EQ(model == "mistral", first > 0);
    for (const char* stage : {"attn_scores", "attn_softmax"}) {
      for (const int64_t key : {first, kQuery, first - 1}) {
        if (key < 0) continue;
        const bool seen = key >= first || std::string(stage) == "attn_softmax";  // a weight that is not 0 is wrong anywhere
        const auto found = Edited(model, [&](const std::string& name, std::vector<double>& values) {
          if (name == "layer-0/" + std::string(stage)) values[static_cast<size_t>((kHead * kTokens + kQuery) * kTokens + key)] += 0.5;
        });
        ASSERT_EQ(found.contains(stage), seen) << model << " " << stage << " " << key;
        if (!seen) continue;
        EXPECT_EQ(found.at(stage).first.coordinate, (std::vector<int64_t>{kHead, kQuery, key})) << model << " " << stage;
        EXPECT_EQ(found.at(stage).first.position, kQuery);
      }
    }
  }
}

TEST(Walk, TheFirstElementOfAStageHasItsCoordinate) {
  const auto found = Edited("llama", [](const std::string& name, std::vector<double>& values) {
    if (name == "layer-1/ffn_up") values[0] += 3;
  });
  ASSERT_TRUE(found.contains("ffn_up"));
  EXPECT_EQ(found.at("ffn_up").first.coordinate, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(found.at("ffn_up").first.position, 0);
}

TEST(Walk, AFaultOfEveryLayerSaysInHowManyLayers) {
  const int64_t layers = OpenSide((ModelFolder() / "llama").string()).config.num_layers;
  ASSERT_GT(layers, 1);
  const auto found = Edited("llama", [](const std::string& name, std::vector<double>& values) {
    if (name.ends_with("/ffn_up")) values[5] += 3;
  });
  ASSERT_TRUE(found.contains("ffn_up"));
  EXPECT_EQ(found.at("ffn_up").first.layer, 0);
  EXPECT_NE(found.at("ffn_up").first.note.find("in " + std::to_string(layers) + " layers"), std::string::npos) << found.at("ffn_up").first.note;
}

// The expert with the lowest logit instead of the last one chosen, at one position.
EditedRun::Edit WorstExpertAt(const std::string& layer, int64_t position, double scale, int64_t experts, int64_t top_k) {
  auto logits = std::make_shared<std::vector<double>>();
  return [=](const std::string& name, std::vector<double>& values) {
    if (name == layer + "/moe_router_logits") {
      for (double& v : values) v *= scale;
      *logits = values;
    }
    if (name != layer + "/moe_router_indices") return;
    const auto row = logits->begin() + position * experts;
    values[static_cast<size_t>((position + 1) * top_k - 1)] = static_cast<double>(std::min_element(row, row + experts) - row);
  };
}

TEST(Walk, AWrongExpertIsFoundAtAnyPositionAndWithSmallLogits) {
  const ModelConfig config = OpenSide((ModelFolder() / "olmoe").string()).config;
  for (const int64_t position : {0, 7}) {
    const auto found = Edited("olmoe", WorstExpertAt("layer-0", position, 1, config.moe.experts, config.moe.top_k));
    ASSERT_TRUE(found.contains("moe_router_indices")) << position;
    EXPECT_EQ(found.at("moe_router_indices").first.position, position);
  }
  // The error is how much worse the chosen one is than the one left out, over the largest logits.
  std::vector<double> logits;
  const auto wrong = WorstExpertAt("layer-0", 7, 1, config.moe.experts, config.moe.top_k);
  const auto measured = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
    wrong(name, values);
    if (name == "layer-0/moe_router_logits") logits = values;
  });
  double total = 0, gap = 0;
  for (size_t row = 0; row < logits.size(); row += static_cast<size_t>(config.moe.experts)) {
    std::vector<double> one(logits.begin() + static_cast<int64_t>(row), logits.begin() + static_cast<int64_t>(row) + config.moe.experts);
    total += std::pow(std::max(std::ranges::max(one), -std::ranges::min(one)), 2);
    std::ranges::sort(one, std::greater<>());
    if (row == static_cast<size_t>(7 * config.moe.experts)) gap = one[static_cast<size_t>(config.moe.top_k - 1)] - one.back();
  }
  const Place& at = measured.at("moe_router_indices").first;
  EXPECT_NEAR(at.error.value(), gap / std::sqrt(total), 1e-5 * gap);
  EXPECT_EQ(at.coordinate, (std::vector<int64_t>{7, 0}));
  EXPECT_LT(at.floor.value(), 1e-5);
  EXPECT_TRUE(Edited("olmoe", WorstExpertAt("layer-0", 3, 1e-3, config.moe.experts, config.moe.top_k), "bf16").contains("moe_router_indices"));
  const auto fewer = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
    if (name == "layer-0/moe_router_indices") values.resize(values.size() / static_cast<size_t>(config.moe.top_k) * static_cast<size_t>(config.moe.top_k - 1));
  });
  EXPECT_TRUE(fewer.contains("moe_router_indices"));
}

// Of two wrong rows the first is the position, the one that is farther off the coordinate.
TEST(Walk, TheFirstOfTwoWrongChoicesIsThePosition) {
  const ModelConfig config = OpenSide((ModelFolder() / "olmoe").string()).config;
  const int64_t experts = config.moe.experts, top_k = config.moe.top_k;
  for (const int64_t second : {3, 7, 11}) {
    std::vector<double> logits;
    const auto one = WorstExpertAt("layer-0", 0, 1, experts, top_k), two = WorstExpertAt("layer-0", second, 1, experts, top_k);
    const auto found = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
      one(name, values);
      two(name, values);
      if (name == "layer-0/moe_router_logits") logits = values;
    });
    const auto off = [&](int64_t position) {
      std::vector<double> row(logits.begin() + position * experts, logits.begin() + (position + 1) * experts);
      const double scale = std::max(std::ranges::max(row), -std::ranges::min(row));
      std::ranges::sort(row, std::greater<>());
      return (row[static_cast<size_t>(top_k - 1)] - row.back()) / scale;
    };
    ASSERT_TRUE(found.contains("moe_router_indices"));
    EXPECT_EQ(found.at("moe_router_indices").first.position, 0);
    EXPECT_EQ(found.at("moe_router_indices").first.coordinate, (std::vector<int64_t>{off(0) >= off(second) ? 0 : second, 0}));
  }
}

// What is no number of an expert, or one twice, is no choice.
TEST(Walk, WhatIsNoChoiceOfExpertsIsFound) {
  const ModelConfig config = OpenSide((ModelFolder() / "olmoe").string()).config;
  ASSERT_GE(config.moe.top_k, 2);
  const auto experts = static_cast<double>(config.moe.experts);
  for (const double wrong : {-1.0, experts, 0.5, static_cast<double>(NAN), -2.0}) {
    const auto found = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
      const auto at = static_cast<size_t>(5 * config.moe.top_k);
      if (name == "layer-0/moe_router_indices") values[at + 1] = wrong == -2 ? values[at] : wrong;
    });
    ASSERT_TRUE(found.contains("moe_router_indices")) << wrong;
    EXPECT_EQ(found.at("moe_router_indices").first.position, 5) << wrong;
  }
  // The same experts in another order are the same choice.
  const auto turned = Edited("olmoe", [&](const std::string& name, std::vector<double>& values) {
    if (name == "layer-0/moe_router_indices") std::swap(values[0], values[1]);
  });
  EXPECT_FALSE(turned.contains("moe_router_indices"));
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

// Rows of at least eight elements are also judged as a whole: half the allowance of one element in all of them is too much.
TEST(Walk, AWideRowIsJudgedAsAWhole) {
  for (const int64_t width : {7, 8}) {
    const auto count = static_cast<size_t>(width * 20);
    std::vector<double> expected(count, 1.0), recorded(count, 1.0);
    const std::vector<double> sigma(count, 1e-6);
    for (int64_t i = 0; i < width; ++i) recorded[static_cast<size_t>(3 * width + i)] += 6e-6;
    Judged out;
    Score({expected, recorded, sigma, width, {}}, out);
    EXPECT_EQ(out.fails(), width == 8);
    EXPECT_EQ(out.row, width == 8 ? 3 : -1);
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

// What is no number on one side only is a difference, on both none; of elements equally far out the first is shown.
TEST(Walk, NoNumbersAndTiesAreScored) {
  const auto score = [](std::vector<double> expected, std::vector<double> recorded) {
    Judged out;
    const std::vector<double> sigma(expected.size(), 1e-6);
    Score({expected, recorded, sigma, 4, {}}, out);
    return out;
  };
  const std::vector<double> ones(12, 1.0);
  std::vector<double> spoilt = ones;
  spoilt[5] = NAN;
  const Judged recorded = score(ones, spoilt), expected = score(spoilt, ones), both = score(spoilt, spoilt);
  EXPECT_TRUE(recorded.fails() && recorded.nonfinite);
  EXPECT_EQ(recorded.row, 1);
  EXPECT_EQ(recorded.worst, 5);
  EXPECT_TRUE(expected.fails());
  EXPECT_EQ(expected.row, 1);
  EXPECT_FALSE(expected.nonfinite);
  EXPECT_TRUE(both.compared);
  EXPECT_FALSE(both.fails());
  const std::vector<double> none(12, NAN);
  EXPECT_TRUE(score(none, none).no_numbers);
  EXPECT_FALSE(score(none, none).compared);
  std::vector<double> two = ones;
  two[6] = two[9] = 1.5;
  EXPECT_EQ(score(ones, two).worst, 6);
  EXPECT_EQ(score(ones, two).bad_rows, 2);
}

TEST(Walk, ScoresAreTheirFormulas) {
  const auto score = [](std::vector<double> expected, std::vector<double> recorded) {
    Judged out;
    const std::vector<double> sigma(expected.size(), 0.1);
    Score({expected, recorded, sigma, 2, {}}, out);
    return out;
  };
  const Judged near = score({3, 4, 0, 0}, {3, 4, 1, 0});
  EXPECT_DOUBLE_EQ(near.error, 0.2);
  EXPECT_DOUBLE_EQ(near.ratio, 10.0 / 12) << "standard deviations over those of one element";
  EXPECT_DOUBLE_EQ(near.floor, 0.24);
  EXPECT_FALSE(near.fails());
  EXPECT_EQ(near.worst, 2);
  EXPECT_EQ(near.a, 0);
  EXPECT_EQ(near.b, 1);
  const Judged far = score({3, 4, 0, 0}, {3, 4, 3, 0});
  EXPECT_DOUBLE_EQ(far.ratio, 2.5);
  EXPECT_TRUE(far.fails());
  EXPECT_EQ(far.row, 1);
  EXPECT_EQ(far.bad_rows, 1);
  const Judged equal = score({3, 4, 0, 0}, {3, 4, 0, 0});
  EXPECT_EQ(equal.error, 0);
  EXPECT_EQ(equal.ratio, 0);
  EXPECT_DOUBLE_EQ(equal.floor, 3 * std::sqrt(0.04 / 25)) << "of the formats alone";
  // A spoilt row says nothing, and nothing of the rows beside it.
  const Judged beside = score({3, 4, NAN, 1, 5, 6}, {9, 4, INFINITY, 1, 5, 9});
  EXPECT_EQ(beside.row, 0);
  EXPECT_EQ(beside.bad_rows, 2);
  EXPECT_TRUE(std::isinf(score({1, 1}, {1, NAN}).error));
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
}

TEST(Walk, PlantedFaultsAreLocatedAndNamed) {
  int planted = 0, located = 0, named = 0, alone = 0;
  std::string missed;
  for (const std::string& name : ModelNames()) {
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
