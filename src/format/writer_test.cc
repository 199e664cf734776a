// Writers: what is written reads back the same, writing it again gives the same bytes, and what a
// container cannot hold is refused.
#include "format/model_writer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/apr_reader.h"
#include "format/model_file.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

class WriterTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("apr-writer-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

TensorToWrite Filled(const std::string& name, DType dtype, Shape shape, uint64_t bytes, char fill) {
  return {name, dtype, shape, [bytes, fill](const ByteSink& sink) {
            const std::string data(bytes, fill);
            // In uneven pieces, as a streaming producer does.
            for (size_t at = 0; at < data.size(); at += 7) {
              sink(AsBytes(std::string_view(data).substr(at, 7)));
            }
          }};
}

std::vector<TensorToWrite> SomeTensors() {
  return {Filled("b.weight", DType::kF16, {3, 5}, 30, 1), Filled("a.weight", DType::kF32, {2, 3}, 24, 2),
          Filled("c.empty", DType::kF32, {0, 4}, 0, 0)};
}

MetaBuilder SomeMetadata() {
  MetaBuilder m;
  m.SetString("general.architecture", "llama");
  m.SetU32("u32", 7);
  m.SetU64("u64", UINT64_MAX);
  m.SetI64("i64", -5);
  m.SetF32("f32", 1e-5f);
  m.SetF64("f64", 10000.0);
  m.SetBool("bool", true);
  m.SetStrings("tokens", {"a", "", "\xE2\x96\x81x", "\"\\\n"});
  m.SetF32s("scores", {0.1f, -0.0f, 1e20f});
  m.SetI32s("types", {1, -2, 3});
  return m;
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), {});
}

std::vector<TensorToWrite> CopyAll(const std::shared_ptr<const ModelFile>& file) {
  std::vector<TensorToWrite> out;
  for (const TensorInfo& info : file->tensors()) out.push_back(CopyOf(file, info, info.name));
  return out;
}

void ExpectTensors(const ModelFile& file) {
  ASSERT_EQ(file.tensors().size(), 3u);
  ASSERT_NE(file.Find("a.weight"), nullptr);
  EXPECT_EQ(file.Find("a.weight")->shape, (Shape{2, 3}));
  EXPECT_EQ(file.Find("b.weight")->dtype, DType::kF16);
  EXPECT_EQ(AsText(file.View(*file.Find("a.weight")).bytes), std::string(24, 2));
  EXPECT_EQ(AsText(file.View(*file.Find("b.weight")).bytes), std::string(30, 1));
  EXPECT_EQ(file.View(*file.Find("c.empty")).bytes.size(), 0u);
  EXPECT_TRUE(file.warnings().empty()) << file.warnings()[0].what;
}

TEST_F(WriterTest, GgufRoundTrip) {
  const MetaBuilder metadata = SomeMetadata();
  WriteGguf(Path("x.gguf"), SomeTensors(), metadata.list(), Overwrite::kRefuse);
  const auto file = ModelFile::Open(Path("x.gguf"));
  ExpectTensors(*file);
  ASSERT_EQ(file->metadata().size(), metadata.list().size());
  for (const auto& [key, value] : metadata.list()) {
    const MetaValue* got = file->Meta(key);
    ASSERT_NE(got, nullptr) << key;
    EXPECT_EQ(got->type(), value.type()) << key;
    EXPECT_EQ(got->ToString(99), value.ToString(99)) << key;
  }
  WriteGguf(Path("y.gguf"), CopyAll(file), file->metadata(), Overwrite::kRefuse);
  EXPECT_EQ(ReadAll(Path("x.gguf")), ReadAll(Path("y.gguf")));
}

TEST_F(WriterTest, GgufHonoursAlignment) {
  MetaBuilder metadata;
  metadata.SetU32("general.alignment", 256);
  WriteGguf(Path("x.gguf"), SomeTensors(), metadata.list(), Overwrite::kRefuse);
  const auto file = ModelFile::Open(Path("x.gguf"));
  ExpectTensors(*file);
  EXPECT_EQ(file->tensors()[1].offset % 256, 0u);
}

