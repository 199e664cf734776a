// See safetensors_reader.h.
#include "format/safetensors_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "base/bytes.h"
#include "base/error.h"
#include "format/container_checks.h"
#include "format/simd_json.h"

namespace apr {
namespace {

using simdjson::dom::element;

// safetensors/src/tensor.rs, MAX_HEADER_SIZE.
constexpr size_t kMaxDepth = 64;

class HeaderParser {
 public:
  HeaderParser(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts)
      : file_(file), parts_(parts), file_index_(static_cast<int>(parts->files.size())) {
    parts->files.push_back(file);
  }

  void Parse() {
    const std::string_view text = ReadHeaderText();
    simdjson::dom::parser parser;
    const element root = ParseWithSimdJson(
        &parser, {.text = text, .file = file_->path(), .offset = 8, .max_depth = kMaxDepth});
    std::string_view twice;
    if (FindDuplicateKey(root, &twice)) Fail(twice, "the key occurs twice in one object");
    const size_t first = parts_->tensors.size();
    for (const auto [name, value] : simdjson::dom::object(root)) {
      if (name == "__metadata__") ReadMetadata(value);
      else parts_->tensors.push_back(ReadEntry(name, value));
    }
    CheckCoverage(std::span<const TensorInfo>(parts_->tensors).subspan(first));
  }

 private:
  std::string_view ReadHeaderText();
  void ReadMetadata(element value);
  TensorInfo ReadEntry(std::string_view name, element value);
  Shape ReadShape(std::string_view name, element value);
  void ReadOffsets(element value, TensorInfo* info);
  void CheckCoverage(std::span<const TensorInfo> tensors);
  [[noreturn]] void Fail(std::string_view key, std::string message) const {
    constexpr uint64_t kHeader = 8;  // where it begins
    if (key.empty()) throw Error(ErrorCode::kInvalidFormat, "the tensor whose name is empty: " + message, {.file = file_->path(), .offset = kHeader});
    throw Error(ErrorCode::kInvalidFormat, std::move(message),
                {.file = file_->path(), .tensor = Printable(key)});
  }

  std::shared_ptr<const MappedFile> file_;
  ModelFileParts* parts_;
  int file_index_;
  uint64_t data_start_ = 0;
};

std::string_view HeaderParser::ReadHeaderText() {
  ByteReader reader(file_->bytes(), file_->path());
  const auto length = reader.Read<uint64_t>("the header length");
  if (length > kMaxSafetensorsHeader) {
    reader.FailAt(0, fmt::format("a header of {} bytes; at most {} are allowed", length,
                                 kMaxSafetensorsHeader));
  }
  const std::string_view text = AsText(reader.ReadBytes(length, "the header"));
  if (text.empty() || text[0] != '{') reader.FailAt(8, "the header does not begin with '{'");
  data_start_ = 8 + length;
  return text;
}

void HeaderParser::ReadMetadata(element value) {
  if (value.is_null()) return;  // the reference reader takes null for absent
  simdjson::dom::object object;
  if (value.get(object) != simdjson::SUCCESS) Fail("__metadata__", "is not an object of strings");
  MetaBuilder metadata;
  for (const auto [key, child] : object) {
    std::string_view text;
    if (child.get(text) != simdjson::SUCCESS) {
      Fail("__metadata__", "the value of '" + Printable(key) + "' is not a string");
    }
    metadata.SetString(key, text);
  }
  parts_->storage.insert(parts_->storage.end(), metadata.storage().begin(),
                         metadata.storage().end());
  if (parts_->metadata.empty()) parts_->metadata = metadata.list();
}

Shape HeaderParser::ReadShape(std::string_view name, element value) {
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) Fail(name, "the shape is not an array");
  int64_t dims[Shape::kMaxDims];
  size_t count = 0;
  for (const element child : array) {
    uint64_t dim = 0;
    if (child.get(dim) != simdjson::SUCCESS || dim > static_cast<uint64_t>(INT64_MAX)) {
      Fail(name, fmt::format("dim {} of the shape is no natural number below 2^63", count));
    }
    if (count == Shape::kMaxDims) {
      Fail(name, fmt::format("the shape has more than {} dims", Shape::kMaxDims));
    }
    dims[count++] = static_cast<int64_t>(dim);
  }
  const Shape shape(std::span<const int64_t>(dims, count));
  if (!shape.NumElementsChecked()) {
    Fail(name, "the product of the dims " + shape.ToString() + " overflows");
  }
  return shape;
}

void HeaderParser::ReadOffsets(element value, TensorInfo* info) {
  uint64_t range[2] = {};
  size_t count = 0;
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) Fail(info->name, "data_offsets is not an array");
  for (const element child : array) {
    if (count < 2 && child.get(range[count]) != simdjson::SUCCESS) {
      Fail(info->name, "data_offsets holds something that is no natural number");
    }
    ++count;
  }
  if (count != 2) Fail(info->name, fmt::format("data_offsets has {} numbers, not 2", count));
  const uint64_t available = file_->size() - data_start_;
  if (range[0] > range[1] || range[1] > available) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("data_offsets [{}, {}] lie outside the {} data bytes of the file", range[0],
                            range[1], available),
                {.file = file_->path(), .tensor = Printable(info->name), .offset = data_start_});
  }
  info->offset = data_start_ + range[0];
  info->bytes = range[1] - range[0];
}

