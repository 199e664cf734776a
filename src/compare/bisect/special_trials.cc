// See special_trials.h: tokens around a text, and tokens that end one.
#include "compare/bisect/special_trials.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "compare/bisect/tokenizer_trials.h"
#include "generate/stop_ids.h"

namespace apr::bisect {
namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;

// A true or false of the tokenizer_config.json beside a safetensors model.
std::optional<bool> ConfigFlag(const Side& side, const char* key) {
  if (side.file->container() != Container::kSafetensors) return std::nullopt;
  const auto path = side.file->Companion("tokenizer_config.json");
  if (!path) return std::nullopt;
  const auto mapped = MappedFile::Open(*path);
  if (mapped->size() > kMaxConfigBytes) return std::nullopt;
  const Json config = ParseJson(AsText(mapped->bytes()), *path);
  const auto it = config.is_object() ? config.find(key) : config.end();
  if (!config.is_object() || it == config.end() || !it->is_boolean()) return std::nullopt;
  return it->get<bool>();
}

// What stands before a text. Of two that agree in their files' rules the flags decide.
std::vector<int32_t> Prefix(const Side& side) {
  std::vector<int32_t> ids = side.tokenizer->prefix_ids();
  const auto bos = side.tokenizer->special_ids().bos;
  const auto flag = ConfigFlag(side, "add_bos_token");
  if (!flag || !bos) return ids;
  const bool has = std::ranges::find(ids, *bos) != ids.end();
  if (*flag && !has) ids.insert(ids.begin(), *bos);
  if (!*flag && has) std::erase(ids, *bos);
  return ids;
}

std::vector<int32_t> Suffix(const Side& side) {
  std::vector<int32_t> ids = side.tokenizer->suffix_ids();
  const auto eos = side.tokenizer->special_ids().eos;
  const auto flag = ConfigFlag(side, "add_eos_token");
  if (!flag || !eos) return ids;
  const bool has = std::ranges::find(ids, *eos) != ids.end();
  if (*flag && !has) ids.push_back(*eos);
  if (!*flag && has) std::erase(ids, *eos);
  return ids;
}

Json Spelled(const Side& side, const std::vector<int32_t>& ids) {
  Json out = Json::array();
  for (const int32_t id : ids) out.push_back({{"id", id}, {"piece", side.tokenizer->IdToPiece(id).value_or("")}});
  return out;
}

std::string Listed(const Side& side, const std::vector<int32_t>& ids) {
  if (ids.empty()) return "nothing";
  std::string out;
  for (const int32_t id : ids) out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", id, Quoted(side.tokenizer->IdToPiece(id).value_or("")));
  return out;
}

Finding Around(const Side& a, const Side& b, const std::vector<int32_t>& in_a, const std::vector<int32_t>& in_b, bool before) {
  Finding finding;
  Place& place = finding.first;
  place.phase = Phase::kTokens;
  const size_t at = static_cast<size_t>(std::ranges::mismatch(in_a, in_b).in1 - in_a.begin());
  if (before) place.position = static_cast<int64_t>(at);
  if (at < in_a.size()) place.a = in_a[at];
  if (at < in_b.size()) place.b = in_b[at];
  place.error = 1.0;
  place.floor = 0.0;
  place.note = fmt::format("A puts {} {} a text, B puts {}.", Listed(a, in_a), before ? "before" : "after", Listed(b, in_b));
  Cause cause;
  cause.a = Spelled(a, in_a);
  cause.b = Spelled(b, in_b);
  cause.evidence = place.note + " With A's in B every text starts and ends alike.";
  cause.error_before = 1.0;
  cause.error_after = 0.0;
  finding.cause = std::move(cause);
  return finding;
}

std::string NameOfPrefix(const Side& a, const Side& b, const std::vector<int32_t>& in_a, const std::vector<int32_t>& in_b) {
  const auto bos_a = a.tokenizer->special_ids().bos;
  const auto bos_b = b.tokenizer->special_ids().bos;
  const auto bos = bos_a ? bos_a : bos_b;
  // Where neither side names a BOS, what stands first is taken for one.
  const auto count = [&](const std::vector<int32_t>& ids) {
    return std::ranges::count_if(ids, [&](int32_t id) { return !bos || id == *bos || (bos_b && id == *bos_b); });
  };
  if (in_b.size() < in_a.size() && count(in_b) < count(in_a)) return "bos_missing";
  if (count(in_b) > 1 && count(in_b) > count(in_a)) return "double_bos";
  if (in_b.size() > in_a.size() && count(in_b) > count(in_a)) return "bos_added";
  return "special_tokens";
}

// The ids that end a text; the first one is the tokenizer's own.
struct Stops {
  std::optional<int32_t> eos;
  std::vector<int32_t> ids;
  std::string origin;
};

Stops StopsOf(const Side& side) {
  Stops out;
  for (const StopId& stop : StopIdsOf(*side.file)) {
    out.ids.push_back(stop.id);
    if (out.origin.empty()) out.origin = stop.origin;
  }
  out.eos = side.tokenizer->special_ids().eos;
  if (!out.eos && !out.ids.empty()) out.eos = out.ids.front();
  std::ranges::sort(out.ids);
  return out;
}

}  // namespace

