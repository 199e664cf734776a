// See gguf_file_type.h.
#include "model/gguf_file_type.h"

#include <algorithm>
#include <map>
#include <optional>

namespace apr {
namespace {

struct FileType {
  std::string_view mix;
  uint32_t number;
  DType dtype;  // of most tensors
};
// llama.cpp include/llama.h, enum llama_ftype. For a type with several mixes the first row is its name.
constexpr FileType kFileTypes[] = {
    {"F32", 0, DType::kF32},         {"F16", 1, DType::kF16},         {"Q4_0", 2, DType::kQ4_0},
    {"Q4_1", 3, DType::kQ4_1},       {"Q8_0", 7, DType::kQ8_0},       {"Q5_0", 8, DType::kQ5_0},
    {"Q5_1", 9, DType::kQ5_1},       {"Q2_K", 10, DType::kQ2_K},      {"Q3_K_M", 12, DType::kQ3_K},
    {"Q3_K_S", 11, DType::kQ3_K},    {"Q3_K_L", 13, DType::kQ3_K},    {"Q4_K_M", 15, DType::kQ4_K},
    {"Q4_K_S", 14, DType::kQ4_K},    {"Q5_K_M", 17, DType::kQ5_K},    {"Q5_K_S", 16, DType::kQ5_K},
    {"Q6_K", 18, DType::kQ6_K},      {"IQ2_XXS", 19, DType::kIQ2_XXS}, {"IQ2_XS", 20, DType::kIQ2_XS},
    {"IQ3_XXS", 23, DType::kIQ3_XXS}, {"IQ1_S", 24, DType::kIQ1_S},    {"IQ4_NL", 25, DType::kIQ4_NL},
    {"IQ3_S", 26, DType::kIQ3_S},    {"IQ2_S", 28, DType::kIQ2_S},    {"IQ4_XS", 30, DType::kIQ4_XS},
    {"IQ1_M", 31, DType::kIQ1_M},    {"BF16", 32, DType::kBF16},      {"TQ1_0", 36, DType::kTQ1_0},
    {"TQ2_0", 37, DType::kTQ2_0},    {"MXFP4_MOE", 38, DType::kMXFP4},
};

}  // namespace

std::optional<uint32_t> GgufFileTypeOf(std::string_view mix) {
  for (const FileType& row : kFileTypes) {
    if (row.mix == mix) return row.number;
  }
  return std::nullopt;
}

uint32_t GgufFileType(const std::vector<TensorToWrite>& tensors) {
  std::map<DType, int64_t> elements;
  for (const TensorToWrite& tensor : tensors) {
    if (tensor.shape.ndim() > 1) elements[tensor.dtype] += tensor.shape.num_elements();
  }
  DType most = DType::kF32;
  for (const auto& [dtype, count] : elements) {
    if (count > elements[most]) most = dtype;
  }
  const auto row = std::find_if(std::begin(kFileTypes), std::end(kFileTypes), [&](const FileType& r) { return r.dtype == most; });
  return row == std::end(kFileTypes) ? 0 : row->number;
}

bool IsQuantisedGguf(const std::vector<TensorToWrite>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(), [](const TensorToWrite& t) { return InfoOf(t.dtype).block_elems > 1; });
}

}  // namespace apr
