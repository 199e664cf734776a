// Packed weights against what tools/format/make_packed_fixture.py packed.
#include "format/packed_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "format/model_writer.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kFolder = APR_SOURCE_DIR "/testdata/packed/";

std::vector<float> DecodeAll(const PackedWeight& weight) {
  std::vector<float> out(static_cast<size_t>(weight.shape.num_elements()));
  const auto cols = static_cast<size_t>(weight.shape.cols());
  // Row by row and in a pair: rows decode alone.
  for (int64_t r = 0; r < weight.shape.rows(); ++r) {
    weight.DecodeRows(r, 1, std::span(out).subspan(static_cast<size_t>(r) * cols, cols));
  }
  return out;
}

TEST(PackedWeights, EveryPublishedPackingDecodes) {
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    SCOPED_TRACE(entry.path().filename().string());
    const auto file = ModelFile::Open(entry.path().string());
    const std::vector<PackedWeight> found = FindPackedWeights(*file);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].name, found[0].scheme == std::string("mxfp4") ? "m_blocks" : "m.weight");
    EXPECT_EQ(found[0].parts.size(), file->tensors().size() - 1);
    const TensorView expected = file->View(*file->Find("expected"));
    ASSERT_EQ(found[0].shape, expected.shape);
    const std::vector<float> decoded = DecodeAll(found[0]);
    for (size_t i = 0; i < decoded.size(); ++i) {
      ASSERT_EQ(decoded[i], LoadLe<float>(expected.bytes.data() + 4 * i)) << "element " << i;
    }
    ++cases;
  }
  EXPECT_EQ(cases, 12);
}

// The rule that a wrong reader breaks without noticing: the two GPTQ formats differ by one.
TEST(PackedWeights, TheGptqFormatsAreNotTheSame) {
  const auto file = ModelFile::Open(kFolder + "gptq-4bit");
  PackedWeight weight = FindPackedWeights(*file)[0];
  const std::vector<float> right = DecodeAll(weight);
  std::get<GptqParts>(weight.data).zero_minus_one = false;
  EXPECT_NE(DecodeAll(weight), right);
}

// Zeros in the middle of the range stand for themselves, whatever the format is called.
TEST(PackedWeights, AStoredMiddleIsTheMiddle) {
  const TempFolder folder("packed-weights-test");
  const auto file = ModelFile::Open(kFolder + "gptq-4bit");
  for (const uint32_t zero : {7u, 8u}) {
    const Shape shape = file->Find("m.qzeros")->shape;
    const std::vector<uint32_t> words(static_cast<size_t>(shape.num_elements()), zero * 0x11111111u);
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : file->tensors()) {
      if (info.name == "m.qzeros") {
        tensors.push_back({info.name, info.dtype, shape, [&](const ByteSink& sink) { sink(std::as_bytes(std::span(words))); }});
      } else {
        tensors.push_back(CopyOf(file, info, info.name));
      }
    }
    const std::string name = folder / std::to_string(zero);
    WriteSafetensorsFolder({.folder = name, .tensors = tensors, .metadata = {}});
    std::ofstream(name + "/config.json") << *file->config();
    EXPECT_EQ(std::get<GptqParts>(FindPackedWeights(*ModelFile::Open(name))[0].data).zero_minus_one, zero == 7);
  }
}

TEST(PackedWeights, ContradictingPartsAreRefused) {
  const auto file = ModelFile::Open(kFolder + "gptq-4bit");
  const GptqParts good = std::get<GptqParts>(FindPackedWeights(*file)[0].data);
  EXPECT_EQ(CheckGptq(good), (Shape{32, 64}));
  GptqParts bad = good;
  bad.bits = 5;
  EXPECT_THROW(CheckGptq(bad), Error);
  bad = good;
  bad.scales = good.scales.Rows(0, 3);
  EXPECT_THROW(CheckGptq(bad), Error) << "qzeros has four groups";
  bad = good;
  bad.scales = good.scales.Rows(0, 1);
  bad.qzeros = good.qzeros.Rows(0, 1);
  EXPECT_THROW(CheckGptq(bad), Error) << "g_idx names groups that are gone";
  bad = good;
  bad.qweight = good.scales;
  EXPECT_THROW(CheckGptq(bad), Error) << "not words";
}

TEST(PackedWeights, Mxfp4NeedsAScaleForEachBlock) {
  const auto file = ModelFile::Open(kFolder + "mxfp4");
  MxParts parts = std::get<MxParts>(FindPackedWeights(*file)[0].data);
  EXPECT_EQ(CheckMx(parts), (Shape{2, 3, 64}));
  parts.scales.shape = Shape{2, 2, 3};
  EXPECT_THROW(CheckMx(parts), Error);
  std::swap(parts.blocks, parts.scales);
  EXPECT_THROW(CheckMx(parts), Error);
}

TEST(PackedWeights, APlainModelHasNone) {
  const std::string path = APR_SOURCE_DIR "/testdata/model/tiny-chat";
  EXPECT_TRUE(FindPackedWeights(*ModelFile::Open(path)).empty());
}

}  // namespace
}  // namespace apr
