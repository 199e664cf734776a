// apr validate from outside: every rule has a planted fault that it catches, and sound models pass.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/json.h"
#include "cli/planted_model.h"
#include "cli/program_under_test.h"
#include "format/stage_file.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kQ = "model.layers.0.self_attn.q_proj.weight";
const std::string kDown = "model.layers.1.mlp.down_proj.weight";
const std::string kNorm = "model.layers.0.input_layernorm.weight";
const std::string kEmbedding = "model.embed_tokens.weight";

struct Verdict {
  Json document;
  int code = 0;

  const Json& Check(const std::string& name) const {
    for (const Json& check : document["checks"]) {
      if (check["name"] == name) return check;
    }
    ADD_FAILURE() << "no check " << name << " in " << document.dump();
    static const Json kNone = {{"passed", nullptr}, {"findings", Json::array()}};
    return kNone;
  }
  // Names of the checks that did not pass.
  std::vector<std::string> Failed() const {
    std::vector<std::string> out;
    for (const Json& check : document["checks"]) {
      if (!check["passed"].get<bool>() && !check["skipped"].get<bool>()) out.push_back(check["name"]);
    }
    return out;
  }
};

Verdict Validate(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "validate");
  arguments.emplace_back("--json");
  const ProgramResult result = RunApr(arguments);
  Verdict verdict{result.Document(), result.code};
  EXPECT_EQ(verdict.document.value("passed", false), result.code == 0) << result.out;
  EXPECT_TRUE(result.code == 0 || result.code == 5) << result.err;
  // Text for people comes to the same verdict.
  arguments.pop_back();
  EXPECT_EQ(RunApr(arguments).code, result.code);
  return verdict;
}

// The model fails, by this rule alone, and the rule names the tensor.
void ExpectCaught(const std::string& path, const std::string& rule, const std::string& tensor, const std::string& message,
                  std::vector<std::string> flags = {}) {
  flags.insert(flags.begin(), path);
  const Verdict verdict = Validate(flags);
  EXPECT_EQ(verdict.code, 5) << rule;
  EXPECT_EQ(verdict.Failed(), std::vector<std::string>{rule}) << verdict.document.dump(1);
  const Json& findings = verdict.Check(rule)["findings"];
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings[0]["tensor"], tensor);
  EXPECT_NE(findings[0]["message"].get<std::string>().find(message), std::string::npos) << findings[0];
  EXPECT_TRUE(findings[0]["file"].is_string());
}

class ValidateTest : public testing::Test {
 protected:
  std::string Folder() {
    model_.WriteFolder(scratch_ / "model");
    return scratch_ / "model";
  }
  std::string Apr() {
    model_.config.erase("rope_scaling");
    model_.WriteApr(scratch_ / "model.apr");
    return scratch_ / "model.apr";
  }

  ScratchFolder scratch_{"validate", ScratchFolder::Place::kMemory};
  PlantedModel model_{"llama"};
};

TEST_F(ValidateTest, SoundModelsPass) {
  int as_models = 0;
  for (const auto& entry : fs::directory_iterator(APR_SOURCE_DIR "/testdata/model")) {
    const Verdict verdict = Validate({entry.path().string()});
    EXPECT_EQ(verdict.code, 0) << entry.path() << verdict.document.dump(1);
    as_models += verdict.document["architecture"].is_null() ? 0 : 1;
  }
  EXPECT_GE(as_models, 20) << "the rest is of architectures that are not computed yet";
  EXPECT_EQ(Validate({Folder(), "--strict"}).code, 0);
  EXPECT_EQ(Validate({Apr(), "--strict"}).code, 0);
}

TEST_F(ValidateTest, NoTensor) {
  WriteText(scratch_ / "none.safetensors", std::string("\x02\0\0\0\0\0\0\0{}", 10));
  const Verdict verdict = Validate({scratch_ / "none.safetensors"});
  EXPECT_EQ(verdict.Failed(), std::vector<std::string>{"structure"});
}

TEST_F(ValidateTest, WhatCannotBeOpenedHasNotPassed) {
  WriteText(scratch_ / "cut.apr", ReadText(Apr()).substr(0, 3000));
  const ProgramResult result = RunApr({"validate", scratch_ / "cut.apr", "--json"});
  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(result.Document()["passed"], false);
  EXPECT_EQ(result.Document()["error"]["code"], "invalid_format");
  EXPECT_EQ(result.Document()["error"]["file"], scratch_ / "cut.apr");
}

