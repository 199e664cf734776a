// Packed weights against what tools/format/make_packed_fixture.py packed.
#include "format/packed_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
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
  EXPECT_EQ(cases, 38);
}

// The rule that a wrong reader breaks without noticing: the two GPTQ formats differ by one.
TEST(PackedWeights, TheGptqFormatsAreNotTheSame) {
  const auto file = ModelFile::Open(kFolder + "gptq-4bit");
  PackedWeight weight = FindPackedWeights(*file)[0];
  const std::vector<float> right = DecodeAll(weight);
  std::get<GptqParts>(weight.data).zero = GptqZero::kItself;
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
    EXPECT_EQ(std::get<GptqParts>(FindPackedWeights(*ModelFile::Open(name))[0].data).zero == GptqZero::kItself, zero == 8);
  }
}

TEST(PackedWeights, ContradictingPartsAreRefused) {
  const auto file = ModelFile::Open(kFolder + "gptq-4bit");
  const GptqParts good = std::get<GptqParts>(FindPackedWeights(*file)[0].data);
  EXPECT_EQ(CheckGptq(good), (Shape{32, 64}));
  GptqParts bad = good;
  bad.bits = 5;  // 51.2 inputs
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

// Zeros of 0 in format 1 are told apart by the weights beside them.
TEST(PackedWeights, AZeroOfZeroBorrowsOrWraps) {
  const auto rule = [](const char* name) { return std::get<GptqParts>(FindPackedWeights(*ModelFile::Open(kFolder + name))[0].data).zero; };
  EXPECT_EQ(rule("gptq-2bit"), GptqZero::kFieldMinusOne);
  EXPECT_EQ(rule("gptq-4bit"), GptqZero::kFieldMinusOne);
  for (const char* borrowed : {"gptq-2bit-borrow", "gptq-4bit-borrow", "gptq-8bit-borrow"}) EXPECT_EQ(rule(borrowed), GptqZero::kWordMinusOnes) << borrowed;
  EXPECT_EQ(rule("gptq-3bit"), GptqZero::kFieldMinusOne);
  EXPECT_EQ(rule("gptq-v2"), GptqZero::kItself);
}

CodedParts CodedOf(const char* name, std::shared_ptr<const ModelFile>& file) {
  file = ModelFile::Open(kFolder + name);
  return std::get<CodedParts>(FindPackedWeights(*file)[0].data);
}

TEST(PackedWeights, CodesThatDoNotFitTheirPartsAreRefused) {
  std::shared_ptr<const ModelFile> file;
  const CodedParts good = CodedOf("nf4-nested", file);
  EXPECT_EQ(CheckCoded(good), (Shape{12, 64}));
  const std::vector<std::function<void(CodedParts&)>> damages = {
      [](CodedParts& p) { p.shape = Shape{12, 66}; },
      [](CodedParts& p) { p.shape = Shape{-12, -64}; },
      [](CodedParts& p) { p.shape = Shape{int64_t{1} << 40, int64_t{1} << 40}; },
      [](CodedParts& p) { p.bits = 8; },
      [](CodedParts& p) { p.bits = 0; },
      [](CodedParts& p) { p.values[3] = NAN; },
      [](CodedParts& p) { p.block = 0; },
      [](CodedParts& p) { p.block = 64; },
      [](CodedParts& p) { p.scale.table.pop_back(); },
      [](CodedParts& p) { p.scale.table.clear(); },
      [](CodedParts& p) { p.scale.outer_block = 1; },
      [](CodedParts& p) { p.scale.outer_block = 0; },
      [](CodedParts& p) { p.bias = p.scale.of; },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    CodedParts bad = good;
    damages[i](bad);
    EXPECT_THROW(CheckCoded(bad), Error) << i;
  }
}

// What a code's value may be off by is half of the way to the next: by its steps codes are judged.
TEST(PackedWeights, StepsReachTheFartherNeighbour) {
  std::shared_ptr<const ModelFile> file;
  CodedParts parts = CodedOf("nvfp4", file);
  std::vector<float> values(48), steps(48);
  DecodeCodedRows(parts, 2, 1, values, PackedRead::kValues);
  DecodeCodedRows(parts, 2, 1, steps, PackedRead::kSteps);
  const std::vector<float> sizes = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6}, farther = {0.5f, 0.5f, 0.5f, 0.5f, 1, 1, 2, 2};
  for (size_t i = 0; i < values.size(); ++i) {
    const float scale = parts.scale.At(static_cast<int64_t>(2 * 3 + i / 16));
    const auto code = static_cast<size_t>(std::find(sizes.begin(), sizes.end(), std::fabs(values[i] / scale)) - sizes.begin());
    ASSERT_LT(code, sizes.size());
    EXPECT_EQ(steps[i], farther[code] * scale) << i;
  }
}

TEST(PackedWeights, APlainModelHasNone) {
  const std::string path = APR_SOURCE_DIR "/testdata/model/tiny-chat";
  EXPECT_TRUE(FindPackedWeights(*ModelFile::Open(path)).empty());
}

}  // namespace
}  // namespace apr
