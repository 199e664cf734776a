// Tests of the storage floor and of the search for causes: healthy pairs of every type stay healthy, and each
// cause is planted and found.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "base/error.h"
#include "compare/bisect/weight_faults.h"
#include "compare/storage_floor.h"
#include "compare/weight_search.h"
#include "model/resolve.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

using bisect::BindSide;
using bisect::BoundSide;
using bisect::CompareBound;
using bisect::FaultGroup;
using bisect::GroupFaults;
using bisect::WeightComparison;
using bisect::WeightFault;

ThreadPool& Pool() {
  static ThreadPool pool(2);
  return pool;
}

WeightRef Own(const std::vector<float>& values, const Shape& shape, DType dtype = DType::kF32) {
  auto tensor = std::make_shared<Tensor>(dtype, shape);
  EncodeRows(dtype, values.data(), shape.ndim() == 1 ? 1 : shape.rows(), shape.cols(), nullptr, tensor->mutable_bytes().data());
  WeightRef out;
  out.view = tensor->view();
  out.owned = tensor;
  return out;
}

enum class Kind { kGaussian, kHeavyTail, kOutliers, kTinyRows, kConstant, kUniform };

std::vector<float> Values(Kind kind, int64_t rows, int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::student_t_distribution<float> tail(4);
  std::vector<float> out(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < out.size(); ++i) {
    const auto row = static_cast<int64_t>(i) / cols;
    switch (kind) {
      case Kind::kGaussian: out[i] = 0.04f * normal(random); break;
      case Kind::kHeavyTail: out[i] = 0.02f * tail(random); break;
      case Kind::kOutliers: out[i] = 0.02f * normal(random) * (i % 977 == 0 ? 60.0f : 1.0f); break;
      case Kind::kTinyRows: out[i] = normal(random) * (row % 3 == 0 ? 1e-6f : 0.05f); break;
      case Kind::kConstant: out[i] = row % 2 == 0 ? 0.125f : 1.0f; break;
      case Kind::kUniform: out[i] = static_cast<float>(random()) / 4294967296.0f - 0.5f; break;
    }
  }
  return out;
}

StorageJudgement Judged(const WeightRef& a, const WeightRef& b) { return JudgeStorage(ValuesOf(a), ValuesOf(b), Pool()); }

constexpr DType kEncoded[] = {DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kQ2_K,
                              DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4, DType::kAprQ4, DType::kAprQ8};
constexpr Kind kKinds[] = {Kind::kGaussian, Kind::kHeavyTail, Kind::kOutliers, Kind::kTinyRows, Kind::kConstant, Kind::kUniform};

TEST(StorageFloor, EveryHealthyStorageIsExplained) {
  const Shape shape{24, 512};
  for (const Kind kind : kKinds) {
    const std::vector<float> values = Values(kind, shape[0], shape[1], 7);
    const WeightRef f32 = Own(values, shape), f16 = Own(values, shape, DType::kF16);
    for (const DType dtype : kEncoded) {
      const WeightRef stored = Own(values, shape, dtype);
      for (const WeightRef* other : {&f32, &f16}) {
        const StorageJudgement one = Judged(*other, stored), two = Judged(stored, *other);
        EXPECT_TRUE(one.explained) << NameOf(dtype) << " of kind " << static_cast<int>(kind) << ": ratio " << one.ratio << ", bad " << one.bad_count;
        EXPECT_TRUE(two.explained) << NameOf(dtype) << " as A, kind " << static_cast<int>(kind) << ": ratio " << two.ratio << ", bad " << two.bad_count;
      }
    }
  }
}

