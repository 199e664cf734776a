// See packed_weights.h.
#include "format/packed_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "quant/quant.h"

namespace apr {
namespace {

// The quantization_config; nullptr if there is none.
const Json* Settings(const Json* config) {
  if (config == nullptr) return nullptr;
  const auto found = config->find("quantization_config");
  return found != config->end() && found->is_object() ? &*found : nullptr;
}

std::string MethodOf(const Json& settings) {
  const auto found = settings.find("quant_method");
  return found != settings.end() && found->is_string() ? fmt::format("quant_method '{}'", found->get<std::string>()) : "no quant_method";
}

bool EndsInAny(std::string_view name, std::initializer_list<std::string_view> ends) {
  return std::any_of(ends.begin(), ends.end(), [name](std::string_view end) { return name.ends_with(end); });
}

// A table of numbers that are no values: integers, or 8-bit floats (which have a scale somewhere). Masks and positions, which
// older models store, are none.
bool LooksPacked(const TensorInfo& info) {
  const bool values = InfoOf(info.dtype).block_elems > 1 || info.dtype == DType::kF64 || info.dtype == DType::kF32 ||
                      info.dtype == DType::kF16 || info.dtype == DType::kBF16 || info.dtype == DType::kBool;
  return !values && info.shape.ndim() >= 2 && !EndsInAny(info.name, {"position_ids", ".bias", ".masked_bias"});
}

class Finder {
 public:
  explicit Finder(const ModelFile& file) : file_(file) {
    settings_ = Settings(file.config());
  }

  std::vector<PackedWeight> Find() {
    std::vector<PackedWeight> out;
    for (const TensorInfo& info : file_.tensors()) {
      try {
        if (auto weight = FromPart(info)) out.push_back(std::move(*weight));
      } catch (const Error& error) {
        throw error.With({.file = file_.path(), .tensor = info.name});
      }
    }
    return out;
  }

 private:
  static std::optional<std::string> Module(const std::string& name, std::string_view part) {
    if (!name.ends_with(part)) return std::nullopt;
    return name.substr(0, name.size() - part.size());
  }

  std::optional<PackedWeight> FromPart(const TensorInfo& info) {
    if (const auto module = Module(info.name, ".qweight")) return FromQweight(*module);
    if (const auto module = Module(info.name, ".weight_packed")) return FromCompressed(*module);
    if (info.dtype == DType::kU8 && info.name.ends_with("_blocks")) return FromBlocks(info.name);
    const bool narrow = info.dtype == DType::kI8 || info.dtype == DType::kF8E4M3 ||
                        info.dtype == DType::kF8E5M2;
    if (!narrow || info.shape.ndim() != 2) return std::nullopt;
    if (const auto module = Module(info.name, ".weight")) return FromScaled(*module);
    return std::nullopt;
  }

  std::optional<TensorView> Part(const std::string& name, PackedWeight* weight) {
    const TensorInfo* info = file_.Find(name);
    if (info == nullptr) return std::nullopt;
    weight->parts.push_back(name);
    return file_.View(*info);
  }
  TensorView Need(const std::string& name, PackedWeight* weight) {
    if (const auto view = Part(name, weight)) return *view;
    throw Error(ErrorCode::kInvalidFormat, "packed weight: the tensor '" + name + "' is absent");
  }

  std::optional<int64_t> Setting(const char* key) const {
    if (settings_ == nullptr) return std::nullopt;
    const auto found = settings_->find(key);
    if (found == settings_->end() || !found->is_number_integer()) return std::nullopt;
    return found->get<int64_t>();
  }
  bool StoresZeroItself() const {
    if (settings_ == nullptr) return false;
    const auto found = settings_->find("checkpoint_format");
    return found != settings_->end() && found->is_string() && *found == "gptq_v2";
  }

  // A symmetric file's zero is the middle of its range. Some say format 1 and store it, where format 1 has one less
  // (vllm-project/vllm#38966: Qwen's GPTQ files of 2026).
  static bool IsMiddleItself(const TensorView& qzeros, int bits) {
    const uint32_t word = bits == 2 ? 0xAAAAAAAAu : bits == 4 ? 0x88888888u : 0x80808080u;
    bool all = bits != 3 && !qzeros.bytes.empty();
    for (size_t at = 0; all && at < qzeros.bytes.size(); at += 4) all = LoadLe<uint32_t>(qzeros.bytes.data() + at) == word;
    return all;
  }

  PackedWeight FromQweight(const std::string& module);
  PackedWeight FromCompressed(const std::string& module);
  std::optional<PackedWeight> FromScaled(const std::string& module);
  std::optional<PackedWeight> FromBlocks(const std::string& name);

