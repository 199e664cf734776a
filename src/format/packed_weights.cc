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
#include "format/packed_parts.h"
#include "quant/quant.h"

namespace apr {
namespace {

// The quantization_config, or MLX's quantization; nullptr if there is none.
const Json* Settings(const Json* config) {
  const Json* found = ObjectOf(config, "quantization_config");
  return found != nullptr ? found : ObjectOf(config, "quantization");  // MLX's
}

std::string MethodOf(const Json& settings) {
  const auto method = TextOf(&settings, "quant_method");
  return method ? fmt::format("quant_method '{}'", *method) : "no quant_method";
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
    if (const auto module = Module(info.name, ".weight_packed")) {
      return info.dtype == DType::kU8 ? FindFloatCodes(file_, *module) : FromCompressed(*module);
    }
    if (info.dtype == DType::kU8 && info.name.ends_with("_blocks")) return FromBlocks(info.name);
    const auto module = Module(info.name, ".weight");
    if (!module || info.shape.ndim() != 2) return std::nullopt;
    if (info.dtype == DType::kU32) return FindMlx(file_, *module);
    if (info.dtype == DType::kU8) {
      auto weight = FindBitsAndBytes(file_, *module);
      return weight ? std::move(weight) : FindModelOpt(file_, *module);
    }
    const bool narrow = info.dtype == DType::kI8 || info.dtype == DType::kF8E4M3 || info.dtype == DType::kF8E5M2;
    return narrow ? FromScaled(*module) : std::nullopt;
  }

  // A symmetric file's zero is the middle of its range. Some say format 1 and store it, where format 1 has one less
  // (vllm-project/vllm#38966: Qwen's GPTQ files of 2026).
  static bool IsMiddleItself(const TensorView& qzeros, int bits) {
    const uint32_t word = bits == 2 ? 0xAAAAAAAAu : bits == 4 ? 0x88888888u : 0x80808080u;
    bool all = (bits == 2 || bits == 4 || bits == 8) && !qzeros.bytes.empty();
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
  const bool has_index = file_.Find(module + ".g_idx") != nullptr;
  PartFinder finder(file_, module + ".weight", "gptq");
  const TensorView qweight = finder.Need(module + ".qweight");
  const TensorView qzeros = finder.Need(module + ".qzeros");
  const TensorView scales = finder.Need(module + ".scales");
  const auto g_idx = finder.Part(module + ".g_idx");
  // GPTQ packs along the inputs and keeps a column for each output; AWQ packs the outputs.
  if (!has_index && qweight.cols() * 8 == scales.cols()) {
    const AwqParts parts{qweight, qzeros, scales};
    PackedWeight weight = std::move(finder).Weight(CheckAwq(parts), parts);
    weight.scheme = "awq";
    return weight;
  }
  int64_t bits = IntegerOf(settings_, "bits").value_or(0);
  if (bits == 0 && g_idx && g_idx->cols() > 0) bits = 32 * qweight.rows() / g_idx->cols();
  if (bits < 1 || bits > 8) {
    throw Error(ErrorCode::kInvalidFormat,
                "packed weight: neither quantization_config.bits nor g_idx tells its bits");
  }
  const std::string format = TextOf(settings_, "checkpoint_format").value_or("gptq");
  if (format != "gptq" && format != "gptq_v2" && format != "gptq_p") {
    throw Error(ErrorCode::kModelLoad, "packed weight: the checkpoint_format '" + format + "' is not supported");
  }
  GptqParts parts{.qweight = qweight, .qzeros = qzeros, .scales = scales, .g_idx = g_idx, .bits = static_cast<int>(bits), .planar = format == "gptq_p" && bits == 3};
  const Shape shape = CheckGptq(parts);
  parts.zero = format != "gptq" || IsMiddleItself(qzeros, parts.bits) ? GptqZero::kItself : ZeroOfFormat1(parts);
  return std::move(finder).Weight(shape, parts);
}

// The bits of `in` codes that fill `words` words. Only few codes fill as many with several; published are 4 and 8.
int BitsOf(int64_t in, int64_t words) {
  for (const int bits : {4, 8, 2, 3, 5, 6, 7, 1}) {
    if (words == in / 32 * bits + (in % 32 * bits + 31) / 32) return bits;
  }
  return 0;
}

PackedWeight Finder::FromCompressed(const std::string& module) {
  PartFinder finder(file_, module + ".weight", "compressed-tensors");
  CompressedParts parts;
  parts.packed = finder.Need(module + ".weight_packed");
  parts.scale = finder.Need(module + ".weight_scale");
  const TensorView shape = finder.Need(module + ".weight_shape");
  parts.zero_point = finder.Part(module + ".weight_zero_point");
  parts.g_idx = finder.Part(module + ".weight_g_idx");
  const bool wide = shape.dtype == DType::kI64;
  if (shape.shape != Shape{2} || (!wide && shape.dtype != DType::kI32)) {
    throw Error(ErrorCode::kInvalidFormat, "packed weight: weight_shape is not two integers");
  }
  parts.in = wide ? LoadLe<int64_t>(shape.bytes.data() + 8) : LoadLe<int32_t>(shape.bytes.data() + 4);
  const int64_t out = wide ? LoadLe<int64_t>(shape.bytes.data()) : LoadLe<int32_t>(shape.bytes.data());
  parts.bits = parts.in > 0 ? BitsOf(parts.in, parts.packed.cols()) : 0;
  const Shape checked = CheckCompressed(parts);
  if (checked[0] != out) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("packed weight: weight_shape says {} rows, weight_packed has {}", out, checked[0]));
  }
  return std::move(finder).Weight(checked, parts);
}

