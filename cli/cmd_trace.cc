// apr trace: a forward pass looked at, layer by layer, and its stages written to a directory.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/output_folder.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "cli/prompt.h"
#include "cli/version.h"
#include "generate/sampler.h"
#include "generate/trace.h"

namespace apr {
namespace {

struct TraceArgs {
  std::string model;
  PromptFlags prompt;
  ComputeFlags compute;
  std::string layer;
  std::string save;
  std::string save_dir;
  std::string save_layers = "0..1";
  bool force = false;
};

// What is shown as one layer: "embedding", "layer-3", "final_norm", "lm_head".
struct LayerTrace {
  std::string name;
  int index = -1;  // -1: no layer
  const Statistics* input = nullptr;
  const Statistics* output = nullptr;
  int64_t width = 0;
  std::vector<const StageSummary*> stages;  // only of layers named with --layer
};

bool NameMatches(const std::string& pattern, const std::string& name, int index) {
  int number = 0;
  const auto [end, error] = std::from_chars(pattern.data(), pattern.data() + pattern.size(), number);
  if (error == std::errc() && end == pattern.data() + pattern.size()) return number == index;
  return name.find(pattern) != name.npos;
}

std::string LayerName(const Stage& stage) {
  return stage.layer < 0 ? stage.name : fmt::format("layer-{}", stage.layer);
}

// Every layer's output, and all stages of the layers asked for by name.
bool IsMeasured(const Stage& stage, const std::string& pattern) {
  if (stage.layer < 0 || stage.name == "embedding" || stage.name == "post_ffn_residual") return true;
  return !pattern.empty() && NameMatches(pattern, LayerName(stage), stage.layer);
}

std::vector<LayerTrace> GroupLayers(const std::vector<StageSummary>& summaries, const std::string& pattern) {
  std::vector<LayerTrace> layers;
  const Statistics* flowing = nullptr;  // what enters the next layer
  for (const StageSummary& s : summaries) {
    const bool own = s.layer < 0 || s.stage == "embedding";
    const std::string name = own ? s.stage : fmt::format("layer-{}", s.layer);
    if (layers.empty() || layers.back().name != name) layers.push_back({.name = name, .index = own ? -1 : s.layer, .input = flowing});
    LayerTrace& layer = layers.back();
    if (!pattern.empty()) layer.stages.push_back(&s);
    if (!own && s.stage != "post_ffn_residual") continue;
    layer.output = flowing = &s.statistics;
    layer.width = s.shape.cols();
  }
  if (pattern.empty()) return layers;
  std::erase_if(layers, [&](const LayerTrace& l) { return !NameMatches(pattern, l.name, l.index); });
  if (layers.empty()) throw Error(ErrorCode::kUsage, fmt::format("--layer '{}' matches no layer", pattern));
  return layers;
}

// Without tokens nothing is computed: the layers and no figures.
std::vector<LayerTrace> MetadataLayers(const Model& model, const std::string& pattern) {
  std::vector<LayerTrace> layers;
  for (int i = 0; i < model.config().num_layers; ++i) {
    const std::string name = fmt::format("layer-{}", i);
    if (pattern.empty() || NameMatches(pattern, name, i)) {
      layers.push_back({.name = name, .index = i, .width = model.config().hidden_size});
    }
  }
  if (layers.empty()) throw Error(ErrorCode::kUsage, fmt::format("--layer '{}' matches no layer", pattern));
  return layers;
}

std::vector<std::string> AnomaliesOf(const LayerTrace& layer) {
  if (layer.output == nullptr) return {};
  std::vector<std::string> out = Anomalies(*layer.output);
  for (const StageSummary* s : layer.stages) {
    if (&s->statistics == layer.output) continue;
    for (const std::string& what : Anomalies(s->statistics)) out.push_back(fmt::format("{}: {}", s->stage, what));
  }
  return out;
}

struct Outcome {
  std::vector<int32_t> ids;
  std::vector<StageSummary> summaries;
  std::vector<std::string> written;
  std::string directory;
  std::vector<TokenProbability> top;
};

std::string DefaultDirectory(const std::string& model) {
  std::filesystem::path path = std::filesystem::path(model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return (path.parent_path() / (path.stem().string() + "-trace")).string();
}

Outcome Compute(const TraceArgs& args, const StageSelection& selection, OpenedModel& opened) {
  Outcome out;
  Session& session = *opened.session;
  out.ids = PromptIds(args.prompt, *opened.model);
  std::optional<OutputFolder> folder;
  std::optional<StageDirectoryWriter> writer;
  if (!selection.names.empty()) {
    if (selection.layers.first >= opened.model->config().num_layers) {
      throw Error(ErrorCode::kUsage, fmt::format("--save-tensor-layers {}: the model has {} layers", args.save_layers,
                                                 opened.model->config().num_layers));
    }
    out.directory = args.save_dir.empty() ? DefaultDirectory(args.model) : args.save_dir;
    const Executor& executor = session.executor();
    StageManifest manifest{.engine = fmt::format("apr {}", kVersion),
                           .model = args.model,
                           .architecture = opened.model->config().architecture,
                           .precision = PrecisionOf(*opened.model, executor.kind(), executor.precision()),
                           .ids = {out.ids.begin(), out.ids.end()}};
    folder.emplace(out.directory);
    writer.emplace(out.directory, std::move(manifest), args.force ? Overwrite::kAllow : Overwrite::kRefuse);
  }
  TraceSink sink(opened.model->graph(), [&](const Stage& stage) { return IsMeasured(stage, args.layer); }, selection,
                 writer ? &*writer : nullptr);
  const InterruptGuard guard;
  const Tensor logits = session.Append(session.NewSequence(), out.ids, static_cast<int64_t>(out.ids.size()), &sink,
                                       {.progress = nullptr, .cancelled = InterruptGuard::Raised});
  if (InterruptGuard::Raised()) throw Error(ErrorCode::kCancelled, "interrupted");
  if (writer) {
    writer->Finish();
    folder->Keep();
  }
  out.top = TopTokens(logits.view().Rows(logits.shape()[0] - 1, 1), 5);
  out.summaries = sink.summaries();
  out.written = sink.written();
  return out;
}

Json LayerJson(const LayerTrace& layer) {
  const auto stats = [](const Statistics* s) { return s == nullptr ? Json(nullptr) : StatisticsToJson(*s); };
  Json out = {{"name", layer.name},
              {"index", layer.index < 0 ? Json(nullptr) : Json(layer.index)},
              {"hidden_dim", layer.width},
              {"input_stats", stats(layer.input)},
              {"output_stats", stats(layer.output)},
              {"weight_stats", nullptr},
              {"anomalies", AnomaliesOf(layer)}};
  if (layer.stages.empty()) return out;
  out["stages"] = Json::array();
  for (const StageSummary* s : layer.stages) {
    out["stages"].push_back({{"name", s->stage},
                             {"shape", std::vector<int64_t>(s->shape.dims().begin(), s->shape.dims().end())},
                             {"stats", StatisticsToJson(s->statistics)}});
  }
  return out;
}

Json ToJson(const TraceArgs& args, const Model& model, const std::vector<LayerTrace>& layers) {
  Json list = Json::array();
  Json all = Json::array();
  for (const LayerTrace& layer : layers) {
    list.push_back(LayerJson(layer));
    for (const std::string& what : AnomaliesOf(layer)) all.push_back(layer.name + ": " + what);
  }
  return {{"file", args.model},
          {"format", ContainerName(model.file().container())},
          {"architecture", model.config().architecture},
          {"stats_source", "metadata-only"},
          {"notes", Json::array()},
          {"layers", std::move(list)},
          {"summary",
           {{"total_layers", model.config().num_layers},
            {"total_parameters", model.num_parameters()},
            {"anomaly_count", all.size()},
            {"anomalies", std::move(all)}}}};
}

void AddOutcome(const Outcome& outcome, const Session& session, Json& out) {
  out["stats_source"] = "forward";
  AddComputeFields(session, out);
  out["ids"] = outcome.ids;
  out["top"] = Json::array();
  for (const TokenProbability& t : outcome.top) {
    out["top"].push_back({{"id", t.id}, {"logit", JsonNumber(t.logit)}, {"probability", t.probability}});
  }
  out["saved"] = outcome.directory.empty()
                     ? Json(nullptr)
                     : Json({{"directory", outcome.directory}, {"stages", outcome.written}});
}

void Print(const std::vector<LayerTrace>& layers, const Outcome* outcome, Console& console) {
  TextTable table("<>>>>>>>>");
  table.Row({"layer", "mean", "std", "l2", "min", "max", "nan", "inf", "look at"});
  const auto row = [&](const std::string& name, const Statistics* s, const std::vector<std::string>& anomalies) {
    if (s == nullptr) return table.Row({name});
    std::vector<std::string> cells = {name};
    for (const double v : {s->mean, s->std, s->l2_norm, s->min, s->max}) cells.push_back(fmt::format("{:.5g}", v));
    cells.push_back(std::to_string(s->nan_count));
    cells.push_back(std::to_string(s->inf_count));
    cells.push_back(fmt::format("{}", fmt::join(anomalies, "; ")));
    table.Row(std::move(cells));
  };
  for (const LayerTrace& layer : layers) {
    row(layer.name, layer.output, layer.output == nullptr ? std::vector<std::string>() : Anomalies(*layer.output));
    for (const StageSummary* s : layer.stages) row("  " + s->stage, &s->statistics, Anomalies(s->statistics));
  }
  console.Text(table.ToString());
  if (outcome == nullptr) return console.Line("Nothing was computed (metadata only): give --ids, --ids-file or -p.");
  std::string top;
  for (const TokenProbability& t : outcome->top) top += fmt::format("  {} ({:.3f})", t.id, t.probability);
  console.Line("next token, most probable ids:" + top);
  if (!outcome->directory.empty()) {
    console.Line(fmt::format("{} stages written to {}", outcome->written.size(), outcome->directory));
  }
}

StageSelection ParseSelection(const TraceArgs& args, bool layers_given) {
  StageSelection out{ParseStageNames(args.save), ParseLayerRange(args.save_layers)};
  if (out.names.empty() && (layers_given || !args.save_dir.empty())) {
    throw Error(ErrorCode::kUsage, "--save-tensor-dir and --save-tensor-layers need --save-tensor");
  }
  if (!out.names.empty() && args.prompt.given() == 0) {
    throw Error(ErrorCode::kUsage, "--save-tensor needs tokens: give --ids, --ids-file or -p");
  }
  return out;
}

int Run(const TraceArgs& args, bool layers_given, Console& console) {
  const StageSelection selection = ParseSelection(args, layers_given);
  if (args.prompt.given() > 0) RequireOnePrompt(args.prompt);
  SessionOptions options = ToSessionOptions(args.compute);
  options.chunk = 0;  // attention matrices are whole ones
  OpenedModel opened = OpenModel(args.model, options, console);
  const bool computed = args.prompt.given() == 1;
  std::optional<Outcome> outcome;
  if (computed) outcome = Compute(args, selection, opened);
  const std::vector<LayerTrace> layers =
      computed ? GroupLayers(outcome->summaries, args.layer) : MetadataLayers(*opened.model, args.layer);
  if (!console.json()) {
    Print(layers, computed ? &*outcome : nullptr, console);
    return 0;
  }
  Json out = ToJson(args, *opened.model, layers);
  if (computed) {
    AddOutcome(*outcome, *opened.session, out);
  } else {
    out["notes"].push_back("no tokens were given, so nothing was computed: the statistics are absent, not clean");
  }
  console.Document(out);
  return 0;
}

CommandRunner DefineTrace(Flags& app) {
  auto args = std::make_shared<TraceArgs>();
  app.AddOption("model", args->model, "file or folder")->Required()->TypeName("MODEL");
  AddPromptFlags(app, args->prompt);
  app.AddOption("--layer", args->layer, "only this layer (a number, or part of its name), with all its stages")
      ->TypeName("PATTERN");
  app.AddOption("--save-tensor", args->save, "stages to write, commas between, or all")->TypeName("NAMES|all");
  app.AddOption("--save-tensor-dir", args->save_dir, "where (default: <model>-trace beside the model)")->TypeName("DIR");
  auto* layers = app.AddOption("--save-tensor-layers", args->save_layers, "of which layers, END exclusive (0..1)")
                     ->TypeName("START..END");
  app.AddFlag("--force", args->force, "replace the stages of an earlier trace");
  AddComputeFlags(app, args->compute);
  return [args, layers](Console& console) { return Run(*args, layers->given(), console); };
}

}  // namespace

const Command kTraceCommand = {
    .name = "trace",
    .group = "Looking inside",
    .summary = "A forward pass, layer by layer; writes stages for diff and bisect",
    .example = "  apr trace model.gguf -p \"Hello\"\n"
               "  apr trace model.gguf --ids 1,2,3 --save-tensor all --save-tensor-layers 0..2 --save-tensor-dir stages",
    .define = DefineTrace,
};

}  // namespace apr
