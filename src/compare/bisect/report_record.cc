// See report_record.h.
#include "compare/bisect/report_record.h"

#include <cmath>
#include <limits>

#include "base/json.h"

namespace apr::bisect {
namespace {

const Json& At(const Json& json, const char* key) {
  static const Json kNull;
  if (!json.is_object()) return kNull;
  const auto it = json.find(key);
  return it == json.end() ? kNull : *it;
}

std::string Text(const Json& json, const char* key) {
  const Json& value = At(json, key);
  return value.is_string() ? value.get<std::string>() : "";
}

std::optional<int64_t> Int(const Json& json, const char* key) {
  const Json& value = At(json, key);
  return value.is_number_integer() ? std::optional(value.get<int64_t>()) : std::nullopt;
}

// JsonNumber's spelling of what JSON cannot hold.
std::optional<double> Real(const Json& json, const char* key) {
  const Json& value = At(json, key);
  if (value.is_number()) return value.get<double>();
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

std::vector<int64_t> Ints(const Json& json, const char* key) {
  std::vector<int64_t> out;
  const Json& value = At(json, key);
  if (!value.is_array()) return out;
  for (const Json& each : value) {
    if (each.is_number_integer()) out.push_back(each.get<int64_t>());
  }
  return out;
}

Place RestorePlace(const Json& json) {
  Place place;
  place.phase = PhaseFromName(Text(json, "phase")).value_or(Phase::kFile);
  place.layer = Int(json, "layer");
  place.stage = Text(json, "stage");
  place.tensor = Text(json, "tensor");
  place.key = Text(json, "key");
  place.position = Int(json, "position");
  place.coordinate = Ints(json, "coordinate");
  place.a = Real(json, "a");
  place.b = Real(json, "b");
  place.error = Real(json, "error");
  place.floor = Real(json, "floor");
  place.note = Text(json, "note");
  return place;
}

std::optional<Cause> RestoreCause(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  return Cause{.name = Text(json, "name"), .a = At(json, "a"), .b = At(json, "b"), .evidence = Text(json, "evidence"),
               .error_before = Real(json, "error_before"), .error_after = Real(json, "error_after"), .fix = Text(json, "fix")};
}

}  // namespace

void RestoreRecord(const Json& record, Report& report) {
  for (const Verdict verdict : {Verdict::kSame, Verdict::kRounding, Verdict::kDifferent, Verdict::kInconclusive}) {
    if (Text(record, "verdict") == VerdictName(verdict)) report.verdict = verdict;
  }
  report.reason = Text(record, "reason");
  report.ids = Ints(record, "ids");
  report.findings.clear();
  if (At(record, "first").is_object()) {
    Finding finding{.first = RestorePlace(At(record, "first")), .cause = RestoreCause(At(record, "cause"))};
    const Json& causes = At(record, "causes");
    for (const Json& trial : causes.is_array() ? causes : Json::array()) {
      const Json& accepted = At(trial, "accepted");
      finding.trials.push_back({Text(trial, "name"), Text(trial, "detail"), Real(trial, "error_after").value_or(0), accepted.is_boolean() && accepted.get<bool>()});
    }
    report.findings.push_back(std::move(finding));
  }
  const Json& also = At(record, "also");
  for (const Json& further : also.is_array() ? also : Json::array()) {
    report.findings.push_back({.first = RestorePlace(At(further, "first")), .cause = RestoreCause(At(further, "cause")), .no_effect = Text(further, "effect") == "none"});
  }
}

}  // namespace apr::bisect
