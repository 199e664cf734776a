// A model whose matrices are packed as GPTQ, AWQ, compressed-tensors, I8 with scales or MXFP4 is the model of what they
// decode to, bit for bit: logits, a written GGUF, a written folder.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/error.h"
#include "base/float16.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "exec/executor.h"
#include "format/model_writer.h"
#include "format/packed_weights.h"
#include "model/export_model.h"
#include "model/model.h"
#include "op/context.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kModel = APR_SOURCE_DIR "/testdata/model/llama";
constexpr int64_t kGroup = 16;

TensorToWrite Made(const std::string& name, DType dtype, const Shape& shape, const void* data) {
  const auto* from = static_cast<const std::byte*>(data);
  std::vector<std::byte> bytes(from, from + *StorageBytes(dtype, shape));
  return {name, dtype, shape, [bytes](const ByteSink& sink) { sink(bytes); }};
}

// A matrix of codes, zeros and scales, and what it means.
struct Codes {
  int64_t out, in, groups;
  std::vector<uint32_t> q, zero;  // [out, in], [groups, out]
  std::vector<uint16_t> scale;    // [groups, out], f16
  std::vector<float> meaning;     // [out, in]

  Codes(const Shape& shape, bool symmetric, std::mt19937& random) : out(shape[0]), in(shape[1]), groups(in / kGroup) {
    for (int64_t i = 0; i < out * in; ++i) q.push_back(random() % 16);
    for (int64_t i = 0; i < groups * out; ++i) {
      zero.push_back(symmetric ? 8 : 1 + random() % 15);
      scale.push_back(F32ToF16(0.01f + 0.02f * static_cast<float>(random() % 1000) / 1000));
    }
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        const auto at = static_cast<size_t>(i / kGroup * out + o);
        meaning.push_back((static_cast<float>(q[static_cast<size_t>(o * in + i)]) - static_cast<float>(zero[at])) * F16ToF32(scale[at]));
      }
    }
  }
  uint32_t At(int64_t o, int64_t i) const { return q[static_cast<size_t>(o * in + i)]; }
  uint32_t ZeroAt(int64_t g, int64_t o) const { return zero[static_cast<size_t>(g * out + o)]; }
};

using Parts = std::vector<TensorToWrite>;

Parts Gptq(const std::string& module, const Codes& c) {
  std::vector<uint32_t> words(static_cast<size_t>(c.in / 8 * c.out)), zeros(static_cast<size_t>(c.groups * c.out / 8));
  for (int64_t i = 0; i < c.in; ++i) {
    for (int64_t o = 0; o < c.out; ++o) words[static_cast<size_t>(i / 8 * c.out + o)] |= c.At(o, i) << (4 * (i % 8));
  }
  for (int64_t g = 0; g < c.groups; ++g) {
    for (int64_t o = 0; o < c.out; ++o) zeros[static_cast<size_t>((g * c.out + o) / 8)] |= ((c.ZeroAt(g, o) - 1) & 15) << (4 * (o % 8));
  }
  return {Made(module + ".qweight", DType::kI32, {c.in / 8, c.out}, words.data()), Made(module + ".qzeros", DType::kI32, {c.groups, c.out / 8}, zeros.data()),
          Made(module + ".scales", DType::kF16, {c.groups, c.out}, c.scale.data())};
}

Parts Awq(const std::string& module, const Codes& c) {
  constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  std::vector<uint32_t> words(static_cast<size_t>(c.in * c.out / 8)), zeros(static_cast<size_t>(c.groups * c.out / 8));
  for (int64_t column = 0; column < c.out; column += 8) {
    for (int n = 0; n < 8; ++n) {
      for (int64_t i = 0; i < c.in; ++i) words[static_cast<size_t>((i * c.out + column) / 8)] |= c.At(column + kOrder[n], i) << (4 * n);
      for (int64_t g = 0; g < c.groups; ++g) zeros[static_cast<size_t>((g * c.out + column) / 8)] |= c.ZeroAt(g, column + kOrder[n]) << (4 * n);
    }
  }
  return {Made(module + ".qweight", DType::kI32, {c.in, c.out / 8}, words.data()), Made(module + ".qzeros", DType::kI32, {c.groups, c.out / 8}, zeros.data()),
          Made(module + ".scales", DType::kF16, {c.groups, c.out}, c.scale.data())};
}

