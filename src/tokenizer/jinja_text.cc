// See jinja_text.h.
#include "tokenizer/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "base/bytes.h"
#include "tokenizer/jinja_unicode.h"

namespace apr::jinja {
namespace {

bool InRanges(std::span<const CodeRange> ranges, char32_t c) {
  const auto* it = std::upper_bound(ranges.data(), ranges.data() + ranges.size(), c,
                                    [](char32_t v, const CodeRange& r) { return v < r.first; });
  return it != ranges.data() && c <= std::prev(it)->last;
}

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

// Appends the mapping of `c`: the entry of `multi` if there is one, else `single`.
void AppendCase(std::string* out, std::span<const MultiCase> multi, char32_t c,
                utf8proc_int32_t single) {
  const auto* end = multi.data() + multi.size();
  const auto* it = std::lower_bound(multi.data(), end, c,
                                    [](const MultiCase& m, char32_t v) { return m.from < v; });
  if (it == end || it->from != c) {
    AppendUtf8(out, static_cast<char32_t>(single));
    return;
  }
  for (const char32_t part : it->to) {
    if (part != 0) AppendUtf8(out, part);
  }
}

void AppendUpper(std::string* out, char32_t c) {
  AppendCase(out, kUpperMulti, c, utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
void AppendTitle(std::string* out, char32_t c) {
  AppendCase(out, kTitleMulti, c, utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

// True if the sigma at [begin, end) closes a word: a cased letter before it and none after, with
// case-ignorable characters skipped (Unicode chapter 3.13, Final_Sigma).
bool IsFinalSigma(std::string_view text, size_t begin, size_t end) {
  bool before = false;
  for (size_t i = begin; i > 0;) {
    const char32_t c = DecodeBefore(text, &i);
    if (InRanges(kCaseIgnorable, c)) continue;
    before = IsCased(c);
    break;
  }
  if (!before) return false;
  for (size_t i = end; i < text.size();) {
    const char32_t c = DecodeAt(text, &i);
    if (!InRanges(kCaseIgnorable, c)) return !IsCased(c);
  }
  return true;
}

// `end` is the position behind `c` in `text`.
void AppendLower(std::string* out, std::string_view text, char32_t c, size_t begin, size_t end) {
  if (c == 0x3A3) {
    AppendUtf8(out, IsFinalSigma(text, begin, end) ? 0x3C2 : 0x3C3);
  } else {
    AppendCase(out, kLowerMulti, c, utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  }
}

template <typename Each>
std::string MapEach(std::string_view text, Each each) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char32_t c = DecodeAt(text, &i);
    each(&out, c, begin, i);
  }
  return out;
}

}  // namespace

char32_t DecodeAt(std::string_view text, size_t* position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[*position + i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    *position += 1;
    return first;
  }
  const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (*position + size > text.size()) {  // unreachable for well-formed text
    *position = text.size();
    return 0xFFFD;
  }
  char32_t c = first & (0xFFU >> (size + 1));
  for (size_t i = 1; i < size; ++i) c = (c << 6) | (byte(i) & 0x3FU);
  *position += size;
  return c;
}

char32_t DecodeBefore(std::string_view text, size_t* position) {
  size_t begin = *position - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  *position = begin;
  size_t at = begin;
  return DecodeAt(text, &at);
}

void AppendUtf8(std::string* out, char32_t c) {
  const auto put = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

size_t CountCodePoints(std::string_view text) {
  // Every string is counted when it is made: eight bytes at a time, each lane of `lanes` counting the
  // continuation bytes (10xxxxxx) that passed it.
  constexpr uint64_t kOnes = 0x0101010101010101;
  size_t continuations = 0;
  size_t at = 0;
  while (text.size() - at >= 8) {
    const size_t words = std::min<size_t>(255, (text.size() - at) / 8);
    uint64_t lanes = 0;
    for (const size_t end = at + 8 * words; at < end; at += 8) {
      const auto word = LoadLe<uint64_t>(text.data() + at);
      lanes += (word >> 7) & ~(word >> 6) & kOnes;
    }
    // Lanes hold up to 255: folded in two steps, as their sum does not fit eight bits.
    lanes = (lanes & 0x00FF00FF00FF00FF) + (lanes >> 8 & 0x00FF00FF00FF00FF);
    continuations += lanes * 0x0001000100010001 >> 48;
  }
  for (; at < text.size(); ++at) continuations += (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  return text.size() - continuations;
}

size_t ByteOffset(std::string_view text, size_t count, size_t index) {
  if (index >= count) return text.size();
  if (count == text.size()) return index;
  size_t position = 0;
  for (; index > 0; --index) {
    do {
      ++position;
    } while (position < text.size() && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  }
  return position;
}

bool IsSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool IsAlpha(char32_t c) {
  if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool IsDecimal(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return Category(c) == UTF8PROC_CATEGORY_ND;
}
bool IsDigit(char32_t c) { return IsDecimal(c) || InRanges(kOtherDigit, c); }
bool IsNumeric(char32_t c) { return IsDecimal(c) || InRanges(kNumeric, c); }
bool IsLower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return Category(c) == UTF8PROC_CATEGORY_LL || InRanges(kOtherLower, c);
}
bool IsUpper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return Category(c) == UTF8PROC_CATEGORY_LU || InRanges(kOtherUpper, c);
}
bool IsTitle(char32_t c) { return c >= 0x80 && Category(c) == UTF8PROC_CATEGORY_LT; }

bool IsPrintable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool IsWord(char32_t c) { return c == '_' || IsAlnum(c); }

bool IsIdentifier(std::string_view text) {
  if (text.empty()) return false;
  for (size_t i = 0; i < text.size();) {
    const bool first = i == 0;
    const char32_t c = DecodeAt(text, &i);
    if (c == '_' || IsAlpha(c)) continue;
    if (c >= 0x80 && Category(c) == UTF8PROC_CATEGORY_NL) continue;
    if (first) return false;
    if (IsDecimal(c)) continue;
    const auto category = c < 0x80 ? UTF8PROC_CATEGORY_CN : Category(c);
    if (category != UTF8PROC_CATEGORY_MN && category != UTF8PROC_CATEGORY_MC &&
        category != UTF8PROC_CATEGORY_PC) {
      return false;
    }
  }
  return true;
}

std::string ToUpper(std::string_view text) {
  return MapEach(text, [](std::string* out, char32_t c, size_t, size_t) { AppendUpper(out, c); });
}

std::string ToLower(std::string_view text) {
  return MapEach(text, [&](std::string* out, char32_t c, size_t begin, size_t end) {
    AppendLower(out, text, c, begin, end);
  });
}

std::string ToTitle(std::string_view text) {
  bool inside = false;
  return MapEach(text, [&](std::string* out, char32_t c, size_t begin, size_t end) {
    if (inside) {
      AppendLower(out, text, c, begin, end);
    } else {
      AppendTitle(out, c);
    }
    inside = IsCased(c);
  });
}

std::string ToCapitalized(std::string_view text) {
  return MapEach(text, [&](std::string* out, char32_t c, size_t begin, size_t end) {
    if (begin == 0) {
      AppendTitle(out, c);
    } else {
      AppendLower(out, text, c, begin, end);
    }
  });
}

std::string SwapCase(std::string_view text) {
  return MapEach(text, [&](std::string* out, char32_t c, size_t begin, size_t end) {
    if (IsUpper(c)) {
      AppendLower(out, text, c, begin, end);
    } else if (IsLower(c)) {
      AppendUpper(out, c);
    } else {
      AppendUtf8(out, c);
    }
  });
}

std::string CaseFold(std::string_view text) {
  return MapEach(text, [](std::string* out, char32_t c, size_t, size_t) {
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded, 8,
                                               UTF8PROC_CASEFOLD, &boundary);
    if (count < 1 || count > 8) {
      AppendUtf8(out, c);
      return;
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) AppendUtf8(out, static_cast<char32_t>(folded[i]));
  });
}

std::string_view StripLeft(std::string_view text) {
  size_t begin = 0;
  while (begin < text.size()) {
    size_t next = begin;
    if (!IsSpace(DecodeAt(text, &next))) break;
    begin = next;
  }
  return text.substr(begin);
}

std::string_view StripRight(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t next = end;
    if (!IsSpace(DecodeBefore(text, &next))) break;
    end = next;
  }
  return text.substr(0, end);
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const char32_t c = DecodeAt(text, &i);
    if (!IsLineBreak(c)) continue;
    if (c == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(begin, (keep_ends ? i : at) - begin));
    begin = i;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace apr::jinja