  const ModelFile& file_;
  const Json* settings_ = nullptr;
};

PackedWeight Finder::FromQweight(const std::string& module) {
  PackedWeight weight{.name = module + ".weight", .shape = {}, .scheme = "", .parts = {}, .data = {}};
  const TensorView qweight = Need(module + ".qweight", &weight);
  const TensorView qzeros = Need(module + ".qzeros", &weight);
  const TensorView scales = Need(module + ".scales", &weight);
  const auto g_idx = Part(module + ".g_idx", &weight);
  // GPTQ packs along the inputs and keeps a column for each output; AWQ packs the outputs.
  if (!g_idx && qweight.cols() * 8 == scales.cols()) {
    const AwqParts parts{qweight, qzeros, scales};
    weight.scheme = "awq";
    weight.shape = CheckAwq(parts);
    weight.data = parts;
    return weight;
  }
  int64_t bits = Setting("bits").value_or(0);
  if (bits == 0 && g_idx && g_idx->cols() > 0) bits = 32 * qweight.rows() / g_idx->cols();
  if (bits < 1 || bits > 8) {
    throw Error(ErrorCode::kInvalidFormat,
                "packed weight: neither quantization_config.bits nor g_idx tells its bits");
  }
  const GptqParts parts{.qweight = qweight, .qzeros = qzeros, .scales = scales, .g_idx = g_idx,
                        .bits = static_cast<int>(bits), .zero_minus_one = !StoresZeroItself() && !IsMiddleItself(qzeros, static_cast<int>(bits))};
  weight.scheme = "gptq";
  weight.shape = CheckGptq(parts);
  weight.data = parts;
  return weight;
}

PackedWeight Finder::FromCompressed(const std::string& module) {
  PackedWeight weight{.name = module + ".weight", .shape = {}, .scheme = "compressed-tensors",
                      .parts = {}, .data = {}};
  CompressedParts parts;
  parts.packed = Need(module + ".weight_packed", &weight);
  parts.scale = Need(module + ".weight_scale", &weight);
  const TensorView shape = Need(module + ".weight_shape", &weight);
  parts.zero_point = Part(module + ".weight_zero_point", &weight);
  parts.g_idx = Part(module + ".weight_g_idx", &weight);
  const bool wide = shape.dtype == DType::kI64;
  if (shape.shape != Shape{2} || (!wide && shape.dtype != DType::kI32)) {
    throw Error(ErrorCode::kInvalidFormat, "packed weight: weight_shape is not two integers");
  }
  parts.in = wide ? LoadLe<int64_t>(shape.bytes.data() + 8) : LoadLe<int32_t>(shape.bytes.data() + 4);
  const int64_t out = wide ? LoadLe<int64_t>(shape.bytes.data()) : LoadLe<int32_t>(shape.bytes.data());
  // 4 bits unless that is too few for the words that are there.
  parts.bits = parts.packed.cols() > (parts.in / 8 + (parts.in % 8 > 0 ? 1 : 0)) ? 8 : 4;
  weight.shape = CheckCompressed(parts);
  if (weight.shape[0] != out) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("packed weight: weight_shape says {} rows, weight_packed has {}", out,
                            weight.shape[0]));
  }
  weight.data = parts;
  return weight;
}

std::optional<PackedWeight> Finder::FromScaled(const std::string& module) {
  PackedWeight weight{.name = module + ".weight", .shape = {}, .scheme = "scaled", .parts = {},
                      .data = {}};
  ScaledParts parts;
  parts.weight = Need(weight.name, &weight);
  auto scale = Part(module + ".weight_scale_inv", &weight);
  if (!scale) scale = Part(module + ".weight_scale", &weight);
  if (!scale) return std::nullopt;  // a plain tensor of a narrow type
  parts.scale = *scale;
  weight.shape = CheckScaled(parts);
  weight.data = parts;
  return weight;
}

// gpt-oss as published: quant_method "mxfp4".
std::optional<PackedWeight> Finder::FromBlocks(const std::string& name) {
  PackedWeight weight{.name = name, .shape = {}, .scheme = "mxfp4", .parts = {}, .data = {}};
  MxParts parts;
  parts.blocks = Need(name, &weight);
  const auto scales = Part(name.substr(0, name.size() - 7) + "_scales", &weight);
  if (!scales) return std::nullopt;
  parts.scales = *scales;
  weight.shape = CheckMx(parts);
  weight.data = parts;
  return weight;
}

}  // namespace

DType PackedWeight::dtype() const { return std::holds_alternative<MxParts>(data) ? DType::kMXFP4 : DType::kF32; }

double PackedWeight::typical_error() const {
  if (const auto* p = std::get_if<ScaledParts>(&data)) return p->weight.dtype == DType::kI8 ? 0.01 : TypicalRelativeError(p->weight.dtype);
  const auto* gptq = std::get_if<GptqParts>(&data);
  const auto* compressed = std::get_if<CompressedParts>(&data);
  const int bits = gptq != nullptr ? gptq->bits : compressed != nullptr ? compressed->bits : 4;
  return 1.6 / (1 << bits);  // of 128 values that share a scale: 0.1 for 4 bits
}