Parts Compressed(const std::string& module, const Codes& c) {
  std::vector<uint32_t> words(static_cast<size_t>(c.out * c.in / 8));
  std::vector<uint16_t> scale;
  for (int64_t o = 0; o < c.out; ++o) {
    for (int64_t i = 0; i < c.in; ++i) words[static_cast<size_t>((o * c.in + i) / 8)] |= c.At(o, i) << (4 * (i % 8));
    for (int64_t g = 0; g < c.groups; ++g) scale.push_back(c.scale[static_cast<size_t>(g * c.out + o)]);
  }
  const int64_t shape[2] = {c.out, c.in};
  return {Made(module + ".weight_packed", DType::kI32, {c.out, c.in / 8}, words.data()),
          Made(module + ".weight_scale", DType::kF16, {c.out, c.groups}, scale.data()), Made(module + ".weight_shape", DType::kI64, {2}, shape)};
}

Parts Scaled(const std::string& module, Codes& c) {
  std::vector<int8_t> bytes;
  std::vector<float> scale;
  for (int64_t o = 0; o < c.out; ++o) scale.push_back(F16ToF32(c.scale[static_cast<size_t>(o)]));
  for (int64_t o = 0; o < c.out; ++o) {
    for (int64_t i = 0; i < c.in; ++i) {
      bytes.push_back(static_cast<int8_t>(static_cast<int>(c.At(o, i)) - 8));
      c.meaning[static_cast<size_t>(o * c.in + i)] = static_cast<float>(bytes.back()) * scale[static_cast<size_t>(o)];
    }
  }
  return {Made(module + ".weight", DType::kI8, {c.out, c.in}, bytes.data()), Made(module + ".weight_scale", DType::kF32, {c.out, 1}, scale.data())};
}

Parts Mlx(const std::string& module, Codes& c) {
  std::vector<uint32_t> words(static_cast<size_t>(c.out * c.in / 8));
  std::vector<uint16_t> scale, bias;
  for (int64_t o = 0; o < c.out; ++o) {
    for (int64_t g = 0; g < c.groups; ++g) {
      scale.push_back(c.scale[static_cast<size_t>(g * c.out + o)]);
      bias.push_back(F32ToF16(-static_cast<float>(c.ZeroAt(g, o)) * F16ToF32(scale.back())));
    }
    for (int64_t i = 0; i < c.in; ++i) {
      const auto at = static_cast<size_t>(o * c.groups + i / kGroup);
      words[static_cast<size_t>((o * c.in + i) / 8)] |= c.At(o, i) << (4 * (i % 8));
      c.meaning[static_cast<size_t>(o * c.in + i)] = static_cast<float>(c.At(o, i)) * F16ToF32(scale[at]) + F16ToF32(bias[at]);
    }
  }
  return {Made(module + ".weight", DType::kU32, {c.out, c.in / 8}, words.data()), Made(module + ".scales", DType::kF16, {c.out, c.groups}, scale.data()),
          Made(module + ".biases", DType::kF16, {c.out, c.groups}, bias.data())};
}

Parts Nf4(const std::string& module, Codes& c) {
  const int64_t count = c.out * c.in;
  std::vector<uint8_t> bytes(static_cast<size_t>(count / 2));
  std::vector<float> table, largest;
  for (int i = 0; i < 16; ++i) table.push_back(static_cast<float>(i * i - 100) / 128);
  for (int64_t b = 0; b < count / kGroup; ++b) largest.push_back(0.25f * F16ToF32(c.scale[static_cast<size_t>(b) % c.scale.size()]));
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    bytes[at / 2] = static_cast<uint8_t>(bytes[at / 2] | c.q[at] << (i % 2 == 0 ? 4 : 0));
    c.meaning[at] = table[c.q[at]] * largest[static_cast<size_t>(i / kGroup)];
  }
  const std::string name = module + ".weight", state = DumpJson({{"quant_type", "nf4"}, {"blocksize", kGroup}, {"shape", {c.out, c.in}}});
  return {Made(name, DType::kU8, {count / 2, 1}, bytes.data()), Made(name + ".absmax", DType::kF32, {count / kGroup}, largest.data()),
          Made(name + ".quant_map", DType::kF32, {16}, table.data()),
          Made(name + ".quant_state.bitsandbytes__nf4", DType::kU8, {static_cast<int64_t>(state.size())}, state.data())};
}

Parts Pack(const std::string& scheme, const std::string& module, Codes& codes) {
  if (scheme == "gptq") return Gptq(module, codes);
  if (scheme == "awq") return Awq(module, codes);
  if (scheme == "mlx") return Mlx(module, codes);
  if (scheme == "nf4") return Nf4(module, codes);
  return scheme == "scaled" ? Scaled(module, codes) : Compressed(module, codes);
}

