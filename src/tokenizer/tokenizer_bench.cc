// Speed of a tokenizer, and its ids for a file of JSON lines:
//   tokenizer_bench TOKENIZER load                 milliseconds to load, best of 9: wall clock, and
//   processor time of this thread and of the process
//   tokenizer_bench TOKENIZER speed FILE [SECONDS] MB/s of encoding the file as one text, then by
//   lines tokenizer_bench TOKENIZER encode IN OUT        {"text"} to {"ids"}, see token_lines.h
//   tokenizer_bench TOKENIZER decode IN OUT        {"ids"} to {"text"}; decode-skip: without special tokens
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/mapped_file.h"
#include "tokenizer/token_lines.h"
#include "tokenizer/tokenizer.h"

namespace {

// Processor time of this thread: other programs on the machine do not count.
double Seconds(clockid_t clock = CLOCK_THREAD_CPUTIME_ID) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Best time of one call of `work` within the time given.
template <typename Work>
double Best(double budget, Work&& work) {
  double best = 1e30;
  const double end = Seconds() + budget;
  do {
    const double begin = Seconds();
    work();
    best = std::min(best, Seconds() - begin);
  } while (Seconds() < end);
  return best;
}

void Speed(const apr::Tokenizer& tokenizer, const char* path, double budget) {
  const auto file = apr::MappedFile::Open(path);
  const std::string_view text = apr::AsText(file->bytes());
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    lines.push_back(text.substr(at, end - at));
    at = end;
  }
  size_t ids = 0;
  const double cold_begin = Seconds();
  ids = tokenizer.Encode(text).ids.size();
  const double cold = Seconds() - cold_begin;
  const double whole = Best(budget, [&] { tokenizer.Encode(text); });
  const double by_line = Best(budget, [&] {
    for (const std::string_view line : lines) tokenizer.Encode(line);
  });
  const double mb = static_cast<double>(text.size()) / 1e6;
  const auto encoding = tokenizer.Encode(text);
  const double decode = Best(budget, [&] { (void)tokenizer.Decode(encoding.ids); });
  fmt::print(
      "{{\"bytes\": {}, \"ids\": {}, \"cold_mb_s\": {:.1f}, \"whole_mb_s\": {:.1f}, "
      "\"lines_mb_s\": {:.1f}, \"decode_mb_s\": {:.1f}}}\n",
      text.size(), ids, mb / cold, mb / whole, mb / by_line, mb / decode);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(
        stderr,
        "usage: tokenizer_bench TOKENIZER (load | speed FILE | encode IN OUT | decode IN OUT)\n");
    return 2;
  }
  try {
    const std::string mode = argv[2];
    if (mode == "load") {
      constexpr clockid_t kClocks[] = {CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID, CLOCK_PROCESS_CPUTIME_ID};
      double best[] = {1e30, 1e30, 1e30};
      for (int i = 0; i < 9; ++i) {
        double begin[3];
        for (int c = 0; c < 3; ++c) begin[c] = Seconds(kClocks[c]);
        const auto tokenizer = apr::Tokenizer::Open(argv[1]);
        for (int c = 0; c < 3; ++c) best[c] = std::min(best[c], Seconds(kClocks[c]) - begin[c]);
      }
      fmt::print("{{\"load_ms\": {:.2f}, \"thread_ms\": {:.2f}, \"process_ms\": {:.2f}}}\n", 1e3 * best[0], 1e3 * best[1],
                 1e3 * best[2]);
      return 0;
    }
    const auto tokenizer = apr::Tokenizer::Open(argv[1]);
    if (mode == "speed" && argc >= 4) {
      Speed(*tokenizer, argv[3], argc > 4 ? std::atof(argv[4]) : 1.0);
    } else if (mode == "encode" && argc == 5) {
      TokenizeLines(*tokenizer, argv[3], argv[4], {}, apr::Overwrite::kAllow);
    } else if ((mode == "decode" || mode == "decode-skip") && argc == 5) {
      DetokenizeLines(*tokenizer, argv[3], argv[4], mode == "decode-skip", apr::Overwrite::kAllow);
    } else {
      return 2;
    }
  } catch (const std::exception& e) {
    fmt::print(stderr, "tokenizer_bench: {}\n", e.what());
    return 1;
  }
  return 0;
}
