// apr quantize: a model in fewer bits, by llama.cpp's mixes or by hand.
#include <fmt/format.h>

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/write_model.h"
#include "cli/writing_commands.h"
#include "model/plan_types.h"
#include "model/quantize_gguf.h"
#include "tokenizer/carry.h"

namespace apr {
namespace {

struct QuantizeArgs {
  std::string model;
  WriteModelArgs write;
  bool plan = false;
};

std::string Megabytes(uint64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

int PrintPlan(const QuantizeArgs& args, Container target, const TypePlan& plan, Console& console) {
  uint64_t total = 0;
  for (const PlannedTensor& t : plan.tensors) total += t.bytes;
  if (console.json()) {
    Json tensors = Json::array();
    for (const PlannedTensor& t : plan.tensors) {
      tensors.push_back({{"name", t.name}, {"shape", std::vector<int64_t>(t.shape.dims().begin(), t.shape.dims().end())},
                         {"from", NameOf(t.stored)}, {"to", NameOf(t.dtype)}, {"size_bytes", t.bytes}, {"fallback", t.fallback}});
    }
    console.Document({{"model", args.model}, {"mix", plan.mix}, {"format", ContainerName(target)}, {"tensors", tensors},
                      {"total_size_bytes", total}, {"warnings", plan.warnings}});
  }
  TextTable table("<<<<>");
  for (const PlannedTensor& t : plan.tensors) table.Row({t.name, t.shape.ToString(), NameOf(t.stored), NameOf(t.dtype), Megabytes(t.bytes)});
  console.Text(table.ToString());
  console.Line(fmt::format("{}: {} tensors, {}", plan.mix, plan.tensors.size(), Megabytes(total)));
  return 0;
}

// A GGUF to a GGUF goes tensor by tensor, so that any architecture will do.
int QuantizeFile(const QuantizeArgs& args, const std::shared_ptr<const ModelFile>& file, Console& console) {
  const TypePlanRequest request{.mix = args.write.mix, .tensor_types = args.write.tensor_types, .imatrix = args.write.imatrix};
  const TypePlan plan = PlanTypesOfGguf(file, request);
  WarnOf(plan, console);
  if (args.plan) return PrintPlan(args, Container::kGguf, plan, console);
  ExportOptions options{.out = args.write.out, .overwrite = args.write.force ? Overwrite::kAllow : Overwrite::kRefuse};
  options.encode.pool = std::make_shared<ThreadPool>(args.write.threads > 0 ? args.write.threads : ThreadPool::HardwareThreads());
  ExportReport report = QuantizeGguf(file, plan, request, options);
  report.warnings.insert(report.warnings.end(), plan.warnings.begin(), plan.warnings.end());
  PrintReport(args.model, args.write, report, {}, console);
  return 0;
}

int Run(QuantizeArgs args, Console& console) {
  if (args.write.format.empty()) args.write.format = args.write.out.ends_with(".apr") ? "apr" : "gguf";
  if (!args.plan && args.write.out.empty()) throw Error(ErrorCode::kUsage, "--out is required, or --plan");
  MixName(args.write.mix);  // a wrong name is told before the model is opened
  const auto file = ModelFile::Open(args.model);
  const Container target = TargetOf(args.write);
  if (target == Container::kGguf && file->container() == Container::kGguf) return QuantizeFile(args, file, console);
  const auto model = Model::Load(file);
  if (args.plan) {
    const TypePlan plan = PlanTypes(model, target, {.mix = args.write.mix, .tensor_types = args.write.tensor_types, .imatrix = args.write.imatrix});
    WarnOf(plan, console);
    return PrintPlan(args, target, plan, console);
  }
  const ExportReport report = WriteModel(model, args.write, console);
  PrintReport(args.model, args.write, report, model->unread_tensors(), console);
  return 0;
}

CommandRunner DefineQuantize(Flags& app) {
  auto args = std::make_shared<QuantizeArgs>();
  app.AddOption("MODEL", args->model, "safetensors folder or file, GGUF or .apr")->Required();
  app.AddOption("-s,--scheme", args->write.mix, fmt::format("type or mix: {}", fmt::join(MixNames(), ", ")))->TypeName("TYPE_OR_MIX")->Required();
  app.AddOption("-o,--out", args->write.out, "file to write");
  app.AddOption("--format", args->write.format, "what to write; default: apr where the output ends in .apr, else gguf")->Verify(Check::OneOf({"gguf", "apr", "safetensors"}));
  app.AddOption("--tensor-type", args->write.tensor_types, "type of the tensors whose GGUF name the pattern finds; may be repeated")
      ->TypeName("REGEX=TYPE")->Expected(1)->TakeAll();
  app.AddOption("--imatrix", args->write.imatrix, "importance matrix of llama-imatrix, .gguf or .dat")->TypeName("FILE");
  app.AddFlag("--plan", args->plan, "print what would be written, write nothing");
  app.AddOption("--threads", args->write.threads, "threads that encode; default: every processor")->Verify(Check::Positive());
  app.AddFlag("--force", args->write.force, "replace an existing file");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kQuantizeCommand = {
    .name = "quantize",
    .group = "Changing and moving models",
    .summary = "Write a model in fewer bits",
    .example = "  apr quantize model-f16.gguf -s Q4_K_M -o model-q4.gguf\n"
               "  apr quantize model-folder -s Q5_K_M --imatrix model.imatrix --tensor-type 'ffn_down=Q6_K' -o model.gguf",
    .define = DefineQuantize,
};

}  // namespace apr
