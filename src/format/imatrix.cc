// See imatrix.h.
#include "format/imatrix.h"

#include <fmt/format.h>

#include <cmath>

#include "base/bytes.h"
#include "base/error.h"
#include "format/model_file.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";

std::vector<float> Decoded(const ModelFile& file, const TensorInfo& info) {
  std::vector<float> out(static_cast<size_t>(info.shape.num_elements()));
  DecodeTensor(file.View(info), out);
  return out;
}

}  // namespace

std::shared_ptr<const ImportanceMatrix> ImportanceMatrix::Open(const std::string& path) { return FromMapped(MappedFile::Open(path)); }

std::shared_ptr<const ImportanceMatrix> ImportanceMatrix::FromMapped(std::shared_ptr<const MappedFile> file) {
  auto out = std::make_shared<ImportanceMatrix>();
  out->path_ = file->path();
  if (AsText(file->bytes()).substr(0, 4) == "GGUF") out->ReadGguf(std::move(file));
  else out->ReadDat(*file);
  if (out->values_.empty()) throw Error(ErrorCode::kInvalidFormat, "an importance matrix without entries", {.file = out->path_});
  return out;
}

void ImportanceMatrix::Put(const std::string& name, std::vector<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]) && values[i] >= 0) continue;
    throw Error(ErrorCode::kInvalidFormat, fmt::format("importance {} is {}", i, values[i]), {.file = path_, .tensor = name});
  }
  if (!values_.emplace(name, std::move(values)).second) {
    throw Error(ErrorCode::kInvalidFormat, "the entry is given twice", {.file = path_, .tensor = name});
  }
}

void ImportanceMatrix::ReadGguf(std::shared_ptr<const MappedFile> mapped) {
  const auto file = ModelFile::FromMapped(std::move(mapped));
  const MetaValue* type = file->Meta("general.type");
  if (type == nullptr || type->AsString() != "imatrix") {
    throw Error(ErrorCode::kInvalidFormat, "a GGUF that holds no importance matrix", {.file = path_, .tensor = "general.type"});
  }
  if (const MetaValue* sets = file->Meta("imatrix.datasets")) {
    for (const std::string_view name : sets->AsStrings()) datasets_.emplace_back(name);
  }
  if (const MetaValue* chunks = file->Meta("imatrix.chunk_count")) chunks_ = chunks->AsInt().value_or(0);
  for (const TensorInfo& info : file->tensors()) {
    if (info.name.size() <= kSums.size() || !std::string_view(info.name).ends_with(kSums)) continue;
    const std::string name = info.name.substr(0, info.name.size() - kSums.size());
    const TensorInfo* count = file->Find(name + std::string(kCounts));
    if (count == nullptr || count->shape.num_elements() < 1 || info.shape.num_elements() % count->shape.num_elements() != 0) {
      throw Error(ErrorCode::kInvalidFormat, "its counts are missing or do not fit", {.file = path_, .tensor = name});
    }
    std::vector<float> sums = Decoded(*file, info);
    const std::vector<float> counts = Decoded(*file, *count);
    const size_t cols = sums.size() / counts.size();
    for (size_t m = 0; m < counts.size(); ++m) {
      // An expert that no token reached: every column counts the same.
      for (size_t c = 0; c < cols; ++c) sums[m * cols + c] = counts[m] > 0 ? sums[m * cols + c] / counts[m] : 1.0f;
    }
    Put(name, std::move(sums));
  }
}

void ImportanceMatrix::ReadDat(const MappedFile& file) {
  ByteReader reader(file.bytes(), file.path());
  const auto entries = reader.Read<int32_t>("number of entries");
  if (entries < 1) reader.FailAt(0, fmt::format("neither a GGUF nor an importance matrix: {} entries", entries));
  for (int32_t i = 0; i < entries; ++i) {
    const auto length = reader.Read<int32_t>("length of a name");
    if (length < 1 || length > 256) reader.Fail(fmt::format("a name of {} bytes", length));
    const std::string name(AsText(reader.ReadBytes(static_cast<uint64_t>(length), "name")));
    if (!IsValidUtf8(name)) reader.Fail("a name that is not UTF-8");
    const auto calls = reader.Read<int32_t>("number of calls");
    const auto count = reader.Read<int32_t>("number of values");
    if (count < 1) reader.Fail(fmt::format("{} values", count), name);
    const Bytes bytes = reader.ReadBytes(static_cast<uint64_t>(count) * sizeof(float), "values");
    std::vector<float> values(static_cast<size_t>(count));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    if (calls > 0) {
      for (float& v : values) v /= static_cast<float>(calls);
    }
    Put(name, std::move(values));
  }
  // Later versions append the number of chunks and the text that was used.
  if (reader.remaining() >= 8) {
    chunks_ = reader.Read<int32_t>("number of chunks");
    const auto length = reader.Read<int32_t>("length of the data set's name");
    if (length > 0 && static_cast<size_t>(length) <= reader.remaining()) {
      datasets_.emplace_back(AsText(reader.ReadBytes(static_cast<uint64_t>(length), "name of the data set")));
    }
  }
}

const float* ImportanceMatrix::Find(const std::string& name, int64_t matrices, int64_t cols) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return nullptr;
  if (static_cast<int64_t>(it->second.size()) != matrices * cols) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("has {} values, the tensor needs {} x {}", it->second.size(), matrices, cols),
                {.file = path_, .tensor = name});
  }
  return it->second.data();
}

}  // namespace apr
