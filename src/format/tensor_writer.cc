// See tensor_writer.h and model_writer.h.
#include "format/tensor_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "format/apr_header.h"
#include "format/container_checks.h"
#include "format/packed_weights.h"

namespace apr {

void RefuseToWrite(const std::string& file, const std::string& key, std::string message) {
  throw Error(ErrorCode::kValidationFailed, std::move(message),
              {.file = file, .tensor = Printable(key)});
}

uint64_t TensorWriteBytes(Container container, const TensorToWrite& tensor) {
  const DTypeInfo& info = InfoOf(tensor.dtype);
  bool has_type = false;
  std::optional<uint64_t> bytes;
  switch (container) {
    case Container::kSafetensors: has_type = info.safetensors_name != nullptr; break;
    case Container::kGguf: has_type = info.ggml_id >= 0; break;
    case Container::kApr: has_type = AprCodeOf(tensor.dtype).has_value(); break;
  }
  if (!has_type) {
    RefuseToWrite("", tensor.name,
                  fmt::format("{} has no element type for {}", ContainerName(container), info.name));
  }
  bytes = container == Container::kApr ? AprStorageBytes(tensor.dtype, tensor.shape)
                                       : StorageBytes(tensor.dtype, tensor.shape);
  if (!bytes) {
    RefuseToWrite("", tensor.name,
                  fmt::format("{} cannot be stored as {}: rows are no multiple of the block of {}",
                              tensor.shape.ToString(), info.name, info.block_elems));
  }
  return *bytes;
}

namespace {

// A packed weight as the type that it stands for.
TensorToWrite CopyOfPacked(std::shared_ptr<const ModelFile> file, const TensorInfo& info, std::string name) {
  const std::shared_ptr<const PackedWeight> packed = info.packed;
  return {std::move(name), info.dtype, info.shape, [file, packed](const ByteSink& sink) {
            const uint64_t row_bytes = *StorageBytes(packed->dtype(), Shape{packed->shape.cols()});
            const int64_t step = std::max<int64_t>(1, static_cast<int64_t>((uint64_t{8} << 20) / std::max<uint64_t>(1, row_bytes)));
            std::vector<std::byte> rows;
            for (int64_t at = 0; at < packed->shape.rows(); at += step) {
              const int64_t count = std::min(step, packed->shape.rows() - at);
              rows.resize(static_cast<uint64_t>(count) * row_bytes);
              packed->ReadRows(at, count, rows);
              sink(rows);
            }
          }};
}

}  // namespace

TensorToWrite CopyOf(std::shared_ptr<const ModelFile> file, const TensorInfo& info, std::string name) {
  if (info.packed != nullptr) return CopyOfPacked(std::move(file), info, std::move(name));
  const Bytes bytes = file->View(info).bytes;
  return {std::move(name), info.dtype, info.shape,
          [file, bytes, info](const ByteSink& sink) {
            constexpr uint64_t kChunk = 8 << 20;
            for (uint64_t at = 0; at < bytes.size(); at += kChunk) {
              const uint64_t count = std::min<uint64_t>(kChunk, bytes.size() - at);
              sink(bytes.subspan(at, count));
              file->files()[static_cast<size_t>(info.file)]->DontNeed(info.offset + at, count);
            }
          }};
}

void CheckNamesToWrite(const std::vector<TensorToWrite>& tensors, const std::string& file,
                       uint64_t max_bytes) {
  std::unordered_set<std::string_view> seen;
  for (const TensorToWrite& tensor : tensors) {
    if (const auto problem = NameProblem(tensor.name)) {
      RefuseToWrite(file, tensor.name, "the tensor name " + *problem);
    }
    if (tensor.name.empty() || tensor.name.size() > max_bytes) {
      RefuseToWrite(file, tensor.name,
                    fmt::format("a tensor name of {} bytes; this format allows 1 to {}",
                                tensor.name.size(), max_bytes));
    }
    if (!seen.insert(tensor.name).second) {
      RefuseToWrite(file, tensor.name, "two tensors have this name");
    }
  }
}

void StreamTensor(const TensorToWrite& tensor, uint64_t expected, const ByteSink& sink) {
  uint64_t written = 0;
  tensor.write([&](Bytes bytes) {
    written += bytes.size();
    APR_CHECK(written <= expected);
    sink(bytes);
  });
  APR_CHECK(written == expected);
}

}  // namespace apr