TEST_F(ValidateTest, Checksum) {
  const std::string path = Apr();
  const uint64_t offset = OffsetOf(path, kQ);
  std::string byte = ReadText(path).substr(offset, 1);
  byte[0] = static_cast<char>(byte[0] ^ 1);  // the last bit of a mantissa: only the checksum tells
  PatchFile(path, offset, byte);
  const Verdict verdict = Validate({path});
  EXPECT_EQ(verdict.Failed(), std::vector<std::string>{"checksum"});
  EXPECT_EQ(verdict.Check("checksum")["findings"][0]["offset"], ReadText(path).size() - 4);
  EXPECT_TRUE(Validate({Folder()}).Check("checksum")["skipped"]);
}

TEST_F(ValidateTest, Configuration) {
  model_.config.erase("num_hidden_layers");
  ExpectCaught(Folder(), "configuration", "num_hidden_layers", "missing");
}

TEST_F(ValidateTest, UnknownArchitectureIsNotCheckedAsAModel) {
  model_.config["model_type"] = "perceptron";
  const Verdict verdict = Validate({Folder()});
  EXPECT_EQ(verdict.code, 0);
  EXPECT_TRUE(verdict.document["architecture"].is_null());
  for (const char* name : {"configuration", "missing-tensors", "F-DATA-QUALITY-005", "unread-tensors", "unread-keys", "tied-head"}) {
    EXPECT_TRUE(verdict.Check(name)["skipped"]) << name;
  }
}

TEST_F(ValidateTest, MissingTensor) {
  model_.tensors.erase(kDown);
  ExpectCaught(Folder(), "missing-tensors", kDown, "missing");
  ExpectCaught(Apr(), "missing-tensors", kDown, "missing");
}

TEST_F(ValidateTest, WrongElementCount) {
  model_[kDown].shape = Shape{16, 32};
  model_[kDown].values.resize(512);
  ExpectCaught(Folder(), "F-DATA-QUALITY-005", kDown, "[16, 32] (512 elements), the configuration needs [32, 32]");
}

TEST_F(ValidateTest, UnreadTensorAndKey) {
  model_.tensors.emplace("model.layers.0.adapter.weight", model_[kQ]);
  EXPECT_EQ(Validate({Folder()}).Check("unread-tensors")["findings"][0]["level"], "warning");
  EXPECT_EQ(Validate({Folder()}).code, 0);
  ExpectCaught(Folder(), "unread-tensors", "model.layers.0.adapter.weight", "does not use", {"--strict"});
  model_.tensors.erase("model.layers.0.adapter.weight");
  model_.config["planted_note"] = "text";
  EXPECT_EQ(Validate({Folder()}).code, 0);
  ExpectCaught(Folder(), "unread-keys", "planted_note", "nothing reads", {"--strict"});
  ExpectCaught(Apr(), "unread-keys", "planted_note", "nothing reads", {"--strict"});
}

TEST_F(ValidateTest, TieFlagAgainstBytes) {
  model_.tensors.emplace("lm_head.weight", model_[kEmbedding]);
  EXPECT_EQ(Validate({Folder()}).code, 0);
  model_["lm_head.weight"].values[1234] += 0.5f;
  ExpectCaught(Folder(), "tied-head", "lm_head.weight", "other values");
  model_.config["tie_word_embeddings"] = false;
  EXPECT_EQ(Validate({Folder(), "--strict"}).code, 0);
  model_["lm_head.weight"].values = model_[kEmbedding].values;
  EXPECT_EQ(Validate({Folder()}).Check("tied-head")["findings"][0]["level"], "info");
}

TEST_F(ValidateTest, Zeros) {
  std::fill_n(model_[kQ].values.begin(), model_[kQ].values.size() * 82 / 100, 0.f);
  const Verdict zeros = Validate({Folder()});
  EXPECT_EQ(zeros.Failed(), (std::vector<std::string>{"F-DATA-QUALITY-001", "F-DATA-QUALITY-007"}));
  EXPECT_EQ(zeros.Check("F-DATA-QUALITY-001")["findings"][0]["tensor"], kQ);
}

