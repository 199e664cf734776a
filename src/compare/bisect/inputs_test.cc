// What people really hand to `apr bisect`: damaged and foreign stage directories, models of two architectures, changed
// weights and settings, cut-off files; and a bisection as an archive.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "base/temp_folder.h"
#include "compare/bisect/bundle.h"
#include "compare/bisect/product.h"
#include "compare/bisect/weight_effect.h"
#include "generate/session.h"
#include "generate/trace.h"
#include "model/export_model.h"
#include "op/context.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

std::string ModelPath(const std::string& name) { return (fs::path(APR_SOURCE_DIR) / "testdata" / "model" / name).string(); }

class BisectInputs : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ / name; }

  std::string Copy(const std::string& model, const std::string& name) const {
    fs::copy(ModelPath(model), folder_ / name, fs::copy_options::recursive);
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / name)) fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    return Path(name);
  }

  // Stages of a run of `model` on a few ids.
  std::string Capture(const std::string& model, const std::string& name, std::vector<int32_t> ids = {5, 17, 9, 40, 3, 28}) const {
    const auto loaded = Model::Load(ModelFile::Open(ModelPath(model)));
    Session session(loaded, {.executor = ExecutorKind::kCpu, .compute = {.precision = Precision::kExact}, .chunk = 0});
    StageManifest manifest;
    manifest.engine = "apr";
    manifest.architecture = loaded->config().architecture;
    manifest.precision = PrecisionOf(*loaded, ExecutorKind::kCpu, Precision::kExact);
    manifest.ids.assign(ids.begin(), ids.end());
    StageDirectoryWriter writer(Path(name), manifest, Overwrite::kRefuse);
    TraceSink sink(session.executor().model().graph, [](const Stage&) { return false; }, {ParseStageNames("all"), {0, loaded->config().num_layers}}, &writer);
    session.Append(session.NewSequence(), ids, static_cast<int64_t>(ids.size()), &sink);
    writer.Finish();
    return Path(name);
  }

  static Report Judged(const std::string& a, const std::string& b, const std::function<void(Options&)>& change = {}) {
    Options options;
    options.a = a;
    options.b = b;
    options.threads = 1;
    if (change) change(options);
    return bisect::Run(options);
  }

  // Every stage file of a directory rewritten in place.
  static void EachStage(const std::string& directory, const std::function<void(std::string& bytes)>& change) {
    for (const auto& entry : fs::recursive_directory_iterator(directory)) {
      if (entry.path().extension() != ".bin") continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::string bytes((std::istreambuf_iterator<char>(in)), {});
      in.close();
      change(bytes);
      std::ofstream(entry.path(), std::ios::binary) << bytes;
    }
  }

  // Elements of an f32 or bf16 tensor of a copied folder, changed in the file.
  static void EditTensor(const std::string& folder, const std::string& name, const std::function<float(float, int64_t)>& change) {
    const auto file = ModelFile::Open(folder);
    const TensorInfo* info = file->Find(name);
    ASSERT_NE(info, nullptr);
    const TensorView view = file->View(*info);
    for (const auto& mapped : file->files()) {
      const std::byte* begin = mapped->bytes().data();
      if (view.bytes.data() < begin || view.bytes.data() >= begin + mapped->bytes().size()) continue;
      std::vector<std::byte> bytes(view.bytes.begin(), view.bytes.end());
      const size_t width = view.dtype == DType::kF32 ? 4 : 2;
      ASSERT_TRUE(view.dtype == DType::kF32 || view.dtype == DType::kBF16);
      for (size_t i = 0; i < bytes.size() / width; ++i) {
        uint32_t word = 0;
        std::memcpy(reinterpret_cast<char*>(&word) + (4 - width), bytes.data() + i * width, width);
        float value = 0;
        std::memcpy(&value, &word, 4);
        value = change(value, static_cast<int64_t>(i));
        std::memcpy(&word, &value, 4);
        std::memcpy(bytes.data() + i * width, reinterpret_cast<char*>(&word) + (4 - width), width);
      }
      std::FILE* out = std::fopen(mapped->path().c_str(), "r+b");
      ASSERT_NE(out, nullptr);
      std::fseek(out, static_cast<long>(view.bytes.data() - begin), SEEK_SET);
      EXPECT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), out), bytes.size());
      std::fclose(out);
      return;
    }
    FAIL() << name << " lies in no mapped file";
  }

  static void SetKey(const std::string& folder, const std::string& key, const Json& value) {
    std::ifstream in(folder + "/config.json");
    Json config = Json::parse(in);
    in.close();
    config[key] = value;
    std::ofstream(folder + "/config.json") << config.dump();
  }

  static std::string CauseName(const Report& report) { return report.findings.empty() || !report.findings[0].cause ? "" : report.findings[0].cause->name; }

  TempFolder folder_{"bisect"};
};

