// Characters of a grammar's text, one by one.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "tokenizer/unicode.h"

namespace apr {

// The code point at `at`, which moves behind it; nullopt for bytes that are no UTF-8.
inline std::optional<uint32_t> ReadUtf8(std::string_view text, size_t& at) {
  const std::string_view rest = text.substr(at);
  if (!unicode::ProbeUtf8(rest).valid) return std::nullopt;
  const unicode::Decoded decoded = unicode::DecodeValid(rest.data());
  at += decoded.length;
  return decoded.cp;
}

}  // namespace apr
