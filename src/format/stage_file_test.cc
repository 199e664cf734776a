// Stage files and stage directories.
#include "format/stage_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <filesystem>
#include <limits>

#include "base/error.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

class StageTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("apr-stage-" + std::to_string(getpid()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path() const { return folder_.string(); }
  fs::path folder_;
};

StageManifest SomeManifest() {
  return {.engine = "apr 0.1", .model = "m", .architecture = "llama",
          .precision = {"f32", "f32", "f32"}, .executor = "", .ids = {1, 2, 3}};
}

TEST_F(StageTest, ValuesAreBitExact) {
  const std::vector<float> values = {std::numeric_limits<float>::infinity(), -0.0f,
                                     std::bit_cast<float>(0x7F800001u), 1e-45f};
  WriteStageFile(Path() + "/layer-3/attn_norm.bin", 3, values, Overwrite::kRefuse);
  const StageFile back = ReadStageFile(Path() + "/layer-3/attn_norm.bin");
  EXPECT_EQ(back.layer, 3u);
  ASSERT_EQ(back.values.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(back.values[i]), std::bit_cast<uint32_t>(values[i]));
  }
  EXPECT_EQ(fs::file_size(Path() + "/layer-3/attn_norm.bin"), 12u + 16u);
}

TEST_F(StageTest, DirectoryRoundTrip) {
  StageDirectoryWriter writer(Path(), SomeManifest(), Overwrite::kRefuse);
  writer.Write({0, "embedding"}, {3, 2}, std::vector<float>{1, 2, 3, 4, 5, 6});
  writer.Write({kWholeModel, "lm_head"}, {3, 1}, std::vector<float>{7, 8, 9});
  writer.Finish();
  const StageDirectory back = StageDirectory::Open(Path());
  EXPECT_TRUE(back.has_manifest());
  EXPECT_EQ(back.manifest().ids, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(back.manifest().precision.accumulate, "f32");
  ASSERT_EQ(back.stages().size(), 2u);
  EXPECT_EQ(back.stages()[0].name, "layer-0/embedding");
  EXPECT_EQ(back.stages()[0].shape, (Shape{3, 2}));
  EXPECT_EQ(back.Read(*back.Find("lm_head")).values[2], 9.0f);
  EXPECT_EQ(back.Find("layer-1/embedding"), nullptr);
  EXPECT_THROW(StageDirectoryWriter(Path(), SomeManifest(), Overwrite::kRefuse), Error);
}

TEST_F(StageTest, DirectoryWithoutManifestIsListed) {
  WriteStageFile(Path() + "/layer-10/ffn_out.bin", 10, std::vector<float>{1}, Overwrite::kRefuse);
  WriteStageFile(Path() + "/layer-2/ffn_out.bin", 2, std::vector<float>{1}, Overwrite::kRefuse);
  WriteStageFile(Path() + "/lm_head.bin", kWholeModel, std::vector<float>{1}, Overwrite::kRefuse);
  const StageDirectory back = StageDirectory::Open(Path());
  EXPECT_FALSE(back.has_manifest());
  ASSERT_EQ(back.stages().size(), 3u);
  EXPECT_EQ(back.stages()[0].name, "layer-2/ffn_out");
  EXPECT_EQ(back.stages()[1].name, "layer-10/ffn_out");
  EXPECT_EQ(back.stages()[2].name, "lm_head");
}

TEST_F(StageTest, ContradictionsAreRefused) {
  StageDirectoryWriter writer(Path(), SomeManifest(), Overwrite::kRefuse);
  writer.Write({0, "embedding"}, {2}, std::vector<float>{1, 2});
  writer.Finish();
  const StageDirectory directory = StageDirectory::Open(Path());
  WriteStageFile(Path() + "/layer-0/embedding.bin", 1, std::vector<float>{1, 2}, Overwrite::kAllow);
  EXPECT_THROW(directory.Read(directory.stages()[0]), Error) << "the layer differs";
  WriteStageFile(Path() + "/layer-0/embedding.bin", 0, std::vector<float>{1}, Overwrite::kAllow);
  EXPECT_THROW(directory.Read(directory.stages()[0]), Error) << "the count differs";
  fs::remove(Path() + "/layer-0/embedding.bin");
  EXPECT_THROW(directory.Read(directory.stages()[0]), Error) << "the file is absent";
}

TEST(StageName, Spelling) {
  EXPECT_EQ(ParseStageName("layer-12/q_post_rope")->layer, 12u);
  EXPECT_EQ(ParseStageName("lm_head")->layer, kWholeModel);
  for (const char* bad : {"", "layer-/x", "layer-01/x", "layer--1/x", "../x", "layer-1/../x", "a/b",
                          "layer-9999999999/x", "layer-1/"}) {
    EXPECT_EQ(ParseStageName(bad), std::nullopt) << bad;
  }
}

TEST(StageManifest, RefusesWhatIsNoManifest) {
  const auto refuse = [](std::string_view text) {
    EXPECT_THROW(ParseStageManifest(text, "stages.json"), Error) << text;
  };
  refuse("[]");
  refuse(R"({"schema": "other", "stages": []})");
  refuse(R"({"schema": "apr-stages-v1"})");
  refuse(R"({"schema": "apr-stages-v1", "stages": [{"name": "../x"}]})");
  refuse(R"({"schema": "apr-stages-v1", "stages": [{"name": "a"}, {"name": "a"}]})");
  refuse(R"({"schema": "apr-stages-v1", "stages": [{"name": "a", "shape": [-1]}]})");
  refuse(R"({"schema": "apr-stages-v1", "ids": [1.5], "stages": []})");
  const auto [manifest, stages] = ParseStageManifest(
      R"({"schema": "apr-stages-v1", "executor": "float32 cpu", "stages": [{"name": "a"}]})", "s");
  EXPECT_EQ(manifest.executor, "float32 cpu");
  EXPECT_EQ(stages[0].shape, std::nullopt);
}

}  // namespace
}  // namespace apr
