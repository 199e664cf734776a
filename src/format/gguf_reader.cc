// See gguf_reader.h.
#include "format/gguf_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "base/bytes.h"
#include "base/error.h"
#include "format/container_checks.h"

namespace apr {
namespace {

using Type = MetaValue::Type;

constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxNameBytes = 64;
constexpr uint32_t kMaxDims = 4;
constexpr int kMaxArrayDepth = 32;
constexpr uint64_t kDefaultAlignment = 32;
// The least a key-value (length, one byte, type, one byte) and a tensor (length, one byte, n_dims, one
// dim, type, offset) can take: bounds the counts of the header by the bytes that are there.
constexpr uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

class GgufParser {
 public:
  GgufParser(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts)
      : bytes_(file->bytes()), reader_(bytes_, file->path()), parts_(parts),
        file_index_(static_cast<int>(parts->files.size())) {
    parts->files.push_back(file);
  }

  void Parse() {
    ReadHeader();
    ReadKeyValues();
    ReadTensorInfos();
    PlaceTensors();
  }

 private:
  void ReadHeader();
  void ReadKeyValues();
  std::string ReadKey();
  MetaValue ReadValue(uint32_t type_id, const std::string& key);
  MetaValue ReadArray(const std::string& key, int depth);
  void SkipArrayPayload(Type element, uint64_t count, const std::string& key, int depth);
  void ReadTensorInfos();
  TensorInfo ReadTensorInfo();
  Shape ReadDims(const std::string& name);
  uint64_t Alignment() const;
  void PlaceTensors();
  void WarnAboutHoles(std::span<const TensorInfo> tensors, uint64_t data_start, uint64_t alignment);

