// See merge.h.
#include "model/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "model/config_fields.h"
#include "model/encode_stream.h"

namespace apr {
namespace {

// Weights that add up to 1.
std::vector<double> Normalized(const MergeOptions& options, size_t models) {
  std::vector<double> w = options.weights;
  if (w.empty()) w.assign(models, 1.0);
  const double sum = std::accumulate(w.begin(), w.end(), 0.0);
  for (double& x : w) x /= sum;
  return w;
}

std::vector<float> WeightedSum(const std::vector<std::vector<float>>& parts, const std::vector<double>& w) {
  std::vector<float> out(parts[0].size());
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (size_t m = 0; m < parts.size(); ++m) sum += w[m] * parts[m][i];
    out[i] = static_cast<float>(sum);
  }
  return out;
}

// Shoemake 1985; vectors that nearly agree are mixed linearly.
std::vector<float> Slerp(const std::vector<float>& a, const std::vector<float>& b, double t) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  double wa = 1 - t, wb = t;
  const double norms = std::sqrt(aa) * std::sqrt(bb);
  const double cosine = norms > 0 ? std::clamp(ab / norms, -1.0, 1.0) : 1;
  if (std::abs(cosine) < 0.9995) {
    const double angle = std::acos(cosine);
    wa = std::sin((1 - t) * angle) / std::sin(angle);
    wb = std::sin(t * angle) / std::sin(angle);
  }
  return WeightedSum({a, b}, {wa, wb});
}

// Zeroes all but the `density` largest of each task vector; at equal size the earlier element stays.
void Trim(std::vector<double>& task, double density) {
  const auto keep = static_cast<size_t>(std::ceil(density * static_cast<double>(task.size())));
  if (keep >= task.size()) return;
  std::vector<size_t> order(task.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto larger = [&](size_t x, size_t y) {
    const double a = std::abs(task[x]), b = std::abs(task[y]);
    return a != b ? a > b : x < y;
  };
  std::nth_element(order.begin(), order.begin() + static_cast<int64_t>(keep), order.end(), larger);
  for (size_t i = keep; i < order.size(); ++i) task[order[i]] = 0;
}

std::vector<std::vector<double>> TaskVectors(const std::vector<std::vector<float>>& parts, const std::vector<float>& base) {
  std::vector<std::vector<double>> out;
  for (const std::vector<float>& part : parts) {
    std::vector<double> task(part.size());
    for (size_t i = 0; i < part.size(); ++i) task[i] = static_cast<double>(part[i]) - base[i];
    out.push_back(std::move(task));
  }
  return out;
}

std::vector<float> Ties(const std::vector<std::vector<float>>& parts, const std::vector<float>& base, const MergeOptions& options) {
  std::vector<std::vector<double>> tasks = TaskVectors(parts, base);
  for (auto& task : tasks) Trim(task, options.density);
  std::vector<double> w = options.weights;
  if (w.empty()) w.assign(parts.size(), 1.0);
  std::vector<float> out(base.size());
  for (size_t i = 0; i < out.size(); ++i) {
    double votes = 0;
    for (size_t m = 0; m < tasks.size(); ++m) votes += w[m] * tasks[m][i];
    double sum = 0, weight = 0;
    for (size_t m = 0; m < tasks.size(); ++m) {
      // Zeros, and those of the other sign, have no part in the mean.
      if (tasks[m][i] * votes <= 0) continue;
      sum += w[m] * tasks[m][i];
      weight += w[m];
    }
    out[i] = static_cast<float>(base[i] + (weight > 0 ? sum / weight : 0));
  }
  return out;
}

// splitmix64 (Steele, Lea, Flood 2014) of a counter: element i of model m is the same whoever computes it.
uint64_t Scramble(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t HashOf(const std::string& name) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

std::vector<float> Dare(const std::vector<std::vector<float>>& parts, const std::vector<float>& base, const std::string& name,
                        const MergeOptions& options) {
  const std::vector<std::vector<double>> tasks = TaskVectors(parts, base);
  const std::vector<double> w = Normalized(options, parts.size());
  const double scale = 1 / (1 - options.drop_rate);
  std::vector<float> out(base.size());
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (size_t m = 0; m < tasks.size(); ++m) {
      const uint64_t bits = Scramble(Scramble(Scramble(options.seed ^ HashOf(name)) ^ m) ^ i);
      const double uniform = static_cast<double>(bits >> 11) * 0x1p-53;
      if (uniform >= options.drop_rate) sum += w[m] * scale * tasks[m][i];
    }
    out[i] = static_cast<float>(base[i] + sum);
  }
  return out;
}

bool NeedsBase(MergeStrategy s) { return s == MergeStrategy::kTies || s == MergeStrategy::kDare; }

void RequireSameModel(const Model& a, const Model& b) {
  for (const FieldDifference& d : DifferingFields(a.config(), b.config())) {
    throw Error(ErrorCode::kModelLoad, fmt::format("models of different kinds: {} = {} and {}", d.name, d.a, d.b), {.file = b.file().path(), .tensor = d.name});
  }
}

// The whole of a tensor that was listed as f32.
std::vector<float> Gather(const TensorToWrite& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.shape.num_elements()));
  size_t at = 0;
  tensor.write([&](Bytes bytes) {
    std::memcpy(reinterpret_cast<std::byte*>(out.data()) + at, bytes.data(), bytes.size());
    at += bytes.size();
  });
  return out;
}

