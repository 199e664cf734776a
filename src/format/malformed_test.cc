// Every file of the malformed-file oracle is refused, accepted or reported as its manifest says, in
// little time and memory.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/apr_reader.h"
#include "format/model_file.h"
#include "format/stage_file.h"
#include "format/test_limits.h"

namespace apr {
namespace {

constexpr char kFolder[] = APR_SOURCE_DIR "/../shared/oracle/malformed/";

struct Case {
  std::string path, format, fault, must, at;
};

std::vector<Case> ReadManifest() {
  const std::string path = std::string(kFolder) + "manifest.json";
  if (!std::filesystem::exists(path)) return {};
  const auto file = MappedFile::Open(path);
  std::vector<Case> cases;
  const Json manifest = ParseJson(AsText(file->bytes()), path);
  for (const auto& [name, row] : manifest.items()) {
    cases.push_back({name, row.at("format"), row.at("fault"), row.at("must"), row.at("at")});
  }
  return cases;
}

// Runs the checks level by level; the level that refused, or "none".
std::string RefusedAt(const Case& c, std::vector<FileWarning>* warnings, Error* error) {
  std::string level = "open";
  try {
    if (c.format == "aprt") {
      ReadStageFile(kFolder + c.path);
      return "none";
    }
    const auto file = ModelFile::Open(kFolder + c.path);
    *warnings = file->warnings();
    if (file->container() != Container::kApr) return "none";
    level = "load";
    CheckAprModelShapes(*file);
    level = "validate";
    ValidateApr(*file);
    return "none";
  } catch (const Error& e) {
    *error = e;
    return level;
  }
}

long PeakResidentKiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(Malformed, EveryFileAsTheManifestSays) {
  const std::vector<Case> cases = ReadManifest();
  if (cases.empty()) GTEST_SKIP() << "no " << kFolder << "manifest.json";
  EXPECT_GE(cases.size(), 100u) << "a manifest that lists next to nothing proves nothing";
  for (const Case& c : cases) {
    SCOPED_TRACE(c.path + ": " + c.fault);
    const auto start = std::chrono::steady_clock::now();
    std::vector<FileWarning> warnings;
    Error error(ErrorCode::kInternal, "none");
    const std::string level = RefusedAt(c, &warnings, &error);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 1.0);
    if (c.must == "refuse") {
      EXPECT_EQ(level, c.at);
      EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat) << error.what();
      EXPECT_FALSE(error.context().file.empty()) << error.what();
      EXPECT_TRUE(error.context().offset || !error.context().tensor.empty()) << error.what();
    } else {
      EXPECT_EQ(level, "none") << error.what();
      EXPECT_EQ(!warnings.empty(), c.must == "warn") << (warnings.empty() ? "" : warnings[0].what);
    }
  }
  if (!kSanitized) {
    EXPECT_LT(PeakResidentKiB(), 64 * 1024);
  }
}

}  // namespace
}  // namespace apr