TEST_F(WriterTest, AprRoundTripInBothOrders) {
  const MetaBuilder metadata = SomeMetadata();
  for (const AprOrder order : {AprOrder::kByName, AprOrder::kAsGiven}) {
    WriteApr({.path = Path("x.apr"), .tensors = SomeTensors(), .metadata = metadata.list(),
              .order = order, .overwrite = Overwrite::kAllow});
    const auto file = ModelFile::Open(Path("x.apr"));
    ValidateApr(*file);
    ExpectTensors(*file);
    EXPECT_EQ(file->Find("a.weight")->offset > file->Find("b.weight")->offset,
              order == AprOrder::kAsGiven);
    EXPECT_EQ(file->metadata()[0].first, "model_type");
    EXPECT_EQ(file->Meta("license")->AsJsonText(), "null");
    EXPECT_EQ(file->Meta("total_size")->AsInt(), 54);
    EXPECT_EQ(file->Meta("param_count")->AsInt(), 21);
    EXPECT_EQ(file->Meta("u64")->AsUnsigned(), UINT64_MAX);
    EXPECT_EQ(file->Meta("f64")->type(), MetaValue::Type::kF64);
    EXPECT_EQ(file->Meta("f32")->ToString(), "1e-05");
    EXPECT_EQ(file->Meta("tokens")->AsStrings(), metadata.list()[7].second.AsStrings());
    EXPECT_EQ(file->Meta("scores")->AsFloats(), metadata.list()[8].second.AsFloats());
  }
}

// Writing what was read gives the same bytes, whoever asks how often.
TEST_F(WriterTest, AprRewriteIsByteIdentical) {
  const std::string sample = APR_SOURCE_DIR "/../shared/oracle/quant/sample.apr";
  const bool have = fs::exists(sample);
  const MetaBuilder metadata = SomeMetadata();
  WriteApr({.path = Path("own.apr"), .tensors = SomeTensors(), .metadata = metadata.list()});
  for (const std::string& source : {Path("own.apr"), have ? sample : Path("own.apr")}) {
    const auto first = ModelFile::Open(source);
    WriteApr({.path = Path("1.apr"), .tensors = CopyAll(first), .metadata = first->metadata(),
              .overwrite = Overwrite::kAllow});
    const auto second = ModelFile::Open(Path("1.apr"));
    ValidateApr(*second);
    WriteApr({.path = Path("2.apr"), .tensors = CopyAll(second), .metadata = second->metadata(),
              .overwrite = Overwrite::kAllow});
    EXPECT_EQ(ReadAll(Path("1.apr")), ReadAll(Path("2.apr"))) << source;
    if (source == Path("own.apr")) {
      EXPECT_EQ(ReadAll(source), ReadAll(Path("1.apr")));
    }
    ASSERT_EQ(first->metadata().size(), second->metadata().size());
    for (size_t i = 0; i < first->metadata().size(); ++i) {
      EXPECT_EQ(first->metadata()[i].first, second->metadata()[i].first);
      EXPECT_EQ(first->metadata()[i].second.ToString(99), second->metadata()[i].second.ToString(99));
    }
  }
}

TEST_F(WriterTest, SafetensorsRoundTrip) {
  MetaBuilder metadata;
  metadata.SetString("format", "pt");
  WriteSafetensors(Path("x.safetensors"), SomeTensors(), metadata.list(), Overwrite::kRefuse);
  const auto file = ModelFile::Open(Path("x.safetensors"));
  ExpectTensors(*file);
  EXPECT_EQ(file->Meta("format")->AsString(), "pt");
  WriteSafetensors(Path("y.safetensors"), CopyAll(file), file->metadata(), Overwrite::kRefuse);
  EXPECT_EQ(ReadAll(Path("x.safetensors")), ReadAll(Path("y.safetensors")));
}

