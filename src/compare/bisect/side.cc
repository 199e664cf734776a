// Opening one side of a bisection: a model of any container, or a captured run.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "compare/bisect/bisection.h"
#include "format/packed_weights.h"
#include "generate/trace.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

// "MODEL@reference" is a path and an executor, unless a file of that name exists.
void SplitExecutor(const std::string& given, Side& side) {
  side.path = given;
  const size_t at = given.rfind('@');
  std::error_code ignored;
  if (at == std::string::npos || fs::exists(given, ignored)) return;
  const std::string name = given.substr(at + 1);
  if (name == "cuda") throw Error(ErrorCode::kNotBuilt, "this build has no CUDA support", {.file = given});
  const std::optional<ExecutorKind> executor = ExecutorFromName(name);
  if (!executor) throw Error(ErrorCode::kUsage, fmt::format("no executor is called '{}'; there are reference, cpu, cuda", name), {.file = given});
  side.executor = *executor;
  side.path = given.substr(0, at);
}

bool HasStages(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return false;
  if (fs::exists(folder / "stages.json", ignored)) return true;
  if (fs::exists(folder / "config.json", ignored)) return false;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") && name.find("pytorch_model") == std::string::npos) return true;
    if (name.starts_with("layer-") && entry.is_directory(ignored)) return true;
  }
  return false;
}

bool BeginsLikeModel(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::array<char, 9> head{};
  in.read(head.data(), head.size());
  const std::string_view magic(head.data(), 4);
  if (magic == "GGUF" || magic.starts_with("APR")) return in.gcount() >= 4;
  return in.gcount() == 9 && head[8] == '{';  // safetensors: length, then JSON
}

// A damaged model is a finding of the file phase; what never was one is the caller's mistake.
bool WasMeantAsModel(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    const std::string extension = path.extension().string();
    return BeginsLikeModel(path) || extension == ".gguf" || extension == ".safetensors" || extension == ".apr";
  }
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name == "config.json" || name.ends_with(".safetensors") || name.ends_with(".gguf") || name.ends_with(".apr")) return true;
  }
  return false;
}

}  // namespace

Side OpenSide(const std::string& given) {
  Side side;
  SplitExecutor(given, side);
  if (HasStages(side.path)) {
    side.stages = StageDirectory::Open(side.path);
    return side;
  }
  try {
    side.file = ModelFile::Open(side.path);
    side.weights = UnpackWeights(side.file);
  } catch (const Error& e) {
    const bool unread = e.code() == ErrorCode::kInvalidFormat || (side.file != nullptr && e.code() == ErrorCode::kModelLoad);
    if (!unread || !WasMeantAsModel(side.path)) throw;
    side.problem = e;
    return side;
  }
  ResolveSide(side);
  return side;
}

void BindAnew(Side& side, bool factors) {
  const auto each_factors = [&](auto change) {
    for (RopeSpec& rope : side.config.ropes) {
      if (rope.table.scaling != "longrope") continue;
      for (std::vector<double>* each : {&rope.table.factors, &rope.table.long_factors}) change(*each, std::vector<double>(static_cast<size_t>(rope.table.rotary_dim / 2), 1.0));
    }
  };
  // Without its factors longrope turns as plain rope does (llama.cpp): what that changes is found by running it.
  if (factors) each_factors([](std::vector<double>& each, const std::vector<double>& plain) { if (each == plain) each.clear(); });
  side.slot_problem.reset();
  try {
    side.slots = BindSlots(*side.weights, *side.architecture, side.config);
    if (factors) ApplyRopeFactorTensors(side.slots, side.config);
  } catch (const Error& e) {
    side.slot_problem = e;
  }
  each_factors([](std::vector<double>& each, std::vector<double> plain) { if (each.empty()) each = std::move(plain); });
}

void ResolveSide(Side& side) {
  side.config_problem.reset();
  side.slot_problem.reset();
  try {
    ResolvedConfig resolved = ResolveConfig(*side.file);
    side.architecture = resolved.architecture;
    side.config = std::move(resolved.config);
  } catch (const Error& e) {
    side.config_problem = e;
  }
  if (side.architecture != nullptr) BindAnew(side, true);
  try {
    side.tokenizer = Tokenizer::FromModelFile(*side.file);
  } catch (const Error& e) {
    side.tokenizer_problem = e;
  }
}

bool SameFamily(const Side& a, const Side& b) {
  if (a.architecture == nullptr || b.architecture == nullptr) return false;
  if (a.architecture == b.architecture) return true;
  return !a.architecture->gguf.empty() && a.architecture->gguf == b.architecture->gguf && (a.config.moe.experts > 0) == (b.config.moe.experts > 0);
}

SideSummary Summarize(const Side& side) {
  SideSummary out;
  out.path = side.path;
  out.kind = side.problem ? "unreadable" : side.is_model() ? ContainerName(side.file->container()) : "stages";
  out.architecture = side.config.architecture;
  if (side.stages) {
    const StageManifest& m = side.stages->manifest();
    out.architecture = m.architecture;
    out.executor = m.engine.empty() ? m.executor : m.engine;
    out.weights = m.precision.weights;
    out.activations = m.precision.activations;
    out.accumulate = m.precision.accumulate;
  } else if (side.is_model()) {
    out.executor = ExecutorName(side.executor);
    std::vector<WeightRef> weights;
    for (const auto& [key, slot] : side.slots.slots) weights.push_back(slot.weight);
    const StagePrecision precision = PrecisionOf(weights, side.executor, Precision::kFast);
    out.weights = precision.weights;
    out.activations = precision.activations;
    out.accumulate = precision.accumulate;
  }
  return out;
}

}  // namespace apr::bisect