// ---- bad and foreign inputs ----

TEST_F(BisectInputs, AModelAgainstItselfIsTheSame) {
  const Report report = Judged(ModelPath("llama"), ModelPath("llama"));
  EXPECT_EQ(report.verdict, Verdict::kSame);
  EXPECT_GT(report.coverage.tensors_compared, 0);
  EXPECT_GT(report.coverage.stages_compared, 0);
}

TEST_F(BisectInputs, ASoundCaptureIsRounding) {
  const Report report = Judged(ModelPath("llama"), Capture("llama", "stages"));
  EXPECT_EQ(report.verdict, Verdict::kRounding) << report.ToText();
}

TEST_F(BisectInputs, AMissingStageFileIsInconclusiveAndNamed) {
  const std::string stages = Capture("llama", "stages");
  ASSERT_TRUE(fs::remove(stages + "/layer-1/attn_out.bin"));
  const Report report = Judged(ModelPath("llama"), stages);
  EXPECT_EQ(report.verdict, Verdict::kInconclusive);
  EXPECT_NE(report.reason.find("attn_out"), std::string::npos) << report.reason;
}

TEST_F(BisectInputs, NanEverywhereIsADifferenceAtTheFirstStage) {
  const std::string stages = Capture("llama", "stages");
  EachStage(stages, [](std::string& bytes) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (size_t at = bytes.size() % 4 + 64; at + 4 <= bytes.size(); at += 4) std::memcpy(bytes.data() + at, &nan, 4);
  });
  const Report report = Judged(ModelPath("llama"), stages);
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.stage, "embedding");
  EXPECT_EQ(report.findings[0].first.layer, 0);
}

// A weight without a finite value spoils both sides alike: nothing behind it can be judged.
TEST_F(BisectInputs, AWeightThatOverflowedLeavesNothingToJudge) {
  const std::string a = Copy("llama", "a");
  EditTensor(a, "model.layers.1.mlp.down_proj.weight", [](float, int64_t) { return INFINITY; });
  const Report report = Judged(a, Capture(a, "stages"));
  EXPECT_EQ(report.verdict, Verdict::kInconclusive);
  EXPECT_NE(report.reason.find("layer-1/ffn_out"), std::string::npos) << report.reason;
}

TEST_F(BisectInputs, StagesOfAnotherModelsShapesAreADifference) {  // 24 wide, not 32
  const Report report = Judged(ModelPath("llama"), Capture("olmo2", "stages"));
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_NE(report.findings[0].first.note.find("values"), std::string::npos) << report.findings[0].first.note;
}

TEST_F(BisectInputs, OtherIdsAreInconclusive) {
  const std::string stages = Capture("llama", "stages");
  const Report report = Judged(ModelPath("llama"), stages, [](Options& o) { o.ids = {1, 2, 3}; });
  EXPECT_EQ(report.verdict, Verdict::kInconclusive);
  EXPECT_NE(report.reason.find("ids"), std::string::npos) << report.reason;
  const std::string other = Capture("llama", "other", {1, 2, 3, 4, 5, 6});
  const Report pair = Judged(stages, other);
  EXPECT_EQ(pair.verdict, Verdict::kInconclusive);
  EXPECT_NE(pair.reason.find("ids"), std::string::npos) << pair.reason;
}

