// A run of which stages were recorded: from a stage directory, file by file when asked for, or from an
// executor of this program.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "format/stage_file.h"

namespace apr::bisect {

struct RecordedStage {
  Shape shape;                  // [T, W] or [heads, T, S]; a single dimension where nobody says
  std::vector<double> values;
};

class RecordedRun {
 public:
  virtual ~RecordedRun() = default;
  // "layer-0/attn_norm". nullptr: not recorded. Throws kNotFound, kInvalidFormat for a stage that is listed
  // and cannot be read. Valid until Forget.
  virtual const RecordedStage* Find(const std::string& name) = 0;
  virtual bool Has(const std::string& name) const = 0;
  virtual std::vector<std::string> Names() const = 0;
  // Stages of layers before `layer` are no longer needed in memory.
  virtual void Forget(int layer) = 0;
};

std::unique_ptr<RecordedRun> OpenRecordedRun(StageDirectory directory);
// Runs `ids` as one sequence from position 0, logits of every position, and keeps every stage.
std::unique_ptr<RecordedRun> RecordRun(ExecutorKind kind, std::shared_ptr<const BoundGraph> model, const std::vector<int32_t>& ids,
                                       const ExecutorOptions& options);

}  // namespace apr::bisect