std::string PackedWeight::stored_as() const {
  if (const auto* p = std::get_if<GptqParts>(&data)) return fmt::format("GPTQ int{}", p->bits);
  if (std::holds_alternative<AwqParts>(data)) return "AWQ int4";
  if (const auto* p = std::get_if<CompressedParts>(&data)) return fmt::format("compressed-tensors int{}", p->bits);
  if (const auto* p = std::get_if<ScaledParts>(&data)) return fmt::format("{} with scales", NameOf(p->weight.dtype));
  return std::string(NameOf(DType::kMXFP4));
}

void PackedWeight::ReadRows(int64_t first, int64_t count, std::span<std::byte> out) const {
  if (const auto* p = std::get_if<MxParts>(&data)) return RepackMxRows(*p, first, count, out);
  DecodeRows(first, count, {reinterpret_cast<float*>(out.data()), out.size() / sizeof(float)});
}

void PackedWeight::DecodeRows(int64_t first, int64_t count, std::span<float> out, PackedRead what) const {
  if (const auto* p = std::get_if<GptqParts>(&data)) return DecodeGptqRows(*p, first, count, out, what);
  if (const auto* p = std::get_if<AwqParts>(&data)) return DecodeAwqRows(*p, first, count, out, what);
  if (const auto* p = std::get_if<CompressedParts>(&data)) {
    return DecodeCompressedRows(*p, first, count, out, what);
  }
  if (std::holds_alternative<MxParts>(data)) {
    const Shape rows{count, shape.cols()};
    std::vector<std::byte> blocks(*StorageBytes(DType::kMXFP4, rows));
    ReadRows(first, count, blocks);
    return DecodeTensor({DType::kMXFP4, rows, blocks}, out);
  }
  DecodeScaledRows(std::get<ScaledParts>(data), first, count, out, what);
}

std::vector<PackedWeight> FindPackedWeights(const ModelFile& file) { return Finder(file).Find(); }

std::optional<FileWarning> QuantizationWarning(const ModelFileParts& parts) {
  const Json* settings = Settings(parts.config.get());
  if (settings == nullptr) return std::nullopt;
  for (const TensorInfo& info : parts.tensors) {
    if (LooksPacked(info) || EndsInAny(info.name, {".qweight", ".weight_packed", ".weight_scale", ".weight_scale_inv"})) return std::nullopt;
  }
  return FileWarning{parts.path, fmt::format("the configuration speaks of quantised weights ({}), but they are stored plain: computed as they stand",
                                             MethodOf(*settings)), "quantization_config"};
}

namespace {

void RefuseUnknownPacking(const ModelFile& file, const std::set<std::string_view>& known) {
  const Json* settings = Settings(file.config());
  if (settings == nullptr) return;
  for (const TensorInfo& info : file.tensors()) {
    if (!LooksPacked(info) || known.count(info.name) > 0) continue;
    throw Error(ErrorCode::kModelLoad,
                fmt::format("quantization_config: {} packs weights in a way that is not supported: this tensor holds {} {}", MethodOf(*settings),
                            InfoOf(info.dtype).name, info.shape.ToString()),
                {.file = file.path(), .tensor = info.name});
  }
}

}  // namespace

std::shared_ptr<const ModelFile> UnpackWeights(std::shared_ptr<const ModelFile> file) {
  if (file->container() != Container::kSafetensors) return file;
  const std::vector<PackedWeight> weights = FindPackedWeights(*file);
  std::set<std::string_view> parts;
  for (const PackedWeight& weight : weights) parts.insert(weight.parts.begin(), weight.parts.end());
  RefuseUnknownPacking(*file, parts);
  if (weights.empty()) return file;
  constexpr uint64_t kAlignment = 64;
  uint64_t bytes = 0;
  std::vector<uint64_t> offsets;
  for (const PackedWeight& weight : weights) {
    offsets.push_back(AlignUp(bytes, kAlignment));
    const auto more = StorageBytes(weight.dtype(), weight.shape);
    const auto sum = more ? CheckedAdd(offsets.back(), *more) : std::nullopt;
    if (!sum) throw Error(ErrorCode::kInvalidFormat, "too large to decode", {.file = file->path(), .tensor = weight.name});
    bytes = *sum;
  }
  ModelFileParts out{.container = file->container(), .path = file->path(), .format_version = file->format_version(),
                     .files = file->files(), .tensors = {}, .metadata = file->metadata(), .config = nullptr,
                     .warnings = file->warnings(), .storage = {}, .stored = file};
  if (file->config() != nullptr) out.config = std::shared_ptr<const Json>(file, file->config());
  for (const TensorInfo& info : file->tensors()) {
    if (parts.count(info.name) == 0) out.tensors.push_back(info);
  }
  const int memory = static_cast<int>(out.files.size());
  for (size_t w = 0; w < weights.size(); ++w) {
    const PackedWeight& weight = weights[w];
    out.tensors.push_back({weight.name, weight.dtype(), weight.shape, memory, offsets[w], *StorageBytes(weight.dtype(), weight.shape),
                           std::make_shared<const PackedWeight>(weight)});
  }
  out.files.push_back(MappedFile::Reserved(file->path(), bytes));
  return std::make_shared<const ModelFile>(std::move(out));
}

}  // namespace apr