TEST(StorageFloor, TwoQuantisationsOfOneOriginalAreExplained) {
  const Shape shape{24, 512};
  for (const Kind kind : {Kind::kGaussian, Kind::kHeavyTail}) {
    const std::vector<float> values = Values(kind, shape[0], shape[1], 8);
    for (const DType a : {DType::kQ4_1, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
      for (const DType b : kEncoded) {
        const StorageJudgement judged = Judged(Own(values, shape, a), Own(values, shape, b));
        EXPECT_TRUE(judged.explained) << NameOf(a) << " against " << NameOf(b) << ": ratio " << judged.ratio << ", bad " << judged.bad_count;
      }
    }
  }
}

// A factor shows in the slope of quantised values of any size; zeros have none.
TEST(StorageFloor, AFactorOfSmallValuesShowsInTheSlope) {
  const Shape shape{24, 512};
  std::vector<float> values = Values(Kind::kGaussian, shape[0], shape[1], 31), larger(values.size());
  double square = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] *= 0.02f;
    larger[i] = values[i] * 1.02f;
    square += static_cast<double>(values[i]) * values[i];
  }
  ASSERT_LT(square, 1);
  const WeightRef f32 = Own(values, shape);
  for (const DType dtype : {DType::kQ8_0, DType::kQ6_K}) {
    const StorageJudgement same = Judged(f32, Own(values, shape, dtype)), factor = Judged(f32, Own(larger, shape, dtype));
    EXPECT_TRUE(same.mean_explained && same.slope_explained) << NameOf(dtype) << " " << same.slope;
    EXPECT_NEAR(factor.slope, 1.02, 2e-3) << NameOf(dtype);
    EXPECT_FALSE(factor.slope_explained || factor.mean_explained) << NameOf(dtype);
  }
  const std::vector<float> zeros(values.size(), 0.0f);
  const StorageJudgement nothing = Judged(Own(zeros, shape), Own(values, shape, DType::kQ8_0));
  EXPECT_EQ(nothing.slope, 1);
  EXPECT_TRUE(nothing.slope_explained);
  EXPECT_EQ(nothing.floor(), 0);
}

// One wrong place among equal values: the mean over the other runs is that of equal values.
TEST(StorageFloor, AWrongPlaceIsNoneOfTheMean) {
  const Shape shape{24, 512};
  std::vector<float> values = Values(Kind::kGaussian, shape[0], shape[1], 32);
  const WeightRef sound = Own(values, shape);
  values[5000] += 1;
  const StorageJudgement judged = Judged(sound, Own(values, shape));
  EXPECT_FALSE(judged.explained);
  EXPECT_EQ(judged.bad_count, 1);
  EXPECT_EQ(judged.ratio, 0);
  EXPECT_TRUE(judged.mean_explained);
}

// By the rule of the OCP specification the largest element of a block may be cut to three quarters.
TEST(StorageFloor, CutByMxfp4IsExplained) {
  const Shape shape{24, 512};
  const std::vector<float> values = Values(Kind::kGaussian, shape[0], shape[1], 13);
  std::vector<float> cut = values;
  int cuts = 0;
  for (size_t at = 0; at < cut.size(); at += 32) {
    float top = 0;
    for (size_t i = at; i < at + 32; ++i) top = std::max(top, std::abs(values[i]));
    const float limit = 6 * std::exp2(std::floor(std::log2(top)) - 2);
    for (size_t i = at; i < at + 32; ++i) cut[i] = std::clamp(values[i], -limit, limit);
    cuts += top > 1.3f * limit;
  }
  EXPECT_GT(cuts, 0);
  const WeightRef stored = Own(cut, shape, DType::kMXFP4), original = Own(values, shape);
  EXPECT_TRUE(Judged(original, stored).explained);
  EXPECT_TRUE(Judged(stored, original).explained);
  std::vector<float> half = cut;
  half[40] = values[40] > 0 ? -0.2f : 0.2f;
  EXPECT_FALSE(Judged(original, Own(half, shape, DType::kMXFP4)).explained);
}

// Runs that are decoded where they lie, permuted or not, against rows read one after the other.
TEST(StorageFloor, ReadingByRunsAndByRowsIsTheSame) {
  for (const int64_t cols : {int64_t{512}, int64_t{96}}) {
    const Shape shape{24, cols};
    std::vector<float> values = Values(Kind::kGaussian, 24, cols, 11), damaged = values;
    damaged[static_cast<size_t>(13 * cols + 7)] += 1.0f;
    const auto order = std::make_shared<std::vector<int32_t>>();
    std::vector<float> stored_a, stored_b;
    for (int32_t r = 0; r < 24; ++r) {
      order->push_back((r * 7) % 24);
      // Row r of the file holds the canonical row whose order names r: 7 * 7 = 1 modulo 24.
      const auto from = ((r * 7) % 24) * cols;
      stored_a.insert(stored_a.end(), values.begin() + from, values.begin() + from + cols);
      stored_b.insert(stored_b.end(), damaged.begin() + from, damaged.begin() + from + cols);
    }
    WeightRef a = Own(stored_a, shape, DType::kF16), b = Own(stored_b, shape, DType::kQ8_0);
    a.row_order = b.row_order = order;
    const StorageJudgement permuted = Judged(a, b), straight = Judged(Own(values, shape, DType::kF16), Own(damaged, shape, DType::kQ8_0));
    const StorageJudgement rows = Judged(Own(values, shape, DType::kF16), b);
    for (const StorageJudgement* other : {&permuted, &rows}) {
      EXPECT_EQ(other->diff.max_index, 13 * cols + 7);
      EXPECT_EQ(other->diff.max_abs, straight.diff.max_abs);
      EXPECT_EQ(other->diff.sum_sq, straight.diff.sum_sq);
      EXPECT_EQ(other->diff.identical, straight.diff.identical);
      EXPECT_EQ(other->ratio, straight.ratio);
      ASSERT_EQ(other->bad_count, 1);
      EXPECT_EQ(other->bad[0].index, (13 * cols + 7) / 256);
    }
  }
}

