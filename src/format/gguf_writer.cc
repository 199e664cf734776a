// GGUF version 3: writer. See model_writer.h; source and byte table: docs/formats/gguf.md.
#include <fmt/format.h>

#include <bit>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "format/container_checks.h"
#include "format/model_writer.h"
#include "format/tensor_writer.h"

namespace apr {
namespace {

using Type = MetaValue::Type;

constexpr uint64_t kMaxNameToWrite = 63;  // ggml keeps names in 64 bytes with a terminator
constexpr uint64_t kMaxKeyToWrite = 65535;
constexpr int kMaxDimsToWrite = 4;

void AppendText(std::string* out, std::string_view text) {
  AppendLe<uint64_t>(out, text.size());
  out->append(text);
}

void AppendScalar(std::string* out, const MetaValue& value) {
  const auto integer = [&] { return static_cast<uint64_t>(*value.AsInt()); };
  switch (value.type()) {
    case Type::kU8: case Type::kI8: return AppendLe(out, static_cast<uint8_t>(integer()));
    case Type::kU16: case Type::kI16: return AppendLe(out, static_cast<uint16_t>(integer()));
    case Type::kU32: case Type::kI32: return AppendLe(out, static_cast<uint32_t>(integer()));
    case Type::kI64: return AppendLe(out, integer());
    case Type::kU64: return AppendLe(out, *value.AsUnsigned());
    case Type::kF32: return AppendLe(out, static_cast<float>(*value.AsDouble()));
    case Type::kF64: return AppendLe(out, *value.AsDouble());
    default: return AppendLe(out, static_cast<uint8_t>(*value.AsBool() ? 1 : 0));
  }
}

void AppendKeyValue(std::string* out, const std::string& key, const MetaValue& value,
                    const std::string& file) {
  if (key.empty() || key.size() > kMaxKeyToWrite) RefuseToWrite(file, key, "the key's length is not allowed");
  if (const auto problem = NameProblem(key)) RefuseToWrite(file, key, "the key " + *problem);
  const std::optional<uint32_t> id = GgufIdOfMetaType(value.type());
  if (!id) RefuseToWrite(file, key, "GGUF cannot hold a nested JSON value");
  AppendText(out, key);
  AppendLe(out, *id);
  if (value.type() == Type::kString) return AppendText(out, *value.AsString());
  if (value.type() != Type::kArray) return AppendScalar(out, value);
  AppendLe(out, *GgufIdOfMetaType(value.element_type()));
  AppendLe<uint64_t>(out, value.size());
  out->append(AsText(value.array_bytes()));
}

uint64_t AlignmentOf(const MetaList& metadata, const std::string& file) {
  for (const auto& [key, value] : metadata) {
    if (key != "general.alignment") continue;
    const std::optional<int64_t> number = value.AsInt();
    if (value.type() == Type::kU32 && std::has_single_bit(static_cast<uint64_t>(*number))) {
      return static_cast<uint64_t>(*number);
    }
    RefuseToWrite(file, key, "the alignment must be a power of two stored as u32");
  }
  return 32;
}

void AppendTensorInfo(std::string* out, const TensorToWrite& tensor, uint64_t offset,
                      const std::string& file) {
  const Shape& shape = tensor.shape;
  if (shape.ndim() > kMaxDimsToWrite) RefuseToWrite(file, tensor.name, "GGUF allows at most 4 dims");
  AppendText(out, tensor.name);
  AppendLe(out, static_cast<uint32_t>(std::max(shape.ndim(), 1)));
  if (shape.ndim() == 0) AppendLe<uint64_t>(out, 1);
  for (int i = shape.ndim() - 1; i >= 0; --i) AppendLe(out, static_cast<uint64_t>(shape[i]));
  AppendLe(out, static_cast<uint32_t>(InfoOf(tensor.dtype).ggml_id));
  AppendLe(out, offset);
}

}  // namespace

void WriteGguf(const std::string& path, const std::vector<TensorToWrite>& tensors,
               const MetaList& metadata, Overwrite overwrite) {
  CheckNamesToWrite(tensors, path, kMaxNameToWrite);
  const uint64_t alignment = AlignmentOf(metadata, path);
  std::string header = "GGUF";
  AppendLe<uint32_t>(&header, 3);
  AppendLe<uint64_t>(&header, tensors.size());
  AppendLe<uint64_t>(&header, metadata.size());
  std::unordered_set<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    if (!keys.insert(key).second) RefuseToWrite(path, key, "the key is given twice");
    AppendKeyValue(&header, key, value, path);
  }
  std::vector<uint64_t> sizes;
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    sizes.push_back(TensorWriteBytes(Container::kGguf, tensor));
    AppendTensorInfo(&header, tensor, offset, path);
    offset += AlignUp(sizes.back(), alignment);
  }
  OutputFile out(path, overwrite);
  out.Write(header);
  out.WriteZeros(AlignUp(out.size(), alignment) - out.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    StreamTensor(tensors[i], sizes[i], [&](Bytes bytes) { out.Write(bytes); });
    out.WriteZeros(AlignUp(out.size(), alignment) - out.size());
  }
  out.Commit();
}

}  // namespace apr