std::vector<TensorToWrite> AsF32(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target) {
  return ExportTensors(std::move(model), target, [](const std::string&, const Shape&, DType) { return DType::kF32; });
}

}  // namespace

MergeStrategy ParseMergeStrategy(const std::string& name) {
  const std::pair<const char*, MergeStrategy> rows[] = {{"average", MergeStrategy::kAverage}, {"weighted", MergeStrategy::kWeighted},
                                                        {"slerp", MergeStrategy::kSlerp}, {"ties", MergeStrategy::kTies}, {"dare", MergeStrategy::kDare}};
  for (const auto& [text, strategy] : rows) {
    if (name == text) return strategy;
  }
  throw Error(ErrorCode::kUsage, "unknown strategy '" + name + "'");
}

void CheckMerge(const std::vector<std::shared_ptr<const Model>>& models, const MergeOptions& o) {
  const auto refuse = [](const std::string& why) { throw Error(ErrorCode::kUsage, why); };
  if (models.size() < 2) refuse("a merge needs two models at least");
  if (!o.weights.empty() && o.weights.size() != models.size()) refuse(fmt::format("{} weights for {} models", o.weights.size(), models.size()));
  for (const double w : o.weights) {
    if (!std::isfinite(w) || w < 0) refuse("weights must be finite and not negative");
  }
  if (!o.weights.empty() && std::accumulate(o.weights.begin(), o.weights.end(), 0.0) <= 0) refuse("the weights add up to 0");
  if (o.strategy == MergeStrategy::kWeighted && o.weights.empty()) refuse("weighted needs --weights");
  if (o.strategy == MergeStrategy::kAverage && !o.weights.empty()) refuse("average takes no --weights; weighted does");
  if (o.strategy == MergeStrategy::kSlerp && models.size() != 2) refuse("slerp is between two models");
  if (NeedsBase(o.strategy) != (o.base != nullptr)) refuse(NeedsBase(o.strategy) ? "this strategy needs --base-model" : "this strategy takes no --base-model");
  if (!(o.density > 0 && o.density <= 1)) refuse("--density is in (0, 1]");
  if (!(o.drop_rate >= 0 && o.drop_rate < 1)) refuse("--drop-rate is in [0, 1)");
  for (size_t i = 1; i < models.size(); ++i) RequireSameModel(*models[0], *models[i]);
  if (o.base != nullptr) RequireSameModel(*models[0], *o.base);
}

std::vector<float> MergeTensor(const std::vector<std::vector<float>>& parts, const std::vector<float>& base, const std::string& name,
                               const MergeOptions& options) {
  switch (options.strategy) {
    case MergeStrategy::kAverage:
    case MergeStrategy::kWeighted: return WeightedSum(parts, Normalized(options, parts.size()));
    case MergeStrategy::kSlerp: return Slerp(parts[0], parts[1], Normalized(options, 2)[1]);
    case MergeStrategy::kTies: return Ties(parts, base, options);
    case MergeStrategy::kDare: return Dare(parts, base, name, options);
  }
  return {};
}

std::vector<TensorToWrite> MergedTensors(const std::vector<std::shared_ptr<const Model>>& models, const MergeOptions& options,
                                         const std::vector<TensorRule>& target, const ChooseType& choose, const EncodeContext& context) {
  CheckMerge(models, options);
  std::vector<std::vector<TensorToWrite>> lists;
  for (const auto& model : models) lists.push_back(AsF32(model, target));
  if (options.base != nullptr) lists.push_back(AsF32(options.base, target));
  std::vector<TensorToWrite> out = ExportTensors(models[0], target, choose, context);
  for (size_t t = 0; t < out.size(); ++t) {
    std::vector<TensorToWrite> sources;
    for (const auto& list : lists) sources.push_back(list[t]);
    const TensorToWrite& first = out[t];
    const auto write = [sources, options, context, name = first.name, dtype = first.dtype, shape = first.shape](const ByteSink& sink) {
      std::vector<std::vector<float>> parts;
      for (const TensorToWrite& source : sources) parts.push_back(Gather(source));
      std::vector<float> base;
      if (options.base != nullptr) {
        base = std::move(parts.back());
        parts.pop_back();
      }
      const std::vector<float> merged = MergeTensor(parts, base, name, options);
      const int64_t cols = shape.ndim() == 0 ? 1 : shape[shape.ndim() - 1];
      EncodeStream({.dtype = dtype, .rows = cols == 0 ? 0 : shape.num_elements() / cols, .cols = cols,
                    .read_row = [&](int64_t r, float* row) { std::memcpy(row, merged.data() + r * cols, static_cast<size_t>(cols) * sizeof(float)); },
                    .name = name},
                   context, sink);
    };
    out[t].write = write;
  }
  return out;
}

}  // namespace apr