TEST(StorageFloor, OneDamagedElementIsFoundInEveryType) {
  const Shape shape{24, 512};
  const std::vector<float> values = Values(Kind::kGaussian, shape[0], shape[1], 9);
  for (const DType dtype : kEncoded) {
    if (dtype == DType::kAprQ8) continue;   // one scale for all: the damage changes every element
    std::vector<float> damaged = values;
    damaged[7001] = dtype == DType::kQ2_K ? 0.5f : 0.3f;
    const StorageJudgement judged = Judged(Own(values, shape), Own(damaged, shape, dtype));
    EXPECT_FALSE(judged.explained) << NameOf(dtype);
    ASSERT_EQ(judged.bad.size(), 1u) << NameOf(dtype);
    EXPECT_EQ(judged.bad[0].index, 7001 / 256);
  }
}

TEST(StorageFloor, RoundingOfF32IsNoDifferenceAndMoreIs) {
  const Shape shape{4, 300};
  const std::vector<float> values = Values(Kind::kGaussian, shape[0], shape[1], 10);
  std::vector<float> near = values, far = values;
  for (float& v : near) v = std::nextafter(v, 1.0f);
  far[77] += 1e-6f;
  EXPECT_TRUE(Judged(Own(values, shape), Own(near, shape)).explained);
  EXPECT_FALSE(Judged(Own(values, shape), Own(far, shape)).explained);
  far[77] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(Judged(Own(values, shape), Own(far, shape)).explained);
  EXPECT_FALSE(Judged(Own({}, Shape{0, 4}), Own({}, Shape{0, 4})).explained) << "nothing compared";
}

float RoundedTo(DType dtype, float value) {
  std::byte bytes[4];
  EncodeRows(dtype, &value, 1, 1, nullptr, bytes);
  DecodeTensor({dtype, Shape{1, 1}, std::span(bytes).first(InfoOf(dtype).block_bytes)}, std::span(&value, 1));
  return value;
}

// ---- causes, planted into the tiny models ----

struct Pair {
  std::shared_ptr<const ModelFile> file;
  ResolvedConfig resolved;
  BoundSide a, b;

  WeightRef& B(Slot slot, int layer = -1, int expert = -1) { return b.slots.slots.at({slot, layer, expert}).weight; }
  const WeightRef& A(Slot slot, int layer = -1, int expert = -1) const { return a.slots.slots.at({slot, layer, expert}).weight; }
  int layers() const { return static_cast<int>(resolved.config.num_layers); }
};

std::unique_ptr<Pair> Open(const std::string& name) {
  auto out = std::make_unique<Pair>();
  out->file = ModelFile::Open("testdata/model/" + name);
  out->resolved = ResolveConfig(*out->file);
  out->a = BindSide(out->file, *out->resolved.architecture, out->resolved.config);
  out->b = BindSide(out->file, *out->resolved.architecture, out->resolved.config);
  return out;
}

std::vector<FaultGroup> Faults(const Pair& pair) {
  const WeightComparison compared = CompareBound(pair.a, pair.b, [](const SlotKey&) { return true; }, true, Pool());
  return GroupFaults(compared.faults, [](const SlotKey& key) { return std::pair<int64_t, int64_t>{key.layer < 0 ? -1 : key.layer, static_cast<int64_t>(key.slot)}; });
}

