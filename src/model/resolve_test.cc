// Tests of configuration resolving: what a file leaves out, and what it says that nobody knows.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/model.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

// A copy of a tiny model with another config.json.
class Variant {
 public:
  explicit Variant(const std::string& name)
      : from_(fs::path(APR_SOURCE_DIR "/testdata/model") / name),
        path_(fs::temp_directory_path() / ("apr-resolve-test-" + std::to_string(getpid()) + "-" + std::to_string(count_++))) {
    fs::create_directories(path_);
    for (const auto& entry : fs::directory_iterator(from_)) {
      const std::string file = entry.path().filename().string();
      if (file.starts_with("model")) fs::create_symlink(fs::absolute(entry.path()), path_ / file);
    }
    config = ParseJson(AsText(MappedFile::Open((from_ / "config.json").string())->bytes()), "config.json");
  }
  ~Variant() { fs::remove_all(path_); }

  std::shared_ptr<const Model> Load() const {
    std::ofstream(path_ / "config.json") << DumpJson(config, 2);
    return Model::Load(path_.string());
  }
  // The message with which loading ends; empty if it succeeds.
  std::string Refusal() const {
    try {
      Load();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  Json config;

 private:
  fs::path from_;
  fs::path path_;
  static inline int count_ = 0;  // several may live at a time
};

const char* const kModels[] = {"llama", "mistral", "qwen2", "qwen3", "gemma3", "gemma2", "granite", "olmoe", "mixtral",
                               "gpt-oss", "deepseek-v2-q-lora", "gpt-neox-serial", "gpt2-inverse-layer", "starcoder2"};

class Resolve : public testing::TestWithParam<const char*> {};

TEST_P(Resolve, AnUnknownArchitectureIsRefusedByName) {
  Variant v(GetParam());
  v.config["model_type"] = "planted_type";
  EXPECT_NE(v.Refusal().find("planted_type"), std::string::npos);
}

TEST_P(Resolve, AnUnknownKeyThatMayMatterIsRefusedByName) {
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, Json>>{
           {"attention_temperature", 2.0}, {"planted_multiplier", 0.5}, {"use_alibi", true}, {"norm_after_block", true},
           {"final_logit_cap_planted", 30}, {"moe_capacity_planted", 2}, {"rotary_planted", "xpos"}}) {
    Variant v(GetParam());
    v.config[key] = value;
    const std::string refusal = v.Refusal();
    EXPECT_NE(refusal.find(key), std::string::npos) << key << ": " << refusal;
  }
}

TEST_P(Resolve, AnUnknownRopeParameterIsRefusedByName) {
  Variant v(GetParam());
  if (v.config["model_type"] == "gpt2") return;  // does not rotate
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    Variant planted(GetParam());
    if (!planted.config.contains(key)) continue;
    if (!planted.config[key].is_object()) planted.config[key] = Json::object();
    planted.config[key]["mrope_section"] = Json::array({1, 1, 2});
    EXPECT_NE(planted.Refusal().find("mrope_section"), std::string::npos) << key;
  }
}

TEST_P(Resolve, BookkeepingAndSwitchesThatAreOffAreNot) {
  Variant v(GetParam());
  v.config["unsloth_version"] = "2025.1";
  v.config["use_planted_attention"] = false;
  v.config["planted_scale"] = nullptr;
  v.config["planted_note"] = "text";
  EXPECT_EQ(v.Refusal(), "");
  EXPECT_EQ(v.Load()->unread_keys(), std::vector<std::string>{"planted_note"}) << "unknown and harmless: told, not refused";
}

INSTANTIATE_TEST_SUITE_P(All, Resolve, testing::ValuesIn(kModels));

// A key of another architecture is not applied to one whose code does not know it.
TEST(Resolve, AKeyOfAnotherArchitectureIsRefused) {
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "clip_qkv",
                          "attention_multiplier", "logits_scaling"}) {
    Variant v("llama");
    v.config[key] = 7.0;
    EXPECT_NE(v.Refusal().find(key), std::string::npos) << key;
  }
}

TEST(Resolve, AnUnknownRopeScalingIsRefusedByName) {
  Variant v("qwen2");
  v.config["rope_scaling"] = {{"type", "planted"}, {"factor", 2.0}};
  v.config.erase("rope_parameters");
  EXPECT_NE(v.Refusal().find("planted"), std::string::npos);
}

TEST(Resolve, AMissingKeyMeansTheDefaultOfTheClass) {
  Variant v("llama");
  v.config.erase("rms_norm_eps");
  const auto model = v.Load();
  EXPECT_EQ(model->config().norm_eps, 1e-6);
  bool said = false;
  for (const ConfigSource& source : model->config().sources) {
    said = said || (source.field == "norm_eps" && source.origin.find("default of the configuration class") != std::string::npos);
  }
  EXPECT_TRUE(said);
}

TEST(Resolve, NullIsNotTheDefaultOfTheClass) {
  Variant v("mistral");
  v.config["sliding_window"] = nullptr;
  EXPECT_EQ(v.Load()->config().layers[0].window, 0);
  v.config.erase("sliding_window");
  EXPECT_EQ(v.Load()->config().layers[0].window, 4096);
}

// What `apr architectures` says is tested, is there.
TEST(Architectures, TestedModelsAreThoseOfTestdata) {
  for (const Architecture& a : AllArchitectures()) {
    for (const std::string& name : TestedModels(a)) {
      const std::string path = APR_SOURCE_DIR "/testdata/model/" + name + "/config.json";
      ASSERT_TRUE(fs::exists(path)) << path;
      const Json config = ParseJson(AsText(MappedFile::Open(path)->bytes()), path);
      EXPECT_EQ(FindByModelType(config["model_type"].get<std::string>()), &a) << name;
    }
    EXPECT_FALSE(TestedModels(a).empty()) << a.name;
  }
}

}  // namespace
}  // namespace apr
