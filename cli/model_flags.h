// Flags that every command that computes shares, and the model they open.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "generate/session.h"
#include "model/model.h"

namespace apr {

class Flags;

class Console;

// --executor, --precision, --device, --gpu, --threads, --cache-type.
struct ComputeFlags {
  std::string executor = "cpu";
  std::string precision = "fast";
  std::string device = "cpu";
  bool gpu = false;
  int threads = 0;
  std::string cache_type = "f32";
};
void AddComputeFlags(Flags& app, ComputeFlags& flags);
// Throws kNotBuilt for a device that this build lacks.
SessionOptions ToSessionOptions(const ComputeFlags& flags);

// --ids, --ids-file, -p: exactly one must be given.
struct PromptFlags {
  std::string ids;
  std::string ids_file;
  std::optional<std::string> text;

  int given() const { return (ids.empty() ? 0 : 1) + (ids_file.empty() ? 0 : 1) + (text ? 1 : 0); }
};
void AddPromptFlags(Flags& app, PromptFlags& flags);

struct OpenedModel {
  std::shared_ptr<const Model> model;
  std::unique_ptr<Session> session;
  double load_ms = 0;  // opening, binding and preparing kernels
};

// Warns about tensors and keys of the file that the computation does not use.
OpenedModel OpenModel(const std::string& path, const SessionOptions& options, Console& console);

// "executor", "precision", "isa", "device", "threads", "cache_type": what computed.
void AddComputeFields(const Session& session, Json& out);
const char* PrecisionInForce(const Session& session);  // "exact", "fast", "f64"

// The largest resident set of this process so far, in 10^6 bytes; 0 where the system does not tell.
double PeakResidentMb();

}  // namespace apr
