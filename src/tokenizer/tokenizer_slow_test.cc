// Hostile text at full size: time grows in proportion to it, whatever it is made of.
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

const char kShared[] = APR_SOURCE_DIR "/../shared/tokenizers/";

// Processor time of this thread: other programs on the machine do not count.
double Seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::string Repeated(std::string_view piece, size_t bytes) {
  std::string out;
  while (out.size() < bytes) out += piece;
  return out;
}

double TimeOf(const Tokenizer& tokenizer, const std::string& text) {
  const double begin = Seconds();
  EXPECT_FALSE(tokenizer.Encode(text).ids.empty());
  return Seconds() - begin;
}

class HostileText : public testing::TestWithParam<const char*> {};

TEST_P(HostileText, TimeGrowsInProportion) {
  const std::string path = std::string(kShared) + GetParam();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is absent";
  const auto tokenizer = Tokenizer::Open(path);
  constexpr size_t kMegabyte = 1'000'000;
  for (const auto& [piece, megabytes] : {std::pair<std::string_view, size_t>{"a", 100}, {"\xCC\x81", 10}, {" ", 10}, {"\n", 10},
                                         {"7", 10}, {"\xFF", 10}, {"\xE4\xBD\xA0\xE5\xA5\xBD", 10}, {"'", 10}, {" a", 10}}) {
    const double small = TimeOf(*tokenizer, Repeated(piece, megabytes * kMegabyte / 10));
    const double large = TimeOf(*tokenizer, Repeated(piece, megabytes * kMegabyte));
    // 10 times the text; what does not fit the caches any more may cost some more.
    EXPECT_LT(large, 25 * small + 0.5) << "of '" << piece << "'";
    EXPECT_LT(large, 0.6 * static_cast<double>(megabytes)) << "seconds for " << megabytes << " MB of '" << piece << "'";
  }
}

INSTANTIATE_TEST_SUITE_P(Files, HostileText,
                         testing::Values("qwen2_5/tokenizer.json", "llama3_2/tokenizer.json", "ggml-vocab/ggml-vocab-gpt-2.gguf",
                                         "ggml-vocab/ggml-vocab-llama-spm.gguf"));

}  // namespace
}  // namespace apr
