// What apr hex shows of one tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json_fwd.h"
#include "format/model_file.h"

namespace apr {

// Which views were asked for; none: the first bytes and elements.
struct TensorViews {
  bool stats = false, blocks = false, distribution = false, entropy = false, contract = false, slice = false;
  uint64_t limit = 64;
  uint64_t width = 16;
  int64_t slice_first = 0;
  std::optional<int64_t> slice_end;

  bool none() const { return !stats && !blocks && !distribution && !entropy && !contract && !slice; }
};

// name, dtype, shape, offset, size_bytes, file.
Json TensorHeadJson(const ModelFile& file, const TensorInfo& info);
Json TensorJson(const ModelFile& file, const TensorInfo& info, const TensorViews& views);
std::string TensorText(const ModelFile& file, const TensorInfo& info, const TensorViews& views);

}  // namespace apr
