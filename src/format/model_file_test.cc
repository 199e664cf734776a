// Opening real and made files of every container through ModelFile.
#include "format/model_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "format/apr_reader.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kShared = APR_SOURCE_DIR "/../shared/";

bool HaveShared() { return fs::exists(kShared + "README.md"); }

// Little-endian bytes appended to a text, for files made by hand.
template <typename T>
void Put(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::shared_ptr<const MappedFile> InMemory(const std::string& name, const std::string& bytes) {
  return MappedFile::InMemory(name, bytes.size(), [&](std::span<std::byte> out) {
    std::copy_n(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), out.begin());
  });
}

TEST(ModelFile, DetectsContainersByContent) {
  std::string gguf = "GGUF";
  Put<uint32_t>(&gguf, 3);
  Put<uint64_t>(&gguf, 0);
  Put<uint64_t>(&gguf, 0);
  EXPECT_EQ(ModelFile::FromMapped(InMemory("x.safetensors", gguf))->container(), Container::kGguf);
  std::string safetensors;
  Put<uint64_t>(&safetensors, 2);
  safetensors += "{}";
  EXPECT_EQ(ModelFile::FromMapped(InMemory("x.gguf", safetensors))->container(),
            Container::kSafetensors);
  EXPECT_THROW(ModelFile::FromMapped(InMemory("x", "APRT0000")), Error);
  EXPECT_THROW(ModelFile::Open("/nonexistent"), Error);
}

TEST(ModelFile, GgufDimsAreRowMajorAndScalarsKeepTheirType) {
  std::string b = "GGUF";
  Put<uint32_t>(&b, 3);
  Put<uint64_t>(&b, 1);
  Put<uint64_t>(&b, 1);
  Put<uint64_t>(&b, 3);
  b += "a.b";
  Put<uint32_t>(&b, 5);
  Put<int32_t>(&b, -7);
  Put<uint64_t>(&b, 1);
  b += "w";
  Put<uint32_t>(&b, 2);
  Put<uint64_t>(&b, 4);  // contiguous: in
  Put<uint64_t>(&b, 3);  // out
  Put<uint32_t>(&b, 0);
  Put<uint64_t>(&b, 0);
  b.resize((b.size() + 31) / 32 * 32);
  for (int i = 0; i < 12; ++i) Put<float>(&b, static_cast<float>(i));
  const auto file = ModelFile::FromMapped(InMemory("t.gguf", b));
  ASSERT_NE(file->Find("w"), nullptr);
  EXPECT_EQ(file->Find("w")->shape, (Shape{3, 4}));
  EXPECT_EQ(LoadLe<float>(file->View(*file->Find("w")).Rows(2, 1).bytes.data()), 8.0f);
  EXPECT_EQ(file->Meta("a.b")->AsInt(), -7);
  EXPECT_EQ(file->Meta("a.b")->AsString(), std::nullopt);
  EXPECT_EQ(file->Meta("absent"), nullptr);
}

TEST(ModelFile, SampleAprHasItsTensorsAndMetadata) {
  if (!HaveShared()) GTEST_SKIP() << "no " << kShared;
  const auto a = ModelFile::Open(kShared + "oracle/quant/sample.apr");
  const auto b = ModelFile::Open(kShared + "oracle/quant/sample_streaming.apr");
  const auto expected = ModelFile::Open(kShared + "oracle/quant/sample.safetensors");
  ASSERT_EQ(a->tensors().size(), 16u);
  ASSERT_EQ(expected->tensors().size(), 16u);
  for (const TensorInfo& want : expected->tensors()) {
    for (const auto& file : {a, b}) {
      const TensorInfo* got = file->Find(want.name);
      ASSERT_NE(got, nullptr) << want.name;
      EXPECT_EQ(got->shape, want.shape) << want.name;
    }
    const Bytes x = a->View(*a->Find(want.name)).bytes, y = b->View(*b->Find(want.name)).bytes;
    EXPECT_TRUE(std::ranges::equal(x, y)) << want.name;
  }
  ValidateApr(*a);
  ValidateApr(*b);
  CheckAprModelShapes(*a);
  EXPECT_EQ(a->Meta("hidden_size")->AsInt(), 256);
  EXPECT_EQ(a->Meta("rms_norm_eps")->AsDouble(), 1e-5);
  EXPECT_EQ(a->Meta("tied_embeddings")->AsBool(), true);
  EXPECT_EQ(a->Meta("tokenizer.vocabulary")->AsStrings()[9], "🦙");
  EXPECT_EQ(a->Meta("tokenizer.scores")->AsDoubles()[3], -1.5);
  EXPECT_EQ(a->Meta("data_source")->AsJsonText(), "null");
  EXPECT_EQ(FindAprMeta(*a, "data_source"), nullptr);
  EXPECT_EQ(a->Meta("custom")->AsJsonText(), R"({"nested":[1,2.5,"drei",null,true]})");
}

TEST(ModelFile, OpensEveryModelFolderOfTheOracle) {
  if (!HaveShared()) GTEST_SKIP() << "no " << kShared;
  int sharded = 0;
  for (const auto& entry : fs::directory_iterator(kShared + "oracle/model")) {
    if (!entry.is_directory()) continue;
    const auto file = ModelFile::Open(entry.path().string());
    EXPECT_GT(file->tensors().size(), 5u) << entry.path();
    ASSERT_NE(file->config(), nullptr) << entry.path();
    EXPECT_TRUE(file->config()->contains("model_type"));
    EXPECT_TRUE(file->Companion("expected.json").has_value());
    EXPECT_EQ(file->Companion("../README.md"), std::nullopt);
    if (file->files().size() > 1) ++sharded;
  }
  EXPECT_EQ(sharded, 2);
}

TEST(ModelFile, ReadsARealVocabulary) {
  if (!HaveShared()) GTEST_SKIP() << "no " << kShared;
  const auto file = ModelFile::Open(kShared + "models/stories260K/stories260K.gguf");
  EXPECT_EQ(file->Meta("general.architecture")->AsString(), "llama");
  EXPECT_EQ(file->Meta("tokenizer.ggml.tokens")->AsStrings().size(), 512u);
  EXPECT_EQ(file->Meta("tokenizer.ggml.scores")->AsFloats().size(), 512u);
  EXPECT_EQ(file->warnings().size(), 0u);
}

}  // namespace
}  // namespace apr
