// JSON as the project uses it: an ordered object type, and a parser that bounds depth and size and
// refuses what RFC 8259 forbids. Include this only in .cc files: nlohmann's header is heavy;
// headers forward-declare with json_fwd.h.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace apr {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t max_depth = 256;
  // Keys of one object. The ordered object type finds a key by walking: building one with many keys
  // takes quadratic time. Large maps (vocabularies, tensor lists) are read with simdjson instead.
  size_t max_keys = 20000;
  bool refuse_duplicate_keys = false;  // at any level; else the last one wins
};

// Throws kInvalidFormat with `file` and the byte offset. NaN and Infinity literals are errors.
Json ParseJson(std::string_view text, const std::string& file, const JsonLimits& limits = {});

// Numbers that JSON cannot hold become the strings "nan", "inf", "-inf".
Json JsonNumber(double value);

// Strict dump; invalid UTF-8 in strings is replaced by U+FFFD, never an exception.
std::string DumpJson(const Json& value, int indent = 2);

}  // namespace apr