std::optional<PackedWeight> Finder::FromScaled(const std::string& module) {
  PartFinder finder(file_, module + ".weight", "scaled");
  ScaledParts parts;
  parts.weight = finder.Need(module + ".weight");
  auto scale = finder.Part(module + ".weight_scale_inv");
  if (!scale) scale = finder.Part(module + ".weight_scale");
  if (!scale && parts.weight.dtype == DType::kI8) {  // bitsandbytes: the largest of each row stands for 127
    scale = finder.Part(module + ".SCB");
    finder.Part(module + ".weight_format");
    if (scale) parts.scale.factor = 1.0f / 127;
  }
  if (!scale) return std::nullopt;  // a plain tensor of a narrow type
  if (scale->dtype == DType::kU8) scale->dtype = DType::kF8E8M0;
  if (scale->shape.ndim() == 1 && scale->shape[0] == parts.weight.rows()) scale->shape = Shape{scale->shape[0], 1};
  parts.scale.of = *scale;
  parts.zero_point = finder.Part(module + ".weight_zero_point");
  const Shape shape = CheckScaled(parts);
  return std::move(finder).Weight(shape, std::move(parts));
}

// gpt-oss as published: quant_method "mxfp4".
std::optional<PackedWeight> Finder::FromBlocks(const std::string& name) {
  PartFinder finder(file_, name, "mxfp4");
  MxParts parts;
  parts.blocks = finder.Need(name);
  const auto scales = finder.Part(name.substr(0, name.size() - 7) + "_scales");
  if (!scales) return std::nullopt;
  parts.scales = *scales;
  return std::move(finder).Weight(CheckMx(parts), parts);
}

}  // namespace

DType PackedWeight::dtype() const { return std::holds_alternative<MxParts>(data) ? DType::kMXFP4 : DType::kF32; }

double PackedWeight::typical_error() const {
  if (const auto* p = std::get_if<ScaledParts>(&data)) return p->weight.dtype == DType::kI8 ? 0.01 : TypicalRelativeError(p->weight.dtype);
  const auto* gptq = std::get_if<GptqParts>(&data);
  const auto* compressed = std::get_if<CompressedParts>(&data);
  const auto* coded = std::get_if<CodedParts>(&data);
  const int bits = gptq != nullptr ? gptq->bits : compressed != nullptr ? compressed->bits : coded != nullptr ? coded->bits : 4;
  return 1.6 / (1 << bits);  // of 128 values that share a scale: 0.1 for 4 bits
}

std::string PackedWeight::stored_as() const {
  if (const auto* p = std::get_if<GptqParts>(&data)) return fmt::format("GPTQ int{}", p->bits);
  if (std::holds_alternative<AwqParts>(data)) return "AWQ int4";
  if (const auto* p = std::get_if<CompressedParts>(&data)) return fmt::format("compressed-tensors int{}", p->bits);
  if (const auto* p = std::get_if<ScaledParts>(&data)) return fmt::format("{} with scales", NameOf(p->weight.dtype));
  if (const auto* p = std::get_if<CodedParts>(&data)) return p->name;
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
  if (const auto* p = std::get_if<CodedParts>(&data)) return DecodeCodedRows(*p, first, count, out, what);
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
  // What the checks looked at may have brought large parts of the file along.
  for (const std::string_view part : parts) file->DontNeed(*file->Find(part));
  return std::make_shared<const ModelFile>(std::move(out));
}

}  // namespace apr
