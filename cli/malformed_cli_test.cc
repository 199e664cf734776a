// Every file of the malformed-file oracle, through the commands that look into files: refused with file and place,
// or opened, as its manifest says; in little time and memory.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/program_under_test.h"
#include "format/test_limits.h"

namespace apr {
namespace {

constexpr char kFolder[] = APR_SOURCE_DIR "/../shared/oracle/malformed/";

struct Case {
  std::string path, format, must, at;
};

std::vector<Case> ReadManifest() {
  const std::string path = std::string(kFolder) + "manifest.json";
  if (!std::filesystem::exists(path)) return {};
  std::vector<Case> out;
  const auto file = MappedFile::Open(path);
  const Json manifest = ParseJson(AsText(file->bytes()), path);
  for (const auto& [name, row] : manifest.items()) {
    out.push_back({name, row.at("format"), row.at("must"), row.at("at")});
  }
  return out;
}

const std::vector<std::string> kCommands[] = {{"validate"}, {"lint"}, {"tree"}, {"hex"}, {"hex", "--list"}, {"debug", "--hex", "--strings"},
                                              {"flow"},     {"inspect"}, {"tensors"}, {"explain"}};

// An error that names the file and where in it.
void ExpectRefused(const ProgramResult& result) {
  EXPECT_EQ(result.code, 4) << result.err;
  const Json document = result.Document();
  ASSERT_TRUE(document.contains("error")) << result.out;
  EXPECT_TRUE(document["error"]["file"].is_string()) << result.out;
  EXPECT_TRUE(document["error"]["offset"].is_number() || document["error"]["tensor"].is_string()) << result.out;
}

ProgramResult RunOn(const Case& c, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin() + 1, kFolder + c.path);
  arguments.emplace_back("--json");
  const ProgramResult result = RunApr({.arguments = arguments, .limit_seconds = 10});
  EXPECT_EQ(result.signal, 0) << result.err;
  if (!kSanitized) {
    EXPECT_LT(result.seconds, 1.0);
    EXPECT_LT(result.peak_resident_kib, 64 * 1024);
  }
  return result;
}

void CheckValidate(const Case& c) {
  const ProgramResult result = RunOn(c, {"validate"});
  if (c.must == "refuse" && c.at == "open") return ExpectRefused(result);
  const Json document = result.Document();
  ASSERT_TRUE(document.contains("checks")) << result.out << result.err;
  EXPECT_EQ(document["passed"], result.code == 0);
  std::string structure, checksum, shapes;
  for (const Json& check : document["checks"]) {
    const std::string state = check["skipped"].get<bool>() ? "skipped" : check["passed"].get<bool>() ? "passed" : "failed";
    if (check["name"] == "structure") structure = check["findings"].empty() ? state : check["findings"][0]["level"].get<std::string>();
    if (check["name"] == "checksum") checksum = state;
    if (check["name"] == "F-DATA-QUALITY-005") shapes = state;
  }
  if (c.must == "refuse") {
    EXPECT_EQ(result.code, 5);
    EXPECT_EQ(c.at == "validate" ? checksum : shapes, "failed") << result.out;
  }
  if (c.must == "warn") {
    EXPECT_EQ(structure, "warning") << result.out;
  }
  if (c.must == "accept") {
    EXPECT_NE(checksum, "failed") << result.out;
  }
}

// Validation of every file, and one other command of each in turn: two runs a file.
TEST(MalformedFiles, AsTheManifestSaysInEveryCommand) {
  const std::vector<Case> cases = ReadManifest();
  if (cases.empty()) GTEST_SKIP() << "no " << kFolder << "manifest.json";
  size_t turn = 0;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.path);
    CheckValidate(c);
    const std::vector<std::string>& command = kCommands[1 + turn++ % (std::size(kCommands) - 1)];
    SCOPED_TRACE(command[0]);
    // A captured stage is no model; only the header map and validate know it.
    const bool stage = c.format == "aprt";
    const bool refused = (c.must == "refuse" && c.at == "open") || (stage && command[0] != "hex");
    const ProgramResult result = RunOn(c, command);
    if (stage && command.size() > 1 && command[0] == "hex") {
      EXPECT_TRUE(result.code == 2 || result.code == 4) << result.err;
    } else if (refused) {
      ExpectRefused(result);
    } else {
      EXPECT_TRUE(result.code == 0 || (result.code == 5 && command[0] != "tensors")) << result.code << result.err;
    }
  }
}

}  // namespace
}  // namespace apr