  Bytes bytes_;
  ByteReader reader_;
  ModelFileParts* parts_;
  int file_index_;
  uint64_t tensor_count_ = 0;
  uint64_t key_value_count_ = 0;
  size_t first_tensor_ = 0;
  MetaList metadata_;
};

void GgufParser::ReadHeader() {
  if (AsText(reader_.ReadBytes(4, "the magic")) != "GGUF") {
    reader_.FailAt(0, "not a GGUF file: the magic is missing");
  }
  const auto version = reader_.Read<uint32_t>("the version");
  if (version != 2 && version != 3) {
    const uint32_t swapped = __builtin_bswap32(version);
    if (swapped >= 1 && swapped <= 3) {
      reader_.FailAt(4, fmt::format("a big-endian GGUF file (version {}): only little-endian byte "
                                    "order is supported", swapped));
    }
    reader_.FailAt(4, fmt::format("GGUF version {} is not supported (2 and 3 are)", version));
  }
  tensor_count_ = reader_.Read<uint64_t>("the tensor count");
  key_value_count_ = reader_.Read<uint64_t>("the key-value count");
  const uint64_t remaining = reader_.remaining();
  if (key_value_count_ > remaining / kMinKeyValueBytes) {
    reader_.FailAt(16, fmt::format("{} key-values cannot fit in the {} bytes that follow",
                                   key_value_count_, remaining));
  }
  if (tensor_count_ > remaining / kMinTensorBytes) {
    reader_.FailAt(8, fmt::format("{} tensors cannot fit in the {} bytes that follow",
                                  tensor_count_, remaining));
  }
  parts_->format_version = fmt::format("GGUF {}", version);
}

std::string GgufParser::ReadKey() {
  const uint64_t at = reader_.offset();
  const auto length = reader_.Read<uint64_t>("the length of a key");
  if (length == 0) reader_.FailAt(at, "a key is empty");
  if (length > kMaxKeyBytes) {
    reader_.FailAt(at, fmt::format("a key of {} bytes; at most {} are allowed", length, kMaxKeyBytes));
  }
  const std::string_view key = AsText(reader_.ReadBytes(length, "a key"));
  if (const auto problem = NameProblem(key)) {
    reader_.FailAt(at, "the key " + *problem, Printable(key));
  }
  return std::string(key);
}

void GgufParser::SkipArrayPayload(Type element, uint64_t count, const std::string& key, int depth) {
  if (element == Type::kString) {
    for (uint64_t i = 0; i < count; ++i) {
      const auto length = reader_.Read<uint64_t>("the length of a string in an array");
      if (length > reader_.remaining()) {
        reader_.Fail(fmt::format("string {} of the array needs {} bytes, {} remain", i, length,
                                 reader_.remaining()), Printable(key));
      }
      reader_.Skip(length, "a string");
    }
    return;
  }
  if (element == Type::kArray) {
    for (uint64_t i = 0; i < count; ++i) ReadArray(key, depth + 1);
    return;
  }
  const Bytes payload = reader_.ReadBytes(count * MetaTypeBytes(element), "an array");
  if (element != Type::kBool) return;
  const auto odd = std::ranges::find_if(payload, [](std::byte b) { return b > std::byte{1}; });
  if (odd != payload.end()) {
    reader_.FailAt(static_cast<uint64_t>(&*odd - bytes_.data()),
                   fmt::format("a bool has the value {}", static_cast<int>(*odd)), Printable(key));
  }
}

MetaValue GgufParser::ReadArray(const std::string& key, int depth) {
  const uint64_t at = reader_.offset();
  if (depth > kMaxArrayDepth) {
    reader_.FailAt(at, fmt::format("arrays nested deeper than {} levels", kMaxArrayDepth),
                   Printable(key));
  }
  const auto id = reader_.Read<uint32_t>("the element type of an array");
  const std::optional<Type> element = MetaTypeFromGgufId(id);
  if (!element) reader_.FailAt(at, fmt::format("unknown array element type {}", id), Printable(key));
  const auto count = reader_.Read<uint64_t>("the length of an array");
  const uint64_t least = MetaTypeBytes(*element) > 0 ? MetaTypeBytes(*element)
                         : *element == Type::kString ? 8 : 12;
  if (count > reader_.remaining() / least) {
    reader_.FailAt(at + 4, fmt::format("truncated: an array of {} elements of type {} needs more than "
                                       "the {} bytes that remain", count, MetaTypeName(*element),
                                       reader_.remaining()), Printable(key));
  }
  const uint64_t start = reader_.offset();
  SkipArrayPayload(*element, count, key, depth);
  return MetaValue::Array(*element, count, bytes_.subspan(start, reader_.offset() - start));
}

MetaValue GgufParser::ReadValue(uint32_t type_id, const std::string& key) {
  const uint64_t at = reader_.offset();
  const std::optional<Type> type = MetaTypeFromGgufId(type_id);
  if (!type) reader_.FailAt(at - 4, fmt::format("unknown value type {}", type_id), Printable(key));
  const auto integer = [&](auto value) -> MetaValue {
    if constexpr (std::is_signed_v<decltype(value)>) return MetaValue::Scalar(*type, int64_t{value});
    else return MetaValue::Scalar(*type, uint64_t{value});
  };
  switch (*type) {
    case Type::kU8: return integer(reader_.Read<uint8_t>("a u8 value"));
    case Type::kI8: return integer(reader_.Read<int8_t>("an i8 value"));
    case Type::kU16: return integer(reader_.Read<uint16_t>("a u16 value"));
    case Type::kI16: return integer(reader_.Read<int16_t>("an i16 value"));
    case Type::kU32: return integer(reader_.Read<uint32_t>("a u32 value"));
    case Type::kI32: return integer(reader_.Read<int32_t>("an i32 value"));
    case Type::kU64: return integer(reader_.Read<uint64_t>("a u64 value"));
    case Type::kI64: return integer(reader_.Read<int64_t>("an i64 value"));
    case Type::kF32: return MetaValue::Scalar(*type, double{reader_.Read<float>("an f32 value")});
    case Type::kF64: return MetaValue::Scalar(*type, reader_.Read<double>("an f64 value"));
    case Type::kBool: {
      const auto value = reader_.Read<uint8_t>("a bool value");
      if (value > 1) reader_.FailAt(at, fmt::format("a bool has the value {}", value), Printable(key));
      return MetaValue::Scalar(*type, value == 1);
    }
    case Type::kString: {
      const auto length = reader_.Read<uint64_t>("the length of a string");
      return MetaValue::String(AsText(reader_.ReadBytes(length, "a string value")));
    }
    default: return ReadArray(key, 1);
  }
}

void GgufParser::ReadKeyValues() {
  std::unordered_set<std::string> seen;
  for (uint64_t i = 0; i < key_value_count_; ++i) {
    const uint64_t at = reader_.offset();
    std::string key = ReadKey();
    if (!seen.insert(key).second) reader_.FailAt(at, "the key occurs twice", Printable(key));
    try {
      const auto type_id = reader_.Read<uint32_t>("a value type");
      MetaValue value = ReadValue(type_id, key);
      metadata_.emplace_back(std::move(key), value);
    } catch (const Error& error) {
      throw error.With({.tensor = Printable(key)});
    }
  }
}

Shape GgufParser::ReadDims(const std::string& name) {
  const uint64_t at = reader_.offset();
  const auto count = reader_.Read<uint32_t>("the number of dims");
  if (count == 0 || count > kMaxDims) {
    reader_.FailAt(at, fmt::format("{} dims; 1 to {} are allowed", count, kMaxDims), Printable(name));
  }
  int64_t dims[kMaxDims];
  for (uint32_t i = 0; i < count; ++i) {
    const auto dim = reader_.Read<uint64_t>("a dim");
    if (dim > static_cast<uint64_t>(INT64_MAX)) {
      reader_.FailAt(reader_.offset() - 8, fmt::format("a dim of {} is too large", dim),
                     Printable(name));
    }
    dims[count - 1 - i] = static_cast<int64_t>(dim);  // GGUF names the contiguous dim first
  }
  const Shape shape(std::span<const int64_t>(dims, count));
  if (!shape.NumElementsChecked()) {
    reader_.FailAt(at + 4, "the product of the dims " + shape.ToString() + " overflows",
                   Printable(name));
  }
  return shape;
}

TensorInfo GgufParser::ReadTensorInfo() {
  const uint64_t at = reader_.offset();
  TensorInfo info;
  const auto length = reader_.Read<uint64_t>("the length of a tensor name");
  if (length == 0) reader_.FailAt(at, "a tensor name is empty");
  if (length > kMaxNameBytes) {
    reader_.FailAt(at, fmt::format("a tensor name of {} bytes; at most {} are allowed", length,
                                   kMaxNameBytes));
  }
  info.name = AsText(reader_.ReadBytes(length, "a tensor name"));
  if (const auto problem = NameProblem(info.name)) {
    reader_.FailAt(at, "the tensor name " + *problem, Printable(info.name));
  }
  info.shape = ReadDims(info.name);
  const uint64_t type_at = reader_.offset();
  const auto type_id = reader_.Read<uint32_t>("a tensor type");
  const std::optional<DType> dtype = DTypeFromGgml(type_id);
  if (!dtype) {
    reader_.FailAt(type_at, fmt::format("tensor type {} is unknown or was removed from ggml", type_id),
                   Printable(info.name));
  }
  info.dtype = *dtype;
  const uint32_t block = InfoOf(*dtype).block_elems;
  const std::optional<uint64_t> bytes = StorageBytes(*dtype, info.shape);
  if (!bytes || info.shape.cols() % block != 0) {
    reader_.FailAt(type_at, fmt::format("a tensor {} of {} is too large or its rows are no multiple of "
                                        "the block of {}", info.shape.ToString(), NameOf(*dtype), block),
                   Printable(info.name));
  }
  info.bytes = *bytes;
  info.offset = reader_.Read<uint64_t>("a tensor offset");
  info.file = file_index_;
  return info;
}

void GgufParser::ReadTensorInfos() {
  first_tensor_ = parts_->tensors.size();
  std::unordered_set<std::string> seen;
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    const uint64_t at = reader_.offset();
    TensorInfo info = ReadTensorInfo();
    if (!seen.insert(info.name).second) {
      reader_.FailAt(at, "the tensor name occurs twice", Printable(info.name));
    }
    parts_->tensors.push_back(std::move(info));
  }
}

uint64_t GgufParser::Alignment() const {
  for (const auto& [key, value] : metadata_) {
    if (key != "general.alignment") continue;
    const std::optional<int64_t> number = value.AsInt();
    const bool power = number && std::has_single_bit(static_cast<uint64_t>(*number));
    if (value.type() != Type::kU32 || !power) {
      throw Error(ErrorCode::kInvalidFormat,
                  fmt::format("the alignment must be a power of two stored as u32, not {} ({})",
                              value.ToString(), MetaTypeName(value.type())),
                  {.file = reader_.file(), .tensor = key});
    }
    return static_cast<uint64_t>(*number);
  }
  return kDefaultAlignment;
}

void GgufParser::PlaceTensors() {
  const uint64_t alignment = Alignment();
  const uint64_t data_start = AlignUp(reader_.offset(), alignment);
  const std::span<TensorInfo> tensors = std::span(parts_->tensors).subspan(first_tensor_);
  for (TensorInfo& info : tensors) {
    if (info.offset % alignment != 0) {
      reader_.FailAt(data_start, fmt::format("the tensor's offset {} is no multiple of the alignment {}",
                                             info.offset, alignment), Printable(info.name));
    }
    const std::optional<uint64_t> start = CheckedAdd(data_start, info.offset);
    const std::optional<uint64_t> end = start ? CheckedAdd(*start, info.bytes) : std::nullopt;
    // An empty tensor may stand where the absent padding of the last one would end.
    const uint64_t limit = info.bytes == 0 ? AlignUp(bytes_.size(), alignment) : bytes_.size();
    if (!end || *end > std::max(limit, info.bytes == 0 ? data_start : 0)) {
      reader_.FailAt(start.value_or(data_start),
                     fmt::format("truncated: the tensor's {} bytes at data offset {} end after the end "
                                 "of the file ({} bytes)", info.bytes, info.offset, bytes_.size()),
                     Printable(info.name));
    }
    info.offset = *start;
  }
  CheckNoOverlap(tensors, reader_.file());
  WarnAboutHoles(tensors, data_start, alignment);
  if (parts_->metadata.empty()) parts_->metadata = std::move(metadata_);
}

void GgufParser::WarnAboutHoles(std::span<const TensorInfo> tensors, uint64_t data_start,
                                uint64_t alignment) {
  uint64_t expected = data_start;
  for (const TensorInfo& info : tensors) {
    if (info.offset != expected) {
      parts_->warnings.push_back(
          {reader_.file(),
           fmt::format("tensors do not follow each other without gaps; ggml refuses such a file "
                       "(offset {}, {} expected)", info.offset, expected),
           info.name});
      return;
    }
    expected = AlignUp(info.offset + info.bytes, alignment);
  }
}

}  // namespace

void ReadGguf(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts) {
  parts->container = Container::kGguf;
  GgufParser(file, parts).Parse();
}

}  // namespace apr
