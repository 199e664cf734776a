// Agreement of a file with its architecture: see validate_parts.h.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <set>

#include "base/error.h"
#include "format/apr_reader.h"
#include "format/packed_weights.h"
#include "model/validate_parts.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr char kNoModel[] = "not checked as a model: ";

// Reads the configuration. What the file says wrongly is an error; a file that says nothing, or whose
// architecture nobody here knows, is left alone.
CheckResult CheckConfiguration(ModelUnderTest& model) {
  CheckResult check{"configuration", "the configuration is complete and within bounds", "", {}};
  try {
    model.resolved = ResolveConfig(model.file);
    model.inventory = TakeInventory(model.file, *model.resolved->architecture, model.resolved->config);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
    const bool unknown = e.code() == ErrorCode::kModelLoad && e.context().tensor.empty();
    if (unknown) check.skipped = kNoModel + e.message();
    else check.findings.push_back({Severity::kError, e.message(), e.context().file, e.context().tensor, e.context().offset});
  }
  return check;
}

// Weights stored as several tensors stand for the one that the architecture names.
struct PackedNames {
  std::set<std::string, std::less<>> names, parts;
};

PackedNames PackedOf(const ModelFile& file, CheckResult& shapes) {
  PackedNames out;
  if (file.container() != Container::kSafetensors) return out;
  try {
    for (const PackedWeight& weight : FindPackedWeights(file)) {
      out.names.insert(weight.name);
      out.parts.insert(weight.parts.begin(), weight.parts.end());
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidFormat) throw;
    shapes.findings.push_back({Severity::kError, e.message(), e.context().file, e.context().tensor, e.context().offset});
  }
  return out;
}

// The shapes that .apr metadata declare hold whether or not the architecture is known.
void CheckDeclaredShapes(const ModelFile& file, CheckResult& shapes) {
  if (file.container() != Container::kApr) return;
  try {
    CheckAprModelShapes(file);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidFormat) throw;
    shapes.findings.push_back({Severity::kError, e.message(), e.context().file, e.context().tensor, e.context().offset});
  }
}

bool SameBytes(const TensorView& a, const TensorView& b, ThreadPool& pool) {
  if (a.bytes.size() != b.bytes.size()) return false;
  constexpr int64_t kPiece = 1 << 20;
  const auto size = static_cast<int64_t>(a.bytes.size());
  std::atomic<bool> equal{true};
  pool.ParallelFor((size + kPiece - 1) / kPiece, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end && equal; ++p) {
      const auto count = static_cast<size_t>(std::min(kPiece, size - p * kPiece));
      if (std::memcmp(a.bytes.data() + p * kPiece, b.bytes.data() + p * kPiece, count) != 0) equal = false;
    }
  });
  return equal;
}

// Sum (a - b)^2 / sum a^2 over 64 evenly spaced rows.
double SampledNmse(const TensorView& a, const TensorView& b) {
  const int64_t rows = std::min<int64_t>(a.rows(), 64);
  std::vector<float> left(static_cast<size_t>(a.cols())), right(left.size());
  double error = 0, power = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = i * (a.rows() - 1) / std::max<int64_t>(rows - 1, 1);
    DecodeTensor(a.Rows(row, 1), left);
    DecodeTensor(b.Rows(row, 1), right);
    for (size_t c = 0; c < left.size(); ++c) {
      const double difference = static_cast<double>(left[c]) - right[c];
      error += difference * difference;
      power += static_cast<double>(left[c]) * left[c];
    }
  }
  return power > 0 ? error / power : (error > 0 ? INFINITY : 0);
}

bool SameValues(const TensorView& a, const TensorView& b, ThreadPool& pool) {
  if (!(a.shape == b.shape)) return false;
  if (a.dtype == b.dtype) return SameBytes(a, b, pool);
  const auto by_rows = [](const TensorView& v) { return CanDecode(v.dtype) && v.dtype != DType::kAprQ8 && v.dtype != DType::kAprQ4; };
  // Other storage types of one matrix differ by their rounding, unrelated ones by about 2.
  return by_rows(a) && by_rows(b) && SampledNmse(a, b) < 0.05;
}

