// What quantising a model did: to its tensors, to each op, to its predictions; and which tensors should have more bits.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "compare/weight_diff.h"
#include "eval/divergence.h"
#include "eval/layer_errors.h"
#include "eval/sensitivity.h"
#include "eval/type_plan.h"

namespace apr {

// One tensor: signal to quantisation noise in dB, 10 log10(sum a^2 / sum (a - b)^2).
struct TensorNoise {
  WeightRow row;
  double sqnr = 0;           // infinite: equal
  double expected_sqnr = 0;  // that the types of both sides explain
  uint64_t bytes = 0;        // in B
};

// A mix of types of the same size, or of a given one.
struct Suggestion {
  uint64_t bytes_now = 0, bytes = 0;
  double cost_now = 0, cost = 0;  // expected mean KLD, the costs of single tensors added up
  struct Line {
    std::string tensor;  // GGUF name
    DType now, type;
  };
  std::vector<Line> lines;
  std::string FlagList() const;  // one `--tensor-type ^name$=TYPE` a line, for `apr quantize`
};

struct QuantReport {
  std::string path_a, path_b;
  WeightDiff weights;
  std::vector<TensorNoise> tensors;
  std::vector<OpError> ops;
  int64_t probe_tokens = 0;
  Divergence divergence;
  std::optional<Divergence> floor;
  std::vector<TensorCost> costs;
  std::optional<Suggestion> suggestion;

  Json ToJson() const;
  std::string ToHtml() const;  // one page without scripts or outside resources
};

struct QuantReportOptions {
  ExecutorOptions compute;
  WindowPlan plan;              // of the text for the divergence
  int64_t probe_tokens = 64;    // for the ops and for the cost of each tensor
  int64_t floor_tokens = 64;    // 0: no floor
  bool costs = true;
  bool suggest = false;         // needs costs
  uint64_t budget = 0;          // bytes of the tensors that have a cost; 0: what B uses
  std::function<void(const std::string& phase, int64_t done, int64_t of)> progress;
  std::function<bool()> cancelled;
};

// Throws kValidationFailed if the models are not of one make, kUsage if a suggestion is asked for and neither file
// is a GGUF; and what the parts throw.
QuantReport MakeQuantReport(std::shared_ptr<const Model> a, std::shared_ptr<const Model> b, std::span<const int32_t> ids,
                            const QuantReportOptions& options);

}  // namespace apr
