// See simd_json.h.
#include "format/simd_json.h"

#include <fmt/format.h>

#include <unordered_set>

#include "base/error.h"
#include "base/json.h"

namespace apr {

simdjson::dom::element ParseWithSimdJson(simdjson::dom::parser* parser,
                                         const SimdJsonText& source) {
  // simdjson reads a little beyond the end. Where that stays on the text's last page the text is read where it stands.
  constexpr size_t kPage = 4096;
  const size_t used = (reinterpret_cast<uintptr_t>(source.text.data()) + source.text.size()) % kPage;
  const bool copy = used == 0 || kPage - used < simdjson::SIMDJSON_PADDING;
  const simdjson::padded_string padded = copy ? simdjson::padded_string(source.text) : simdjson::padded_string();
  simdjson::dom::element root;
  simdjson::error_code code = parser->allocate(source.text.size(), source.max_depth);
  if (code == simdjson::SUCCESS) {
    code = parser->parse(copy ? padded.data() : source.text.data(), source.text.size(), false).get(root);
  }
  if (code == simdjson::SUCCESS) return root;
  // simdjson's document parser does not say where: the slower parser does.
  try {
    ParseJson(source.text, source.file, {.max_depth = source.max_depth});
  } catch (const Error& error) {
    const uint64_t at = source.offset + error.context().offset.value_or(0);
    throw Error(ErrorCode::kInvalidFormat, error.message(), {.file = source.file, .offset = at});
  }
  throw Error(ErrorCode::kInvalidFormat,
              fmt::format("invalid JSON: {}", simdjson::error_message(code)),
              {.file = source.file, .offset = source.offset});
}

bool FindDuplicateKey(simdjson::dom::element element, std::string_view* found) {
  if (element.is_array()) {
    for (const simdjson::dom::element child : simdjson::dom::array(element)) {
      if (FindDuplicateKey(child, found)) return true;
    }
    return false;
  }
  if (!element.is_object()) return false;
  std::unordered_set<std::string_view> seen;
  for (const auto [key, child] : simdjson::dom::object(element)) {
    if (!seen.insert(key).second) {
      *found = key;
      return true;
    }
    if (FindDuplicateKey(child, found)) return true;
  }
  return false;
}

}  // namespace apr
