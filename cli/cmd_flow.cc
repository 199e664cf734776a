// apr flow: how data flows through a model.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "model/flow.h"

namespace apr {
namespace {

struct FlowArgs {
  std::string file;
  std::optional<int> layer;
  std::string component = "full";
};

void Print(const FlowReport& report, const FlowArgs& args, Console& console) {
  console.Line(fmt::format("{}: {}, {} tensors, {} decoder layers, {} encoder layers", report.file,
                           report.architecture.empty() ? "unknown architecture" : report.architecture, report.total_tensors,
                           report.decoder_layers, report.encoder_layers));
  for (const auto& [group, names] : report.groups) console.Line(fmt::format("  {:<10} {} tensors", group, names.size()));
  if (!report.problem.empty()) console.Line("  no steps: " + report.problem);
  if (!report.steps.empty()) {
    console.Line(args.layer || report.decoder_layers < 2 ? "" : fmt::format("\nlayer 0 stands for layers 0 to {}:", report.decoder_layers - 1));
    TextTable table("<<<");
    for (const FlowStep& step : report.steps) {
      std::string from;
      for (const std::string& input : step.inputs) from += (from.empty() ? "" : ", ") + input;
      table.Row({"  " + step.name, step.op, "<- " + from});
      for (const std::string& weight : step.weights) table.Row({"", "", "   " + weight});
      if (console.verbose() && !step.attributes.empty()) table.Row({"", "", "   " + step.attributes});
    }
    console.Text(table.ToString());
  }
  if (!console.verbose() && !report.steps.empty()) return;
  console.Line(fmt::format("\ntensors of {}:", args.component));
  for (const std::string& name : report.tensors) console.Line("  " + OneLineText(name, 200));
}

int Run(const FlowArgs& args, Console& console) {
  const FlowComponent component = *FlowComponentFromName(args.component);
  const FlowReport report = DescribeFlow(*ModelFile::Open(args.file), component, args.layer);
  if (console.json()) console.Document(report.ToJson(component));
  else Print(report, args, console);
  return 0;
}

CommandRunner DefineFlow(Flags& app) {
  auto args = std::make_shared<FlowArgs>();
  app.AddOption("file", args->file, "file or folder")->Required()->TypeName("FILE");
  app.AddOption("--layer", args->layer, "only this layer")->Verify(Check::Range(0, 1 << 20))->TypeName("N");
  app.AddOption("--component", args->component, "full, encoder, decoder, self_attn, cross_attn or ffn")
      ->Verify(Check::OneOf({"full", "encoder", "decoder", "self_attn", "cross_attn", "ffn"}))
      ->TypeName("NAME");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kFlowCommand = {
    .name = "flow",
    .group = "Looking inside",
    .summary = "How data flows through a model: steps of a layer, weights, groups of tensors",
    .example = "  apr flow model.gguf --component self_attn --layer 3\n  apr flow model-folder --json",
    .define = DefineFlow,
};

}  // namespace apr