TEST_F(ValidateTest, ZerosSpreadOut) {
  std::vector<float>& values = model_[kQ].values;
  for (size_t i = 0; i < values.size(); ++i) values[i] = i % 8 == 0 ? 0.25f : 0.f;
  ExpectCaught(Folder(), "F-DATA-QUALITY-001", kQ, "87.5 % of the elements are zero");
  // In a quantised type, where every block has a living scale.
  for (const DType dtype : {DType::kAprQ4, DType::kAprQ8}) {
    model_[kQ].dtype = dtype;
    ExpectCaught(Apr(), "F-DATA-QUALITY-001", kQ, "87.5 % of the elements are zero");
  }
  for (size_t i = 0; i < values.size(); ++i) values[i] = i % 4 == 0 ? 0.25f : 0.f;
  model_[kQ].dtype = DType::kF32;
  EXPECT_EQ(Validate({Folder()}).code, 0) << "75 % may be";
}

TEST_F(ValidateTest, ZerosOfEmbeddingAndNorm) {
  std::vector<float>& values = model_[kEmbedding].values;
  for (size_t i = 0; i < values.size(); ++i) values[i] = i % 32 < 18 ? 0.f : values[i];
  ExpectCaught(Folder(), "F-DATA-QUALITY-001", kEmbedding, "56.2 %");
  model_ = PlantedModel("llama");
  std::ranges::fill(model_[kNorm].values, 0.f);
  ExpectCaught(Folder(), "F-DATA-QUALITY-001", kNorm, "nothing but zeros");
  model_ = PlantedModel("gemma");  // whose norms multiply by w + 1
  std::ranges::fill(model_[kNorm].values, 0.f);
  EXPECT_EQ(Validate({Folder()}).code, 0);
  ExpectCaught(Folder(), "F-DATA-QUALITY-001", kNorm, "nothing but zeros", {"--strict"});
}

TEST_F(ValidateTest, NanAndInfinity) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      model_ = PlantedModel("llama");
      model_[kDown].dtype = dtype;
      EXPECT_EQ(Validate({Folder()}).code, 0);
      model_[kDown].values[32 * 5 + 7] = bad;
      ExpectCaught(Folder(), "F-DATA-QUALITY-002", kDown,
                   std::isnan(bad) ? "1 NaN and 0 infinite of 1024 elements, the first at [5, 7]" : "0 NaN and 1 infinite");
      const Json finding = Validate({Folder()}).Check("F-DATA-QUALITY-002")["findings"][0];
      EXPECT_EQ(finding["offset"], OffsetOf(Folder(), kDown) + (32 * 5 + 7) * InfoOf(dtype).block_bytes);
    }
  }
  model_ = PlantedModel("llama");
  model_[kNorm].values.back() = std::numeric_limits<float>::infinity();
  ExpectCaught(Apr(), "F-DATA-QUALITY-002", kNorm, "1 infinite");
}

TEST_F(ValidateTest, ConstantOrVanishing) {
  std::ranges::fill(model_[kQ].values, 0.5f);
  ExpectCaught(Folder(), "F-DATA-QUALITY-003", kQ, "constant");
  model_ = PlantedModel("llama");
  for (float& x : model_[kQ].values) x *= 1e-9f;
  ExpectCaught(Folder(), "F-DATA-QUALITY-003", kQ, "L2 norm");
  model_ = PlantedModel("llama");
  std::ranges::fill(model_[kNorm].values, 1.f);  // as in a fresh model
  EXPECT_EQ(Validate({Folder()}).code, 0);
}

TEST_F(ValidateTest, EmbeddingRows) {
  for (const int64_t row : {9, 48, 86}) {  // at 10, 50 and 90 % of 96
    model_ = PlantedModel("llama");
    model_[kEmbedding].FillRow(row, 0);
    ExpectCaught(Folder(), "F-DATA-QUALITY-004", kEmbedding, "row " + std::to_string(row));
  }
  model_ = PlantedModel("llama");
  model_[kEmbedding].FillRow(95, 0);  // tokens that are not used
  EXPECT_EQ(Validate({Folder()}).code, 0);
}

