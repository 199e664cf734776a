// The program from outside: exit codes, one JSON document, errors, files, signals.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "base/json.h"
#include "cli/program_under_test.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";

// The error document of --json: every field there, the same code as the exit code says.
void ExpectError(const ProgramResult& result, int code, const std::string& name) {
  EXPECT_EQ(result.code, code) << result.out << result.err;
  const Json document = result.Document();
  ASSERT_TRUE(document.contains("error")) << result.out;
  for (const char* key : {"code", "message", "file", "tensor", "offset"}) EXPECT_TRUE(document["error"].contains(key)) << key;
  EXPECT_EQ(document["error"]["code"], name);
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(Program, HelpAndVersion) {
  const ProgramResult help = RunApr({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* name : {"run", "tokenize", "detokenize", "logits", "inspect", "tensors", "trace", "graph", "devices", "bench"}) {
    EXPECT_NE(help.out.find(std::string("\n  ") + name + " "), std::string::npos) << name;
    const ProgramResult command = RunApr({name, "--help"});
    EXPECT_EQ(command.code, 0);
    EXPECT_NE(command.out.find("Example:\n  apr " + std::string(name)), std::string::npos) << command.out;
    EXPECT_EQ(RunApr({"help", name}).out, command.out);
  }
  EXPECT_EQ(RunApr({"--version"}).out.substr(0, 4), "apr ");
  const Json version = RunApr({"--version", "--json"}).Document();
  for (const char* key : {"name", "version", "git_sha", "cuda_feature", "cuda_runtime_available", "visible_devices"}) {
    EXPECT_TRUE(version.contains(key)) << key;
  }
}

TEST(Program, UsageErrorsAreTwoAndSuggest) {
  const auto expect = [](std::vector<std::string> arguments, const std::string& message) {
    const ProgramResult text = RunApr(arguments);
    EXPECT_EQ(text.code, 2) << text.err;
    EXPECT_TRUE(text.out.empty());
    EXPECT_NE(text.err.find(message), std::string::npos) << text.err;
    arguments.insert(arguments.begin(), "--json");
    ExpectError(RunApr(arguments), 2, "usage");
  };
  expect({}, "no command");
  expect({"insepct", "x"}, "did you mean 'inspect'?");
  expect({"inspect", kLlama, "--verfy"}, "did you mean '--verify'?");
  expect({"run", "--no-such-flag"}, "unknown flag '--no-such-flag'");
  expect({"inspect"}, "required");
  expect({"inspect", kLlama, "another"}, "unexpected argument 'another'");
  expect({"--nonsense", "inspect", kLlama}, "unknown global flag");
  expect({"logits", kLlama, "--ids", "1", "--out", "x.npy", "--executor", "gpu"}, "--executor");
  expect({"logits", kLlama, "--ids", "1", "--out", "x.npy", "--threads", "0"}, "--threads");
  expect({"logits", kLlama, "--out", "x.npy"}, "--ids");
  expect({"logits", kLlama, "--ids", "1", "-p", "a", "--out", "x.npy"}, "exclude");
  expect({"logits", kLlama, "--ids", "1,,2", "--out", "x.npy"}, "id is missing");
  expect({"devices", "--cpu", "abacus"}, "unknown instruction-set table");
  EXPECT_FALSE(fs::exists("x.npy"));
}

TEST(Program, EveryCommandWritesOneDocument) {
  const ScratchFolder scratch("documents");
  const std::vector<std::vector<std::string>> commands = {
      {"devices"},
      {"inspect", kLlama},
      {"tensors", kLlama, "--stats"},
      {"tensors", kLlama, "--extract", "all", "--out", scratch / "all.safetensors"},
      {"graph", kLlama},
      {"logits", kLlama, "--ids", "1,2,3", "--out", scratch / "logits.npy"},
      {"trace", kLlama},
      {"trace", kLlama, "--ids", "1,2,3", "--layer", "1"},
      {"bench", kLlama, "--prefill", "4", "--decode", "2", "--repeat", "2", "--warmup", "0"},
  };
  for (std::vector<std::string> arguments : commands) {
    const std::string name = arguments[0];
    arguments.emplace_back("--json");
    arguments.emplace_back("--quiet");
    const ProgramResult result = RunApr(arguments);
    EXPECT_EQ(result.code, 0) << name << result.err;
    EXPECT_FALSE(result.Document().contains("error")) << name;
    EXPECT_TRUE(result.err.empty()) << name << result.err;
    EXPECT_EQ(result.out.find('\x1b'), std::string::npos);
  }
}

TEST(Program, QuietIsSilent) {
  for (const auto& arguments : {std::vector<std::string>{"devices", "-q"}, {"inspect", kLlama, "--quiet"}}) {
    const ProgramResult result = RunApr(arguments);
    EXPECT_EQ(result.code, 0);
    EXPECT_TRUE(result.out.empty() && result.err.empty());
  }
}

TEST(Program, FilesThatAreNotThereOrNoModels) {
  const ScratchFolder scratch("nofile");
  WriteText(scratch / "noise.gguf", "this is no model at all, only text");
  WriteText(scratch / "empty.safetensors", "");
  const std::string weights = ReadText(kLlama + "/model.safetensors");
  WriteText(scratch / "cut.safetensors", weights.substr(0, weights.size() - 100));
  fs::create_directory(scratch / "folder");
  for (const char* command : {"inspect", "tensors", "graph"}) {
    ExpectError(RunApr({command, scratch / "absent.gguf", "--json"}), 3, "not_found");
    ExpectError(RunApr({command, scratch / "folder", "--json"}), 3, "not_found");
    ExpectError(RunApr({command, scratch / "noise.gguf", "--json"}), 4, "invalid_format");
    ExpectError(RunApr({command, scratch / "empty.safetensors", "--json"}), 4, "invalid_format");
    const ProgramResult cut = RunApr({command, scratch / "cut.safetensors", "--json"});
    ExpectError(cut, 4, "invalid_format");
    EXPECT_EQ(cut.Document()["error"]["file"], scratch / "cut.safetensors");
  }
  // Well-formed, but no configuration: looking inside works, running does not.
  WriteText(scratch / "weights.safetensors", weights);
  const ProgramResult inspected = RunApr({"inspect", scratch / "weights.safetensors", "--json"});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_TRUE(inspected.Document()["config_error"].is_string());
  ExpectError(RunApr({"graph", scratch / "weights.safetensors", "--json"}), 6, "model_load_failed");
}

TEST(Program, DevicesAreAskedForByName) {
  ExpectError(RunApr({"logits", kLlama, "--ids", "1", "--out", "x.npy", "--gpu", "--json"}), 9, "not_built");
  ExpectError(RunApr({"bench", kLlama, "--device", "cuda", "--json"}), 9, "not_built");
  const Json devices = RunApr({"devices", "--json"}).Document();
  for (const Json& table : devices["cpu"]["tables"]) {
    const std::string name = table["name"];
    const ProgramResult by_flag = RunApr({"devices", "--cpu", name, "--json"});
    const ProgramResult by_variable = RunApr({.arguments = {"devices", "--json"}, .environment = {{"APR_CPU", name}}});
    if (!table["available"].get<bool>()) {
      ExpectError(by_flag, 9, "not_built");
      ExpectError(by_variable, 9, "not_built");
      continue;
    }
    EXPECT_EQ(by_flag.Document()["cpu"]["isa"], name);
    EXPECT_EQ(by_variable.Document()["cpu"]["isa"], name);
    EXPECT_EQ(by_variable.Document()["cpu"]["forced"], true);
  }
}

TEST(Program, OutputFilesAreWholeOrAbsent) {
  const ScratchFolder scratch("outputs");
  const std::string out = scratch / "logits.npy";
  ExpectError(RunApr({"logits", kLlama, "--ids", "1,2,100000", "--out", out, "--json"}), 8, "inference_failed");
  EXPECT_TRUE(scratch.Names().empty());
  ASSERT_EQ(RunApr({"logits", kLlama, "--ids", "1,2,3", "--out", out, "--threads", "1"}).code, 0);
  const std::string first = ReadText(out);
  ExpectError(RunApr({"logits", kLlama, "--ids", "1,2", "--out", out, "--json"}), 5, "validation_failed");
  EXPECT_EQ(ReadText(out), first);
  ASSERT_EQ(RunApr({"logits", kLlama, "--ids", "1,2", "--out", out, "--force"}).code, 0);
  EXPECT_LT(ReadText(out).size(), first.size());
  EXPECT_EQ(scratch.Names(), std::vector<std::string>{"logits.npy"});
  ExpectError(RunApr({"logits", kLlama, "--ids", "1", "--out", scratch / "no/such/folder.npy", "--json"}), 7, "io");
}

TEST(Program, AFullDiskIsAnError) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "this system has no /dev/full";
  const ProgramResult result = RunApr({.arguments = {"inspect", kLlama}, .out_path = "/dev/full"});
  EXPECT_EQ(result.code, 7);
  EXPECT_NE(result.err.find("standard output"), std::string::npos);
}

TEST(Program, AClosedPipeEndsQuietly) {
  const ProgramResult result = RunApr({.arguments = {"tensors", kLlama}, .out_closed = true});
  EXPECT_EQ(result.signal, SIGPIPE);
  EXPECT_TRUE(result.err.empty()) << result.err;
}

TEST(Program, ColourOnlyOnATerminalThatWantsIt) {
  const std::vector<std::string> arguments = {"inspect", kLlama};
  EXPECT_NE(RunApr({.arguments = arguments, .out_terminal = true}).out.find('\x1b'), std::string::npos);
  EXPECT_EQ(RunApr({.arguments = arguments, .environment = {{"NO_COLOR", "1"}}, .out_terminal = true}).out.find('\x1b'),
            std::string::npos);
  EXPECT_EQ(RunApr(arguments).out.find('\x1b'), std::string::npos);
}

// Work that would take minutes is interrupted once its temporary file is there: at once, and some looks later.
TEST(Program, InterruptLeavesNoHalfFile) {
  const ScratchFolder scratch("interrupt");
  std::string ids = "1";
  for (int i = 0; i < 20000; ++i) ids += ",2";
  WriteText(scratch / "ids.txt", ids);
  for (const int looks : {0, 0, 0, 1, 3, 10, 30}) {
    SCOPED_TRACE(looks);
    int left = looks;
    const auto due = [&](const std::string&) { return scratch.Names().size() > 1 && left-- == 0; };
    const ProgramResult result = RunApr({.arguments = {"logits", kLlama, "--ids-file", scratch / "ids.txt", "--executor",
                                                       "reference", "--chunk", "1", "--out", scratch / "l.npy", "--json"},
                                         .interrupt_when = due});
    ExpectError(result, 130, "cancelled");
    EXPECT_EQ(scratch.Names(), std::vector<std::string>{"ids.txt"});
  }
}

}  // namespace
}  // namespace apr
