// Opening is independent of the size of the data: 15 GB files (sparse ones), a vocabulary of 150,000
// entries and 100,000 tensors cost milliseconds and little memory.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/bytes.h"
#include "format/model_file.h"
#include "format/test_limits.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kFileBytes = 15'000'000'000;
constexpr uint64_t kMiB = 1 << 20;

template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}
void AppendText(std::string* out, const std::string& text) {
  Append<uint64_t>(out, text.size());
  out->append(text);
}

// CPU time of this thread: other work on the machine does not count.
double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

uint64_t ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  uint64_t pages = 0;
  in >> pages >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

struct Cost {
  double seconds;
  uint64_t resident;  // gained while the file is open
};

Cost OpenCost(const std::string& path, size_t tensors) {
  const uint64_t before = ResidentBytes();
  const double start = CpuSeconds();
  const auto file = ModelFile::Open(path);
  const Cost cost{CpuSeconds() - start, std::max(ResidentBytes(), before) - before};
  EXPECT_EQ(file->tensors().size(), tensors);
  return cost;
}

class SparseTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / ("apr-sparse-" + std::to_string(getpid()));
  }
  void TearDown() override { fs::remove(path_); }

  // False when the file system stores holes as bytes (or refuses the size).
  bool WriteSparse(const std::string& head) {
    std::ofstream(path_, std::ios::binary).write(head.data(), static_cast<long>(head.size()));
    std::error_code error;
    fs::resize_file(path_, kFileBytes, error);
    struct stat info {};
    return !error && stat(path_.c_str(), &info) == 0 &&
           static_cast<uint64_t>(info.st_blocks) * 512 < 100 * kMiB;
  }
  void ExpectCheap(const Cost& cost) {
    RecordProperty("cpu_microseconds", static_cast<int>(cost.seconds * 1e6));
    RecordProperty("resident_kib", static_cast<int>(cost.resident / 1024));
    if (kSanitized) return;
    EXPECT_LT(cost.seconds, 0.05);
    EXPECT_LT(cost.resident, 24 * kMiB);
  }

  fs::path path_;
};

TEST_F(SparseTest, GgufOfFifteenGigabytesWithALargeVocabulary) {
  constexpr uint64_t kTensors = 300, kWords = 150'000;
  constexpr uint64_t kRows = 1000, kCols = 12'000;  // F32: 48 MB each, 14.4 GB in all
  std::string head = "GGUF";
  Append<uint32_t>(&head, 3);
  Append<uint64_t>(&head, kTensors);
  Append<uint64_t>(&head, 1);
  AppendText(&head, "tokenizer.ggml.tokens");
  Append<uint32_t>(&head, 9);
  Append<uint32_t>(&head, 8);
  Append<uint64_t>(&head, kWords);
  for (uint64_t i = 0; i < kWords; ++i) AppendText(&head, "word" + std::to_string(i));
  for (uint64_t i = 0; i < kTensors; ++i) {
    AppendText(&head, "blk." + std::to_string(i) + ".weight");
    Append<uint32_t>(&head, 2);
    Append<uint64_t>(&head, kCols);
    Append<uint64_t>(&head, kRows);
    Append<uint32_t>(&head, 0);
    Append<uint64_t>(&head, i * kRows * kCols * 4);
  }
  if (!WriteSparse(head)) GTEST_SKIP() << "the file system of " << path_ << " has no sparse files";
  ExpectCheap(OpenCost(path_, kTensors));
}

std::string SafetensorsHead(uint64_t tensors, uint64_t total) {
  const uint64_t each = total / tensors / 2 * 2;
  std::string json = "{";
  for (uint64_t i = 0; i < tensors; ++i) {
    const uint64_t start = i * each, end = i + 1 == tensors ? total : start + each;
    if (i > 0) json += ',';
    json += "\"model.layers." + std::to_string(i) + ".weight\":{\"dtype\":\"F16\",\"shape\":[" +
            std::to_string((end - start) / 2) + "],\"data_offsets\":[" + std::to_string(start) + "," +
            std::to_string(end) + "]}";
  }
  json += "}";
  std::string head;
  AppendText(&head, json);
  return head;
}

TEST_F(SparseTest, SafetensorsOfFifteenGigabytes) {
  // The header's length must be known to know how many data bytes it leaves.
  std::string head = SafetensorsHead(500, kFileBytes - 100'000);
  for (int i = 0; i < 3; ++i) head = SafetensorsHead(500, (kFileBytes - head.size()) / 2 * 2);
  if ((kFileBytes - head.size()) % 2 != 0) {  // one space makes the number of data bytes even
    const uint64_t length = LoadLe<uint64_t>(head.data()) + 1;
    head += ' ';
    StoreLe(head.data(), length);
  }
  if (!WriteSparse(head)) GTEST_SKIP() << "the file system of " << path_ << " has no sparse files";
  ExpectCheap(OpenCost(path_, 500));
}

TEST_F(SparseTest, HundredThousandTensors) {
  const std::string head = SafetensorsHead(100'000, 400'000);
  std::ofstream(path_, std::ios::binary).write(head.data(), static_cast<long>(head.size()));
  fs::resize_file(path_, head.size() + 400'000);
  const Cost cost = OpenCost(path_, 100'000);
  RecordProperty("cpu_microseconds", static_cast<int>(cost.seconds * 1e6));
  if (!kSanitized) {
    EXPECT_LT(cost.seconds, 0.5);
  }
}

}  // namespace
}  // namespace apr
