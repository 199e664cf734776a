// A forward pass looked at: statistics of the stages of the graph, and their elements written to a
// stage directory. A tap; the logits are the same bits without it.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "exec/executor.h"
#include "format/stage_file.h"
#include "graph/stage_names.h"
#include "model/model.h"
#include "tensor/statistics.h"

namespace apr {

// Which stages to write to a directory.
struct StageSelection {
  std::vector<std::string> names;
  LayerRange layers{0, 1};  // of the stages that belong to a layer

  bool Contains(const Stage& stage) const;
};

struct StageSummary {
  std::string stage;  // "attn_norm"
  int layer = -1;     // -1: whole model
  Shape shape;        // [T, W] or [heads, T, S]
  Statistics statistics;
};

class TraceSink final : public TapSink {
 public:
  // Statistics of the stages of `graph` that `measure` accepts; `writer` (nullable) receives those of
  // `saved`. Borrows graph and writer. One pass must hold all tokens.
  TraceSink(const Graph& graph, std::function<bool(const Stage&)> measure, StageSelection saved,
            StageDirectoryWriter* writer);

  bool Wants(const Stage& stage) const override;
  void Take(const Stage& stage, const TensorView& data) override;

  // In causal order, as the graph lists its stages, whatever order they were computed in.
  const std::vector<StageSummary>& summaries() const { return summaries_; }
  const std::vector<std::string>& written() const { return written_; }  // "layer-0/attn_norm"

 private:
  void Accept(const Stage& stage, const TensorView& data);

  std::deque<const Stage*> expected_;                          // still to come
  std::vector<std::pair<const Stage*, Tensor>> early_;         // came before an earlier one
  std::function<bool(const Stage&)> measure_;
  StageSelection saved_;
  StageDirectoryWriter* writer_;
  std::vector<StageSummary> summaries_;
  std::vector<std::string> written_;
};

// What a reader should look at twice: "NaN", "Inf", "std < 1e-8", "max_abs > 100", "|mean| > 10".
std::vector<std::string> Anomalies(const Statistics& statistics);

// The number formats of a run: the type most weights of matrices have, activations, accumulation.
StagePrecision PrecisionOf(std::span<const WeightRef> weights, ExecutorKind executor, Precision precision);
StagePrecision PrecisionOf(const Model& model, ExecutorKind executor, Precision precision);

}  // namespace apr
