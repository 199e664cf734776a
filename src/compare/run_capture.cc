// See run_capture.h.
#include "compare/run_capture.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"

namespace apr {
namespace {

bool IsMatrix(const Stage& stage) { return stage.name == "attn_scores" || stage.name == "attn_softmax"; }

}  // namespace

bool StageCapture::Wants(const Stage& stage) const { return matrices_ || !IsMatrix(stage); }

void StageCapture::Take(const Stage& stage, const TensorView& data) {
  Values& values = values_[{stage.layer, stage.name}];
  const std::vector<double> elements = ToF64(data);
  if (IsMatrix(stage)) {
    values.width = static_cast<int64_t>(elements.size());
    values.data = elements;
    return;
  }
  const int64_t rows = data.shape.ndim() > 0 ? data.shape[0] : 1;
  values.width = rows > 0 ? static_cast<int64_t>(elements.size()) / rows : 0;
  const int64_t kept = stage.name == "lm_head" || tokens_ == 0 ? rows : std::min(rows, tokens_);
  values.data.insert(values.data.end(), elements.begin(), elements.begin() + static_cast<std::ptrdiff_t>(kept * values.width));
}

const StageCapture::Values* StageCapture::Find(const Stage& stage) const {
  const auto it = values_.find({stage.layer, stage.name});
  return it == values_.end() ? nullptr : &it->second;
}

std::vector<double> ToF64(const TensorView& data) {
  std::vector<double> out(static_cast<size_t>(data.shape.num_elements()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = data.dtype == DType::kF64 ? LoadLe<double>(data.bytes.data() + 8 * i) : static_cast<double>(LoadLe<float>(data.bytes.data() + 4 * i));
  }
  return out;
}

std::string StageLabel(const Stage& stage) { return stage.layer < 0 ? stage.name : fmt::format("layer-{}/{}", stage.layer, stage.name); }

}  // namespace apr
