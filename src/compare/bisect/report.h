// What a bisection answers: verdict, first difference in causal order, its cause, what else differs,
// and what was looked at. JSON schema apr-bisect-v1.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace apr::bisect {

// In causal order.
enum class Phase { kFile, kConfig, kTokens, kWeights, kOps, kLogits };
const char* PhaseName(Phase phase);                       // "file", "config", ...
std::optional<Phase> PhaseFromName(std::string_view name);

enum class Verdict { kSame, kRounding, kDifferent, kInconclusive };
const char* VerdictName(Verdict verdict);                 // "same", "rounding", ...
int VerdictExitCode(Verdict verdict);                     // 0, 0, 5, 12

// Where a difference is met by what flows through the model. Fields that do not apply stay unset.
struct Place {
  Phase phase = Phase::kFile;
  std::optional<int64_t> layer;          // unset: whole model
  std::string stage;                     // canonical stage name
  std::string tensor;                    // Hugging Face name
  std::string key;                       // Hugging Face config key, or a tokenizer key
  std::optional<int64_t> position;       // token of the sequence
  std::vector<int64_t> coordinate;       // in the stage or tensor
  std::optional<double> a, b;            // values there
  std::optional<double> error, floor;    // relative (root NMSE), against A in f64; see docs/numerics.md
  std::string note;                      // one sentence: what is wrong, for people
};

// A cause is named only when undoing it (or doing it to A) brings the error down to the floor.
struct Cause {
  std::string name;                      // of the table in docs/bisect.md
  Json a, b;                             // values of the constant on each side; null: does not apply
  std::string evidence;                  // one sentence with numbers
  std::optional<double> error_before, error_after;
  std::string fix;                       // what the owner of B should do
};

// A hypothesis that was tried at a place.
struct Trial {
  std::string name;                      // cause name
  std::string detail;                    // "theta 10000 -> 500000 (solved)"
  double error_after = 0;
  bool accepted = false;
};

struct Finding {
  Place first;
  std::optional<Cause> cause;
  bool no_effect = false;                // a setting that changes nothing on any probe: no difference
  std::vector<Trial> trials;             // best first
};

// A cell of the heat map: one stage on one probe.
struct StageScore {
  std::string name;                      // "layer-3/q_post_rope"
  double error = 0;                      // of B's op on its own inputs against f64
  double propagated = 0;                 // of the whole run against A's; NaN: not known
  double floor = 0;
};

struct Coverage {
  int64_t tensors_compared = 0;
  std::vector<std::string> tensors_only_a, tensors_only_b;
  int64_t config_compared = 0;
  std::vector<std::string> config_only_a, config_only_b;
  int64_t stages_compared = 0;
  std::vector<std::string> stages_absent;
  int64_t positions = 0;
  int64_t texts = 0;                     // tokenised by both sides
  std::vector<Phase> phases;             // that had something to compare
  std::vector<std::string> notes;        // what was not looked at, and why
};

struct SideSummary {
  std::string path;
  std::string kind;                      // "safetensors", "gguf", "apr", "stages", "unreadable"
  std::string architecture;
  std::string executor;                  // of a model: "cpu", "reference"; of stages: their engine
  std::string weights, activations, accumulate;  // number formats
};

struct Report {
  SideSummary a, b;
  Verdict verdict = Verdict::kInconclusive;
  std::string reason;                    // of kInconclusive, one sentence
  // Findings in causal order; those with an effect come first. findings[0] is `first` and `cause` of the
  // answer when the verdict is kDifferent.
  std::vector<Finding> findings;
  Coverage coverage;
  std::vector<StageScore> scores;
  std::vector<int64_t> ids;              // of the probe that shows the first difference
  double seconds = 0;

  Json ToJson() const;                   // every field of the schema, null where it does not apply
  std::string ToText() const;            // about ten lines
};

}  // namespace apr::bisect
