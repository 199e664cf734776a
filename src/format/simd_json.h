// simdjson as the readers of this folder use it: for texts with very many keys, where the ordered
// object of base/json.h would be slow. Include only in .cc files.
#pragma once

#include <simdjson.h>

#include <string>
#include <string_view>

namespace apr {

struct SimdJsonText {
  std::string_view text;
  std::string file;      // for errors
  uint64_t offset = 0;   // of text[0] in the file
  size_t max_depth = 64;
};

// Parses with `parser`, which owns the result. Throws kInvalidFormat with file and offset.
simdjson::dom::element ParseWithSimdJson(simdjson::dom::parser* parser, const SimdJsonText& source);

// The first key that occurs twice in one object, at any level; empty if there is none.
// (`found` distinguishes an empty key.)
bool FindDuplicateKey(simdjson::dom::element element, std::string_view* found);

}  // namespace apr