std::vector<float> Logits(const Model& model) {
  const auto executor = Executor::Create(ExecutorKind::kCpu, model.bound(), {.threads = 1, .precision = Precision::kExact});
  const std::vector<int32_t> ids = {3, 14, 15, 9, 2, 6, 53, 5};
  const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size())};
  const Tensor out = executor->Forward({&chunk, 1});
  return {out.f32().begin(), out.f32().end()};
}

class PackedModel : public testing::TestWithParam<std::string> {
 protected:
  // Writes "packed" and "plain" below folder_: the same model.
  void SetUp() override {
    const auto original = ModelFile::Open(kModel);
    Parts packed, plain;
    std::mt19937 random(5);
    for (const TensorInfo& info : original->tensors()) {
      if (!info.name.ends_with("_proj.weight")) {
        packed.push_back(CopyOf(original, info, info.name));
        plain.push_back(CopyOf(original, info, info.name));
        continue;
      }
      Codes codes(info.shape, GetParam() == "compressed", random);
      for (TensorToWrite& part : Pack(GetParam(), info.name.substr(0, info.name.size() - 7), codes)) packed.push_back(std::move(part));
      plain.push_back(Made(info.name, DType::kF32, info.shape, codes.meaning.data()));
      ++matrices_;
    }
    Json config = *original->config();
    Write("plain", plain, config);
    config[kSettings] = {{"quant_method", GetParam()}, {"bits", 4}, {"group_size", kGroup}};
    Write("packed", packed, config);
  }
  void Write(const std::string& name, const Parts& tensors, const Json& config) {
    WriteSafetensorsFolder({.folder = folder_ / name, .tensors = tensors, .metadata = {}});
    std::ofstream(folder_ / (name + "/config.json")) << config;
  }
  const std::string kSettings = GetParam() == "mlx" ? "quantization" : "quantization_config";
  TempFolder folder_{"packed-model-test"};
  int matrices_ = 0;
};

TEST_P(PackedModel, IsTheModelOfWhatItDecodesTo) {
  ASSERT_EQ(matrices_, 14);
  const auto packed = Model::Load(folder_ / "packed"), plain = Model::Load(folder_ / "plain");
  EXPECT_EQ(packed->unread_tensors(), plain->unread_tensors());
  EXPECT_EQ(packed->unread_keys(), plain->unread_keys());
  EXPECT_EQ(packed->num_parameters(), plain->num_parameters());
  const std::vector<float> expected = Logits(*plain);
  EXPECT_NE(expected, Logits(*Model::Load(kModel))) << "the packed matrices are not those of the original";
  EXPECT_EQ(Logits(*packed), expected);
  ExportSafetensors(packed, {.out = folder_ / "back"});
  EXPECT_EQ(Logits(*Model::Load(folder_ / "back")), expected);
  EXPECT_FALSE(ModelFile::Open(folder_ / "back")->config()->contains(kSettings)) << "nothing is quantised there";
  ExportGguf(packed, {.out = folder_ / "back.gguf", .dtype = DType::kF32});
  EXPECT_EQ(Logits(*Model::Load(folder_ / "back.gguf")), expected);
}

// A way to pack that is not known: told by name where the weights are plain after all, else refused.
TEST_P(PackedModel, AnUnknownMethodIsWarnedOfOrRefused) {
  const auto plain = ModelFile::Open(folder_ / "plain");
  ASSERT_TRUE(plain->warnings().empty());
  Parts parts, packed;
  for (const TensorInfo& info : plain->tensors()) parts.push_back(CopyOf(plain, info, info.name));
  Json config = *plain->config();
  config["quantization_config"] = {{"quant_method", "strange"}};
  Write("strange", parts, config);
  const auto model = Model::Load(folder_ / "strange");
  ASSERT_EQ(model->file().warnings().size(), 1u);
  EXPECT_NE(model->file().warnings()[0].what.find("'strange'"), std::string::npos) << model->file().warnings()[0].what;
  EXPECT_EQ(Logits(*model), Logits(*Model::Load(folder_ / "plain")));

  const std::string victim = "model.layers.0.mlp.down_proj.weight";
  const std::vector<uint8_t> bytes(static_cast<size_t>(plain->Find(victim)->shape.num_elements()), 7);
  for (const bool same_shape : {true, false}) {  // as eetq stores them, as bitsandbytes does
    packed.clear();
    for (const TensorInfo& info : plain->tensors()) {
      const Shape shape = same_shape ? info.shape : Shape{info.shape.num_elements() / 2, 1};
      packed.push_back(info.name == victim ? Made(info.name, same_shape ? DType::kI8 : DType::kU8, shape, bytes.data()) : CopyOf(plain, info, info.name));
    }
    const std::string name = same_shape ? "strange-i8" : "strange-u8";
    Write(name, packed, config);
    EXPECT_TRUE(ModelFile::Open(folder_ / name)->warnings().empty());
    try {
      Model::Load(folder_ / name);
      ADD_FAILURE() << "was loaded";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kModelLoad);
      EXPECT_EQ(error.context().tensor, victim);
      EXPECT_NE(std::string(error.what()).find("'strange'"), std::string::npos) << error.what();
    }
  }
}

