// See plan_types.h.
#include "model/plan_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "format/imatrix.h"
#include "model/resolve.h"

namespace apr {
namespace {

// .apr holds few types; the next better one takes the place of the others.
DType ForApr(DType dtype) {
  switch (dtype) {
    case DType::kQ5_K:
    case DType::kQ5_0:
    case DType::kQ5_1: return DType::kQ6_K;
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ4_1:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS: return DType::kQ4_K;
    case DType::kQ8_0: return DType::kAprQ8;
    case DType::kQ4_0: return DType::kAprQ4;
    default: return dtype;
  }
}

// Slots that each tensor of a table is made of, by expanded name.
std::map<std::string, std::vector<SlotKey>> SlotsByName(const Model& model, const std::vector<TensorRule>& rules) {
  std::map<std::string, std::vector<SlotKey>> out;
  const ModelConfig& c = model.config();
  for (const TensorRule& rule : rules) {
    const bool by_layer = rule.name.find("{L}") != std::string_view::npos;
    const bool by_expert = rule.name.find("{E}") != std::string_view::npos;
    const int layers = by_layer ? static_cast<int>(c.num_layers) : 1;
    const int experts = by_expert ? static_cast<int>(c.moe.experts) : 1;
    for (int layer = 0; layer < layers; ++layer) {
      for (int expert = 0; expert < experts; ++expert) {
        auto& keys = out[ExpandName(rule.name, layer, expert)];
        for (const Slot slot : rule.slots) keys.push_back({slot, by_layer ? layer : -1, by_expert ? expert : -1});
      }
    }
  }
  return out;
}

class PlanMaker {
 public:
  // `model` may be null for the tensors of a GGUF alone.
  PlanMaker(std::shared_ptr<const Model> model, Container target, const TypePlanRequest& request)
      : model_(std::move(model)), target_(target), request_(request) {}

  TypePlan Run(const std::vector<MixTensor>& tensors, const ModelConfig* config) {
    out_.mix = MixName(request_.mix);
    MixRequest mix{.mix = out_.mix, .has_importance = !request_.imatrix.empty(), .pads_rows = target_ == Container::kApr};
    for (const std::string& text : request_.tensor_types) mix.overrides.push_back(ParseTypeOverride(text));
    if (!request_.imatrix.empty()) importance_ = ImportanceMatrix::Open(request_.imatrix);
    for (const MixTensor& t : tensors) gguf_[t.name] = t;
    RequireMatches(mix, tensors);
    const auto types = PlanMix(mix, tensors, config);
    if (target_ == Container::kGguf) {
      for (const MixTensor& t : tensors) Add(t, types.at(t.name));
    } else {
      CarryOver(types);
    }
    Fallbacks();
    Importance();
    out_.choose = [types = by_name_](const std::string& name, const Shape&, DType) { return types.at(name); };
    return std::move(out_);
  }

  std::vector<MixTensor> List(const std::vector<TensorRule>& names) const {
    std::vector<MixTensor> out;
    ExportTensors(model_, names, [&](const std::string& name, const Shape& shape, DType stored) {
      out.push_back({name, shape, stored});
      return DType::kF32;
    });
    return out;
  }

 private:
  static void RequireMatches(const MixRequest& mix, const std::vector<MixTensor>& tensors) {
    for (const TypeOverride& o : mix.overrides) {
      if (std::none_of(tensors.begin(), tensors.end(), [&](const MixTensor& t) { return std::regex_search(t.name, o.regex); })) {
        throw Error(ErrorCode::kUsage, "--tensor-type: no tensor matches '" + o.pattern + "'; names are GGUF's");
      }
    }
  }

  void Add(const MixTensor& t, const PlannedType& type) {
    PlannedTensor planned{.name = t.name, .shape = t.shape, .stored = t.stored, .dtype = type.dtype, .fallback = type.fallback};
    planned.bytes = TensorWriteBytes(target_, {t.name, type.dtype, t.shape, {}});
    if (type.fallback) {
      out_.notes.push_back(fmt::format("{}: rows of {} are no whole blocks; written as {}", t.name, t.shape.cols(), NameOf(type.dtype)));
      ++fallbacks_[NameOf(type.dtype)];
    }
    if (IsQuantized(t.stored) && t.stored != type.dtype && IsQuantized(type.dtype)) again_ = true;
    by_name_[t.name] = type.dtype;
    out_.tensors.push_back(std::move(planned));
  }

