// See validate.h.
#include "model/validate.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "format/apr_reader.h"
#include "model/validate_parts.h"

namespace apr {
namespace {

CheckResult CheckContainer(const ModelFile& file) {
  CheckResult check{"structure", "the container parses and every tensor lies inside its file", "", {}};
  for (const FileWarning& warning : file.warnings()) {
    check.findings.push_back({Severity::kWarning, warning.what, warning.file, warning.key, std::nullopt});
  }
  if (file.tensors().empty()) check.findings.push_back({Severity::kError, "the file holds no tensor", file.path(), "", std::nullopt});
  return check;
}

CheckResult CheckChecksums(const ModelFile& file, const std::vector<KnownCrc>& known) {
  CheckResult check{"checksum", "header and footer checksums", "", {}};
  if (file.container() != Container::kApr) {
    check.skipped = file.format_version() + " carries no checksum";
    return check;
  }
  try {
    ValidateApr(file, known);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidFormat) throw;
    check.findings.push_back({Severity::kError, e.message(), e.context().file, e.context().tensor, e.context().offset});
  }
  return check;
}

}  // namespace

const char* SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kInfo: return "info";
    case Severity::kWarning: return "warning";
    case Severity::kError: return "error";
  }
  return "";
}

Json Finding::ToJson() const {
  const auto text = [](const std::string& s) { return s.empty() ? Json(nullptr) : Json(s); };
  return {{"level", SeverityName(level)},
          {"message", message},
          {"file", text(file)},
          {"tensor", text(tensor)},
          {"offset", offset ? Json(*offset) : Json(nullptr)}};
}

uint64_t CheckResult::Count(Severity level) const {
  return static_cast<uint64_t>(std::ranges::count(findings, level, &Finding::level));
}

uint64_t ValidateReport::Count(Severity level) const {
  uint64_t total = 0;
  for (const CheckResult& check : checks) total += check.Count(level);
  return total;
}

const CheckResult* ValidateReport::Check(std::string_view id) const {
  const auto found = std::ranges::find(checks, id, &CheckResult::id);
  return found == checks.end() ? nullptr : &*found;
}

Json ValidateReport::ToJson() const {
  Json list = Json::array();
  for (const CheckResult& check : checks) {
    Json findings = Json::array();
    for (const Finding& finding : check.findings) findings.push_back(finding.ToJson());
    const bool failed = check.Count(Severity::kError) > 0 || (strict && check.Count(Severity::kWarning) > 0);
    list.push_back({{"name", check.id},
                    {"what", check.what},
                    {"passed", check.skipped.empty() && !failed},
                    {"skipped", !check.skipped.empty()},
                    {"message", check.skipped.empty() ? (check.findings.empty() ? "" : check.findings[0].message) : check.skipped},
                    {"findings", std::move(findings)}});
  }
  return {{"file", file},
          {"model", file},
          {"format", format},
          {"architecture", architecture.empty() ? Json(nullptr) : Json(architecture)},
          {"passed", passed()},
          {"strict", strict},
          {"tensor_count", tensors},
          {"total_params", elements},
          {"bytes_read", bytes_read},
          {"error_count", Count(Severity::kError)},
          {"warn_count", Count(Severity::kWarning)},
          {"checks", std::move(list)}};
}

ValidateReport ValidateModel(const ModelFile& file, bool strict, ThreadPool& pool) {
  ValidateReport report;
  report.file = file.path();
  report.format = ContainerName(file.container());
  report.strict = strict;
  report.tensors = file.tensors().size();
  for (const TensorInfo& info : file.tensors()) report.elements += static_cast<uint64_t>(info.shape.num_elements());
  report.checks.push_back(CheckContainer(file));
  ModelUnderTest model{file, std::nullopt, std::nullopt};
  CheckModel(model, pool, report.checks);
  if (model.inventory) report.architecture = model.resolved->architecture->name;

  const DataScan data = ScanAll(model, pool);
  report.checks.insert(report.checks.begin() + 1, CheckChecksums(file, data.checksums));
  for (const TensorScan& scan : data.tensors) report.bytes_read += scan.info->bytes;
  CheckData(model, data.tensors, strict, report.checks);
  for (const TensorInfo* info : data.unscanned) {
    if (!InfoOf(info->dtype).is_float) continue;  // integers have neither NaN nor a meaning of their own
    Finding finding = AboutTensor(file, *info, fmt::format("elements of {} are not looked at", NameOf(info->dtype)), 0, Severity::kWarning);
    for (CheckResult& check : report.checks) {
      if (check.id == "F-DATA-QUALITY-002") check.findings.push_back(finding);
    }
  }
  return report;
}

}  // namespace apr