TEST_F(BisectInputs, ADirectoryWithoutManifestAsksForIds) {
  const std::string stages = Capture("llama", "stages");
  ASSERT_TRUE(fs::remove(stages + "/stages.json"));
  const Report without = Judged(ModelPath("llama"), stages);
  EXPECT_EQ(without.verdict, Verdict::kInconclusive);
  EXPECT_NE(without.reason.find("--ids"), std::string::npos) << without.reason;
  const Report given = Judged(ModelPath("llama"), stages, [](Options& o) { o.ids = {5, 17, 9, 40, 3, 28}; });
  EXPECT_EQ(given.verdict, Verdict::kRounding) << given.ToText();
}

TEST_F(BisectInputs, TwoArchitecturesAreSaid) {
  const Report report = Judged(ModelPath("llama"), ModelPath("qwen2"));
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.key, "model_type");
  EXPECT_NE(report.findings[0].first.note.find("qwen2"), std::string::npos);
}

TEST_F(BisectInputs, ALayerThatTheConfigurationForgetsIsSaid) {
  const std::string b = Copy("llama", "b");
  const int64_t layers = OpenSide(b).config.num_layers;
  SetKey(b, "num_hidden_layers", layers - 1);
  const Report report = Judged(ModelPath("llama"), b);
  ASSERT_EQ(report.verdict, Verdict::kDifferent);
  EXPECT_EQ(report.findings[0].first.key, "num_hidden_layers");
  EXPECT_EQ(report.findings[0].first.layer, layers - 1);
  EXPECT_EQ(report.findings[0].first.stage, "attn_norm");
}

TEST_F(BisectInputs, ASettingThatCannotBeIsPlacedWhereItWouldMatter) {
  const std::string b = Copy("llama", "b");
  SetKey(b, "num_key_value_heads", 3);
  const Report report = Judged(ModelPath("llama"), b);
  ASSERT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_TRUE(report.findings[0].cause);
  EXPECT_EQ(report.findings[0].cause->name, "kv_head_count");
  EXPECT_EQ(report.findings[0].first.stage, "qkv_matmul");
  EXPECT_EQ(report.findings[0].first.layer, 0);
}

// Factors of the rope that lie in tensors are read once the tensors have their places.
TEST_F(BisectInputs, HeadsThatFitNoTensorOfAModelWithRopeFactors) {
  const std::string a = ModelPath("phi3-partial-longrope"), b = Path("b.gguf");
  ExportGguf(Model::Load(ModelFile::Open(a)), {.out = b});
  std::fstream file(b, std::ios::binary | std::ios::in | std::ios::out);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {}), key = "phi3.attention.head_count_kv";
  const size_t at = bytes.find(key);
  ASSERT_NE(at, std::string::npos);
  const auto heads = static_cast<char>(OpenSide(a).config.num_heads);
  ASSERT_NE(bytes[at + key.size() + 4], heads);
  file.seekp(static_cast<std::streamoff>(at + key.size() + 4));  // after the value's type
  file.put(heads);
  file.close();
  const Report report = Judged(a, b);
  ASSERT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_EQ(report.findings.size(), 1u);
  ASSERT_TRUE(report.findings[0].cause);
  EXPECT_EQ(report.findings[0].cause->name, "kv_head_count");
  EXPECT_EQ(report.findings[0].first.stage, "qkv_matmul");
}

TEST_F(BisectInputs, WhatIsNoModelIsRefused) {
  std::ofstream(Path("note.txt")) << "hello";
  EXPECT_THROW(Judged(ModelPath("llama"), Path("note.txt")), Error);
  EXPECT_THROW(Judged(ModelPath("llama"), Path("absent")), Error);
}

// ---- phases ----

TEST_F(BisectInputs, ACutOffFileIsTruncated) {
  const std::string copy = Copy("llama", "b");
  for (const auto& entry : fs::directory_iterator(copy)) {
    if (entry.path().extension() == ".safetensors") fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
  }
  const Report report = Judged(ModelPath("llama"), copy);
  EXPECT_EQ(report.verdict, Verdict::kDifferent);
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.phase, Phase::kFile);
  EXPECT_EQ(CauseName(report), "file_truncated");
}