TEST_F(WriterTest, ShardsDivideAtTheLimitAndReplaceAnEarlierSave) {
  const std::string folder = Path("model");
  const auto names = WriteSafetensorsFolder(
      {.folder = folder, .tensors = SomeTensors(), .metadata = {}, .max_shard_bytes = 30});
  EXPECT_EQ(names, (std::vector<std::string>{"model-00001-of-00002.safetensors",
                                             "model-00002-of-00002.safetensors"}));
  const auto sharded = ModelFile::Open(folder);
  EXPECT_EQ(sharded->files().size(), 2u);
  ExpectTensors(*sharded);
  EXPECT_THROW(WriteSafetensorsFolder({.folder = folder, .tensors = SomeTensors(), .metadata = {}}),
               Error);
  WriteSafetensorsFolder({.folder = folder, .tensors = SomeTensors(), .metadata = {},
                          .overwrite = Overwrite::kAllow});
  const auto single = ModelFile::Open(folder);
  EXPECT_EQ(single->files().size(), 1u);
  ExpectTensors(*single);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1) << "old shards are gone";
}

TEST_F(WriterTest, IncompleteShardsAreRefused) {
  const std::string folder = Path("model");
  WriteSafetensorsFolder(
      {.folder = folder, .tensors = SomeTensors(), .metadata = {}, .max_shard_bytes = 30});
  fs::remove(fs::path(folder) / "model.safetensors.index.json");
  EXPECT_EQ(ModelFile::Open(folder)->warnings().size(), 1u) << "all shards, no index: reported";
  fs::remove(fs::path(folder) / "model-00002-of-00002.safetensors");
  EXPECT_THROW(ModelFile::Open(folder), Error);
}

TEST_F(WriterTest, WhatDoesNotFitIsRefusedByName) {
  const auto refuse = [&](auto write, const std::string& key) {
    try {
      write();
      FAIL() << key;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kValidationFailed) << error.what();
      EXPECT_EQ(error.context().tensor, key) << error.what();
    }
    EXPECT_TRUE(fs::is_empty(folder_)) << "nothing is left behind";
  };
  const auto gguf = [&](TensorToWrite t) {
    return [this, t] { WriteGguf(Path("x"), {t}, {}, Overwrite::kRefuse); };
  };
  refuse(gguf(Filled("w", DType::kAprQ4, {32}, 18, 0)), "w");
  refuse(gguf(Filled("w", DType::kQ4_K, {2, 300}, 0, 0)), "w");
  refuse(gguf(Filled("../w", DType::kF32, {1}, 4, 0)), "../w");
  refuse(gguf(Filled("w", DType::kF32, {1, 1, 1, 1, 1}, 4, 0)), "w");
  refuse([&] { WriteApr({.path = Path("x"), .tensors = {Filled("w", DType::kQ8_0, {32}, 34, 0)},
                         .metadata = {}}); }, "w");
  refuse([&] { WriteSafetensors(Path("x"), {Filled("w", DType::kQ8_0, {32}, 34, 0)}, {},
                                Overwrite::kRefuse); }, "w");
  MetaBuilder bad;
  bad.SetF64("nan", std::nan(""));
  refuse([&] { WriteApr({.path = Path("x"), .tensors = {}, .metadata = bad.list()}); }, "nan");
  MetaBuilder nested;
  nested.SetJsonText("j", "{}");
  refuse([&] { WriteGguf(Path("x"), {}, nested.list(), Overwrite::kRefuse); }, "j");
}

TEST_F(WriterTest, AFailingProducerLeavesNoFile) {
  TensorToWrite tensor = Filled("w", DType::kF32, {4}, 16, 0);
  tensor.write = [](const ByteSink& sink) {
    sink(AsBytes("half"));
    throw Error(ErrorCode::kIo, "the source went away");
  };
  EXPECT_THROW(WriteGguf(Path("x.gguf"), {tensor}, {}, Overwrite::kRefuse), Error);
  EXPECT_THROW(WriteSafetensorsFolder({.folder = Path("m"), .tensors = {tensor}, .metadata = {}}),
               Error);
  EXPECT_FALSE(fs::exists(Path("x.gguf")));
  EXPECT_FALSE(fs::exists(Path("m"))) << "the folder that was made for it is gone, too";
}

}  // namespace
}  // namespace apr
