// apr capture: how to capture another engine's stages for bisect, and whether a captured folder is whole.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "format/stage_file.h"
#include "graph/stage_names.h"

namespace apr {
namespace {

constexpr const char* kInstructions =
    "Another engine's run becomes a side of `apr bisect` as a folder of stages. Two tools of this project write one:\n"
    "\n"
    "PyTorch with transformers, any decoder of the table in tools/oracle/stages.py\n"
    "  python3 tools/capture_stages.py MODEL_DIR --text \"The capital of France is\" --out torch\n"
    "  python3 tools/capture_stages.py MODEL_DIR --ids 1,2,3 --dtype bf16 --device cuda --attention sdpa --out torch-bf16\n"
    "\n"
    "llama.cpp, through llama-cpp-python (pip install llama-cpp-python)\n"
    "  python3 tools/capture_llama_cpp.py MODEL.gguf --text \"The capital of France is\" --out llama\n"
    "\n"
    "Then: is the engine right about the model, and do two engines agree?\n"
    "  apr bisect MODEL_DIR torch\n"
    "  apr bisect MODEL.gguf llama\n"
    "  apr bisect torch llama\n"
    "\n"
    "A capture from elsewhere needs stages.json and the files that it lists: docs/formats/aprt.md.\n";

bool IsKnown(std::string_view stage) {
  const auto all = AllStageNames();
  return std::find(all.begin(), all.end(), stage) != all.end();
}

// What is wrong with one stage, "" if nothing.
std::string ProblemOf(const StageDirectory& folder, const StageEntry& entry) {
  const auto name = ParseStageName(entry.name);
  if (!name || !IsKnown(name->stage)) return "no stage of this name is known";
  try {
    const StageFile file = folder.Read(entry);
    size_t bad = 0;
    for (const float value : file.values) bad += !std::isfinite(value);
    if (bad > 0) return fmt::format("{} of {} values are not finite", bad, file.values.size());
    if (file.values.empty()) return "is empty";
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

int CheckFolder(const std::string& path, Console& console) {
  const StageDirectory folder = StageDirectory::Open(path);
  const StageManifest& manifest = folder.manifest();
  std::vector<std::pair<std::string, std::string>> problems;
  if (!folder.has_manifest()) problems.emplace_back("stages.json", "is absent: bisect needs --ids");
  else if (manifest.ids.empty()) problems.emplace_back("stages.json", "names no ids");
  for (const StageEntry& entry : folder.stages()) {
    if (std::string problem = ProblemOf(folder, entry); !problem.empty()) problems.emplace_back(entry.name, std::move(problem));
  }
  const std::string precision = manifest.precision.weights.empty()
                                    ? manifest.executor
                                    : fmt::format("weights {}, activations {}", manifest.precision.weights, manifest.precision.activations);
  if (console.json()) {
    Json list = Json::array();
    for (const auto& [name, problem] : problems) list.push_back({{"stage", name}, {"problem", problem}});
    console.Document({{"path", path}, {"engine", manifest.engine}, {"architecture", manifest.architecture}, {"precision", precision},
                      {"tokens", manifest.ids.size()}, {"stages", folder.stages().size()}, {"problems", std::move(list)}});
  } else {
    console.Line(fmt::format("{}: {} stages of {} tokens, {} {}, {}", path, folder.stages().size(), manifest.ids.size(),
                             manifest.engine.empty() ? "unknown engine" : manifest.engine, manifest.architecture,
                             precision.empty() ? "precision not said" : precision));
    for (const auto& [name, problem] : problems) console.Line(fmt::format("  {}: {}", name, problem));
  }
  return problems.empty() ? 0 : ExitCode(ErrorCode::kValidationFailed);
}

CommandRunner DefineCapture(Flags& app) {
  auto path = std::make_shared<std::string>();
  app.AddOption("STAGES", *path, "A captured folder: checks that it is whole. Without it: how to capture");
  return [path](Console& console) {
    if (!path->empty()) return CheckFolder(*path, console);
    console.Text(kInstructions);
    if (console.json()) console.Document({{"tools", {"tools/capture_stages.py", "tools/capture_llama_cpp.py"}}});
    return 0;
  };
}

}  // namespace

const Command kCaptureCommand = {
    .name = "capture",
    .group = "Comparing",
    .summary = "Stages of PyTorch or llama.cpp for bisect: how to capture them, and whether a capture is whole",
    .example = "  python3 tools/capture_stages.py MODEL_DIR --text \"The capital of France is\" --out torch\n"
               "  python3 tools/capture_llama_cpp.py MODEL.gguf --ids 1,2,3 --out llama\n"
               "  apr capture torch",
    .define = DefineCapture,
};

}  // namespace apr
