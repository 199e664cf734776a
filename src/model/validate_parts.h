// The parts of ValidateModel: agreement with the architecture, and the data.
#pragma once

#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "format/apr_header.h"
#include "model/inventory.h"
#include "model/resolve.h"
#include "model/validate.h"
#include "quant/scan.h"

namespace apr {

// What is known about the model that a file holds.
struct ModelUnderTest {
  const ModelFile& file;
  std::optional<ResolvedConfig> resolved;
  std::optional<Inventory> inventory;

  TensorRole RoleOf(const TensorInfo& info) const;
};

// Appends "configuration", "missing-tensors", "F-DATA-QUALITY-005" (shapes), "unread-tensors",
// "unread-keys", "tied-head" and fills in `model`.
void CheckModel(ModelUnderTest& model, ThreadPool& pool, std::vector<CheckResult>& checks);

struct TensorScan {
  const TensorInfo* info = nullptr;
  TensorRole role = TensorRole::kMatrix;
  ScanCounts counts;
};

struct DataScan {
  std::vector<TensorScan> tensors;              // of real numbers
  std::vector<const TensorInfo*> unscanned;     // the others
  std::vector<KnownCrc> checksums;              // .apr: of the bytes that were read, ascending
};
DataScan ScanAll(const ModelUnderTest& model, ThreadPool& pool);

// Appends F-DATA-QUALITY-001 to -004, -006 and -007.
void CheckData(const ModelUnderTest& model, const std::vector<TensorScan>& scans, bool strict,
               std::vector<CheckResult>& checks);

// A finding about a tensor, at the byte where it lies.
Finding AboutTensor(const ModelFile& file, const TensorInfo& info, std::string message, int64_t element = 0,
                    Severity level = Severity::kError);

}  // namespace apr