// Parts of other shapes and types than the scheme's: refused, or read as far as they go together.
TEST_P(PackedModel, PartsThatDoNotFitAreAnErrorAndNothingWorse) {
  const auto file = ModelFile::Open(folder_ / "packed");
  const std::vector<PackedWeight> weights = FindPackedWeights(*file);
  std::mt19937 random(9);
  int refused = 0, read = 0;
  for (int round = 0; round < 120; ++round) {
    const PackedWeight& weight = weights[random() % weights.size()];
    const std::string& victim = weight.parts[random() % weight.parts.size()];
    Parts parts;
    for (const TensorInfo& info : file->tensors()) {
      if (info.name != victim) {
        parts.push_back(CopyOf(file, info, info.name));
        continue;
      }
      std::vector<int64_t> dims(info.shape.dims().begin(), info.shape.dims().end());
      int64_t& dim = dims[random() % dims.size()];
      switch (random() % 6) {
        case 0: dim = 0; break;
        case 1: dim = 1; break;
        case 2: dim += 1; break;
        case 3: dim = std::max<int64_t>(1, dim / 2); break;
        case 4: std::reverse(dims.begin(), dims.end()); break;
        default: dims.insert(dims.begin(), 2);
      }
      const DType dtype = random() % 4 == 0 ? DType::kU8 : info.dtype;
      std::vector<uint8_t> bytes(*StorageBytes(dtype, Shape(dims)));
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
      parts.push_back(Made(info.name, dtype, Shape(dims), bytes.data()));
    }
    Write("odd", parts, *file->config());
    try {
      const auto model = Model::Load(folder_ / "odd");
      for (const auto& [key, slot] : model->slots().slots) ReadWeightF32(slot.weight);
      ++read;
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::kIo) << error.what();
      ++refused;
    }
    fs::remove_all(folder_ / "odd");
  }
  EXPECT_GT(refused, 60) << read;
}

TEST_P(PackedModel, AMissingPartIsToldByName) {
  const auto file = ModelFile::Open(folder_ / "packed");
  const std::string lost = FindPackedWeights(*file)[0].parts[1];
  Parts rest;
  for (const TensorInfo& info : file->tensors()) {
    if (info.name != lost) rest.push_back(CopyOf(file, info, info.name));
  }
  Write("broken", rest, *file->config());
  // Without its scale a matrix of integers is one that nothing explains.
  const std::string named = GetParam() == "scaled" || GetParam() == "mlx" || GetParam() == "nf4" ? FindPackedWeights(*file)[0].name : lost;
  try {
    Model::Load(folder_ / "broken");
    FAIL() << "loaded without " << lost;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
  }
}

// gpt-oss as it is published: experts in MXFP4, whose plain form is transposed.
class Mxfp4Experts : public testing::Test {
 protected:
  static constexpr int64_t kExperts = 3, kHidden = 64, kInner = 32;

