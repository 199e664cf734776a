// See packed_parts.h.
#include "format/packed_parts.h"

#include <fmt/format.h>

#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

std::vector<float> FloatsOf(const TensorView& part) {
  if (part.dtype != DType::kF32 || part.shape.num_elements() > 256) RefusePart("a table of values must be F32, of 256 at most", part);
  std::vector<float> out;
  for (int64_t i = 0; i < part.shape.num_elements(); ++i) out.push_back(ElementAt(part, i));
  return out;
}

float OneFloat(const TensorView& part) {
  if (part.dtype != DType::kF32 || part.shape.num_elements() != 1) RefusePart("it must be one number in F32", part);
  return ElementAt(part, 0);
}

// A part of bytes as the narrow floats that they are.
TensorView As(TensorView part, DType dtype) {
  if (part.dtype != DType::kU8 && part.dtype != dtype) RefusePart(fmt::format("it must be U8 or {}", NameOf(dtype)), part);
  part.dtype = dtype;
  return part;
}

// Elements in a row of part that are `each` to one.
int64_t Times(const TensorView& part, int64_t each) {
  if (part.shape.ndim() != 2 || part.cols() > INT32_MAX) RefusePart("it must have 2 dims", part);
  return part.cols() * each;
}

// Two E2M1 values a byte: what is exactly MXFP4's block type stays it.
std::pair<Shape, MxParts> MxOf(const TensorView& codes, const TensorView& scales, int64_t in) {
  if (in % 32 != 0 || codes.bytes.size() != 16 * scales.bytes.size()) RefusePart("MXFP4 must have 16 bytes for each scale", codes);
  MxParts parts{.blocks = codes, .scales = scales};
  parts.blocks.dtype = parts.scales.dtype = DType::kU8;
  parts.blocks.shape = Shape{codes.rows(), in / 32, 16};
  return {CheckMx(parts), parts};
}

PackedWeight Coded(PartFinder finder, CodedParts parts) {
  const Shape shape = CheckCoded(parts);
  return std::move(finder).Weight(shape, std::move(parts));
}

}  // namespace

PartFinder::PartFinder(const ModelFile& file, std::string name, const char* scheme)
    : file_(file), weight_{.name = std::move(name), .shape = {}, .scheme = scheme, .parts = {}, .data = {}} {}

std::optional<TensorView> PartFinder::Part(const std::string& name) {
  const TensorInfo* info = file_.Find(name);
  if (info == nullptr) return std::nullopt;
  weight_.parts.push_back(name);
  return file_.View(*info);
}

TensorView PartFinder::Need(const std::string& name) {
  if (const auto view = Part(name)) return *view;
  throw Error(ErrorCode::kInvalidFormat, "packed weight: the tensor '" + name + "' is absent");
}

