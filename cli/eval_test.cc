// `apr ppl` and `apr kld` from outside.
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "cli/program_under_test.h"

namespace apr {
namespace {

const std::string kChat = APR_SOURCE_DIR "/testdata/model/tiny-chat";
const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";
const std::string kMistral = APR_SOURCE_DIR "/testdata/model/mistral";
const std::string kText = "What does rope do? It turns pairs of a head's elements by an angle that grows with the position.";

TEST(Ppl, TextFileAndSavedLogProbabilities) {
  const ScratchFolder scratch("ppl");
  WriteText(scratch / "text", kText);
  const Json got = RunApr({"ppl", kChat, "--text", scratch / "text", "--precision", "exact", "--save-log-probs", scratch / "p.json", "--json"}).Document();
  for (const char* key : {"model", "ppl", "ppl_error", "mean_nll", "nll_error", "num_tokens", "mode", "window", "stride", "windows",
                          "tokens", "text_bytes", "bits_per_byte", "executor", "precision", "seconds"}) {
    EXPECT_TRUE(got.contains(key)) << key;
  }
  EXPECT_EQ(got["num_tokens"].get<int>(), got["tokens"].get<int>() - 1);
  EXPECT_EQ(got["text_bytes"], kText.size());
  EXPECT_EQ(RunApr({"ppl", kChat, "-p", kText, "--precision", "exact", "--json"}).Document()["ppl"], got["ppl"]);
  const Json again = RunApr({"ppl", "--log-probs-file", scratch / "p.json", "--json"}).Document();
  EXPECT_NEAR(again["ppl"].get<double>(), got["ppl"].get<double>(), 1e-9);
  EXPECT_EQ(again["num_tokens"], got["num_tokens"]);
  EXPECT_EQ(again["log_probs_path"], scratch / "p.json");
  EXPECT_NE(RunApr({"ppl", kChat, "-p", kText}).out.find("perplexity "), std::string::npos);
}

TEST(Ppl, ModesAndWindows) {
  const auto ppl = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"ppl", kChat, "-p", kText, "--json"});
    return RunApr(flags).Document();
  };
  const Json whole = ppl({});
  const Json sliding = ppl({"--window", "12", "--stride", "4"});
  EXPECT_EQ(sliding["num_tokens"], whole["num_tokens"]);
  EXPECT_NE(sliding["ppl"], whole["ppl"]);
  const Json chunks = ppl({"--mode", "llama.cpp", "--window", "8"});
  EXPECT_EQ(chunks["num_tokens"].get<int>(), whole["tokens"].get<int>() / 8 * 3);
  EXPECT_EQ(chunks["mode"], "llama.cpp");
}

TEST(Ppl, ErrorsByName) {
  const ScratchFolder scratch("ppl_errors");
  const auto expect = [](std::vector<std::string> arguments, int code, const std::string& message) {
    const ProgramResult result = RunApr(arguments);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
  };
  expect({"ppl", kChat}, 2, "--text");
  expect({"ppl", kChat, "-p", "a", "--ids", "1"}, 2, "exclude");
  expect({"ppl", "-p", "a"}, 2, "no model");
  expect({"ppl", kChat, "-p", kText, "--stride", "9", "--window", "4"}, 2, "stride");
  expect({"ppl", kChat, "-p", kText, "--mode", "llama.cpp"}, 2, "two windows");
  expect({"ppl", kChat, "-p", kText, "--mode", "llama.cpp", "--window", "8", "--stride", "2"}, 2, "--stride");
  expect({"ppl", kLlama, "--ids", "1"}, 2, "nothing to score");
  expect({"ppl", kLlama, "-p", "a"}, 6, "no tokenizer");
  expect({"ppl", kChat, "--text", scratch / "none"}, 3, "none");
  for (const auto& [text, code] : {std::pair{"[]", 5}, std::pair{"[-1, 0.5]", 5}, std::pair{"[-1e999]", 4}, std::pair{"{}", 4},
                                   std::pair{"[\"a\"]", 4}, std::pair{"[NaN]", 4}}) {
    WriteText(scratch / "p.json", text);
    expect({"ppl", "--log-probs-file", scratch / "p.json"}, code, "p.json");
  }
  expect({"ppl", kChat, "--log-probs-file", scratch / "p.json"}, 2, "neither");
}

TEST(Kld, FloorAndFigures) {
  const std::string ids = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20";
  const Json got = RunApr({"kld", kLlama, kMistral, "--ids", ids, "--precision", "exact", "--json"}).Document();
  EXPECT_EQ(got["num_tokens"], 19);
  EXPECT_GT(got["kld"]["mean"].get<double>(), 1e-3);
  EXPECT_GT(got["floor"]["kld"]["mean"].get<double>(), 0);
  EXPECT_LT(got["floor"]["kld"]["mean"].get<double>(), 1e-10);
  EXPECT_EQ(got["floor"]["num_tokens"], 19);
  EXPECT_GT(got["kld_over_floor"].get<double>(), 1e3);
  const Json self = RunApr({"kld", kLlama, kLlama, "--ids", ids, "--precision", "exact", "--floor-tokens", "0", "--json"}).Document();
  EXPECT_EQ(self["kld"]["max"], 0);
  EXPECT_EQ(self["top1"]["agreement"], 1);
  EXPECT_TRUE(self["floor"].is_null());
  const Json f64 = RunApr({"kld", kLlama, kLlama, "--ids", ids, "--precision", "exact", "--executor-b", "reference", "--json"}).Document();
  EXPECT_GT(f64["kld"]["max"].get<double>(), 0);
  EXPECT_EQ(f64["precision_b"], "f64");
  const std::string text = RunApr({"kld", kLlama, kMistral, "--ids", ids}).out;
  for (const char* line : {"mean KLD", "99.9 %", "same top token", "RMS", "perplexity", "floor"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  EXPECT_EQ(RunApr({"kld", kLlama, kChat, "--ids", ids}).code, 5);
}

}  // namespace
}  // namespace apr
