// See trace.h.
#include "generate/trace.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "tensor/dtype.h"

namespace apr {
namespace {

std::vector<float> ToF32(const TensorView& data) {
  std::vector<float> out(static_cast<size_t>(data.shape.num_elements()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = data.dtype == DType::kF64 ? static_cast<float>(LoadLe<double>(data.bytes.data() + 8 * i))
                                       : LoadLe<float>(data.bytes.data() + 4 * i);
  }
  return out;
}

template <typename Real>
std::span<const Real> As(const TensorView& data) {
  return {reinterpret_cast<const Real*>(data.bytes.data()), data.bytes.size() / sizeof(Real)};
}

// "f32", "bf16"; a quantised type keeps its own name.
std::string FormatName(DType dtype) {
  if (IsQuantized(dtype)) return NameOf(dtype);
  if (dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2) return "f8";
  std::string name = NameOf(dtype);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return name;
}

}  // namespace

bool StageSelection::Contains(const Stage& stage) const {
  if (std::ranges::find(names, stage.name) == names.end()) return false;
  return stage.layer < 0 || layers.Contains(stage.layer);
}

TraceSink::TraceSink(const Graph& graph, std::function<bool(const Stage&)> measure, StageSelection saved,
                     StageDirectoryWriter* writer)
    : measure_(std::move(measure)), saved_(std::move(saved)), writer_(writer) {
  for (const Stage& stage : graph.stages) {
    if (Wants(stage)) expected_.push_back(&stage);
  }
}

bool TraceSink::Wants(const Stage& stage) const {
  return measure_(stage) || (writer_ != nullptr && saved_.Contains(stage));
}

void TraceSink::Take(const Stage& stage, const TensorView& data) {
  APR_CHECK(!expected_.empty());
  if (&stage != expected_.front()) {
    Tensor copy(data.dtype, data.shape);
    std::ranges::copy(data.bytes, copy.mutable_bytes().begin());
    early_.emplace_back(&stage, std::move(copy));
    return;
  }
  Accept(stage, data);
  expected_.pop_front();
  while (!expected_.empty()) {
    const auto it = std::ranges::find(early_, expected_.front(), [](const auto& entry) { return entry.first; });
    if (it == early_.end()) return;
    Accept(*it->first, it->second.view());
    early_.erase(it);
    expected_.pop_front();
  }
}

void TraceSink::Accept(const Stage& stage, const TensorView& data) {
  if (measure_(stage)) {
    StatisticsBuilder builder;
    data.dtype == DType::kF64 ? builder.Add(As<double>(data)) : builder.Add(As<float>(data));
    summaries_.push_back({stage.name, stage.layer, data.shape, builder.Finish()});
  }
  if (writer_ == nullptr || !saved_.Contains(stage)) return;
  const StageName name{stage.layer < 0 ? kWholeModel : static_cast<uint32_t>(stage.layer), stage.name};
  if (data.dtype == DType::kF64) {
    writer_->Write(name, data.shape, ToF32(data));
  } else {
    writer_->Write(name, data.shape, As<float>(data));
  }
  written_.push_back(name.ToString());
}

std::vector<std::string> Anomalies(const Statistics& s) {
  std::vector<std::string> out;
  if (s.nan_count > 0) out.emplace_back("NaN");
  if (s.inf_count > 0) out.emplace_back("Inf");
  if (s.std < 1e-8) out.emplace_back("std < 1e-8");
  if (s.max_abs > 100) out.emplace_back("max_abs > 100");
  if (std::abs(s.mean) > 10) out.emplace_back("|mean| > 10");
  return out;
}

StagePrecision PrecisionOf(const Model& model, ExecutorKind executor, Precision precision) {
  return PrecisionOf(model.bound()->weights, executor, precision);
}

StagePrecision PrecisionOf(std::span<const WeightRef> weights, ExecutorKind executor, Precision precision) {
  std::map<DType, int64_t> elements;
  bool quantized = false;
  for (const WeightRef& weight : weights) {
    if (weight.view.shape.ndim() < 2) continue;
    elements[weight.view.dtype] += weight.view.shape.num_elements();
    quantized |= IsQuantized(weight.view.dtype);
  }
  const auto most = std::ranges::max_element(elements, {}, [](const auto& entry) { return entry.second; });
  StagePrecision out;
  out.weights = most == elements.end() ? "" : FormatName(most->first);
  const bool reference = executor == ExecutorKind::kReference;
  out.accumulate = reference ? "f64" : "f32";
  out.activations = reference ? "f64" : precision == Precision::kFast && quantized ? "int8" : "f32";
  return out;
}

}  // namespace apr