void ExpectOne(const Pair& pair, const std::string& cause, const std::string& tensor, const std::string& what) {
  const std::vector<FaultGroup> groups = Faults(pair);
  ASSERT_EQ(groups.size(), 1u) << what << ": " << (groups.size() > 1 ? groups[0].front().why.cause + " and " + groups[1].front().why.cause : "nothing");
  const WeightFault& f = groups[0].front();
  EXPECT_EQ(f.why.cause, cause) << what << ": " << f.why.detail;
  EXPECT_EQ(f.tensor, tensor) << what;
  EXPECT_LE(f.why.error_after, 1e-6 + 1.5 * f.why.floor) << what << ": " << f.why.detail;
  EXPECT_FALSE(f.why.trials.empty() && f.why.cause.empty());
}

using Change = std::function<void(std::vector<float>& values, int64_t rows, int64_t cols)>;

void Alter(WeightRef& weight, const Change& change) {
  std::vector<float> values = ReadWeightF32(weight);
  change(values, weight.view.shape.ndim() == 1 ? weight.view.shape[0] : weight.rows(), weight.view.shape.ndim() == 1 ? 1 : weight.cols());
  weight = Own(values, weight.view.shape);
}

std::vector<float> Gathered(const std::vector<float>& values, int64_t rows, int64_t cols, const std::function<int64_t(int64_t)>& from) {
  std::vector<float> out(values.size());
  for (int64_t r = 0; r < rows; ++r) std::memcpy(&out[static_cast<size_t>(r * cols)], &values[static_cast<size_t>(from(r) * cols)], static_cast<size_t>(cols) * 4);
  return out;
}

TEST(WeightSearch, HealthyModelsHaveNoFault) {
  for (const char* name : {"llama", "qwen2", "gemma3", "mixtral", "gpt-oss", "deepseek-v3", "gpt-neox-serial", "phi3-partial-longrope"}) {
    const auto pair = Open(name);
    EXPECT_TRUE(Faults(*pair).empty()) << name;
    for (auto& [key, slot] : pair->b.slots.slots) slot.weight = Own(ReadWeightF32(slot.weight), slot.weight.view.shape, DType::kBF16);
    EXPECT_TRUE(Faults(*pair).empty()) << name << " in bf16";
  }
}

