// JSON Schema's "format" (draft 2020-12, validation, section 7.3) as patterns. A pattern may allow less than the format:
// 29 February is left out, names have no two hyphens in a row.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace apr {

struct JsonFormat {
  std::string pattern;   // as json_pattern.h reads them
  int64_t shortest = 0;  // characters of what it allows
  int64_t longest = -1;  // -1: no limit
};

// nullopt: a format that is a note, as the specification has it.
std::optional<JsonFormat> JsonFormatOf(std::string_view name);

}  // namespace apr
