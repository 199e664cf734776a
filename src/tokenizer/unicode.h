// Character classes, UTF-8 stepping and case of Unicode code points, as the splitting patterns and
// normalisers of tokenizers need them. Classes come from utf8proc's tables (one Unicode version for
// the whole program), flattened once per process into an array that a scanner indexes directly.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace apr::unicode {

// Bits of CharFlags().
enum : uint16_t {
  kLu = 1 << 0,  // general categories
  kLl = 1 << 1,
  kLt = 1 << 2,
  kLm = 1 << 3,
  kLo = 1 << 4,
  kMark = 1 << 5,         // Mn, Mc, Me
  kNumber = 1 << 6,       // Nd, Nl, No
  kPunctuation = 1 << 7,  // P*
  kSymbol = 1 << 8,       // S*
  kSpace = 1 << 9,        // property White_Space (what \s means)
  kWord = 1 << 10,        // \w of Unicode TR18: Alphabetic, M, Nd, Pc, Join_Control
  kNfcCheck = 1 << 11,    // NFC_Quick_Check is not Yes, or the combining class is not 0
  kOther = 1 << 12,       // Cc, Cf, Co, Cs
  kNewline = 1 << 13,     // \r and \n
  kLetter = kLu | kLl | kLt | kLm | kLo,
};

inline constexpr char32_t kTableSize = 0x40000;
inline constexpr char32_t kReplacement = 0xFFFD;

// Flags of the code points below kTableSize. Built on first use; thread-safe.
const uint16_t* CharTable();
uint16_t SlowCharFlags(char32_t cp);  // at or above kTableSize
inline uint16_t CharFlags(const uint16_t* table, char32_t cp) {
  return cp < kTableSize ? table[cp] : SlowCharFlags(cp);
}
inline uint16_t CharFlags(char32_t cp) { return CharFlags(CharTable(), cp); }

// Length in bytes of the character whose first byte is `lead`, in well-formed UTF-8.
inline uint32_t SequenceLength(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// The code point at `p` and its length; the text must be well-formed UTF-8.
struct Decoded {
  char32_t cp;
  uint32_t length;
};
inline Decoded DecodeValid(const char* p) {
  const auto b = [p](int i) { return static_cast<char32_t>(static_cast<unsigned char>(p[i])); };
  const char32_t lead = b(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (b(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (b(1) & 0x3F) << 6 | (b(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (b(1) & 0x3F) << 12 | (b(2) & 0x3F) << 6 | (b(3) & 0x3F), 4};
}

// Start of the character that ends before `end` (end > begin), in well-formed UTF-8.
inline const char* PreviousCharacter(const char* begin, const char* end) {
  const char* p = end - 1;
  while (p > begin && (static_cast<unsigned char>(*p) & 0xC0) == 0x80) --p;
  return p;
}

void AppendUtf8(char32_t cp, std::string& out);

// The first character of arbitrary bytes. valid: a well-formed sequence of `length` bytes.
// Otherwise `length` is that of the maximal ill-formed part (Unicode 15, section 3.9, "U+FFFD
// Substitution of Maximal Subparts"), and `truncated` says that the bytes end inside a sequence
// that could still become well-formed.
struct Probe {
  uint32_t length;
  bool valid;
  bool truncated;
};
Probe ProbeUtf8(std::string_view bytes);

// Each maximal ill-formed part replaced by U+FFFD.
std::string ReplaceIllFormed(std::string_view bytes);

// Full lower-case mapping of one code point, context-free (U+0130 becomes two characters).
void AppendLower(char32_t cp, std::string& out);

// Unicode script of a code point as an opaque number above 0; kana count as Han. Slow on the first
// call for a code point.
int ScriptOf(char32_t cp);

bool IsAsciiPunctuation(char32_t cp);

}  // namespace apr::unicode
