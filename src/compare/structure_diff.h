// Comparing two files without their values: container, metadata, which tensors, their types, shapes,
// sizes.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "compare/weight_diff.h"
#include "format/model_file.h"

namespace apr {

struct StructureDifference {
  std::string field;     // "metadata llama.rope.freq_base", "tensor model.norm.weight dtype"
  std::string value_a, value_b;  // "(absent)" where a side has none
  std::string category;  // format, metadata, tensor, quantization, size
};

struct StructureDiff {
  std::string file_a, file_b, format_a, format_b;
  std::vector<StructureDifference> differences;

  int64_t Count(std::string_view category) const;
  Json ToJson() const;
};

// Metadata is compared key by key within one container; across containers only the tensors are.
StructureDiff DiffStructure(const WeightPairs& pairs);

}  // namespace apr