  void SetUp() override {
    Json config = *ModelFile::Open(APR_SOURCE_DIR "/testdata/model/gpt-oss")->config();
    config["hidden_size"] = kHidden, config["intermediate_size"] = kInner, config["num_local_experts"] = kExperts;
    config["num_hidden_layers"] = 1, config["layer_types"] = {"full_attention"}, config["vocab_size"] = 64;
    const int64_t heads = 12 * 4, kv = 12 * 2;
    const std::string layer = "model.layers.0.", attention = layer + "self_attn.", experts = layer + "mlp.experts.";
    for (const auto& [name, shape] : std::vector<std::pair<std::string, Shape>>{
             {"model.embed_tokens.weight", {64, kHidden}}, {"lm_head.weight", {64, kHidden}}, {"model.norm.weight", {kHidden}},
             {layer + "input_layernorm.weight", {kHidden}}, {layer + "post_attention_layernorm.weight", {kHidden}}, {attention + "sinks", {4}},
             {attention + "q_proj.weight", {heads, kHidden}}, {attention + "q_proj.bias", {heads}}, {attention + "k_proj.weight", {kv, kHidden}},
             {attention + "k_proj.bias", {kv}}, {attention + "v_proj.weight", {kv, kHidden}}, {attention + "v_proj.bias", {kv}},
             {attention + "o_proj.weight", {kHidden, heads}}, {attention + "o_proj.bias", {kHidden}}, {layer + "mlp.router.weight", {kExperts, kHidden}},
             {layer + "mlp.router.bias", {kExperts}}, {experts + "gate_up_proj_bias", {kExperts, 2 * kInner}}, {experts + "down_proj_bias", {kExperts, kHidden}}}) {
      std::vector<float> values;
      for (int64_t i = 0; i < shape.num_elements(); ++i) values.push_back(static_cast<float>(static_cast<int>(random_() % 200) - 100) / 400);
      for (Parts* parts : {&packed_, &plain_}) parts->push_back(Made(name, DType::kF32, shape, values.data()));
    }
    AddMatrices(experts + "gate_up_proj", 2 * kInner, kHidden);
    AddMatrices(experts + "down_proj", kHidden, kInner);
    Write("plain", plain_, config);
    config["quantization_config"] = {{"quant_method", "mxfp4"}};
    Write("packed", packed_, config);
  }

  void AddMatrices(const std::string& name, int64_t out, int64_t in) {
    constexpr float kLevels[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    std::vector<uint8_t> blocks, scales;
    std::vector<float> plain(static_cast<size_t>(kExperts * in * out));
    for (int64_t row = 0; row < kExperts * out; ++row) {
      for (int64_t i = 0; i < in; i += 2) {
        if (i % 32 == 0) scales.push_back(static_cast<uint8_t>(120 + random_() % 4));
        blocks.push_back(static_cast<uint8_t>(random_() % 256));
        for (const int64_t half : {0, 1}) {
          const int64_t at = row / out * in * out + (i + half) * out + row % out;
          plain[static_cast<size_t>(at)] = std::ldexp(kLevels[blocks.back() >> (4 * half) & 15], scales.back() - 127);
        }
      }
    }
    packed_.push_back(Made(name + "_blocks", DType::kU8, {kExperts, out, in / 32, 16}, blocks.data()));
    packed_.push_back(Made(name + "_scales", DType::kU8, {kExperts, out, in / 32}, scales.data()));
    plain_.push_back(Made(name, DType::kF32, {kExperts, in, out}, plain.data()));
  }

  void Write(const std::string& name, const Parts& tensors, const Json& config) {
    WriteSafetensorsFolder({.folder = folder_ / name, .tensors = tensors, .metadata = {}});
    std::ofstream(folder_ / (name + "/config.json")) << config;
  }
  TempFolder folder_{"mxfp4-experts"};
  std::mt19937 random_{11};
  Parts packed_, plain_;
};

TEST_F(Mxfp4Experts, AreReadInPlaceWrittenAsTheyStandAndUnpacked) {
  const auto packed = Model::Load(folder_ / "packed"), plain = Model::Load(folder_ / "plain");
  EXPECT_TRUE(packed->unread_tensors().empty() && packed->unread_keys().empty());
  EXPECT_EQ(packed->num_parameters(), plain->num_parameters());
  const std::vector<float> expected = Logits(*plain);
  EXPECT_EQ(Logits(*packed), expected);
  ExportSafetensors(packed, {.out = folder_ / "back"});
  EXPECT_EQ(Logits(*Model::Load(folder_ / "back")), expected);
  EXPECT_EQ(ModelFile::Open(folder_ / "back")->Find("model.layers.0.mlp.experts.down_proj")->shape, (Shape{kExperts, kInner, kHidden}));
  ExportGguf(packed, {.out = folder_ / "kept.gguf"});
  EXPECT_EQ(ModelFile::Open(folder_ / "kept.gguf")->Find("blk.0.ffn_down_exps.weight")->dtype, DType::kMXFP4);
  EXPECT_EQ(Logits(*Model::Load(folder_ / "kept.gguf")), expected);
}

INSTANTIATE_TEST_SUITE_P(Schemes, PackedModel, testing::Values("gptq", "awq", "compressed", "scaled", "mlx", "nf4"), [](const auto& p) { return p.param; });

}  // namespace
}  // namespace apr