TEST(WeightSearch, RopeOrderOfRows) {
  const auto turn = [](int64_t heads, bool back) {
    return [=](std::vector<float>& v, int64_t rows, int64_t cols) {
      const std::vector<int32_t> order = RopeRowOrder(rows, heads, rows / heads);
      std::vector<int64_t> from(order.begin(), order.end());
      if (back) for (size_t i = 0; i < order.size(); ++i) from[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
      v = Gathered(v, rows, cols, [&](int64_t r) { return from[static_cast<size_t>(r)]; });
    };
  };
  for (const bool back : {false, true}) {
    const auto pair = Open("llama");
    for (int l = 0; l < pair->layers(); ++l) {
      Alter(pair->B(Slot::kQ, l), turn(4, back));
      Alter(pair->B(Slot::kK, l), turn(2, back));
    }
    ExpectOne(*pair, "rope_permutation", "model.layers.0.self_attn.q_proj.weight", "q and k");
  }
  {
    const auto pair = Open("llama");   // permuted with the count of query heads, put right with that of key heads
    Alter(pair->B(Slot::kK, 1), turn(4, true));
    Alter(pair->B(Slot::kK, 1), turn(2, false));
    ExpectOne(*pair, "rope_permutation", "model.layers.1.self_attn.k_proj.weight", "wrong count of heads");
  }
  {
    const auto pair = Open("qwen2");
    Alter(pair->B(Slot::kKBias, 0), turn(1, false));
    ExpectOne(*pair, "rope_permutation", "model.layers.0.self_attn.k_proj.bias", "bias");
  }
}

TEST(WeightSearch, NormOffsets) {
  for (const float offset : {1.0f, -1.0f, 2.0f}) {
    const auto pair = Open("gemma3");
    for (auto& [key, slot] : pair->b.slots.slots) {
      if (std::string(SlotName(key.slot)).find("norm") == std::string::npos) continue;
      Alter(slot.weight, [&](std::vector<float>& v, int64_t, int64_t) { for (float& x : v) x += offset; });
    }
    const std::vector<FaultGroup> groups = Faults(*pair);
    ASSERT_EQ(groups.size(), 1u) << offset;
    EXPECT_EQ(groups[0].front().why.cause, "norm_offset") << offset;
  }
  const auto pair = Open("gemma3");
  Alter(pair->B(Slot::kFinalNorm), [&](std::vector<float>& v, int64_t, int64_t) { for (float& x : v) x += 1; });
  ExpectOne(*pair, "norm_offset", "model.norm.weight", "the last norm alone");
  const auto rounded = Open("gemma3");
  Alter(rounded->B(Slot::kFinalNorm), [&](std::vector<float>& v, int64_t, int64_t) {
    for (float& x : v) x = RoundedTo(DType::kBF16, x - 1);
  });
  ASSERT_EQ(Faults(*rounded).size(), 1u);
  EXPECT_EQ(Faults(*rounded)[0].front().why.cause, "norm_offset") << "in bf16";
}

TEST(WeightSearch, TransposedSwappedAndMoved) {
  {
    const auto pair = Open("mistral");
    const WeightRef o = pair->A(Slot::kGate, 1);
    Alter(pair->B(Slot::kGate, 1), [&](std::vector<float>& v, int64_t rows, int64_t cols) {
      ASSERT_EQ(rows, cols);
      std::vector<float> t(v.size());
      for (int64_t r = 0; r < rows; ++r) for (int64_t c = 0; c < cols; ++c) t[static_cast<size_t>(c * rows + r)] = v[static_cast<size_t>(r * cols + c)];
      v = t;
    });
    ExpectOne(*pair, "transposed", "model.layers.1.mlp.gate_proj.weight", "square");
  }
  {
    const auto pair = Open("llama");
    std::swap(pair->B(Slot::kGate, 0), pair->B(Slot::kUp, 0));
    ExpectOne(*pair, "swapped_tensors", "model.layers.0.mlp.gate_proj.weight", "gate and up");
  }
  {
    const auto pair = Open("mixtral");
    for (const Slot slot : {Slot::kExpertGate, Slot::kExpertUp, Slot::kExpertDown}) std::swap(pair->B(slot, 1, 0), pair->B(slot, 1, 2));
    const std::vector<FaultGroup> groups = Faults(*pair);
    ASSERT_EQ(groups.size(), 1u);
    EXPECT_EQ(groups[0].front().why.cause, "swapped_tensors");
    EXPECT_EQ(groups[0].members.size(), 6u);
  }
  {
    const auto pair = Open("qwen3");
    std::map<SlotKey, bisect::WeightFault> unused;
    for (auto& [key, slot] : pair->b.slots.slots) {
      if (key.layer == 0) std::swap(slot.weight, pair->B(key.slot, 1));
    }
    const std::vector<FaultGroup> groups = Faults(*pair);
    ASSERT_EQ(groups.size(), 1u);
    EXPECT_EQ(groups[0].front().why.cause, "layer_order");
    EXPECT_EQ(groups[0].front().tensor, "model.layers.0.input_layernorm.weight");
  }
}

TEST(WeightSearch, FusedLayouts) {
  {
    const auto pair = Open("phi3-partial-longrope");
    // k and v exchanged inside the fused tensor.
    std::swap(pair->B(Slot::kK, 0), pair->B(Slot::kV, 0));
    const std::vector<FaultGroup> groups = Faults(*pair);
    ASSERT_EQ(groups.size(), 1u);
    EXPECT_EQ(groups[0].front().why.cause, "fused_layout") << groups[0].front().why.detail;
    EXPECT_EQ(groups[0].front().tensor, "model.layers.0.self_attn.qkv_proj.weight");
  }
  {
    // gate and up interleaved row by row.
    const auto pair = Open("phi3-partial-longrope");
    for (int l = 0; l < pair->layers(); ++l) {
      const std::vector<float> gate = ReadWeightF32(pair->A(Slot::kGate, l)), up = ReadWeightF32(pair->A(Slot::kUp, l));
      const int64_t rows = pair->A(Slot::kGate, l).rows(), cols = pair->A(Slot::kGate, l).cols();
      std::vector<float> all(gate);
      all.insert(all.end(), up.begin(), up.end());
      const std::vector<float> mixed = Gathered(all, 2 * rows, cols, [&](int64_t r) { return r / 2 + r % 2 * rows; });
      pair->B(Slot::kGate, l) = Own({mixed.begin(), mixed.begin() + rows * cols}, Shape{rows, cols});
      pair->B(Slot::kUp, l) = Own({mixed.begin() + rows * cols, mixed.end()}, Shape{rows, cols});
    }
    ExpectOne(*pair, "fused_layout", "model.layers.0.mlp.gate_up_proj.weight", "interleaved");
  }
  {
    // GPT-NeoX rows [head][q, k, v] taken for [q, k, v][head], weights and biases.
    const auto pair = Open("gpt-neox-serial");
    for (const auto& slots : {std::vector{Slot::kQ, Slot::kK, Slot::kV}, std::vector{Slot::kQBias, Slot::kKBias, Slot::kVBias}}) {
      std::vector<float> all;
      for (const Slot slot : slots) {
        const std::vector<float> part = ReadWeightF32(pair->A(slot, 0));
        all.insert(all.end(), part.begin(), part.end());
      }
      const Shape shape = pair->A(slots[0], 0).view.shape;
      const int64_t rows = shape[0], cols = shape.ndim() == 1 ? 1 : shape[1], heads = 4, dim = rows / heads;
      const std::vector<float> mixed = Gathered(all, 3 * rows, cols, [&](int64_t r) { return r / dim % 3 * rows + r / (3 * dim) * dim + r % dim; });
      for (size_t p = 0; p < 3; ++p) {
        const auto first = mixed.begin() + static_cast<int64_t>(p) * rows * cols;
        pair->B(slots[p], 0) = Own({first, first + rows * cols}, shape);
      }
    }
    ExpectOne(*pair, "fused_layout", "gpt_neox.layers.0.attention.query_key_value.weight", "heads inside q, k, v");
  }
}

TEST(WeightSearch, ShiftsAndScales) {
  const auto each = [](const std::string& model, const std::string& cause, Slot slot, int layer, const std::string& tensor, const Change& change) {
    const auto pair = Open(model);
    Alter(pair->B(slot, layer), change);
    ExpectOne(*pair, cause, tensor, cause);
  };
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  each("llama", "shifted_rows", Slot::kTokenEmbedding, -1, "model.embed_tokens.weight",
       [](std::vector<float>& v, int64_t rows, int64_t cols) { v = Gathered(v, rows, cols, [&](int64_t r) { return (r + 1) % rows; }); });
  each("llama", "shifted_rows", Slot::kTokenEmbedding, -1, "model.embed_tokens.weight",
       [](std::vector<float>& v, int64_t rows, int64_t cols) { v = Gathered(v, rows, cols, [&](int64_t r) { return r < 40 ? r : r - 1; }); });
  each("llama", "scaled_tensor", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t) { for (float& x : v) x *= 0.37f; });
  each("llama", "scaled_tensor", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t) { for (float& x : v) x = -x; });
  each("llama", "scaled_tensor", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t cols) {
    for (size_t i = 0; i < v.size(); ++i) v[i] *= 1.0f + 0.05f * static_cast<float>(static_cast<int64_t>(i) / cols);
  });
  each("llama", "zeroed_tensor", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t) { std::fill(v.begin(), v.end(), 0.0f); });
  each("llama", "zeroed_tensor", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t cols) { std::fill(v.begin(), v.begin() + 7 * cols, 0.0f); });
}

