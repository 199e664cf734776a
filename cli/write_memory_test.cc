// Writing a model takes memory for the tensor at hand, not for the model: also where its weights are packed in
// several tensors, or have to be turned. The models are sparse files of zeros.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/json.h"
#include "cli/program_under_test.h"
#include "format/model_file.h"
#include "format/test_limits.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr long kPeakKib = 128 * 1024;  // of which the threads' buffers are the most

Json ConfigOf(const std::string& model) {
  std::ifstream in(std::string(APR_SOURCE_DIR "/testdata/model/") + model + "/config.json");
  return Json::parse(in);
}

// A safetensors folder whose tensors are zeros: holes, where the file system has them (else at most 300 MB).
class SparseModel {
 public:
  void Add(const std::string& name, const char* dtype, uint64_t element, std::vector<uint64_t> shape) {
    uint64_t bytes = element;
    for (const uint64_t dim : shape) bytes *= dim;
    head_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {at_, at_ + bytes}}};
    at_ += bytes;
  }
  void F16(const std::string& name, std::vector<uint64_t> shape) { Add(name, "F16", 2, std::move(shape)); }
  void Gptq(const std::string& module, uint64_t out, uint64_t in) {
    Add(module + ".qweight", "I32", 4, {in / 8, out});
    Add(module + ".qzeros", "I32", 4, {in / 128, out / 8});
    F16(module + ".scales", {in / 128, out});
  }
  void Write(const std::string& folder, const Json& config) const {
    fs::create_directories(folder);
    std::ofstream(folder + "/config.json") << config;
    std::string head = head_.dump();
    head.append((8 - head.size() % 8) % 8, ' ');
    const uint64_t size = head.size();
    const std::string path = folder + "/model.safetensors";
    std::ofstream(path, std::ios::binary) << std::string(reinterpret_cast<const char*>(&size), sizeof size) << head;
    fs::resize_file(path, sizeof size + size + at_);
  }

 private:
  Json head_ = Json::object();
  uint64_t at_ = 0;
};

// 135 M weights: 540 MB as f32.
Json AddGptq(SparseModel& model) {
  constexpr uint64_t kHidden = 1024, kInner = 4096, kLayers = 8, kWords = 256;
  model.F16("model.embed_tokens.weight", {kWords, kHidden});
  model.F16("model.norm.weight", {kHidden});
  for (uint64_t l = 0; l < kLayers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) model.F16(layer + norm + ".weight", {kHidden});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) model.Gptq(layer + "self_attn." + name, kHidden, kHidden);
    for (const char* name : {"gate_proj", "up_proj"}) model.Gptq(layer + "mlp." + name, kInner, kHidden);
    model.Gptq(layer + "mlp.down_proj", kHidden, kInner);
  }
  Json config = ConfigOf("llama");
  config.update({{"hidden_size", kHidden}, {"intermediate_size", kInner}, {"num_hidden_layers", kLayers}, {"vocab_size", kWords}, {"num_attention_heads", 16},
                 {"num_key_value_heads", 16}, {"head_dim", 64}, {"tie_word_embeddings", true}, {"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}}}});
  return config;
}

// 300 M weights in MXFP4: 160 MB, and as much again where gate and up are taken apart.
Json AddMxfp4(SparseModel& model) {
  constexpr uint64_t kHidden = 1024, kInner = 1024, kExperts = 8, kLayers = 12, kWords = 256;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) model.F16(name, {kWords, kHidden});
  model.F16("model.norm.weight", {kHidden});
  for (uint64_t l = 0; l < kLayers; ++l) {
    const std::string layer = "model.layers." + std::to_string(l) + ".", experts = layer + "mlp.experts.";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) model.F16(layer + norm + ".weight", {kHidden});
    model.F16(layer + "self_attn.sinks", {16});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      model.F16(layer + "self_attn." + name + ".weight", {kHidden, kHidden});
      model.F16(layer + "self_attn." + name + ".bias", {kHidden});
    }
    model.F16(layer + "mlp.router.weight", {kExperts, kHidden});
    model.F16(layer + "mlp.router.bias", {kExperts});
    for (const auto& [name, rows, cols] : {std::tuple{"gate_up_proj", 2 * kInner, kHidden}, {"down_proj", kHidden, kInner}}) {
      model.F16(experts + name + "_bias", {kExperts, rows});
      model.Add(experts + name + "_blocks", "U8", 1, {kExperts, rows, cols / 32, 16});
      model.Add(experts + name + "_scales", "U8", 1, {kExperts, rows, cols / 32});
    }
  }
  Json config = ConfigOf("gpt-oss");
  config.update({{"hidden_size", kHidden}, {"intermediate_size", kInner}, {"num_hidden_layers", kLayers}, {"vocab_size", kWords}, {"num_attention_heads", 16},
                 {"num_key_value_heads", 16}, {"head_dim", 64}, {"num_local_experts", kExperts}, {"quantization_config", {{"quant_method", "mxfp4"}}}});
  config["layer_types"] = Json::array();
  for (uint64_t l = 0; l < kLayers; ++l) config["layer_types"].push_back(l % 2 == 0 ? "sliding_attention" : "full_attention");
  return config;
}

// 150 M weights that lie [in, out]: 300 MB.
Json AddTurned(SparseModel& model) {
  constexpr uint64_t kHidden = 1024, kLayers = 12, kWords = 256, kPositions = 48;
  model.F16("transformer.wte.weight", {kWords, kHidden});
  model.F16("transformer.wpe.weight", {kPositions, kHidden});
  for (const char* part : {".weight", ".bias"}) model.F16(std::string("transformer.ln_f") + part, {kHidden});
  for (uint64_t l = 0; l < kLayers; ++l) {
    const std::string layer = "transformer.h." + std::to_string(l) + ".";
    for (const char* norm : {"ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"}) model.F16(layer + norm, {kHidden});
    for (const auto& [name, in, out] : {std::tuple{"attn.c_attn", kHidden, 3 * kHidden}, {"attn.c_proj", kHidden, kHidden},
                                        {"mlp.c_fc", kHidden, 4 * kHidden}, {"mlp.c_proj", 4 * kHidden, kHidden}}) {
      model.F16(layer + name + ".weight", {in, out});
      model.F16(layer + name + ".bias", {out});
    }
  }
  Json config = ConfigOf("gpt2-inverse-layer");
  config.update({{"n_embd", kHidden}, {"n_inner", 4 * kHidden}, {"n_layer", kLayers}, {"n_head", 16}, {"vocab_size", kWords}, {"tie_word_embeddings", true}});
  return config;
}

struct ModelKind {
  const char* name;
  Json (*add)(SparseModel& model);  // returns its configuration
};

class WriteMemory : public testing::TestWithParam<ModelKind> {};

TEST_P(WriteMemory, IsForTheTensorAtHand) {
  const ScratchFolder scratch("write-memory");
  const std::string folder = scratch / "model", out = scratch / "out.gguf";
  SparseModel model;
  const Json config = GetParam().add(model);
  model.Write(folder, config);
  const ProgramResult result = RunApr({"quantize", folder, "-s", "q4_0", "-o", out});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_FALSE(ModelFile::Open(out)->tensors().empty());
  if (!kSanitized) {
    EXPECT_LE(result.peak_resident_kib, kPeakKib);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, WriteMemory,
                         testing::Values(ModelKind{"gptq", AddGptq}, ModelKind{"mxfp4", AddMxfp4}, ModelKind{"turned", AddTurned}),
                         [](const auto& p) { return p.param.name; });

}  // namespace
}  // namespace apr
