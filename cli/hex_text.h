// Bytes as people read them.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/json_fwd.h"

namespace apr {

// Rows "00000010  47 47 55 46 ...  GGUF", `width` bytes each; `offset` is that of the first byte.
std::string HexRows(Bytes bytes, uint64_t offset, size_t width);
// [{"offset", "hex", "text"}], a row each.
Json HexRowsJson(Bytes bytes, uint64_t offset, size_t width);
std::string HexDigits(Bytes bytes);  // "47 47 55 46"

}  // namespace apr
