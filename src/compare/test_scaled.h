// Models as AWQ makes them of others: factors moved between norms, matrices and matrices, and matrices packed.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "format/model_file.h"
#include "format/model_writer.h"
#include "op/context.h"

namespace apr {

using NamedValues = std::map<std::string, std::vector<float>>;

// The tensors of a file as f32, by the file's names.
inline NamedValues ReadValues(const ModelFile& file) {
  NamedValues out;
  for (const TensorInfo& info : file.tensors()) out[info.name] = ReadWeightF32({.view = file.View(info)});
  return out;
}

inline void ScaleColumns(std::vector<float>& values, const std::vector<float>& factors) {
  for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i % factors.size()];
}
inline void ScaleRows(std::vector<float>& values, const std::vector<float>& factors) {
  const size_t cols = values.size() / factors.size();
  for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i / cols];
}
inline std::vector<float> RandomFactors(size_t n, std::mt19937& random) {
  std::vector<float> out(n);
  for (float& f : out) f = std::exp(std::normal_distribution<float>(0, 0.4f)(random));
  return out;
}

// As AWQ scales `layer` ("model.layers.1.") of a Llama: into the norms, and between up and down. `norm_offset`: norms hold w - 1 or w.
inline NamedValues ScaledLikeAwq(const NamedValues& original, const std::string& layer, float norm_offset, std::mt19937& random) {
  NamedValues out = original;
  const auto norm = [&](const std::string& name, const std::vector<std::string>& readers) {
    std::vector<float>& n = out.at(layer + name + ".weight");
    const std::vector<float> f = RandomFactors(n.size(), random);
    for (size_t i = 0; i < n.size(); ++i) n[i] = (n[i] + norm_offset) / f[i] - norm_offset;
    for (const std::string& reader : readers) ScaleColumns(out.at(layer + reader + ".weight"), f);
  };
  norm("input_layernorm", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
  norm(norm_offset == 0 ? "post_attention_layernorm" : "pre_feedforward_layernorm", {"mlp.gate_proj", "mlp.up_proj"});
  std::vector<float>& up = out.at(layer + "mlp.up_proj.weight");
  const std::vector<float> f = RandomFactors(up.size() / out.at(layer + "input_layernorm.weight").size(), random);
  std::vector<float> back;
  for (const float each : f) back.push_back(1 / each);
  ScaleRows(up, back);
  if (const auto bias = out.find(layer + "mlp.up_proj.bias"); bias != out.end()) ScaleColumns(bias->second, back);
  ScaleColumns(out.at(layer + "mlp.down_proj.weight"), f);
  return out;
}

// A matrix as AWQ stores it: groups of 16 inputs, clipped at 0.9 of their largest, codes of 4 bits around a zero point.
inline void AddAwq(const std::string& module, const std::vector<float>& values, int64_t in, std::vector<TensorToWrite>& tensors) {
  constexpr int64_t kGroup = 16;
  constexpr int kNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  const int64_t out = static_cast<int64_t>(values.size()) / in, groups = in / kGroup;
  std::vector<uint32_t> codes(static_cast<size_t>(in * out / 8)), zeros(static_cast<size_t>(groups * out / 8));
  std::vector<float> scales(static_cast<size_t>(groups * out));
  for (int64_t o = 0; o < out; ++o) {
    const int shift = 4 * kNibble[o % 8];
    for (int64_t g = 0; g < groups; ++g) {
      const float* x = values.data() + o * in + g * kGroup;
      const auto [least, most] = std::minmax_element(x, x + kGroup);
      const float limit = 0.9f * std::max(-*least, *most), low = std::clamp(*least, -limit, 0.0f), high = std::clamp(*most, 0.0f, limit);
      const float scale = (high - low) / 15, zero = std::round(-low / scale);
      scales[static_cast<size_t>(g * out + o)] = scale;
      zeros[static_cast<size_t>((g * out + o) / 8)] |= static_cast<uint32_t>(zero) << shift;
      for (int64_t i = 0; i < kGroup; ++i) {
        codes[static_cast<size_t>(((g * kGroup + i) * out + o) / 8)] |= static_cast<uint32_t>(std::clamp(std::round(x[i] / scale) + zero, 0.0f, 15.0f)) << shift;
      }
    }
  }
  const auto made = [&](const char* part, DType dtype, const Shape& shape, const auto& of) {
    const auto bytes = std::as_bytes(std::span(of));
    tensors.push_back({module + part, dtype, shape, [kept = std::vector<std::byte>(bytes.begin(), bytes.end())](const ByteSink& sink) { sink(kept); }});
  };
  made(".qweight", DType::kI32, {in, out / 8}, codes);
  made(".qzeros", DType::kI32, {groups, out / 8}, zeros);
  made(".scales", DType::kF32, {groups, out}, scales);
}

// Every projection of `values` packed, the rest in F32. `file` has the names and shapes.
inline std::vector<TensorToWrite> PackedAsAwq(const ModelFile& file, const NamedValues& values) {
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : file.tensors()) {
    const std::vector<float>& of = values.at(info.name);
    if (info.name.ends_with("_proj.weight")) {
      AddAwq(info.name.substr(0, info.name.size() - 7), of, info.shape.cols(), tensors);
    } else {
      tensors.push_back({info.name, DType::kF32, info.shape, [of](const ByteSink& sink) { sink(std::as_bytes(std::span(of))); }});
    }
  }
  return tensors;
}

}  // namespace apr