TEST_F(ValidateTest, BlockScales) {
  model_[kQ].dtype = DType::kAprQ4;
  model_[kDown].dtype = DType::kAprQ8;
  const std::string path = Apr();
  const auto expect = [&](const std::string& tensor, const std::string& message) {
    const Verdict verdict = Validate({path});
    EXPECT_EQ(verdict.Failed(), (std::vector<std::string>{"checksum", "F-DATA-QUALITY-002", "F-DATA-QUALITY-006"}));
    EXPECT_EQ(verdict.Check("F-DATA-QUALITY-006")["findings"][0]["tensor"], tensor);
    EXPECT_NE(verdict.Check("F-DATA-QUALITY-006")["message"].get<std::string>().find(message), std::string::npos);
  };
  const std::string whole = ReadText(path);
  PatchFile(path, OffsetOf(path, kQ) + 18 * 3, std::string("\x00\x7E", 2));  // f16 NaN: the fourth block
  expect(kQ, "1 block scales are NaN or infinite, the first in the block of [3, 0]");
  WriteText(path, whole);
  PatchFile(path, OffsetOf(path, kDown), std::string("\x00\x00\x80\x7F", 4));  // f32 infinity
  expect(kDown, "1 block scales");
}

TEST_F(ValidateTest, DeadRow) {
  model_[kDown].FillRow(13, 0);
  ExpectCaught(Folder(), "F-DATA-QUALITY-007", kDown, "1 of 32 rows are all zero, the first is row 13");
  model_[kDown].dtype = DType::kAprQ4;
  ExpectCaught(Apr(), "F-DATA-QUALITY-007", kDown, "the first is row 13");
}

TEST_F(ValidateTest, PackedWeightsStandForTheirModules) {
  for (const auto& entry : fs::directory_iterator(APR_SOURCE_DIR "/testdata/packed")) {
    const Verdict verdict = Validate({entry.path().string()});
    EXPECT_TRUE(verdict.Check("F-DATA-QUALITY-002")["passed"]) << entry.path() << verdict.document.dump(1);
  }
}

TEST_F(ValidateTest, QualityOfAprFilesOnly) {
  const auto score = [&](const Json& metadata) {
    model_.WriteApr(scratch_ / "q.apr", metadata);
    return Validate({scratch_ / "q.apr", "--quality"}).document["quality"];
  };
  EXPECT_EQ(score(Json::object())["breakdown"],
            Json({{"physics", 20}, {"structural", 20}, {"provenance", 0}, {"hf_identity", 8}, {"tokenizer", 0}}));
  const Json all = {{"license", "apache-2.0"}, {"data_source", "web"}, {"data_license", "cc-by"}, {"hf_architecture", "LlamaForCausalLM"},
                    {"num_layers", 2}, {"tokenizer.vocabulary", {"a", "b"}}, {"tokenizer.merges", {"a b"}}};
  EXPECT_EQ(score(all)["score"], 100);
  EXPECT_EQ(score(all)["ship_ready"], true);
  EXPECT_EQ(Validate({scratch_ / "q.apr", "--min-score", "100"}).code, 0);
  Json less = all;
  less.erase("data_license");
  EXPECT_EQ(score(less)["score"], 92);
  EXPECT_EQ(Validate({scratch_ / "q.apr", "--min-score", "92"}).code, 0);
  EXPECT_EQ(Validate({scratch_ / "q.apr", "--min-score", "93"}).code, 5);
  for (const char* flag : {"--quality", "--min-score=1"}) {
    const ProgramResult result = RunApr({"validate", Folder(), flag, "--json"});
    EXPECT_EQ(result.code, 2) << "a flag that cannot be honoured is refused";
  }
}

TEST_F(ValidateTest, Stages) {
  std::vector<float> values = {1, 2, 3};
  WriteStageFile(scratch_ / "s.bin", 0, values, Overwrite::kAllow);
  EXPECT_EQ(Validate({scratch_ / "s.bin"}).code, 0);
  values[1] = NAN;
  WriteStageFile(scratch_ / "s.bin", 0, values, Overwrite::kAllow);
  EXPECT_EQ(Validate({scratch_ / "s.bin"}).Check("F-DATA-QUALITY-002")["findings"][0]["offset"], 16);
}

}  // namespace
}  // namespace apr
