// See model_flags.h.
#include "cli/model_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/flags.h"

namespace apr {
namespace {

std::string FirstNames(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  std::string out;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) out += (i > 0 ? ", " : "") + names[i];
  return names.size() > kShown ? fmt::format("{} and {} more", out, names.size() - kShown) : out;
}

void WarnUnused(const Model& model, Console& console) {
  if (!model.unread_tensors().empty()) {
    console.Warn(fmt::format("{}: tensors that the computation does not use: {}", model.file().path(),
                             FirstNames(model.unread_tensors())));
  }
  if (!model.unread_keys().empty()) {
    console.Warn(fmt::format("{}: configuration keys that nothing reads: {}", model.file().path(),
                             FirstNames(model.unread_keys())));
  }
  for (const FileWarning& warning : model.file().warnings()) {
    console.Warn(fmt::format("{}: {}{}", warning.file, warning.what,
                             warning.key.empty() ? "" : fmt::format(" ('{}')", warning.key)));
  }
}

}  // namespace

void AddComputeFlags(Flags& app, ComputeFlags& flags) {
  app.AddOption("--executor", flags.executor, "cpu, or reference: every op in f64 from its formula")
      ->Verify(Check::OneOf({"cpu", "reference"}))
      ->TypeName("NAME");
  app.AddOption("--precision", flags.precision,
                 "of cpu: fast (activations may be int8 where weights are quantised) or exact (f32)")
      ->Verify(Check::OneOf({"exact", "fast"}))
      ->TypeName("NAME");
  app.AddOption("--device", flags.device, "cpu or cuda; one that cannot serve is an error")
      ->Verify(Check::OneOf({"cpu", "cuda"}))
      ->TypeName("NAME");
  app.AddFlag("--gpu", flags.gpu, "the same as --device cuda");
  app.AddOption("--threads", flags.threads, "default: as many as the process may use")
      ->Verify(Check::Range(1, 1024))
      ->TypeName("N");
  app.AddOption("--cache-type", flags.cache_type, "what keys and values are kept as: f32 (of reference f64), f16 or q8_0")
      ->Verify(Check::OneOf({"f32", "f16", "q8_0"}))
      ->TypeName("NAME");
}

SessionOptions ToSessionOptions(const ComputeFlags& flags) {
  if (flags.gpu || flags.device == "cuda") {
    throw Error(ErrorCode::kNotBuilt, "this build has no CUDA support");
  }
  SessionOptions options;
  options.executor = *ExecutorFromName(flags.executor);
  options.compute.precision = *PrecisionFromName(flags.precision);
  options.compute.threads = flags.threads;
  options.compute.cache_type = *CacheTypeFromName(flags.cache_type);
  return options;
}

void AddPromptFlags(Flags& app, PromptFlags& flags) {
  app.AddOption("--ids", flags.ids, "token ids, commas between")->TypeName("1,2,3");
  app.AddOption("--ids-file", flags.ids_file, "a file of token ids, commas or white space between")->TypeName("FILE");
  app.AddOption("-p,--prompt", flags.text, "text, tokenised with the model's special tokens")->TypeName("TEXT");
}

OpenedModel OpenModel(const std::string& path, const SessionOptions& options, Console& console) {
  const auto start = std::chrono::steady_clock::now();
  OpenedModel out;
  out.model = Model::Load(path);
  out.session = std::make_unique<Session>(out.model, options);
  out.load_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  WarnUnused(*out.model, console);
  console.Note(fmt::format("{}: {}, {} parameters, loaded in {:.1f} ms; {} executor, precision {}, {} threads, {}", path,
                           out.model->config().architecture, out.model->num_parameters(), out.load_ms,
                           ExecutorName(out.session->executor().kind()), PrecisionInForce(*out.session),
                           out.session->executor().threads(), IsaName(ActiveIsa())));
  return out;
}

const char* PrecisionInForce(const Session& session) {
  if (session.executor().kind() == ExecutorKind::kReference) return "f64";
  return PrecisionName(session.executor().precision());
}

void AddComputeFields(const Session& session, Json& out) {
  out["executor"] = ExecutorName(session.executor().kind());
  out["precision"] = PrecisionInForce(session);
  out["isa"] = IsaName(ActiveIsa());
  out["device"] = "cpu";
  out["threads"] = session.executor().threads();
  out["cache_type"] = CacheTypeName(session.executor().cache_type());
}

double PeakResidentMb() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) * 1024 / 1e6;
  }
  return 0;
}

}  // namespace apr