TEST_F(BisectInputs, AScaledTensorIsFeltWhereItIsRead) {
  const std::string copy = Copy("llama", "b");
  EditTensor(copy, "model.layers.1.mlp.down_proj.weight", [](float v, int64_t) { return 2 * v; });
  const Report report = Judged(ModelPath("llama"), copy);
  ASSERT_FALSE(report.findings.empty());
  const Finding& f = report.findings[0];
  EXPECT_EQ(f.first.phase, Phase::kWeights);
  EXPECT_EQ(f.first.tensor, "model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(f.first.layer, 1);
  EXPECT_EQ(f.first.stage, "ffn_out");
  EXPECT_EQ(CauseName(report), "scaled_tensor");
  EXPECT_EQ(f.first.position, 0);
}

TEST_F(BisectInputs, ARowOfTheTableIsFeltWhereItsTokenStands) {
  const std::string copy = Copy("llama", "b");
  const Side side = OpenSide(copy);
  const int64_t width = side.config.hidden_size;
  EditTensor(copy, "model.embed_tokens.weight", [&](float v, int64_t i) { return i / width == 9 ? v + 1 : v; });
  const Report report = Judged(ModelPath("llama"), copy, [](Options& o) { o.ids = {5, 17, 9, 40}; });
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings[0].first.stage, "embedding");
  EXPECT_EQ(report.findings[0].first.coordinate, (std::vector<int64_t>{9, report.findings[0].first.coordinate.back()}));
}

TEST_F(BisectInputs, AWeightThatNothingFeelsHasNoPlace) {
  const Side side = OpenSide(ModelPath("llama"));
  WeightEffect effect(side.config, *side.architecture, side.slots, side.file, 1);
  const std::vector<int32_t> ids = {5, 17, 9};
  EXPECT_FALSE(effect.Run({}, ids));
  const SlotKey down{Slot::kDown, 1, -1};
  const SlotKey other{Slot::kDown, 0, -1};
  const auto felt = effect.Run({{down, side.slots.slots.at(other).weight}}, ids);
  ASSERT_TRUE(felt);
  EXPECT_EQ(felt->layer, 1);
  EXPECT_EQ(felt->stage, "ffn_out");
  EXPECT_EQ(felt->position, 0);
  const auto reader = effect.Reader(down);
  ASSERT_TRUE(reader);
  EXPECT_EQ(reader->stage, "ffn_out");
  EXPECT_FALSE(effect.Reader({Slot::kQNorm, 0, -1}));
}

// ---- arithmetic of the floor ----

TEST(BisectFloor, RoundingIsToNearestEvenOfEachType) {
  const struct { const char* type; double in, out; } cases[] = {
      {"bf16", 1 + 0x1p-8, 1}, {"bf16", 1 + 0x1.8p-7, 1 + 0x1p-6}, {"bf16", -(1 + 0x1.1p-8), -(1 + 0x1p-7)}, {"f16", 1 + 0x1p-11, 1},
      {"f16", 65504, 65504}, {"f16", 65519, 65504}, {"f16", 65520, INFINITY}, {"f16", 0x1p-25, 0}, {"f16", 0x1.8p-25, 0x1p-24}, {"f16", 0x1.4p-23, 0x1p-23},
      {"f8", 448, 448}, {"f8", 0x1p-10, 0}, {"f8", 0x1.8p-9, 0x1p-8}, {"f32", 1 + 0x1p-24, 1}, {"f64", 1 + 0x1p-52, 1 + 0x1p-52}};
  for (const auto& c : cases) EXPECT_EQ(RoundTo(*FloatTypeFromName(c.type), c.in), c.out) << c.type << " " << c.in;
  EXPECT_TRUE(std::isnan(RoundTo(*FloatTypeFromName("f8"), 1000)));
}

