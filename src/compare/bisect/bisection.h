// The state of a bisection as its phases see it: two opened sides, probes, findings so far.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "compare/bisect/report.h"
#include "exec/executor.h"
#include "format/model_file.h"
#include "format/stage_file.h"
#include "model/model.h"
#include "model/resolve.h"
#include "tokenizer/tokenizer.h"

namespace apr::bisect {

struct Options {
  std::string a, b;                      // paths; "MODEL@reference" chooses the executor
  std::vector<int32_t> ids;              // the user's; empty: none
  std::string text;                      // -p
  std::string messages;                  // path of a JSON file of messages
  std::vector<Phase> phases;             // empty: all
  bool causes = true;                    // --no-cause
  int threads = 0;
};

// One side, as far as it could be opened. A later phase runs with what is there.
struct Side {
  std::string path;
  ExecutorKind executor = ExecutorKind::kCpu;
  // At most one of `file` and `stages` is set; neither: `problem` says why.
  std::shared_ptr<const ModelFile> file;
  std::shared_ptr<const ModelFile> weights;  // the same with packed weights as the tensors that they stand for
  std::optional<StageDirectory> stages;
  std::optional<Error> problem;

  // Of a model, where its configuration resolves; `config` may be corrected as faults are found.
  const Architecture* architecture = nullptr;
  ModelConfig config;
  SlotTable slots;
  std::optional<Error> config_problem, slot_problem;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<Error> tokenizer_problem;

  bool is_model() const { return file != nullptr; }
};

// Token ids that are run through both sides.
struct Probe {
  std::string name;                      // "single", "short", "long", "given"
  std::vector<int32_t> ids;
};

struct Bisection {
  Options options;
  Side a, b;
  std::vector<Probe> probes;
  ThreadPool* pool = nullptr;
  Report report;                         // findings and coverage grow phase by phase
  bool rounding = false;                 // something differs as the number formats explain
  bool stop = false;                     // later phases have nothing to compare
  std::string inconclusive;              // why no verdict is possible unless a difference is found; empty: it is

  bool Wants(Phase phase) const;
  bool has_difference() const;           // a finding with an effect so far
  void Add(Finding finding) { report.findings.push_back(std::move(finding)); }
  void Note(std::string what) { report.coverage.notes.push_back(std::move(what)); }
  void Covered(Phase phase);             // something was compared in it
};

// Opens what `given` names: a model, "MODEL@executor", or a stage directory. A damaged model is a side with
// a problem; throws kNotFound, kInvalidFormat for what is no model at all.
Side OpenSide(const std::string& given);
// Configuration, slots and tokenizer of a side whose file is open (again, after the file was replaced).
void ResolveSide(Side& side);
// Binds its tensors as its configuration and architecture now say; `factors`: takes those of its rope from them, too.
void BindAnew(Side& side, bool factors);
SideSummary Summarize(const Side& side);
// One architecture, or two names of the same computation: GGUF has one for both.
bool SameFamily(const Side& a, const Side& b);
std::vector<Probe> ChooseProbes(Bisection& b);

// The phases, in order. Each looks at what both sides have, adds findings and coverage, and corrects
// B in memory (config, weights) for what it found, so that the next phase sees the rest.
void RunFilePhase(Bisection& b);
void RunConfigPhase(Bisection& b);
void RunTokensPhase(Bisection& b);
void RunWeightsPhase(Bisection& b);
void RunOpsPhase(Bisection& b);          // with the logits

// Opens both sides, runs the phases, decides. Throws kNotFound, kInvalidFormat for a side that does not
// exist or is no model at all.
Report Run(const Options& options);

}  // namespace apr::bisect