std::vector<Finding> CompareSurroundings(const Side& a, const Side& b, bool pre_found) {
  std::vector<Finding> out;
  const std::vector<int32_t> before_a = Prefix(a), before_b = Prefix(b);
  const bool same_files = a.tokenizer->prefix_ids() == b.tokenizer->prefix_ids();
  const bool same_kind = a.file->container() == b.file->container();
  // Between a folder and a GGUF a flag that contradicts its own tokenizer.json is no fault by itself.
  const bool differs = same_kind ? !same_files || before_a != before_b : !same_files && before_a != before_b;
  const bool by_pre = pre_found && b.file->container() != Container::kSafetensors &&
                      b.file->Meta("tokenizer.ggml.add_bos_token") == nullptr;
  if (differs && !by_pre) {
    const std::vector<int32_t>& in_a = same_files ? before_a : a.tokenizer->prefix_ids();
    const std::vector<int32_t>& in_b = same_files ? before_b : b.tokenizer->prefix_ids();
    Finding finding = Around(a, b, in_a, in_b, true);
    finding.cause->name = NameOfPrefix(a, b, in_a, in_b);
    finding.first.key = "bos_token_id";
    finding.cause->fix = "set add_bos_token and bos_token_id in B as in A (GGUF: tokenizer.ggml.*; else the post_processor of tokenizer.json)";
    out.push_back(std::move(finding));
  }
  const std::vector<int32_t> after_a = Suffix(a), after_b = Suffix(b);
  if (after_a != after_b) {
    Finding finding = Around(a, b, after_a, after_b, false);
    finding.cause->name = after_a.size() == after_b.size() ? "eos_id" : "special_tokens";
    finding.first.key = after_a.size() == after_b.size() ? "eos_token_id" : "add_eos_token";
    finding.cause->fix = "set add_eos_token and eos_token_id in B as in A";
    out.push_back(std::move(finding));
  }
  return out;
}

std::vector<Finding> CompareStops(const Side& a, const Side& b) {
  const Stops in_a = StopsOf(a), in_b = StopsOf(b);
  if (in_a.ids.empty() && !in_a.eos) return {};
  const bool eos_differs = in_a.eos && in_b.eos && in_a.eos != in_b.eos;
  // Files of one kind must list the same; a GGUF lists fewer than a generation_config.json.
  const bool same_kind = in_a.origin == in_b.origin;
  const bool lists_differ = same_kind && in_a.ids != in_b.ids;
  const bool disjoint = !in_a.ids.empty() && !in_b.ids.empty() &&
                        std::ranges::none_of(in_b.ids, [&](int32_t id) { return std::ranges::find(in_a.ids, id) != in_a.ids.end(); });
  const bool never = in_b.ids.empty() && !in_b.eos;
  if (!eos_differs && !lists_differ && !disjoint && !never) return {};
  Finding finding;
  Place& place = finding.first;
  place.phase = Phase::kTokens;
  place.key = "eos_token_id";
  // Of two lists the first entry that the other lacks.
  const auto shown = [&](const Stops& side, const Stops& other) -> std::optional<double> {
    if (eos_differs || side.ids.empty()) return side.eos ? std::optional<double>(*side.eos) : std::nullopt;
    for (const int32_t id : side.ids) {
      if (std::ranges::find(other.ids, id) == other.ids.end()) return id;
    }
    return std::nullopt;
  };
  place.a = shown(in_a, in_b);
  place.b = shown(in_b, in_a);
  place.error = 1.0;
  place.floor = 0.0;
  const auto told = [](const Side& side, const Stops& stops) {
    std::vector<int32_t> ids = stops.ids;
    if (stops.eos && std::ranges::find(ids, *stops.eos) == ids.end()) ids.insert(ids.begin(), *stops.eos);
    return Listed(side, ids);
  };
  place.note = fmt::format("A ends a text at {}, B at {}.", told(a, in_a), told(b, in_b));
  Cause cause{.name = "eos_id", .a = Spelled(a, in_a.ids), .b = Spelled(b, in_b.ids)};
  if (eos_differs) {
    cause.a = *in_a.eos;
    cause.b = *in_b.eos;
  }
  cause.evidence = place.note + " The ids of a prompt are equal; what is generated stops elsewhere.";
  cause.error_before = 1.0;
  cause.error_after = 0.0;
  cause.fix = "write A's eos_token_id into B";
  finding.cause = std::move(cause);
  return {std::move(finding)};
}

}  // namespace apr::bisect