const Json* ObjectOf(const Json* settings, const char* key) {
  if (settings == nullptr || !settings->is_object()) return nullptr;
  const auto found = settings->find(key);
  return found != settings->end() && found->is_object() ? &*found : nullptr;
}
std::optional<std::string> TextOf(const Json* settings, const char* key) {
  if (settings == nullptr || !settings->is_object()) return std::nullopt;
  const auto found = settings->find(key);
  if (found == settings->end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}
std::optional<int64_t> IntegerOf(const Json* settings, const char* key) {
  if (settings == nullptr || !settings->is_object()) return std::nullopt;
  const auto found = settings->find(key);
  if (found == settings->end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int64_t>();
}

std::optional<PackedWeight> FindMlx(const ModelFile& file, const std::string& module) {
  if (file.Find(module + ".scales") == nullptr) return std::nullopt;
  PartFinder finder(file, module + ".weight", "mlx");
  const TensorView codes = finder.Need(module + ".weight");
  const TensorView scales = finder.Need(module + ".scales");
  const std::optional<TensorView> biases = finder.Part(module + ".biases");
  const Json* all = ObjectOf(file.config(), "quantization");
  if (all == nullptr) all = ObjectOf(file.config(), "quantization_config");
  const Json* own = ObjectOf(all, module.c_str());
  const Json* settings = own != nullptr ? own : all;
  const int64_t bits = IntegerOf(settings, "bits").value_or(0), group = IntegerOf(settings, "group_size").value_or(0);
  if (bits < 1 || bits > 8 || group < 1 || group > INT32_MAX) {
    throw Error(ErrorCode::kInvalidFormat, "packed weight: config.json's quantization does not tell its bits and group_size");
  }
  const std::string mode = TextOf(settings, "mode").value_or("affine");
  const int64_t in = Times(scales, group);
  const Shape shape{codes.rows(), in};
  CodedParts parts{.name = mode == "nvfp4" ? "NVFP4" : fmt::format("MLX int{}", bits), .shape = shape, .codes = codes, .bits = static_cast<int>(bits), .block = group};
  if (mode == "affine") {
    if (!biases) throw Error(ErrorCode::kInvalidFormat, "packed weight: the tensor '" + module + ".biases' is absent");
    parts.values = IntegerValues(parts.bits);
    parts.scale.of = scales;
    parts.bias = biases;
    return Coded(std::move(finder), std::move(parts));
  }
  if (mode == "mxfp4" && bits == 4 && group == 32) {
    const auto [mx_shape, mx] = MxOf(codes, As(scales, DType::kU8), in);
    return std::move(finder).Weight(mx_shape, mx);
  }
  if (mode == "mxfp8" && bits == 8) {
    ScaledParts scaled{.weight = codes, .scale = {}, .zero_point = std::nullopt};
    scaled.weight.dtype = DType::kF8E4M3;
    scaled.weight.shape = shape;
    scaled.scale.of = As(scales, DType::kF8E8M0);
    const auto elements = shape.NumElementsChecked();
    if (!elements || codes.bytes.size() != static_cast<uint64_t>(*elements)) RefusePart("its bytes are not those of its scales' groups", codes);
    const Shape checked = CheckScaled(scaled);
    return std::move(finder).Weight(checked, std::move(scaled));
  }
  if (mode == "nvfp4" && bits == 4) {
    parts.values = E2M1Values();
    parts.scale.of = As(scales, DType::kF8E4M3);
    return Coded(std::move(finder), std::move(parts));
  }
  throw Error(ErrorCode::kInvalidFormat, fmt::format("packed weight: MLX's mode '{}' with {} bits and groups of {} is not known", mode, bits, group));
}

std::optional<PackedWeight> FindBitsAndBytes(const ModelFile& file, const std::string& module) {
  const std::string name = module + ".weight";
  if (file.Find(name + ".absmax") == nullptr) return std::nullopt;
  PartFinder finder(file, name, "bitsandbytes");
  const TensorView codes = finder.Need(name), absmax = finder.Need(name + ".absmax");
  const std::string state = name + ".quant_state.bitsandbytes__";
  const bool nf4 = file.Find(state + "nf4") != nullptr;
  const TensorView text = finder.Need(state + (nf4 ? "nf4" : "fp4"));
  if (text.bytes.size() > 4096) RefusePart("its quant_state is too long", text);
  const Json settings = ParseJson(AsText(text.bytes), state);
  const auto size = settings.is_object() ? settings.find("shape") : settings.end();
  if (size == settings.end() || !size->is_array() || size->size() != 2 || !(*size)[0].is_number_integer() || !(*size)[1].is_number_integer()) {
    RefusePart("its quant_state has no shape of two integers", text);
  }
  CodedParts parts{.name = nf4 ? "NF4" : "FP4", .shape = Shape{(*size)[0].get<int64_t>(), (*size)[1].get<int64_t>()}, .codes = codes, .bits = 4, .high_first = true,
                   .values = FloatsOf(finder.Need(name + ".quant_map")), .block = IntegerOf(&settings, "blocksize").value_or(0)};
  parts.scale.of = absmax;
  if (const auto outer = finder.Part(name + ".nested_absmax")) {
    parts.scale.table = FloatsOf(finder.Need(name + ".nested_quant_map"));
    parts.scale.outer = *outer;
    parts.scale.outer_block = IntegerOf(&settings, "nested_blocksize").value_or(0);
    const auto offset = settings.find("nested_offset");
    if (offset == settings.end() || !offset->is_number()) RefusePart("its quant_state has no nested_offset", text);
    parts.scale.offset = offset->get<float>();
  }
  return Coded(std::move(finder), std::move(parts));
}

std::optional<PackedWeight> FindModelOpt(const ModelFile& file, const std::string& module) {
  if (file.Find(module + ".weight_scale_2") == nullptr) return std::nullopt;
  PartFinder finder(file, module + ".weight", "nvfp4");
  const TensorView codes = finder.Need(module + ".weight"), scale = finder.Need(module + ".weight_scale");
  const int64_t in = Times(codes, 2), groups = Times(scale, 1);
  CodedParts parts{.name = "NVFP4", .shape = Shape{codes.rows(), in}, .codes = codes, .values = E2M1Values(), .block = groups > 0 ? in / groups : 0};
  parts.scale.of = As(scale, DType::kF8E4M3);
  parts.scale.factor = OneFloat(finder.Need(module + ".weight_scale_2"));
  return Coded(std::move(finder), std::move(parts));
}

PackedWeight FindFloatCodes(const ModelFile& file, const std::string& module) {
  PartFinder finder(file, module + ".weight", "compressed-tensors");
  const TensorView codes = finder.Need(module + ".weight_packed"), scale = finder.Need(module + ".weight_scale");
  const int64_t bytes = Times(codes, 1), groups = Times(scale, 1);
  if (const auto global = finder.Part(module + ".weight_global_scale")) {
    CodedParts parts{.name = "NVFP4", .shape = Shape{codes.rows(), 2 * bytes}, .codes = codes, .values = E2M1Values(),
                     .block = groups > 0 ? 2 * bytes / groups : 0};
    parts.scale.of = As(scale, DType::kF8E4M3);
    parts.scale.factor = 1 / OneFloat(*global);
    return Coded(std::move(finder), std::move(parts));
  }
  const int64_t in = 32 * groups;
  if (bytes == 16 * groups) {
    const auto [shape, parts] = MxOf(codes, As(scale, DType::kU8), in);
    return std::move(finder).Weight(shape, parts);
  }
  if (bytes != 24 * groups) RefusePart("it holds neither 4 nor 6 bits for each of 32 elements of a scale", codes);
  CodedParts parts{.name = "MXFP6", .shape = Shape{codes.rows(), in}, .codes = codes, .bits = 6, .values = E2M3Values(), .block = 32};
  parts.scale.of = As(scale, DType::kF8E8M0);
  return Coded(std::move(finder), std::move(parts));
}

}  // namespace apr