TEST(WeightSearch, DamageAndPrecision) {
  const auto each = [](const std::string& cause, Slot slot, int layer, const std::string& tensor, const Change& change) {
    const auto pair = Open("llama");
    Alter(pair->a.slots.slots.at({slot, layer, -1}).weight, [](std::vector<float>& v, int64_t, int64_t) {
      // Each by its own amount: by one factor, rounding to a narrow type would undo it and B be a multiple of A.
      for (size_t i = 0; i < v.size(); ++i) v[i] *= 1.0f + 0.000371f * std::sin(static_cast<float>(i));
    });
    pair->B(slot, layer) = pair->A(slot, layer);
    Alter(pair->B(slot, layer), change);
    ExpectOne(*pair, cause, tensor, cause);
  };
  const std::string down = "model.layers.1.mlp.down_proj.weight";
  each("corrupt_values", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t) { v[100] = 4096; v[101] = -3; v[700] = 11; });
  each("corrupt_values", Slot::kAttnNorm, 0, "model.layers.0.input_layernorm.weight", [](std::vector<float>& v, int64_t, int64_t) { v[5] = -70; });
  each("nan_values", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t) { v[33] = std::nanf(""); });
  each("overflow", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t) { v[33] = std::numeric_limits<float>::infinity(); });
  for (const DType dtype : {DType::kQ8_0, DType::kQ5_0, DType::kF16, DType::kBF16}) {
    each("coarse_quantization", Slot::kDown, 1, down, [&](std::vector<float>& v, int64_t rows, int64_t cols) {
      std::vector<std::byte> bytes(*StorageBytes(dtype, Shape{rows, cols}));
      EncodeRows(dtype, v.data(), rows, cols, nullptr, bytes.data());
      DecodeTensor({dtype, Shape{rows, cols}, bytes}, v);
    });
  }
  each("coarse_quantization", Slot::kDown, 1, down, [](std::vector<float>& v, int64_t, int64_t cols) {
    for (size_t first = 0; first < v.size(); first += static_cast<size_t>(cols)) {
      float top = 0;
      for (int64_t c = 0; c < cols; ++c) top = std::max(top, std::abs(v[first + static_cast<size_t>(c)]));
      for (int64_t c = 0; c < cols; ++c) v[first + static_cast<size_t>(c)] = std::nearbyint(v[first + static_cast<size_t>(c)] * 127 / top) * top / 127;
    }
  });
}

