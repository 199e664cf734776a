// apr bench: prefill and decode speed on random tokens, medians over repetitions.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "generate/sampler.h"

namespace apr {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchArgs {
  std::string model;
  ComputeFlags compute;
  int64_t prefill = 512;
  int64_t decode = 128;
  int repeat = 5;
  int warmup = 1;
  int64_t chunk = 512;
};

// Seconds of one repetition.
struct Sample {
  double prefill = 0;
  double first_token = 0;  // prompt to sampled token
  double decode = 0;
};

double Seconds(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// The same tokens in every run on every machine.
std::vector<int32_t> RandomIds(int64_t count, int64_t vocabulary) {
  std::mt19937_64 random(1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary));
  return ids;
}

// Prefill on one fresh sequence, decode on another: decoding starts at an empty context, as llama.cpp's
// llama-bench measures it.
Sample Measure(Session& session, std::span<const int32_t> prompt, std::span<const int32_t> next) {
  const RunHooks hooks{.progress = nullptr, .cancelled = InterruptGuard::Raised};
  Sampler sampler(SamplerOptions{});
  Sample sample;
  if (!prompt.empty()) {
    const int sequence = session.NewSequence();
    const auto start = Clock::now();
    const Tensor logits = session.Append(sequence, prompt, 1, nullptr, hooks);
    sample.prefill = Seconds(start);
    sampler.Sample(logits.view(), prompt);
    sample.first_token = Seconds(start);
    session.FreeSequence(sequence);
  }
  const int sequence = session.NewSequence();
  const auto start = Clock::now();
  for (const int32_t& id : next) {
    const Tensor logits = session.Append(sequence, std::span(&id, 1), 1, nullptr, hooks);
    sampler.Sample(logits.view(), {});
  }
  sample.decode = Seconds(start);
  session.FreeSequence(sequence);
  return sample;
}

Json Rates(int64_t tokens, const std::vector<Sample>& samples, double Sample::*seconds) {
  if (tokens == 0) return nullptr;
  std::vector<double> rates;
  rates.reserve(samples.size());
  for (const Sample& sample : samples) rates.push_back(static_cast<double>(tokens) / (sample.*seconds));
  return {{"tokens", tokens}, {"tok_s", Median(rates)}, {"samples", rates}};
}

void Print(const Json& out, Console& console) {
  TextTable table("<>>");
  for (const char* phase : {"prefill", "decode"}) {
    if (out[phase].is_null()) continue;
    const auto samples = out[phase]["samples"].get<std::vector<double>>();
    const auto [low, high] = std::ranges::minmax(samples);
    table.Row({fmt::format("{} of {}", phase, out[phase]["tokens"].get<int64_t>()),
               fmt::format("{:.1f} tok/s", out[phase]["tok_s"].get<double>()),
               fmt::format("({:.1f} to {:.1f} in {} runs)", low, high, samples.size())});
  }
  console.Text(table.ToString());
  console.Line(fmt::format("load {:.1f} ms, peak resident {:.0f} MB; {} executor, precision {}, {}, {} threads",
                           out["load_ms"].get<double>(), out["peak_rss_mb"].get<double>(),
                           out["executor"].get<std::string>(), out["precision"].get<std::string>(),
                           out["isa"].get<std::string>(), out["threads"].get<int>()));
}

int Run(const BenchArgs& args, Console& console) {
  if (args.prefill == 0 && args.decode == 0) throw Error(ErrorCode::kUsage, "nothing to measure: --prefill 0 --decode 0");
  SessionOptions options = ToSessionOptions(args.compute);
  options.chunk = args.chunk;
  OpenedModel opened = OpenModel(args.model, options, console);
  const int64_t vocabulary = opened.model->config().vocab_size;
  const std::vector<int32_t> ids = RandomIds(args.prefill + args.decode, vocabulary);
  const auto prompt = std::span(ids).first(static_cast<size_t>(args.prefill));
  const auto next = std::span(ids).last(static_cast<size_t>(args.decode));

  const InterruptGuard guard;
  Progress progress("measuring", static_cast<uint64_t>(args.warmup + args.repeat));
  std::vector<Sample> samples;
  for (int i = 0; i < args.warmup + args.repeat; ++i) {
    const Sample sample = Measure(*opened.session, prompt, next);
    if (i >= args.warmup) samples.push_back(sample);
    progress.Add(1);
  }
  std::vector<double> first_token_ms;
  first_token_ms.reserve(samples.size());
  for (const Sample& sample : samples) first_token_ms.push_back(sample.first_token * 1e3);

  Json out = {{"model", args.model},
              {"prefill", Rates(args.prefill, samples, &Sample::prefill)},
              {"decode", Rates(args.decode, samples, &Sample::decode)},
              {"repeat", args.repeat},
              {"warmup", args.warmup},
              {"load_ms", opened.load_ms},
              {"first_token_ms", args.prefill > 0 ? Json(Median(first_token_ms)) : Json(nullptr)},
              {"peak_rss_mb", PeakResidentMb()}};
  AddComputeFields(*opened.session, out);
  if (console.json()) {
    console.Document(out);
  } else {
    Print(out, console);
  }
  return 0;
}

CommandRunner DefineBench(Flags& app) {
  auto args = std::make_shared<BenchArgs>();
  app.AddOption("model", args->model, "file or folder")->Required()->TypeName("MODEL");
  app.AddOption("--prefill", args->prefill, "prompt tokens of a repetition (512)")->Verify(Check::Range(0, 1 << 24))->TypeName("N");
  app.AddOption("--decode", args->decode, "tokens one by one from an empty context (128)")
      ->Verify(Check::Range(0, 1 << 24))
      ->TypeName("N");
  app.AddOption("--repeat", args->repeat, "repetitions that count (5)")->Verify(Check::Range(1, 100000))->TypeName("N");
  app.AddOption("--warmup", args->warmup, "repetitions before that (1)")->Verify(Check::Range(0, 100000))->TypeName("N");
  app.AddOption("--chunk", args->chunk, "tokens per pass of the prompt (512)")->Verify(Check::Range(1, 1 << 24))->TypeName("N");
  AddComputeFlags(app, args->compute);
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kBenchCommand = {
    .name = "bench",
    .group = "Running",
    .summary = "Prefill and decode speed: medians over repetitions",
    .example = "  apr bench model.gguf\n  apr bench model.gguf --prefill 512 --decode 128 --repeat 5 --threads 2 --json",
    .define = DefineBench,
};

}  // namespace apr
