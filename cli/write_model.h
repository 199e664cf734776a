// Flags and the way of every command that writes a model: export, convert, import, quantize, merge.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "model/export_model.h"
#include "model/plan_types.h"

namespace apr {

struct WriteModelArgs {
  std::string format;             // "gguf", "safetensors", "apr"; empty: from the name of `out`
  std::string dtype;              // "f32", "f16", "bf16", "as-stored"; empty: as stored
  std::string mix;                // instead of dtype: a type or mix by name
  std::vector<std::string> tensor_types;  // REGEX=TYPE
  std::string imatrix;
  std::string tokenizer;          // a tokenizer.json in place of the source's; empty: the source's
  std::string compress;           // .apr: "none", "zstd", "zstd-max", "lz4"; empty: none
  std::string out;
  uint64_t max_shard_mb = 5000;
  int threads = 0;                // 0: every processor
  bool force = false;
};

// --format, --dtype and --quantize, -o, --max-shard-size, --threads, --force.
void AddWriteFlags(Flags& app, WriteModelArgs& args);

// The format that `args` ask for; throws kUsage when neither flag nor name tell.
Container TargetOf(const WriteModelArgs& args);

// What is said of a plan: its warnings, and with --verbose what they sum up.
void WarnOf(const TypePlan& plan, Console& console);

// Writes `model`, or what `tensors` gives in its place; warnings go to the console. Throws kUsage for flags
// that contradict each other.
ExportReport WriteModel(const std::shared_ptr<const Model>& model, const WriteModelArgs& args, Console& console, TensorSource tensors = {});

// One document, or lines, about what was written; `unused`: tensors of the source that were not.
void PrintReport(const std::string& source, const WriteModelArgs& args, const ExportReport& report, const std::vector<std::string>& unused,
                 Console& console);

}  // namespace apr
