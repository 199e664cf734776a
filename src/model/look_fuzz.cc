// Fuzz target of everything that looks into a model file without running it: header map, tree, lint, flow, blocks,
// and the full validation.
#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "format/fuzz_support.h"
#include "format/header_map.h"
#include "format/name_tree.h"
#include "model/flow.h"
#include "model/lint.h"
#include "model/validate.h"
#include "quant/describe_block.h"

namespace apr {
namespace {

void Look(const std::shared_ptr<const ModelFile>& shared, ThreadPool& pool) {
  const ModelFile& file = *shared;
  const NameTree tree = BuildNameTree(file, "");
  if (NameTreeAscii(tree, {}).empty() || NameTreeDot(tree, {}).empty() || NameTreeMermaid(tree, {}).empty()) std::abort();
  DumpJson(NameTreeJson(tree, {}));
  DumpJson(LintModel(shared).ToJson());
  for (const TensorInfo& info : file.tensors()) DescribeBlocks(file.View(info), 0, 4);
  const ValidateReport report = ValidateModel(file, true, pool);
  DumpJson(report.ToJson());
  if (!report.passed() && report.Count(Severity::kError) + report.Count(Severity::kWarning) == 0) std::abort();
  try {
    DumpJson(DescribeFlow(file, FlowComponent::kFull, std::nullopt).ToJson(FlowComponent::kFull));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kValidationFailed) throw;
  }
}

}  // namespace
}  // namespace apr

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static apr::ThreadPool pool(1);
  const apr::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    apr::MapHeader(bytes, "fuzz", 0);
  } catch (const apr::Error& error) {
    if (error.code() != apr::ErrorCode::kInvalidFormat) std::abort();
  }
  try {
    apr::Look(apr::ModelFile::FromMapped(apr::MappedFile::Borrowed("fuzz", bytes)), pool);
  } catch (const apr::Error& error) {
    if (error.code() == apr::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
