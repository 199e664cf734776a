// apr parity and apr sweep from outside: exit codes, JSON, what is refused.
#include <gtest/gtest.h>

#include "base/json.h"
#include "cli/program_under_test.h"

namespace apr {
namespace {

const std::string kChat = APR_SOURCE_DIR "/testdata/model/tiny-chat";

TEST(ParityCommand, AgreesAndSaysSo) {
  const ProgramResult run = RunApr({"parity", kChat, "--per-op"});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_NE(run.out.find("reference against cpu"), std::string::npos) << run.out;
  const Json json = RunApr({"parity", kChat, "--a", "cpu:exact", "--b", "cpu:exact:scalar", "--assert", "--json"}).Document();
  EXPECT_EQ(json["parity"], true);
  EXPECT_EQ(json["failed"], 0);
  EXPECT_EQ(json["tokens"], json["metrics"].size());
  EXPECT_GT(json["metrics"].size(), 3u);
  for (const char* key : {"position", "token_id", "cpu_argmax", "gpu_argmax", "max_abs_diff", "mean_abs_diff", "cosine_similarity", "kl_divergence", "sigma_level", "cpk", "verdict"})
    EXPECT_TRUE(json["metrics"][0].contains(key)) << key;
}

TEST(ParityCommand, RefusesWhatItCannotDo) {
  EXPECT_EQ(RunApr({"parity", kChat, "--b", "cuda"}).code, 9);
  EXPECT_EQ(RunApr({"parity", kChat, "--b", "nothing"}).code, 2);
  EXPECT_EQ(RunApr({"parity", kChat + "-absent"}).code, 3);
  EXPECT_EQ(RunApr({"parity", kChat, "--ids", "1,2", "--min-positions", "64"}).code, 12) << "too few positions are no verdict";
  EXPECT_EQ(RunApr({"parity", kChat, "--ids", "1,2,999999"}).code, 8);
}

TEST(SweepCommand, ListsEveryRegime) {
  const Json json = RunApr({"sweep", kChat, "--repeats", "5", "--ids", "1,87,85,267,201,57,283", "--json"}).Document();
  EXPECT_EQ(json["passed"], true);
  EXPECT_EQ(json["different"], 0);
  std::string names;
  for (const Json& result : json["results"]) names += result["regime"].get<std::string>() + "\n";
  for (const char* regime : {"decode", "chunks of 3", "batch", "restored cache", "2 threads", "context of 7", "window edge", "past the original context", "repeat"})
    EXPECT_NE(names.find(regime), std::string::npos) << regime << "\n" << names;
}

TEST(SweepCommand, NothingComparedIsNoSuccess) {
  EXPECT_EQ(RunApr({"sweep", kChat, "--seconds", "0.000001"}).code, 12);
  EXPECT_EQ(RunApr({"sweep", kChat, "--seconds", "0"}).code, 2);
}

}  // namespace
}  // namespace apr