TensorInfo HeaderParser::ReadEntry(std::string_view name, element value) {
  if (const auto problem = NameProblem(name)) Fail(name, "the tensor name " + *problem);
  simdjson::dom::object object;
  if (value.get(object) != simdjson::SUCCESS) Fail(name, "the entry is not an object");
  TensorInfo info;
  info.name = name;
  info.file = file_index_;
  bool has_dtype = false, has_shape = false, has_offsets = false;
  for (const auto [key, child] : object) {
    if (key == "dtype") {
      std::string_view text;
      if (child.get(text) != simdjson::SUCCESS) Fail(name, "the dtype is not a string");
      const std::optional<DType> dtype = DTypeFromSafetensors(text);
      if (!dtype) Fail(name, "unknown dtype '" + Printable(text) + "'");
      info.dtype = *dtype;
      has_dtype = true;
    } else if (key == "shape") {
      info.shape = ReadShape(name, child);
      has_shape = true;
    } else if (key == "data_offsets") {
      ReadOffsets(child, &info);
      has_offsets = true;
    } else {
      parts_->warnings.push_back(
          {file_->path(), "the entry has an unknown field '" + Printable(key) + "'", info.name});
    }
  }
  if (!has_dtype || !has_shape || !has_offsets) {
    Fail(name, "the entry lacks dtype, shape or data_offsets");
  }
  const std::optional<uint64_t> need = StorageBytes(info.dtype, info.shape);
  if (!need || *need != info.bytes) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("{} {} needs {}, data_offsets give {} bytes", NameOf(info.dtype),
                            info.shape.ToString(),
                            need ? fmt::format("{} bytes", *need) : "no whole number of bytes",
                            info.bytes),
                {.file = file_->path(), .tensor = Printable(name), .offset = info.offset});
  }
  return info;
}

// The tensors cover the data without hole or overlap, to the last byte of the file.
void HeaderParser::CheckCoverage(std::span<const TensorInfo> tensors) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& info : tensors) order.push_back(&info);
  std::ranges::sort(order, {}, [](const TensorInfo* t) { return std::pair(t->offset, t->bytes); });
  uint64_t expected = data_start_;
  for (const TensorInfo* info : order) {
    if (info->offset != expected) {
      throw Error(ErrorCode::kInvalidFormat,
                  info->offset > expected
                      ? fmt::format("{} bytes before the tensor belong to none",
                                    info->offset - expected)
                      : fmt::format("the tensor overlaps the one before it by {} bytes",
                                    expected - info->offset),
                  {.file = file_->path(), .tensor = Printable(info->name), .offset = info->offset});
    }
    expected = info->offset + info->bytes;
  }
  if (expected != file_->size()) {
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("{} bytes at the end of the file belong to no tensor",
                            file_->size() - expected),
                {.file = file_->path(), .offset = expected});
  }
}

}  // namespace

bool LooksLikeSafetensors(Bytes bytes) {
  return bytes.size() > 8 && bytes[8] == std::byte{'{'} &&
         LoadLe<uint64_t>(bytes.data()) <= kMaxSafetensorsHeader;
}

void ReadSafetensors(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts) {
  parts->container = Container::kSafetensors;
  parts->format_version = "safetensors";
  HeaderParser(file, parts).Parse();
}

}  // namespace apr
