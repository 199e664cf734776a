// See context.h.
#include "op/context.h"

#include "base/check.h"
#include "quant/quant.h"

namespace apr {
namespace {

int64_t StorageRow(const WeightRef& weight, int64_t row) {
  return weight.row_order ? (*weight.row_order)[static_cast<size_t>(row)] : row;
}

}  // namespace

void ReadWeightRow(const WeightRef& weight, int64_t row, std::span<double> out) {
  APR_CHECK(static_cast<int64_t>(out.size()) == weight.cols());
  const auto held = weight.Hold();
  DecodeTensorF64(weight.view.Rows(StorageRow(weight, row), 1), out);
  if (weight.add == 0) return;
  for (double& value : out) value += weight.add;
}

void ReadWeightRow(const WeightRef& weight, int64_t row, std::span<float> out) {
  APR_CHECK(static_cast<int64_t>(out.size()) == weight.cols());
  const auto held = weight.Hold();
  DecodeTensor(weight.view.Rows(StorageRow(weight, row), 1), out);
  if (weight.add == 0) return;
  for (float& value : out) value = static_cast<float>(value + weight.add);
}

std::vector<double> ReadWeightF64(const WeightRef& weight) {
  const auto held = weight.Hold();
  std::vector<double> out(static_cast<size_t>(weight.view.shape.num_elements()));
  const auto cols = static_cast<size_t>(weight.cols());
  for (int64_t row = 0; row < weight.rows(); ++row) {
    ReadWeightRow(weight, row, std::span(out).subspan(static_cast<size_t>(row) * cols, cols));
  }
  return out;
}

std::vector<float> ReadWeightF32(const WeightRef& weight) {
  const std::vector<double> wide = ReadWeightF64(weight);
  return {wide.begin(), wide.end()};
}

}  // namespace apr
