// See bytes.h.
#include "base/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace apr {

std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

namespace {

// Length of the well-formed UTF-8 sequence at the start of `text`, 0 if there is none.
// Source: Unicode Standard 15, table 3-7.
size_t Utf8SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto in = [&](size_t i, unsigned low, unsigned high) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return in(1, 0x80, 0xBF) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const unsigned low = first == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : 0xBF;
    return in(1, low, high) && in(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const unsigned low = first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xF4 ? 0x8F : 0xBF;
    return in(1, low, high) && in(2, 0x80, 0xBF) && in(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    while (text.size() >= 8 && (LoadLe<uint64_t>(text.data()) & 0x8080808080808080u) == 0) text.remove_prefix(8);
    if (text.empty()) break;
    const size_t length = Utf8SequenceLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

Bytes ByteReader::ReadBytes(uint64_t count, std::string_view what) {
  if (count > remaining()) {
    Fail(fmt::format("truncated: {} needs {} bytes, {} remain", what, count, remaining()));
  }
  const Bytes out = bytes_.subspan(position_, count);
  position_ += count;
  return out;
}

bool EqualNoCase(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

void ByteReader::Fail(std::string message, std::string key) const {
  FailAt(offset(), std::move(message), std::move(key));
}

void ByteReader::FailAt(uint64_t at, std::string message, std::string key) const {
  throw Error(ErrorCode::kInvalidFormat, std::move(message),
              {.file = file_, .tensor = std::move(key), .offset = at});
}

}  // namespace apr
