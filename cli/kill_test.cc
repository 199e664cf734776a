// convert and quantize ended at random points: what has the final name is whole, or the old file, and the
// next run works. APR_KILL_POINTS: how many points.
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>

#include "base/json.h"
#include "cli/program_under_test.h"
#include "format/model_writer.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

// A llama of ten million weights: large enough to be caught at work.
void MakeModel(const std::string& folder) {
  constexpr int64_t kHidden = 256, kFfn = 768, kVocab = 8000, kLayers = 6;
  const Json config = {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}, {"vocab_size", kVocab}, {"hidden_size", kHidden},
                       {"intermediate_size", kFfn}, {"num_hidden_layers", kLayers}, {"num_attention_heads", 4}, {"num_key_value_heads", 4},
                       {"head_dim", 64}, {"max_position_embeddings", 512}, {"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0},
                       {"hidden_act", "silu"}, {"tie_word_embeddings", true}};
  std::vector<TensorToWrite> tensors;
  std::mt19937 random(1);
  const auto add = [&](const std::string& name, const Shape& shape) {
    std::vector<float> values(static_cast<size_t>(shape.num_elements()));
    for (float& v : values) v = 1e-4f * static_cast<float>(static_cast<int32_t>(random() % 2001) - 1000);
    tensors.push_back({name, DType::kF32, shape, [values = std::move(values)](const ByteSink& sink) { sink(std::as_bytes(std::span(values))); }});
  };
  add("model.embed_tokens.weight", {kVocab, kHidden});
  add("model.norm.weight", {kHidden});
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    for (const char* name : {"q", "k", "v", "o"}) add(layer + "self_attn." + name + "_proj.weight", {kHidden, kHidden});
    add(layer + "mlp.gate_proj.weight", {kFfn, kHidden});
    add(layer + "mlp.up_proj.weight", {kFfn, kHidden});
    add(layer + "mlp.down_proj.weight", {kHidden, kFfn});
    add(layer + "input_layernorm.weight", {kHidden});
    add(layer + "post_attention_layernorm.weight", {kHidden});
  }
  WriteSafetensorsFolder({.folder = folder, .tensors = std::move(tensors)});
  WriteText(folder + "/config.json", DumpJson(config));
}

struct Command {
  const char* name;
  std::vector<std::string> arguments;  // without the output
  const char* out;
};

class Kill : public testing::Test {
 protected:
  void SetUp() override { MakeModel(scratch_ / "model"); }

  static std::vector<std::string> With(std::vector<std::string> arguments, const std::string& out, bool force) {
    arguments.insert(arguments.end(), {"-o", out});
    if (force) arguments.push_back("--force");
    return arguments;
  }

  // Everything below a path, as one text: a file, or the files of a folder.
  static std::string Content(const std::string& path) {
    if (!fs::is_directory(path)) return ReadText(path);
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(path)) names.push_back(entry.path().string());
    std::sort(names.begin(), names.end());
    std::string out;
    for (const std::string& name : names) out += name.substr(path.size()) + "\n" + ReadText(name);
    return out;
  }

  void Try(const Command& command, int signal) {
    const ScratchFolder work("kill");
    const std::string whole = work / (std::string("whole") + command.out);
    const ProgramResult first = RunApr(With(command.arguments, whole, false));
    ASSERT_EQ(first.code, 0) << first.err;
    const std::string expected = Content(whole);
    std::mt19937 random(static_cast<uint32_t>(command.arguments.size()) + 17);
    int unfinished = 0;
    for (int i = 0; i < APR_KILL_POINTS; ++i) {
      const bool replace = i % 2 == 1 && !fs::is_directory(whole);
      const std::string out = work / (std::to_string(i) + command.out);
      if (replace) WriteText(out, "the old file");
      ProgramRun run{.arguments = With(command.arguments, out, replace)};
      const double at = first.seconds * 1.05 * static_cast<double>(random() % 10000) / 10000;
      if (signal == SIGKILL) run.kill_after_seconds = at;
      else run.interrupt_when = [start = std::chrono::steady_clock::now(), at](const std::string&) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() >= at;
      };
      const ProgramResult result = RunApr(run);
      const std::string now = fs::exists(out) ? Content(out) : "";
      const std::string before = replace ? "the old file" : "";
      EXPECT_TRUE(now == expected || now == before) << command.name << " ended after " << at << " s left " << now.size() << " bytes";
      if (now != expected) ++unfinished;
      // The same command again works, whatever was left behind.
      if (i % 16 == 0 && now != expected) {
        EXPECT_EQ(RunApr(With(command.arguments, out, replace)).code, 0);
        EXPECT_EQ(Content(out), expected);
      }
      fs::remove_all(out);
    }
    EXPECT_GT(unfinished, APR_KILL_POINTS / 4) << "most points must lie inside the run";
  }

  const ScratchFolder scratch_{"kill_model"};
};

TEST_F(Kill, ConvertToGguf) { Try({"convert", {"convert", scratch_ / "model"}, ".gguf"}, SIGKILL); }
TEST_F(Kill, QuantizeToGguf) { Try({"quantize", {"quantize", scratch_ / "model", "-s", "Q4_K_M"}, ".gguf"}, SIGKILL); }
TEST_F(Kill, ConvertToFolder) { Try({"convert", {"convert", scratch_ / "model", "--dtype", "bf16"}, ""}, SIGKILL); }
TEST_F(Kill, InterruptedConvert) { Try({"convert", {"convert", scratch_ / "model"}, ".apr"}, SIGINT); }

// A disk that is full: a limit on the size of files fails in the same way, in the middle of writing.
TEST_F(Kill, AFullDiskLeavesTheOldFile) {
  const ScratchFolder work("full");
  const std::string out = work / "m.gguf";
  WriteText(out, "the old file");
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{1 << 20, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const ProgramResult result = RunApr({"convert", scratch_ / "model", "-o", out, "--force"});
  setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT_EQ(result.code, 7) << result.err;
  EXPECT_EQ(ReadText(out), "the old file");
  EXPECT_EQ(work.Names(), std::vector<std::string>{"m.gguf"}) << "no temporary file is left";
}

}  // namespace
}  // namespace apr
