// apr logits: the model's answer to a sequence of tokens as a NumPy array [T, V].
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "cli/prompt.h"
#include "format/npy.h"

namespace apr {
namespace {

struct LogitsArgs {
  std::string model;
  PromptFlags prompt;
  ComputeFlags compute;
  std::string out;
  std::string dtype;
  int64_t last = 0;
  int64_t chunk = 512;
  bool force = false;
};

// Rows as they come, in the array's type.
void WriteRows(const TensorView& rows, DType dtype, NpyWriter& writer) {
  if (rows.dtype == dtype) return writer.Write(rows.bytes);
  const auto count = static_cast<size_t>(rows.shape.num_elements());
  Tensor converted(dtype, rows.shape);
  for (size_t i = 0; i < count; ++i) {
    if (dtype == DType::kF64) {
      converted.f64()[i] = LoadLe<float>(rows.bytes.data() + 4 * i);
    } else {
      converted.f32()[i] = static_cast<float>(LoadLe<double>(rows.bytes.data() + 8 * i));
    }
  }
  writer.Write(converted.view().bytes);
}

int Run(const LogitsArgs& args, Console& console) {
  RequireOnePrompt(args.prompt);
  SessionOptions options = ToSessionOptions(args.compute);
  options.chunk = args.chunk;
  OpenedModel opened = OpenModel(args.model, options, console);
  Session& session = *opened.session;
  const std::vector<int32_t> ids = PromptIds(args.prompt, *opened.model);
  const auto tokens = static_cast<int64_t>(ids.size());
  const int64_t rows = args.last > 0 ? std::min(args.last, tokens) : tokens;
  const bool f64 = args.dtype.empty() ? options.executor == ExecutorKind::kReference : args.dtype == "f64";
  const DType dtype = f64 ? DType::kF64 : DType::kF32;
  const Shape shape{rows, opened.model->config().vocab_size};
  NpyWriter writer(args.out, dtype, shape, args.force ? Overwrite::kAllow : Overwrite::kRefuse);

  const auto start = std::chrono::steady_clock::now();
  const InterruptGuard guard;
  Progress progress("logits", ids.size());
  const Piece piece{session.NewSequence(), ids, rows};
  session.Append(
      std::span(&piece, 1), [&](size_t, const TensorView& view) { WriteRows(view, dtype, writer); }, nullptr,
      {.progress = [&](int64_t n) { progress.Add(static_cast<uint64_t>(n)); }, .cancelled = InterruptGuard::Raised});
  writer.Commit();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  if (console.json()) {
    Json out = {{"model", args.model},         {"out", args.out},  {"shape", {rows, shape[1]}},
                {"dtype", f64 ? "f64" : "f32"}, {"tokens", tokens}, {"ids", ids},
                {"chunk", args.chunk}};
    AddComputeFields(session, out);
    out["load_ms"] = opened.load_ms;
    out["seconds"] = seconds;
    console.Document(out);
  } else {
    console.Line(fmt::format("{}: {} {}, {} tokens in {:.2f} s ({} executor, precision {})", args.out, shape.ToString(),
                             f64 ? "f64" : "f32", tokens, seconds, ExecutorName(session.executor().kind()),
                             PrecisionInForce(session)));
  }
  return 0;
}

CommandRunner DefineLogits(Flags& app) {
  auto args = std::make_shared<LogitsArgs>();
  app.AddOption("model", args->model, "file or folder")->Required()->TypeName("MODEL");
  AddPromptFlags(app, args->prompt);
  app.AddOption("--out", args->out, "the array's file")->Required()->TypeName("F.npy");
  app.AddOption("--dtype", args->dtype, "f32 or f64 (default: what the executor computes in)")
      ->Verify(Check::OneOf({"f32", "f64"}))
      ->TypeName("NAME");
  app.AddOption("--last", args->last, "only the last N rows")->Verify(Check::Range(int64_t{1}, INT64_MAX))->TypeName("N");
  app.AddOption("--chunk", args->chunk, "tokens per pass; the values do not depend on it")
      ->Verify(Check::Range(int64_t{1}, INT64_MAX))
      ->TypeName("N");
  app.AddFlag("--force", args->force, "replace an existing file");
  AddComputeFlags(app, args->compute);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kLogitsCommand = {
    .name = "logits",
    .group = "Running",
    .summary = "Logits of every position as a NumPy array [T, V]",
    .example = "  apr logits model.gguf -p \"Hello\" --out logits.npy\n"
               "  apr logits model.gguf --ids 1,2,3 --executor reference --out logits.npy --json",
    .define = DefineLogits,
};

}  // namespace apr
