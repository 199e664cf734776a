// The tokens phase: ids of texts, what stands around them, where generation stops, chat templates.
#include <algorithm>
#include <set>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "compare/bisect/bisection.h"
#include "compare/bisect/special_trials.h"
#include "compare/bisect/tokenizer_trials.h"
#include "tokenizer/recombine.h"
#include "tokenizer/tokenizer_parts.h"

namespace apr::bisect {
namespace {

bool Has(const std::vector<Finding>& findings, const std::string& name) {
  return std::ranges::any_of(findings, [&](const Finding& f) { return f.cause && f.cause->name == name; });
}

// One fault shows in several ways: a piece that moved also moves the ids of BOS and EOS and what the
// template writes. What an earlier finding explains is not told again.
bool Explained(const std::vector<Finding>& findings, const Finding& next, const Side& a, const Side& b) {
  const auto piece = [](const Side& side, const std::optional<double>& id) {
    return id ? side.tokenizer->IdToPiece(static_cast<int32_t>(*id)) : std::nullopt;
  };
  const std::string& name = next.cause->name;
  const bool pieces_moved = Has(findings, "vocabulary") || Has(findings, "special_tokens");
  const std::string& key = next.first.key;
  if (key == "bos_token_id" || key == "eos_token_id" || key == "add_eos_token") {
    const auto in_a = piece(a, next.first.a), in_b = piece(b, next.first.b);
    return pieces_moved && in_a && in_a == in_b;
  }
  if (name != "special_tokens") return false;
  if (key == "eos_token" && Has(findings, "eos_id")) return true;
  const bool bos_found = std::ranges::any_of(findings, [](const Finding& f) { return f.first.key == "bos_token_id"; });
  if (key == "bos_token" && bos_found) return true;
  return pieces_moved;
}

void AddAll(std::vector<Finding>& findings, std::vector<Finding> more, const Side& a, const Side& b) {
  for (Finding& finding : more) {
    if (!finding.cause || !Explained(findings, finding, a, b)) findings.push_back(std::move(finding));
  }
}

std::string ReadMessages(const std::string& path) {
  if (path.empty()) return {};
  return std::string(AsText(MappedFile::Open(path)->bytes()));
}

// The cause that a tokenizer's loading error speaks of.
const char* CauseOfProblem(const std::string& key) {
  if (key.ends_with(".pre") || key.ends_with("pre_type") || key.starts_with("pre_tokenizer")) return "pretokenizer";
  if (key.ends_with("merges")) return "merges";
  if (key.ends_with("tokens") || key.ends_with("vocab") || key.ends_with("vocabulary")) return "vocabulary";
  return "";
}

// B's tokenizer cannot be loaded. Where the pre-tokenizer's name is to blame, A's is tried in its place.
Finding Unloadable(Bisection& b) {
  Finding finding;
  Place& place = finding.first;
  place.phase = Phase::kTokens;
  place.key = b.b.tokenizer_problem->context().tensor;
  place.error = 1.0;
  place.floor = 0.0;
  place.note = std::string("B's tokenizer cannot be loaded: ") + b.b.tokenizer_problem->what();
  if (std::string_view(CauseOfProblem(place.key)) != "pretokenizer" || b.b.file->container() == Container::kSafetensors) return finding;
  const std::string pre = b.a.tokenizer->description().pre_name;
  try {
    const Tokenizer loaded(LoadModelMetadata(*b.b.file, pre.empty() ? "gpt-2" : pre));
    const auto repaired = Recombine(loaded, *b.a.tokenizer, kPartPreTokenizer | kPartNormalizer | kPartOptions | kPartPrefixSpace);
    if (!CompareTokenizers(*b.a.tokenizer, *repaired, {}, false).findings.empty()) return finding;
    const MetaValue* value = b.b.file->Meta(place.key);
    const auto name = value == nullptr ? std::nullopt : value->AsString();
    finding.cause = Cause{.name = "pretokenizer", .a = pre.empty() ? b.a.tokenizer->description().pre_tokenizer : pre, .b = name ? Json(std::string(*name)) : Json(),
                          .evidence = place.note + " With A's pre-tokenizer all ids are equal.", .error_before = 1.0,
                          .error_after = 0.0, .fix = "write A's " + place.key + " into B"};
  } catch (const Error&) {  // not to blame alone
  }
  return finding;
}

bool Comparable(Bisection& b) {
  if (!b.a.is_model() || !b.b.is_model()) {
    b.Note("tokens: a stage directory carries no tokenizer");
    return false;
  }
  if (b.a.tokenizer_problem) {
    b.Note(std::string("tokens: A's tokenizer cannot be loaded: ") + b.a.tokenizer_problem->what());
    return false;
  }
  if (b.a.tokenizer == nullptr || (b.b.tokenizer == nullptr && !b.b.tokenizer_problem)) {
    const bool neither = b.a.tokenizer == nullptr && b.b.tokenizer == nullptr;
    b.Note(neither ? "tokens: neither side carries a tokenizer" : b.a.tokenizer == nullptr ? "tokens: A carries no tokenizer" : "tokens: B carries no tokenizer");
    return false;
  }
  return true;
}

}  // namespace

void RunTokensPhase(Bisection& b) {
  if (!Comparable(b)) return;
  b.report.coverage.phases.push_back(Phase::kTokens);
  if (b.b.tokenizer_problem) {
    b.Add(Unloadable(b));
    return;
  }
  std::vector<std::string> first;
  if (!b.options.text.empty()) first.push_back(b.options.text);
  TokenizerComparison ids = CompareTokenizers(*b.a.tokenizer, *b.b.tokenizer, first, b.options.causes);
  b.report.coverage.texts += ids.texts;
  std::vector<Finding> findings = std::move(ids.findings);
  std::vector<Finding> around = CompareSurroundings(b.a, b.b, Has(findings, "pretokenizer"));
  AddAll(findings, std::move(around), b.a, b.b);
  AddAll(findings, CompareStops(b.a, b.b), b.a, b.b);
  AddAll(findings, CompareTemplates(b.a, b.b, ReadMessages(b.options.messages), b.report.coverage.notes, b.report.coverage.texts), b.a, b.b);
  // What stands before a text comes first in it.
  std::stable_partition(findings.begin(), findings.end(), [](const Finding& f) { return f.first.key == "bos_token_id"; });
  for (Finding& finding : findings) {
    if (!b.options.causes) finding.cause.reset();
    b.Add(std::move(finding));
  }
}

}  // namespace apr::bisect
