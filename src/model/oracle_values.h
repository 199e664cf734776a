// For tests: what an oracle's files hold, as f64, and how far from it a result is.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "format/model_file.h"
#include "quant/quant.h"

namespace apr {

inline std::vector<double> Widen(const TensorView& view) {
  std::vector<double> out(static_cast<size_t>(view.shape.num_elements()));
  DecodeTensorF64(view, out);
  return out;
}

inline std::vector<double> Decode(const ModelFile& file, const std::string& name) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr) throw std::runtime_error("no tensor " + name);
  return Widen(file.View(*info));
}

inline std::vector<int32_t> Ids(const ModelFile& file, const std::string& name) {
  const std::vector<double> values = Decode(file, name);
  return {values.begin(), values.end()};
}

// sum (a - b)^2 / sum b^2; infinite where a NaN stands on either side, for sizes that differ, and for nothing.
inline double Nmse(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  const double ratio = error / norm;
  return std::isnan(ratio) ? INFINITY : ratio;
}

}  // namespace apr
