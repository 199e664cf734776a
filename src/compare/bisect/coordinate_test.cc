// A changed element is told by its place in the tensor that is named, however its architecture fuses, turns, interleaves or stacks it.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/json.h"
#include "base/temp_folder.h"
#include "compare/bisect/bisection.h"
#include "format/model_writer.h"
#include "quant/quant.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

class Coordinate : public testing::TestWithParam<std::string> {
 protected:
  // The model with element `at` of `victim` moved far away.
  std::string Damaged(const std::string& victim, int64_t at) const {
    std::vector<TensorToWrite> tensors;
    for (const TensorInfo& info : file_->tensors()) {
      if (info.name != victim) {
        tensors.push_back(CopyOf(file_, info, info.name));
        continue;
      }
      std::vector<float> values(static_cast<size_t>(info.shape.num_elements()));
      DecodeTensor(file_->View(info), values);
      float most = 0;
      for (const float v : values) most = std::max(most, std::fabs(v));
      values[static_cast<size_t>(at)] = 20 * most + 1;
      std::vector<std::byte> bytes(*StorageBytes(info.dtype, info.shape));
      EncodeRows(info.dtype, values.data(), 1, static_cast<int64_t>(values.size()), nullptr, bytes.data());
      tensors.push_back({info.name, info.dtype, info.shape, [bytes](const ByteSink& sink) { sink(bytes); }});
    }
    WriteSafetensorsFolder({.folder = folder_ / "b", .tensors = tensors, .metadata = {}, .overwrite = Overwrite::kAllow});
    std::ofstream(folder_ / "b/config.json") << *file_->config();
    return folder_ / "b";
  }

  const std::string model_ = APR_SOURCE_DIR "/testdata/model/" + GetParam();
  std::shared_ptr<const ModelFile> file_ = ModelFile::Open(model_);
  TempFolder folder_{"coordinate"};
};

TEST_P(Coordinate, IsThatOfTheTensorThatIsNamed) {
  std::mt19937 random(3);
  int checked = 0;
  for (const TensorInfo& info : file_->tensors()) {
    const bool plain = info.dtype == DType::kF32 || info.dtype == DType::kF16 || info.dtype == DType::kBF16;
    if (!plain || info.shape.ndim() < 2 || random() % 2 == 0) continue;
    const auto at = static_cast<int64_t>(random() % static_cast<uint64_t>(info.shape.num_elements()));
    const Report report = bisect::Run({.a = model_, .b = Damaged(info.name, at), .phases = {Phase::kWeights}, .threads = 1});
    ASSERT_FALSE(report.findings.empty()) << info.name;
    const Place& first = report.findings[0].first;
    EXPECT_EQ(first.tensor, info.name);
    std::vector<int64_t> expected;
    int64_t rest = at;
    for (int d = info.shape.ndim() - 1; d >= 0; --d) {
      expected.insert(expected.begin(), rest % info.shape[d]);
      rest /= info.shape[d];
    }
    EXPECT_EQ(first.coordinate, expected) << info.name << " " << info.shape.ToString();
    ++checked;
  }
  EXPECT_GT(checked, 3);
}

std::vector<std::string> Folders() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(APR_SOURCE_DIR "/testdata/model")) {
    if (fs::exists(entry.path() / "config.json")) out.push_back(entry.path().filename().string());
  }
  std::ranges::sort(out);
  return out;
}
std::string NameOfParam(const testing::TestParamInfo<std::string>& p) {
  std::string out = p.param;
  std::ranges::replace(out, '-', '_');
  return out;
}
INSTANTIATE_TEST_SUITE_P(Models, Coordinate, testing::ValuesIn(Folders()), NameOfParam);

}  // namespace
}  // namespace apr::bisect