  // The type of a target's tensor is that of the GGUF tensor that its first part goes into.
  void CarryOver(const std::map<std::string, PlannedType>& types) {
    std::map<std::pair<Slot, int>, const PlannedType*> by_slot;
    for (const auto& [name, keys] : SlotsByName(*model_, model_->architecture().gguf_names)) {
      const auto it = types.find(name);
      if (it == types.end()) continue;
      for (const SlotKey& key : keys) {
        by_slot[{key.slot, key.layer}] = &it->second;
        gguf_of_[{key.slot, key.layer}] = name;
      }
    }
    const auto slots = SlotsByName(*model_, model_->architecture().hf);
    for (const MixTensor& t : List(model_->architecture().hf)) {
      const auto found = slots.find(t.name);
      if (found == slots.end() || by_slot.count({found->second[0].slot, found->second[0].layer}) == 0) {
        Add(t, {DType::kF32});  // of a part that GGUF names otherwise: one head's norm
        continue;
      }
      const SlotKey key = found->second[0];
      PlannedType type = *by_slot.at({key.slot, key.layer});
      if (target_ == Container::kApr) {
        type.dtype = ForApr(t.shape.ndim() < 2 ? DType::kF32 : type.dtype);
      } else if (IsQuantized(type.dtype)) {
        throw Error(ErrorCode::kValidationFailed, fmt::format("safetensors has no type {}; --format gguf or apr holds it", NameOf(type.dtype)), {.tensor = t.name});
      }
      source_name_[t.name] = gguf_of_[{key.slot, key.layer}];
      source_expert_[t.name] = key.expert;
      Add(t, type);
    }
  }

  void Fallbacks() {
    if (out_.notes.empty()) return;
    std::vector<std::string> parts;
    for (const auto& [type, count] : fallbacks_) parts.push_back(fmt::format("{} written as {}", count, type));
    out_.warnings.push_back(fmt::format("tensors whose rows are no whole blocks of the type asked for: {} (--verbose names them)", fmt::join(parts, ", ")));
  }

  void Importance() {
    if (again_) out_.warnings.push_back("quantised tensors are quantised again: their errors add up");
    if (importance_ == nullptr) return;
    int64_t found = 0, wanted = 0;
    for (const PlannedTensor& t : out_.tensors) {
      if (!IsQuantized(t.dtype)) continue;
      ++wanted;
      found += Find(t.name, 0, t.shape.cols()) != nullptr ? 1 : 0;
    }
    if (found < wanted) out_.warnings.push_back(fmt::format("the importance matrix has entries for {} of {} quantised tensors", found, wanted));
    out_.importance = [matrix = importance_, gguf = gguf_, names = source_name_, experts = source_expert_](
                          const std::string& name, int64_t m, int64_t cols) { return Lookup(*matrix, gguf, names, experts, name, m, cols); };
  }
  const float* Find(const std::string& name, int64_t matrix, int64_t cols) const {
    return Lookup(*importance_, gguf_, source_name_, source_expert_, name, matrix, cols);
  }

  // By the name that the matrix was measured under: GGUF's, whatever the target calls it.
  static const float* Lookup(const ImportanceMatrix& matrix, const std::map<std::string, MixTensor>& gguf,
                             const std::map<std::string, std::string>& names, const std::map<std::string, int>& experts,
                             const std::string& name, int64_t m, int64_t cols) {
    const auto other = names.find(name);
    const auto it = gguf.find(other == names.end() ? name : other->second);
    if (it == gguf.end()) return nullptr;
    const Shape& shape = it->second.shape;
    const int64_t matrices = shape.ndim() > 2 ? shape[0] : 1;
    // A tensor that the target stores the other way round has other columns.
    if (shape.cols() != cols || (matrices > 1 && m >= matrices)) return nullptr;
    const float* values = matrix.Find(it->first, matrices, cols);
    const auto expert = experts.find(name);
    const int64_t row = expert != experts.end() && expert->second >= 0 ? expert->second : matrices > 1 ? m : 0;
    return values == nullptr ? nullptr : values + row * cols;
  }

  const std::shared_ptr<const Model> model_;
  const Container target_;
  const TypePlanRequest& request_;
  std::shared_ptr<const ImportanceMatrix> importance_;
  std::map<std::string, MixTensor> gguf_;
  std::map<std::string, DType> by_name_;
  std::map<std::pair<Slot, int>, std::string> gguf_of_;
  std::map<std::string, std::string> source_name_;
  std::map<std::string, int> source_expert_;
  std::map<std::string, int> fallbacks_;  // how many tensors each smaller type took
  bool again_ = false;
  TypePlan out_;
};

}  // namespace

TypePlan PlanTypes(const std::shared_ptr<const Model>& model, Container target, const TypePlanRequest& request) {
  PlanMaker maker(model, target, request);
  return maker.Run(maker.List(model->architecture().gguf_names), &model->config());
}

TypePlan PlanTypesOfGguf(const std::shared_ptr<const ModelFile>& file, const TypePlanRequest& request) {
  std::vector<MixTensor> tensors;
  for (const TensorInfo& info : file->tensors()) tensors.push_back({info.name, info.shape, info.dtype});
  std::optional<ModelConfig> config;
  try {
    config = ResolveConfig(*file).config;
  } catch (const Error&) {
    // Of an architecture that this program does not compute: the rules then go by the names alone.
  }
  TypePlan plan = PlanMaker(nullptr, Container::kGguf, request).Run(tensors, config ? &*config : nullptr);
  if (!config) plan.warnings.push_back("the architecture is not known: rules that go by its numbers of heads and experts were left out");
  return plan;
}

}  // namespace apr