// Of several types whose errors would do, the right one: of two tensors the same.
TEST(WeightSearch, TheCoarserTypeIsTheOneThatFitsBest) {
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0, DType::kIQ4_NL}) {
    const auto pair = Open("llama");
    for (const Slot slot : {Slot::kDown, Slot::kUp, Slot::kGate}) {
      for (const int layer : {0, 1}) {
        Alter(pair->B(slot, layer), [&](std::vector<float>& v, int64_t rows, int64_t cols) {
          const WeightRef stored = Own(v, Shape{rows, cols}, dtype);
          DecodeTensor(stored.view, v);
        });
      }
    }
    const std::vector<FaultGroup> groups = Faults(*pair);
    if (dtype == DType::kQ8_0) {  // rows of one block: one scale for a row is as good a name, a type of eight bits that errs far more is none
      for (const FaultGroup& g : groups) EXPECT_TRUE(g.front().why.detail == "error of Q8_0" || g.front().why.detail == "error of int8 with a scale per row");
      continue;
    }
    ASSERT_EQ(groups.size(), 1u) << NameOf(dtype);
    EXPECT_EQ(groups[0].members.size(), 6u);
    EXPECT_EQ(groups[0].front().why.detail, "error of " + std::string(NameOf(dtype)));
  }
}

TEST(WeightSearch, BlockScalesOfQuantisedTypes) {
  const Shape shape{16, 512};
  const std::vector<float> values = Values(Kind::kGaussian, 16, 512, 3);
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_K, DType::kQ4_0, DType::kQ6_K}) {
    WeightPairs pairs;
    pairs.pairs.push_back({"w", "w", "w", Own(values, shape), Own(values, shape, dtype), {}});
    const auto bytes = std::static_pointer_cast<Tensor>(std::const_pointer_cast<void>(pairs.pairs[0].b.owned))->mutable_bytes();
    const size_t block = InfoOf(dtype).block_bytes;
    // Q6_K keeps its scale at the end of the block.
    const size_t at = 3 * block + (dtype == DType::kQ6_K ? block - 2 : 0);
    bytes[at] = std::byte{0x00};
    bytes[at + 1] = std::byte{0x7E};
    const StorageJudgement judged = Judged(pairs.pairs[0].a, pairs.pairs[0].b);
    WeightSearch search(pairs, Pool());
    EXPECT_EQ(search.Explain(0, &judged).cause, "nan_block_scale") << NameOf(dtype);
  }
}

// A factor that hides in the size of a coarse type's errors shows in their direction.
TEST(WeightSearch, SmallFactorsOfQuantisedTensors) {
  const Shape shape{128, 512};
  for (const Kind kind : {Kind::kGaussian, Kind::kHeavyTail, Kind::kUniform}) {
    const std::vector<float> values = Values(kind, 128, 512, 4);
    for (const auto& [dtype, factor] : {std::pair{DType::kQ8_0, 1.004f}, {DType::kQ6_K, 0.985f}, {DType::kQ5_0, 1.02f}, {DType::kQ4_K, 0.96f}, {DType::kQ4_0, 1.06f},
                                        {DType::kIQ4_NL, 0.955f}, {DType::kQ3_K, 1.3f}}) {
      std::vector<float> scaled = values;
      for (float& v : scaled) v *= factor;
      WeightPairs pairs;
      pairs.pairs.push_back({"w", "w", "w", Own(values, shape), Own(scaled, shape, dtype), {}});
      const StorageJudgement judged = Judged(pairs.pairs[0].a, pairs.pairs[0].b);
      EXPECT_FALSE(judged.explained) << NameOf(dtype) << ": slope " << judged.slope;
      const WeightExplanation why = WeightSearch(pairs, Pool()).Explain(0, &judged);
      EXPECT_EQ(why.cause, "scaled_tensor") << NameOf(dtype) << ": " << why.detail;
      EXPECT_NEAR(why.b.is_number() ? why.b.get<double>() : 0, factor, 0.06) << NameOf(dtype);
    }
  }
}