TEST(BisectFloor, ProductsAndTheirSpreadAreTheSumsTheySayTheyAre) {
  constexpr int64_t kIn = 21, kOut = 5, kRows = 6;
  auto tensor = std::make_shared<Tensor>(DType::kF32, Shape{kOut, kIn});
  for (int64_t i = 0; i < kOut * kIn; ++i) tensor->f32()[static_cast<size_t>(i)] = static_cast<float>(std::sin(static_cast<double>(i) * 1.3));
  WeightRef weight;
  weight.view = tensor->view();
  weight.owned = tensor;
  std::vector<double> x(kRows * kIn);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::abs(std::cos(static_cast<double>(i) * 0.7));
  ThreadPool pool(2);
  for (const std::optional<FloatType>& rounding : {std::optional<FloatType>(), FloatTypeFromName("bf16")}) {
    std::vector<double> y(kRows * kOut), spread(kRows * kOut);
    Product({weight, rounding, x}, pool, y);
    ProductSpread({weight, rounding, x}, pool, spread);
    for (int64_t t = 0; t < kRows; ++t) {
      for (int64_t n = 0; n < kOut; ++n) {
        double sum = 0, squares = 0;
        for (int64_t k = 0; k < kIn; ++k) {
          double w = tensor->f32()[static_cast<size_t>(n * kIn + k)];
          if (rounding) w = RoundTo(*rounding, w);
          sum += w * x[static_cast<size_t>(t * kIn + k)];
          squares += w * w * x[static_cast<size_t>(t * kIn + k)];
        }
        EXPECT_NEAR(y[static_cast<size_t>(t * kOut + n)], sum, 1e-13);
        EXPECT_NEAR(spread[static_cast<size_t>(t * kOut + n)], std::sqrt(squares), 1e-13);
      }
    }
  }
}

// ---- bundles ----

TEST_F(BisectInputs, ABundleReplaysWhatWasFound) {
  const std::string copy = Copy("llama", "b");
  SetKey(copy, "rope_theta", 777.0);
  Options options;
  options.a = ModelPath("llama");
  options.b = copy;
  options.threads = 1;
  const Report report = bisect::Run(options);
  EXPECT_EQ(CauseName(report), "rope_theta");
  const std::string bundle = Path("repro.tar.gz");
  WriteBundle({.path = bundle, .options = options, .version = "test"}, report);
  EXPECT_TRUE(IsBundle(bundle));
  EXPECT_FALSE(IsBundle(copy));
  fs::remove_all(copy);
  const Replayed replayed = ReplayBundle(bundle);
  EXPECT_TRUE(replayed.agrees);
  EXPECT_EQ(replayed.recorded_verdict, "different");
  EXPECT_EQ(replayed.recorded_cause, "rope_theta");
  EXPECT_EQ(CauseName(replayed.report), "rope_theta");
  EXPECT_THROW(WriteBundle({.path = bundle, .options = {.a = ModelPath("llama"), .b = ModelPath("llama")}, .version = "test"}, report), Error);  // it exists
}

TEST_F(BisectInputs, ABundleOfPartsKeepsTheTensorThatIsBlamed) {
  const std::string copy = Copy("llama", "b");
  EditTensor(copy, "model.layers.1.mlp.down_proj.weight", [](float v, int64_t) { return 2 * v; });
  Options options;
  options.a = ModelPath("llama");
  options.b = copy;
  options.threads = 1;
  const Report report = bisect::Run(options);
  WriteBundle({.path = Path("parts.tar.gz"), .options = options, .version = "test", .max_model_bytes = 0}, report);
  fs::remove_all(copy);
  const Replayed replayed = ReplayBundle(Path("parts.tar.gz"));
  EXPECT_TRUE(replayed.agrees);
  EXPECT_EQ(CauseName(replayed.report), "scaled_tensor");
  ASSERT_FALSE(replayed.report.coverage.notes.empty());
  EXPECT_NE(replayed.report.coverage.notes.back().find("compared again and differs"), std::string::npos);
}

TEST_F(BisectInputs, ADamagedBundleIsRefused) {
  Options options;
  options.a = options.b = ModelPath("llama");
  options.threads = 1;
  const std::string bundle = Path("repro.tar.gz");
  WriteBundle({.path = bundle, .options = options, .version = "test"}, bisect::Run(options));
  fs::resize_file(bundle, fs::file_size(bundle) - 200);
  EXPECT_THROW(ReplayBundle(bundle), Error);
}

}  // namespace
}  // namespace apr::bisect
