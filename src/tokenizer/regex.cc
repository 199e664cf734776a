// See regex.h.
#include "tokenizer/regex.h"

#include <fmt/format.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

constexpr uint32_t kMatchLimit = 100'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kJitStackBytes = 1 << 20;

// White_Space, spelled out: PCRE2's \s has U+180E besides.
constexpr char kSpaceSet[] =
    R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Rewrites \s and \S (outside and inside classes), \h and \H (hexadecimal digits in Ruby), and the
// flag letter m of (?m...) (dot matches newline in Ruby).
std::string Translate(std::string_view in) {
  std::string out;
  size_t depth = 0;  // of [ ]
  for (size_t i = 0; i < in.size(); ++i) {
    const char c = in[i];
    if (c == '\\' && i + 1 < in.size()) {
      const char d = in[++i];
      if (d == 's') {
        out += depth > 0 ? kSpaceSet : fmt::format("[{}]", kSpaceSet);
      } else if (d == 'S' && depth == 0) {
        out += fmt::format("[^{}]", kSpaceSet);
      } else if (d == 'h') {
        out += depth > 0 ? "0-9A-Fa-f" : "[0-9A-Fa-f]";
      } else if (d == 'H' && depth == 0) {
        out += "[^0-9A-Fa-f]";
      } else {
        out += c;
        out += d;
      }
      continue;
    }
    if (depth > 0 && c == '[' && i + 1 < in.size() && in[i + 1] == ':') {
      const size_t close = in.find(":]", i + 2);
      if (close != std::string_view::npos) {
        out += in.substr(i, close + 2 - i);
        i = close + 1;
        continue;
      }
    }
    if (depth > 0 && (in.substr(i, 2) == "&&" || in.substr(i, 2) == "[^")) {
      throw Error(
          ErrorCode::kModelLoad,
          fmt::format("the pattern \"{}\" subtracts or intersects character classes, which is "
                      "not supported",
                      in),
          {.tensor = "Regex"});
    }
    if (c == '[') {
      if (depth++ > 0) continue;  // a class inside a class is their union
      out += c;
      if (i + 1 < in.size() && in[i + 1] == '^') out += in[++i];
      if (i + 1 < in.size() && in[i + 1] == ']') {
        out += "\\]";
        ++i;
      }
      continue;
    }
    if (c == ']' && depth > 0 && --depth > 0) continue;
    if (depth == 0 && c == '(' && in.substr(i, 2) == "(?") {
      out += "(?";
      i += 2;
      while (i < in.size() && (in[i] == 'i' || in[i] == 'm' || in[i] == 'x' || in[i] == '-')) {
        out += in[i] == 'm' ? 's' : in[i];
        ++i;
      }
      --i;
      continue;
    }
    out += c;
  }
  return out;
}

std::string MessageOf(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof buffer) < 0)
    return fmt::format("error {}", code);
  return reinterpret_cast<const char*>(buffer);
}

template <auto kFree>
struct Deleter {
  template <typename T>
  void operator()(T* p) const {
    kFree(p);
  }
};
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Deleter<pcre2_jit_stack_free>>;

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern) : pattern_(pattern), code_(std::make_unique<Code>()) {
  const std::string translated = Translate(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              options, &error, &offset, nullptr);
  if (code_->code == nullptr) {
    throw Error(ErrorCode::kModelLoad,
                fmt::format("the pattern \"{}\" does not compile: {}", pattern, MessageOf(error)),
                {.tensor = "Regex"});
  }
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // without JIT the interpreter serves
}

Regex::~Regex() = default;

void Regex::ForEachMatch(std::string_view text,
                         const std::function<void(size_t, size_t)>& match) const {
  const MatchData data(pcre2_match_data_create_from_pattern(code_->code, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  const JitStack stack(pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr));
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t at = 0;
  while (at <= text.size()) {
    const int count = pcre2_match(code_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                  data.get(), context.get());
    if (count == PCRE2_ERROR_NOMATCH) return;
    if (count < 0) {
      throw Error(ErrorCode::kInvalidFormat,
                  fmt::format("the pattern \"{}\" cannot be matched at byte {} of the text: {}",
                              pattern_, at, MessageOf(count)),
                  {.tensor = "Regex"});
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    const size_t begin = range[0];
    const size_t end = range[1];
    if (end < begin) return;  // \K behind a lookahead
    match(begin, end);
    at = end;
    if (begin == end) {
      at += end < text.size() ? unicode::SequenceLength(static_cast<unsigned char>(text[end])) : 1;
    }
  }
}

}  // namespace apr