TEST(WeightSearch, MissingExtraAndWrongShapes) {
  {
    const auto pair = Open("qwen2");
    for (int l = 0; l < pair->layers(); ++l) {
      for (const Slot slot : {Slot::kQBias, Slot::kKBias, Slot::kVBias}) pair->b.slots.slots.erase({slot, l, -1});
    }
    const std::vector<FaultGroup> groups = Faults(*pair);
    ASSERT_EQ(groups.size(), 1u);
    EXPECT_EQ(groups[0].front().why.cause, "missing_bias");
    EXPECT_EQ(groups[0].members.size(), 6u);
  }
  {
    const auto pair = Open("llama");
    pair->b.slots.slots.erase({Slot::kDown, 1, -1});
    ExpectOne(*pair, "missing_tensor", "model.layers.1.mlp.down_proj.weight", "missing");
    std::swap(pair->a, pair->b);
    ExpectOne(*pair, "extra_tensor", "model.layers.1.mlp.down_proj.weight", "extra");
  }
  {
    const auto pair = Open("llama");   // the embedding has a row too many
    std::vector<float> values = ReadWeightF32(pair->A(Slot::kTokenEmbedding));
    const Shape shape = pair->A(Slot::kTokenEmbedding).view.shape;
    values.resize(values.size() + static_cast<size_t>(shape[1]), 0.5f);
    pair->B(Slot::kTokenEmbedding) = Own(values, Shape{shape[0] + 1, shape[1]});
    ExpectOne(*pair, "wrong_shape", "model.embed_tokens.weight", "rows");
  }
}

TEST(WeightSearch, SeveralFaultsAreSeveral) {
  const auto pair = Open("llama");
  Alter(pair->B(Slot::kK, 0), [](std::vector<float>& v, int64_t rows, int64_t cols) {
    const std::vector<int32_t> order = RopeRowOrder(rows, 2, rows / 2);
    v = Gathered(v, rows, cols, [&](int64_t r) { return order[static_cast<size_t>(r)]; });
  });
  Alter(pair->B(Slot::kDown, 0), [](std::vector<float>& v, int64_t, int64_t) { for (float& x : v) x *= 2; });
  Alter(pair->B(Slot::kUp, 1), [](std::vector<float>& v, int64_t, int64_t) { v[9] = 77; });
  const std::vector<FaultGroup> groups = Faults(*pair);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].front().why.cause, "rope_permutation");
  EXPECT_EQ(groups[1].front().why.cause, "scaled_tensor");
  EXPECT_EQ(groups[2].front().why.cause, "corrupt_values");
  // And what has no small explanation gets none.
  const auto other = Open("llama");
  Alter(other->B(Slot::kO, 0), [](std::vector<float>& v, int64_t, int64_t) { v = Values(Kind::kGaussian, static_cast<int64_t>(v.size()), 1, 5); });
  const std::vector<FaultGroup> none = Faults(*other);
  ASSERT_EQ(none.size(), 1u);
  EXPECT_EQ(none[0].front().why.cause, "");
  EXPECT_GT(none[0].front().why.trials.size(), 3u);
}

TEST(StorageFloor, TypesAreNamedOnceWhereTheyAreEqual) {
  WeightRef plain, blocks, packed;
  blocks.view.dtype = DType::kQ8_0;
  packed.grid = std::make_shared<WeightGrid>(WeightGrid{.name = "GPTQ int4"});
  EXPECT_EQ(TypesText(plain, plain), NameOf(DType::kF32));
  EXPECT_EQ(TypesText(plain, blocks), std::string(NameOf(DType::kF32)) + " against " + std::string(NameOf(DType::kQ8_0)));
  EXPECT_EQ(TypesText(packed, packed), "GPTQ int4");
  EXPECT_EQ(TypesText(plain, packed), std::string(NameOf(DType::kF32)) + " against GPTQ int4");
}

}  // namespace
}  // namespace apr