CheckResult CheckTiedHead(const ModelUnderTest& model, ThreadPool& pool) {
  CheckResult check{"tied-head", "the tie flag agrees with the bytes of embedding and head", "", {}};
  const InventoryEntry* embedding = nullptr;
  const InventoryEntry* head = nullptr;
  for (const InventoryEntry& entry : model.inventory->entries) {
    if (entry.rule->slots.front() == Slot::kTokenEmbedding) embedding = &entry;
    if (entry.rule->slots.front() == Slot::kHead) head = &entry;
  }
  if (embedding == nullptr || head == nullptr) return check;  // an absent one is reported as missing where it is needed
  const bool tied = model.resolved->config.tie_embeddings;
  const bool same = SameValues(model.file.View(*embedding->tensor), model.file.View(*head->tensor), pool);
  if (tied && !same) {
    check.findings.push_back(AboutTensor(
        model.file, *head->tensor,
        fmt::format("the configuration ties the head to '{}', but the file holds other values for it", embedding->tensor->name)));
  } else if (!tied && same) {
    check.findings.push_back(AboutTensor(model.file, *head->tensor,
                                         fmt::format("holds the same values as '{}': the head could be tied", embedding->tensor->name),
                                         0, Severity::kInfo));
  }
  return check;
}

}  // namespace

TensorRole ModelUnderTest::RoleOf(const TensorInfo& info) const {
  const InventoryEntry* entry = inventory ? inventory->EntryOf(info) : nullptr;
  return apr::RoleOf(info, entry == nullptr ? nullptr : entry->rule);
}

void CheckModel(ModelUnderTest& model, ThreadPool& pool, std::vector<CheckResult>& checks) {
  const ModelFile& file = model.file;
  CheckResult configuration = CheckConfiguration(model);
  CheckResult missing{"missing-tensors", "every tensor that the architecture needs is there", "", {}};
  CheckResult shapes{"F-DATA-QUALITY-005", "every tensor has the number of elements that the configuration says", "", {}};
  CheckResult tensors{"unread-tensors", "every tensor is used by the computation", "", {}};
  CheckResult keys{"unread-keys", "every configuration key is read", "", {}};
  CheckResult tied{"tied-head", "the tie flag agrees with the bytes of embedding and head", "", {}};
  CheckDeclaredShapes(file, shapes);
  const PackedNames packed = PackedOf(file, shapes);
  if (!model.inventory) {
    const std::string why = configuration.skipped.empty() ? "the configuration is not usable" : configuration.skipped;
    for (CheckResult* check : {&missing, &tensors, &keys, &tied}) check->skipped = why;
    if (shapes.findings.empty()) shapes.skipped = why;
  } else {
    for (const std::string& name : model.inventory->missing) {
      if (packed.names.count(name) > 0) continue;
      missing.findings.push_back({Severity::kError, "the tensor is missing", file.path(), name, std::nullopt});
    }
    for (const InventoryEntry& entry : model.inventory->entries) {
      if (entry.fits || packed.parts.count(entry.tensor->name) > 0) continue;
      shapes.findings.push_back(AboutTensor(file, *entry.tensor,
                                            fmt::format("is {} ({} elements), the configuration needs {}", entry.tensor->shape.ToString(),
                                                        entry.tensor->shape.num_elements(), entry.expected.ToString())));
    }
    for (const TensorInfo* info : model.inventory->unread) {
      if (packed.parts.count(info->name) > 0) continue;
      tensors.findings.push_back(AboutTensor(file, *info, "the computation does not use the tensor", 0, Severity::kWarning));
    }
    for (const std::string& key : model.resolved->config.unread_keys) {
      keys.findings.push_back({Severity::kWarning, "nothing reads the key", file.path(), key, std::nullopt});
    }
    tied = CheckTiedHead(model, pool);
  }
  for (CheckResult* check : {&configuration, &missing, &shapes, &tensors, &keys, &tied}) checks.push_back(std::move(*check));
}

Finding AboutTensor(const ModelFile& file, const TensorInfo& info, std::string message, int64_t element, Severity level) {
  const DTypeInfo& type = InfoOf(info.dtype);
  uint64_t offset = info.offset;
  // Rows padded to whole blocks and the scale in front of APR q8 put an element elsewhere.
  if (StorageBytes(info.dtype, info.shape) == info.bytes && element > 0) {
    offset += static_cast<uint64_t>(element) / type.block_elems * type.block_bytes + (info.dtype == DType::kAprQ8 ? 4 : 0);
  }
  return {level, std::move(message), file.files()[static_cast<size_t>(info.file)]->path(), info.name, offset};
}

}  // namespace apr
