// Every block type against results of ggml's Python package: decoding, rounding encoders, APR-native
// types, and the error of the searching encoders. The data are read through ModelFile, which is why
// this test stands here and not in src/quant.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "base/json.h"
#include "format/model_file.h"
#include "quant/quant.h"

namespace apr {
namespace {

const std::string kFolder = APR_SOURCE_DIR "/../shared/oracle/quant/";

#define SKIP_WITHOUT_DATA() \
  if (!std::filesystem::exists(kFolder)) GTEST_SKIP() << kFolder << " is absent"

std::vector<float> Decoded(const TensorView& view) {
  std::vector<float> out(static_cast<size_t>(view.shape.num_elements()));
  DecodeTensor(view, out);
  return out;
}

TensorView Named(const ModelFile& file, const std::string& name) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr) throw std::runtime_error("no tensor " + name);
  return file.View(*info);
}

// Elements whose bits differ; any NaN equals any NaN, and -0 equals 0.
size_t CountDifferences(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return std::max(a.size(), b.size());
  size_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool same = std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]) || a[i] == b[i] ||
                      (std::isnan(a[i]) && std::isnan(b[i]));
    count += same ? 0 : 1;
  }
  return count;
}

size_t CountDifferences(Bytes a, Bytes b) {
  if (a.size() != b.size()) return std::max(a.size(), b.size());
  size_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += a[i] == b[i] ? 0 : 1;
  return count;
}

std::vector<std::byte> Encoded(DType dtype, std::span<const float> x, const Shape& shape) {
  std::vector<std::byte> out(*StorageBytes(dtype, shape));
  EncodeRows(dtype, x.data(), shape.rows(), shape.cols(), nullptr, out.data());
  return out;
}

// Runs `check` under every instruction set of this machine.
template <typename Check>
void ForEveryIsa(Check check) {
  const Isa before = ActiveIsa();
  for (const IsaInfo& isa : AllIsas()) {
    if (!isa.available) continue;
    SCOPED_TRACE(isa.name);
    ForceIsa(isa.name);
    check();
  }
  ForceIsa(IsaName(before));
}

TEST(QuantOracle, EveryDecodeIsBitEqual) {
  SKIP_WITHOUT_DATA();
  const auto blocks = ModelFile::Open(kFolder + "blocks.gguf");
  const auto expected = ModelFile::Open(kFolder + "blocks.safetensors");
  ASSERT_GE(blocks->tensors().size(), 26u);
  ForEveryIsa([&] {
    for (const TensorInfo& info : blocks->tensors()) {
      EXPECT_EQ(CountDifferences(Decoded(blocks->View(info)), Decoded(Named(*expected, info.name))), 0u)
          << info.name;
    }
  });
}

TEST(QuantOracle, OneWrongByteIsSeen) {
  SKIP_WITHOUT_DATA();
  const auto blocks = ModelFile::Open(kFolder + "blocks.gguf");
  const auto expected = ModelFile::Open(kFolder + "blocks.safetensors");
  TensorView view = Named(*blocks, "q5_k");
  std::vector<std::byte> damaged(view.bytes.begin(), view.bytes.end());
  damaged[1000] ^= std::byte{0x10};
  view.bytes = damaged;
  EXPECT_GT(CountDifferences(Decoded(view), Decoded(Named(*expected, "q5_k"))), 0u);
}

// sum (a - b)^2
double SumSq(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += error * error;
  }
  return sum;
}

TEST(QuantOracle, RoundingEncodersGiveTheSameBytes) {
  SKIP_WITHOUT_DATA();
  const auto typed = ModelFile::Open(kFolder + "encode.gguf");
  const auto data = ModelFile::Open(kFolder + "encode.safetensors");
  const std::vector<float> input = Decoded(Named(*data, "input"));
  const Shape shape = data->Find("input")->shape;
  size_t types = 0;
  for (const TensorInfo& info : typed->tensors()) {
    if (info.shape != shape) continue;
    ++types;
    const std::vector<std::byte> bytes = Encoded(info.dtype, input, shape);
    if (info.dtype == DType::kMXFP4) {  // searches its exponent: not ggml's bytes, and no larger error
      EXPECT_LE(SumSq(input, Decoded({info.dtype, shape, bytes})), SumSq(input, Decoded(typed->View(info))));
      continue;
    }
    EXPECT_EQ(CountDifferences(bytes, typed->View(info).bytes), 0u) << info.name;
  }
  EXPECT_EQ(types, 11u);
}

TEST(QuantOracle, HalfPrecisionRoundsToNearestEven) {
  SKIP_WITHOUT_DATA();
  const auto data = ModelFile::Open(kFolder + "encode.safetensors");
  const std::vector<float> input = Decoded(Named(*data, "rounding.input"));
  for (const auto& [dtype, name] : {std::pair{DType::kF16, "rounding.f16"}, std::pair{DType::kBF16, "rounding.bf16"}}) {
    const Shape shape{1, static_cast<int64_t>(input.size())};
    const std::vector<std::byte> bytes = Encoded(dtype, input, shape);
    // Compared as numbers, so that the payload of a NaN does not matter.
    const std::vector<float> ours = Decoded({dtype, shape, bytes});
    EXPECT_EQ(CountDifferences(ours, Decoded({dtype, shape, Named(*data, name).bytes})), 0u) << name;
  }
}

TEST(QuantOracle, AprNativeTypesGiveTheSameBytesAndValues) {
  SKIP_WITHOUT_DATA();
  const auto data = ModelFile::Open(kFolder + "apr_native.safetensors");
  size_t cases = 0;
  for (const TensorInfo& info : data->tensors()) {
    if (!info.name.ends_with(".input")) continue;
    const std::string base = info.name.substr(0, info.name.size() - 6);
    const std::vector<float> input = Decoded(data->View(info));
    const Shape shape{static_cast<int64_t>(input.size())};
    for (const auto& [dtype, name] : {std::pair{DType::kAprQ8, ".q8."}, std::pair{DType::kAprQ4, ".q4."}}) {
      const Bytes bytes = Named(*data, base + name + "bytes").bytes;
      EXPECT_EQ(CountDifferences(Encoded(dtype, input, shape), bytes), 0u) << base << name;
      const std::vector<float> expected = Decoded(Named(*data, base + name + "decoded"));
      EXPECT_EQ(CountDifferences(Decoded({dtype, shape, bytes}), expected), 0u) << base << name;
    }
    ++cases;
  }
  EXPECT_GE(cases, 14u);
}

// Against ggml's encoders without an importance matrix: encode_rmse.json, weights_rmse.
TEST(QuantOracle, SearchingEncodersErrLessThanGgml) {
  SKIP_WITHOUT_DATA();
  const auto data = ModelFile::Open(kFolder + "encode.safetensors");
  std::ifstream in(kFolder + "encode_rmse.json");
  const Json figures = Json::parse(in);
  const std::vector<float> x = Decoded(Named(*data, "weights"));
  const Shape shape = data->Find("weights")->shape;
  for (const DType dtype : {DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
                            DType::kIQ4_NL, DType::kIQ4_XS}) {
    const std::vector<std::byte> bytes = Encoded(dtype, x, shape);
    const std::vector<float> y = Decoded({dtype, shape, bytes});
    const double rmse = std::sqrt(SumSq(x, y) / static_cast<double>(x.size()));
    const double bar = figures.at(NameOf(dtype)).at("weights_rmse").get<double>();
    EXPECT_LE(rmse, 0.99 * bar) << NameOf(dtype);
  }
}

}  // namespace
}  // namespace apr
