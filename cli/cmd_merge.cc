// apr merge: several models of one architecture into one.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/write_model.h"
#include "cli/writing_commands.h"
#include "model/merge.h"

namespace apr {
namespace {

struct MergeArgs {
  std::vector<std::string> models;
  std::string strategy = "average";
  std::string base, weights;
  MergeOptions options;
  WriteModelArgs write;
  bool plan = false;
};

std::vector<double> ParseWeights(const std::string& text) {
  std::vector<double> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    double value = 0;
    const auto [last, problem] = std::from_chars(text.data() + at, text.data() + end, value);
    if (problem != std::errc() || last != text.data() + end) throw Error(ErrorCode::kUsage, "--weights: '" + text + "' is no list of numbers");
    out.push_back(value);
    at = end + 1;
  }
  return out;
}

int Run(MergeArgs args, Console& console) {
  if (!args.plan && args.write.out.empty()) throw Error(ErrorCode::kUsage, "--out is required, or --plan");
  args.options.strategy = ParseMergeStrategy(args.strategy);
  args.options.weights = ParseWeights(args.weights);
  std::vector<std::shared_ptr<const Model>> models;
  for (const std::string& path : args.models) models.push_back(Model::Load(path));
  if (!args.base.empty()) args.options.base = Model::Load(args.base);
  CheckMerge(models, args.options);
  if (args.plan) {
    if (console.json()) {
      console.Document({{"models", args.models}, {"strategy", args.strategy}, {"weights", args.options.weights}, {"base_model", args.base},
                        {"architecture", models[0]->config().architecture}, {"parameters", models[0]->num_parameters()}});
    }
    console.Line(fmt::format("{} models of {}, {} parameters each, can be merged ({})", models.size(), models[0]->config().architecture,
                             models[0]->num_parameters(), args.strategy));
    return 0;
  }
  const ExportReport report = WriteModel(models[0], args.write, console,
                                         [&](const std::vector<TensorRule>& target, const ChooseType& choose, const EncodeContext& context) {
                                           return MergedTensors(models, args.options, target, choose, context);
                                         });
  PrintReport(args.models[0], args.write, report, {}, console);
  return 0;
}

CommandRunner DefineMerge(Flags& app) {
  auto args = std::make_shared<MergeArgs>();
  app.AddOption("MODELS", args->models, "two models or more; tokenizer and settings are those of the first")->Required();
  app.AddOption("--strategy", args->strategy, "how weights are put together")->Verify(Check::OneOf({"average", "weighted", "slerp", "ties", "dare"}));
  app.AddOption("--weights", args->weights, "one per model, with commas between; slerp: the second's is its part of the way")->TypeName("W,W,...");
  app.AddOption("--base-model", args->base, "ties, dare: the model that the others were tuned from");
  app.AddOption("--drop-rate", args->options.drop_rate, "dare: part of each difference that is dropped");
  app.AddOption("--density", args->options.density, "ties: part of each difference that is kept");
  app.AddOption("--seed", args->options.seed, "dare: start of the random numbers");
  app.AddOption("--format", args->write.format, "what to write; default: what the name of the output says")
      ->Verify(Check::OneOf({"gguf", "safetensors", "apr"}));
  app.AddOption("--dtype", args->write.dtype, "element type of matrices; default: the first model's")
      ->Verify(Check::OneOf({"f32", "f16", "bf16", "as-stored"}));
  app.AddOption("-o,--out", args->write.out, "file or folder to write");
  app.AddOption("--threads", args->write.threads, "threads that encode; default: every processor")->Verify(Check::Positive());
  app.AddFlag("--plan", args->plan, "say whether the models fit each other, write nothing");
  app.AddFlag("--force", args->write.force, "replace existing files");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kMergeCommand = {
    .name = "merge",
    .group = "Changing and moving models",
    .summary = "Several models of one architecture into one",
    .example = "  apr merge tuned-a tuned-b --strategy slerp --weights 0.7,0.3 -o merged\n"
               "  apr merge tuned-a tuned-b --strategy ties --base-model base -o merged.gguf",
    .define = DefineMerge,
};

}  // namespace apr
