// Text of templates as sequences of code points: stepping through UTF-8, character classes and case
// mappings as Python's str defines them. Not the tokenizer's text rules.
//
// Strings here are UTF-8 that may hold lone surrogates as three bytes each (a template can write
// "\ud800"); every string is well formed in that sense, so stepping needs no checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apr::jinja {

// The code point at `*position`, which is moved behind it. Requires *position < text.size().
char32_t DecodeAt(std::string_view text, size_t* position);
// The code point that ends at `*position`, which is moved before it. Requires *position > 0.
char32_t DecodeBefore(std::string_view text, size_t* position);
void AppendUtf8(std::string* out, char32_t c);
size_t CountCodePoints(std::string_view text);
// Byte offset of code point `index`, or text.size() when there are fewer. `count` is the number of
// code points of `text`: equal to its size for ASCII, which makes this immediate.
size_t ByteOffset(std::string_view text, size_t count, size_t index);

bool IsSpace(char32_t c);
bool IsLineBreak(char32_t c);
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsLower(char32_t c);
bool IsUpper(char32_t c);
bool IsTitle(char32_t c);
bool IsPrintable(char32_t c);  // what repr() does not escape
bool IsWord(char32_t c);       // \w of Python's re
bool IsIdentifier(std::string_view text);
inline bool IsAlnum(char32_t c) { return IsAlpha(c) || IsDecimal(c) || IsDigit(c) || IsNumeric(c); }
inline bool IsCased(char32_t c) { return IsLower(c) || IsUpper(c) || IsTitle(c); }

std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
std::string ToTitle(std::string_view text);  // str.title()
std::string ToCapitalized(std::string_view text);
std::string SwapCase(std::string_view text);
std::string CaseFold(std::string_view text);

std::string_view StripLeft(std::string_view text);  // white space
std::string_view StripRight(std::string_view text);
inline std::string_view Strip(std::string_view text) { return StripRight(StripLeft(text)); }

// Lines as str.splitlines() cuts them.
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);

// The text with & < > ' " replaced by HTML entities.
std::string EscapeHtml(std::string_view text);

}  // namespace apr::jinja
