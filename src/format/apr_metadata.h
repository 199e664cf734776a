// The JSON metadata of an APR file as a list of values and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "format/meta_value.h"

namespace apr {

// `text` is the JSON object; `file` and `offset` (of the text) are named in errors. Top-level keys in
// file order; of a key that occurs twice the last value that is not null counts. Strings, numbers,
// bools and flat arrays of one of these become values of their own; all else stays text
// (MetaValue::Type::kJson). Throws kInvalidFormat.
MetaBuilder ParseAprMetadata(std::string_view text, const std::string& file, uint64_t offset);

struct AprMetadataArgs {
  std::string file;          // for errors
  uint64_t total_size = 0;   // bytes of all tensors
  uint64_t param_count = 0;  // their elements
};
// One line of JSON: the keys that no file may lack, then the others in the order given. The same list
// gives the same text, and reading it gives the same list. Throws kValidationFailed for what JSON
// cannot hold.
std::string FormatAprMetadata(const MetaList& metadata, const AprMetadataArgs& args);

}  // namespace apr
