// See quant_mix.h.
#include "model/quant_mix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "model/export_model.h"
#include "quant/quant.h"

namespace apr {
namespace {

enum class Role { kEmbedding, kHead, kQ, kK, kV, kO, kGate, kUp, kDown, kOther };

// Layers that decide: a part of them at the beginning ("early": layer < L / divisor), or llama.cpp's
// "more bits": the first and last eighth and every third between.
enum class When { kAlways, kEarly8, kEarly16, kMoreBits, kFirst2, kFirst4, kWideGroups };

// One exception of a mix. The first row that holds for a tensor decides.
struct Exception {
  std::string_view mix;
  Role role;
  When when;
  DType dtype;
};
constexpr Exception kExceptions[] = {
    {"Q2_K", Role::kV, When::kWideGroups, DType::kQ4_K},
    {"Q2_K", Role::kV, When::kAlways, DType::kQ3_K},
    {"Q2_K", Role::kDown, When::kAlways, DType::kQ3_K},
    {"Q2_K", Role::kO, When::kAlways, DType::kQ3_K},
    {"Q3_K_M", Role::kV, When::kFirst2, DType::kQ5_K},
    {"Q3_K_M", Role::kV, When::kAlways, DType::kQ4_K},
    {"Q3_K_M", Role::kDown, When::kEarly16, DType::kQ5_K},
    {"Q3_K_M", Role::kDown, When::kAlways, DType::kQ4_K},
    {"Q3_K_M", Role::kO, When::kAlways, DType::kQ4_K},
    {"Q3_K_L", Role::kV, When::kAlways, DType::kQ5_K},
    {"Q3_K_L", Role::kDown, When::kAlways, DType::kQ5_K},
    {"Q3_K_L", Role::kO, When::kAlways, DType::kQ5_K},
    {"Q4_K_S", Role::kV, When::kFirst4, DType::kQ5_K},
    {"Q4_K_S", Role::kDown, When::kEarly8, DType::kQ5_K},
    {"Q4_K_M", Role::kV, When::kMoreBits, DType::kQ6_K},
    {"Q4_K_M", Role::kDown, When::kMoreBits, DType::kQ6_K},
    {"Q5_K_M", Role::kV, When::kMoreBits, DType::kQ6_K},
    {"Q5_K_M", Role::kDown, When::kMoreBits, DType::kQ6_K},
    {"IQ4_NL", Role::kV, When::kWideGroups, DType::kQ5_K},
    {"IQ4_XS", Role::kV, When::kWideGroups, DType::kQ5_K},
};

struct Mix {
  std::string_view name;
  DType base;
  std::string_view aliases = {};
};
constexpr Mix kMixes[] = {
    {"F32", DType::kF32, "fp32"},    {"F16", DType::kF16, "fp16"},    {"BF16", DType::kBF16},
    {"Q8_0", DType::kQ8_0, "int8"},  {"Q4_0", DType::kQ4_0, "int4"},  {"Q4_1", DType::kQ4_1},
    {"Q5_0", DType::kQ5_0},          {"Q5_1", DType::kQ5_1},          {"Q2_K", DType::kQ2_K},
    {"Q3_K_S", DType::kQ3_K},        {"Q3_K_M", DType::kQ3_K},        {"Q3_K_L", DType::kQ3_K},
    {"Q4_K_S", DType::kQ4_K},        {"Q4_K_M", DType::kQ4_K, "q4k"}, {"Q5_K_S", DType::kQ5_K},
    {"Q5_K_M", DType::kQ5_K},        {"Q6_K", DType::kQ6_K},          {"IQ4_NL", DType::kIQ4_NL},
    {"IQ4_XS", DType::kIQ4_XS},      {"TQ1_0", DType::kTQ1_0},        {"TQ2_0", DType::kTQ2_0},
    {"MXFP4_MOE", DType::kMXFP4},
};

const Mix& FindMix(const std::string& text) {
  for (const Mix& mix : kMixes) {
    if (EqualNoCase(text, mix.name) || (!mix.aliases.empty() && EqualNoCase(text, mix.aliases))) return mix;
  }
  throw Error(ErrorCode::kUsage, fmt::format("'{}' is no type or mix; there are {}", text, fmt::join(MixNames(), ", ")));
}

bool Contains(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

Role RoleOf(std::string_view name) {
  if (name == "output.weight") return Role::kHead;
  if (name == "token_embd.weight") return Role::kEmbedding;
  // A fused projection counts as its most sensitive part.
  for (const char* v : {"attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"}) {
    if (Contains(name, v)) return Role::kV;
  }
  const std::pair<const char*, Role> rows[] = {{"attn_k.weight", Role::kK}, {"attn_q.weight", Role::kQ}, {"attn_output.weight", Role::kO},
                                               {"ffn_up", Role::kUp}, {"ffn_gate", Role::kGate}, {"ffn_down", Role::kDown}};
  for (const auto& [part, role] : rows) {
    if (Contains(name, part)) return role;
  }
  return Role::kOther;
}

int64_t LayerOf(const std::string& name) {
  if (name.rfind("blk.", 0) != 0) return -1;
  return std::strtol(name.c_str() + 4, nullptr, 10);
}

// The type of smaller blocks that takes the place of `dtype` where rows are no multiple of 256.
DType SmallerBlocks(DType dtype) {
  switch (dtype) {
    case DType::kIQ4_XS: return DType::kIQ4_NL;
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kTQ1_0:
    case DType::kTQ2_0: return DType::kQ4_0;
    case DType::kQ4_K: return DType::kQ5_0;
    case DType::kQ5_K: return DType::kQ5_1;
    case DType::kQ6_K: return DType::kQ8_0;
    default: return dtype;
  }
}

class Planner {
 public:
  Planner(const MixRequest& request, const std::vector<MixTensor>& tensors, const ModelConfig* config)
      : request_(request), mix_(FindMix(request.mix)), tensors_(tensors) {
    for (const MixTensor& t : tensors) {
      layers_ = std::max(layers_, LayerOf(t.name) + 1);
      if (RoleOf(t.name) == Role::kV) v_layers_.push_back(LayerOf(t.name));
      tied_ = tied_ && RoleOf(t.name) != Role::kHead;
    }
    std::sort(v_layers_.begin(), v_layers_.end());
    if (config == nullptr) return;
    groups_ = config->num_heads / std::max<int64_t>(1, config->num_kv_heads);
    experts_ = config->moe.experts;
  }

  std::map<std::string, PlannedType> Run() const {
    std::map<std::string, PlannedType> out;
    for (const MixTensor& tensor : tensors_) out[tensor.name] = Planned(tensor);
    return out;
  }

 private:
  PlannedType Planned(const MixTensor& t) const {
    const bool weight = t.name.size() > 6 && t.name.compare(t.name.size() - 6, 6, "weight") == 0;
    if (StaysF32InGguf(t.name, t.shape) || !weight) return {t.shape.ndim() < 2 ? DType::kF32 : InfoOf(t.stored).block_elems > 1 ? t.stored : DType::kF32};
    for (const TypeOverride& o : request_.overrides) {
      if (std::regex_search(t.name, o.regex)) return Fitting(t, o.dtype);
    }
    return InfoOf(mix_.base).block_elems > 1 ? Fitting(t, Chosen(t)) : PlannedType{mix_.base};
  }

  PlannedType Fitting(const MixTensor& t, DType dtype) const {
    const int64_t cols = t.shape.cols();
    if (request_.pads_rows || cols % InfoOf(dtype).block_elems == 0) return {dtype};
    const DType smaller = SmallerBlocks(dtype);
    if (cols % InfoOf(smaller).block_elems == 0) return {smaller, true};
    return {DType::kF16, true};
  }

  DType Chosen(const MixTensor& t) const {
    const Role role = RoleOf(t.name);
    const DType base = mix_.base;
    if (role == Role::kHead || (role == Role::kEmbedding && tied_)) return HeadType(t);
    if (mix_.name == "MXFP4_MOE") return t.shape.ndim() > 2 ? DType::kMXFP4 : DType::kQ8_0;
    if (role == Role::kEmbedding) return base == DType::kTQ1_0 || base == DType::kTQ2_0 ? DType::kQ4_K : base;
    if (experts_ == 8 && (role == Role::kV || role == Role::kK)) return DType::kQ8_0;
    if (experts_ == 8 && role == Role::kO && EightExpertsOutput()) return DType::kQ5_K;
    if (role == Role::kV && IsFusedQkv(t.name)) return FusedType(t);
    if (role == Role::kDown && ImportanceDown(t)) return base == DType::kQ4_0 ? DType::kQ4_1 : DType::kQ5_1;
    if (role == Role::kDown && (base == DType::kIQ4_NL || base == DType::kIQ4_XS)) {
      return !request_.has_importance && LayerOf(t.name) < layers_ / 8 ? DType::kQ5_K : base;
    }
    for (const Exception& e : kExceptions) {
      if (e.mix == mix_.name && e.role == role && Holds(e.when, t)) return e.dtype;
    }
    return base;
  }

  DType HeadType(const MixTensor& t) const {
    const bool fits = request_.pads_rows || t.shape.cols() % InfoOf(mix_.base).block_elems == 0;
    if (mix_.name == "MXFP4_MOE" || !fits) return DType::kQ8_0;
    return mix_.base == DType::kQ8_0 ? DType::kQ8_0 : DType::kQ6_K;
  }

  static bool IsFusedQkv(std::string_view name) { return Contains(name, "attn_qkv.weight"); }

  // llama.cpp asks for the role of v first, which a fused tensor has too.
  DType FusedType(const MixTensor& t) const {
    for (const Exception& e : kExceptions) {
      if (e.mix == mix_.name && e.role == Role::kV && Holds(e.when, t)) return e.dtype;
    }
    return mix_.base;
  }

  bool EightExpertsOutput() const {
    for (const char* name : {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"}) {
      if (mix_.name == name) return true;
    }
    return false;
  }

  // Guards the first layers of Q4_0 and Q5_0, which importance can throw far off.
  bool ImportanceDown(const MixTensor& t) const {
    return (mix_.base == DType::kQ4_0 || mix_.base == DType::kQ5_0) && request_.has_importance && LayerOf(t.name) < layers_ / 8;
  }

  bool Holds(When when, const MixTensor& t) const {
    const bool v = RoleOf(t.name) == Role::kV;
    const int64_t layer = LayerOf(t.name);
    // v tensors are counted, the others go by their layer.
    const int64_t i = v ? std::lower_bound(v_layers_.begin(), v_layers_.end(), layer) - v_layers_.begin() : layer;
    const int64_t n = v ? static_cast<int64_t>(v_layers_.size()) : layers_;
    switch (when) {
      case When::kAlways: return true;
      case When::kEarly8: return i < n / 8;
      case When::kEarly16: return i < n / 16;
      case When::kMoreBits: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
      case When::kFirst2: return i < 2;
      case When::kFirst4: return i < 4;
      case When::kWideGroups: return groups_ >= 4;
    }
    return false;
  }

  const MixRequest& request_;
  const Mix& mix_;
  const std::vector<MixTensor>& tensors_;
  int64_t layers_ = 0;
  int64_t groups_ = 1;
  int64_t experts_ = 0;
  bool tied_ = true;
  std::vector<int64_t> v_layers_;
};

}  // namespace

TypeOverride ParseTypeOverride(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) throw Error(ErrorCode::kUsage, "'" + text + "' is not REGEX=TYPE");
  const std::string pattern = text.substr(0, equals);
  const std::optional<DType> dtype = DTypeFromName(text.substr(equals + 1));
  if (!dtype || !CanEncode(*dtype) || InfoOf(*dtype).ggml_id < 0) {
    throw Error(ErrorCode::kUsage, "'" + text.substr(equals + 1) + "' is no type that can be written");
  }
  try {
    return {pattern, std::regex(pattern), *dtype};
  } catch (const std::regex_error&) {
    throw Error(ErrorCode::kUsage, "'" + pattern + "' is no regular expression");
  }
}

std::vector<std::string> MixNames() {
  std::vector<std::string> out;
  for (const Mix& mix : kMixes) out.emplace_back(mix.name);
  return out;
}

std::string MixName(const std::string& text) { return std::string(FindMix(text).name); }

std::map<std::string, PlannedType> PlanMix(const MixRequest& request, const std::vector<MixTensor>& tensors, const ModelConfig* config) {
  return Planner(request, tensors, config).Run();
}

}  // namespace apr
