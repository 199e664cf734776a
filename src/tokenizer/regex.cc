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

// Rewrites \s and \S (outside and inside classes), \h and \H (hexadecimal digits in Ruby), \uHHHH, the flag
// letter m of (?m...) (dot matches newline in Ruby) and classes inside classes (their union).
class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  std::string Run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\' && at_ + 1 < in_.size()) {
        Escape(in_[at_ + 1]);
      } else if (depth_ > 0 && Follows("[:") && in_.find(":]", at_) != std::string_view::npos) {
        Copy(in_.find(":]", at_) + 2 - at_);
      } else if (depth_ > 0 && (Follows("&&") || Follows("[^"))) {
        throw Error(
            ErrorCode::kModelLoad,
            fmt::format("the pattern \"{}\" subtracts or intersects character classes, which "
                        "is not supported",
                        in_),
            {.tensor = "Regex"});
      } else if (c == '[') {
        OpenClass();
      } else if (c == ']' && depth_ > 0) {
        if (--depth_ == 0) out_ += c;
        ++at_;
      } else if (depth_ == 0 && Follows("(?")) {
        Flags();
      } else {
        Copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  bool Follows(std::string_view text) const { return in_.substr(at_, text.size()) == text; }
  void Copy(size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }

  void Escape(char c) {
    const bool inside = depth_ > 0;
    if (c == 's') {
      out_ += inside ? kSpaceSet : fmt::format("[{}]", kSpaceSet);
    } else if (c == 'S' && !inside) {
      out_ += fmt::format("[^{}]", kSpaceSet);
    } else if (c == 'h') {
      out_ += inside ? "0-9A-Fa-f" : "[0-9A-Fa-f]";
    } else if (c == 'H' && !inside) {
      out_ += "[^0-9A-Fa-f]";
    } else if (c == 'u' && IsHex(in_.substr(at_ + 2, 4))) {
      out_ += fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4));
      at_ += 4;
    } else {
      return Copy(2);
    }
    at_ += 2;
  }

  static bool IsHex(std::string_view text) {
    return text.size() == 4 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
  }

  void OpenClass() {
    ++at_;
    if (depth_++ > 0) return;
    out_ += '[';
    if (Follows("^")) Copy(1);
    if (Follows("]")) {
      out_ += "\\]";
      ++at_;
    }
  }

  void Flags() {
    Copy(2);
    while (at_ < in_.size() && std::string_view("imx-").find(in_[at_]) != std::string_view::npos) {
      out_ += in_[at_] == 'm' ? 's' : in_[at_];
      ++at_;
    }
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  int depth_ = 0;  // of [ ]
};

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
  const std::string translated = Translator(pattern).Run();
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
