// The header of a file, field by field, for people: where each lies and what it says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace apr {

struct HeaderField {
  uint64_t offset = 0;
  uint64_t size = 0;    // bytes
  std::string name;     // "tensor_count", "key general.architecture", "tensor blk.0.attn_q.weight"
  std::string value;    // what it says, at most a line
};

// Of the first `limit` fields (0: all). `bytes`: a whole GGUF, safetensors, APR or APRT file, told by its
// first bytes; `file` names it in errors. Throws kInvalidFormat where the header ends too early or
// begins like none of these.
std::vector<HeaderField> MapHeader(Bytes bytes, const std::string& file, uint64_t limit);

}  // namespace apr
