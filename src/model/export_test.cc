// Tests of the transform table run backward: what is exported loads again as the same model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "base/temp_folder.h"
#include "exec/executor.h"
#include "model/export_model.h"
#include "model/export_tensors.h"
#include "model/transform.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

std::vector<float> Logits(const Model& model) {
  const auto executor = Executor::Create(ExecutorKind::kCpu, model.bound(), {.threads = 1, .precision = Precision::kExact});
  const std::vector<int32_t> ids = {1, 5, 9, 33, 7, 2};
  const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size())};
  const Tensor out = executor->Forward({&chunk, 1});
  return {out.f32().begin(), out.f32().end()};
}

class ExportRoundTrip : public testing::TestWithParam<const char*> {};

TEST_P(ExportRoundTrip, FolderToFolderIsTheSameModel) {
  const TempFolder folder("export-test");
  const auto model = Model::Load(std::string(APR_SOURCE_DIR "/testdata/model/") + GetParam());
  ExportSafetensors(model, {.out = folder / "out"});
  const auto again = Model::Load(folder / "out");
  EXPECT_EQ(again->unread_tensors(), std::vector<std::string>());
  EXPECT_EQ(Logits(*model), Logits(*again));
  EXPECT_THROW(ExportSafetensors(model, {.out = folder / "out"}), Error) << "an existing folder is not overwritten";
  EXPECT_NO_THROW(ExportSafetensors(model, {.out = folder / "out", .overwrite = Overwrite::kAllow}));
}

// Through GGUF's names and transforms: the bytes that a GGUF of this model holds, bound again.
TEST_P(ExportRoundTrip, ThroughGgufNamesEverySlotComesBack) {
  const TempFolder folder("export-test");
  const auto model = Model::Load(std::string(APR_SOURCE_DIR "/testdata/model/") + GetParam());
  auto tensors = ExportTensors(model, model->architecture().gguf_names, [](const std::string&, const Shape&, DType) { return DType::kF32; });
  MetaBuilder metadata;
  metadata.SetString("general.architecture", model->architecture().gguf);
  WriteGguf(folder / "m.gguf", tensors, metadata.list(), Overwrite::kRefuse);
  const auto file = ModelFile::Open(folder / "m.gguf");
  const SlotTable slots = BindSlots(*file, model->architecture(), model->config());
  EXPECT_EQ(slots.unclaimed, std::vector<std::string>());
  for (const SlotKey& key : model->graph_slots()) {
    ASSERT_TRUE(slots.slots.count(key)) << ToString(key);
    EXPECT_EQ(ReadSlot(slots.slots.at(key).weight), ReadSlot(model->slots().slots.at(key).weight)) << ToString(key);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExportRoundTrip, testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma3", "stablelm-parallel"));

TEST(Export, AWrongRowOrderWouldBeSeen) {
  const std::vector<int32_t> right = RopeRowOrder(16, 2, 8);
  EXPECT_EQ(right, (std::vector<int32_t>{0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15}));
  EXPECT_NE(right, RopeRowOrder(16, 1, 16)) << "another head count is another permutation";
}

}  // namespace
}  // namespace apr
