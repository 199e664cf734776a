// See structure_diff.h.
#include "compare/structure_diff.h"

#include <algorithm>
#include <map>

#include "base/json.h"
#include "compare/storage_limits.h"

namespace apr {
namespace {

constexpr const char* kAbsent = "(absent)";

// A value in full: two long arrays that differ in their last element are different.
std::string FullText(const MetaValue& value) { return value.ToString(SIZE_MAX); }

// What is shown of it.
std::string ShortText(const std::string& full) {
  constexpr size_t kLimit = 120;
  return full.size() <= kLimit ? full : full.substr(0, kLimit) + "...";
}

void DiffMetadata(const ModelFile& a, const ModelFile& b, std::vector<StructureDifference>& out) {
  for (const auto& [key, value] : a.metadata()) {
    const MetaValue* other = b.Meta(key);
    const std::string left = FullText(value);
    const std::string right = other == nullptr ? kAbsent : FullText(*other);
    if (left != right) out.push_back({"metadata " + key, ShortText(left), ShortText(right), "metadata"});
  }
  for (const auto& [key, value] : b.metadata()) {
    if (a.Meta(key) == nullptr) out.push_back({"metadata " + key, kAbsent, ShortText(FullText(value)), "metadata"});
  }
}

// Two config.json files, key by key.
void DiffConfigs(const ModelFile& a, const ModelFile& b, std::vector<StructureDifference>& out) {
  if (a.config() == nullptr || b.config() == nullptr || !a.config()->is_object() || !b.config()->is_object()) return;
  for (const auto& [key, value] : a.config()->items()) {
    const auto other = b.config()->find(key);
    if (other == b.config()->end()) out.push_back({"config " + key, ShortText(DumpJson(value, -1)), kAbsent, "metadata"});
    else if (*other != value) out.push_back({"config " + key, ShortText(DumpJson(value, -1)), ShortText(DumpJson(*other, -1)), "metadata"});
  }
  for (const auto& [key, value] : b.config()->items()) {
    if (!a.config()->contains(key)) out.push_back({"config " + key, kAbsent, ShortText(DumpJson(value, -1)), "metadata"});
  }
}

void DiffTensors(const WeightPairs& pairs, std::vector<StructureDifference>& out) {
  for (const WeightPair& pair : pairs.pairs) {
    const std::string label = "tensor " + pair.name;
    if (!(pair.a.view.shape == pair.b.view.shape)) {
      out.push_back({label + " shape", pair.a.view.shape.ToString(), pair.b.view.shape.ToString(), "tensor"});
    }
    if (StoredText(pair.a) != StoredText(pair.b)) out.push_back({label + " dtype", StoredText(pair.a), StoredText(pair.b), "quantization"});
  }
  for (const std::string& name : pairs.only_a) out.push_back({"tensor " + name, "present", kAbsent, "tensor"});
  for (const std::string& name : pairs.only_b) out.push_back({"tensor " + name, kAbsent, "present", "tensor"});
}

const char* TypeOfCategory(const std::string& category) {
  if (category == "quantization") return "dtype";
  if (category == "size") return "size";
  return category == "format" ? "format" : "data";
}

}  // namespace

StructureDiff DiffStructure(const WeightPairs& pairs) {
  const ModelFile& a = *pairs.file_a;
  const ModelFile& b = *pairs.file_b;
  StructureDiff out{a.path(), b.path(), a.format_version(), b.format_version(), {}};
  if (a.format_version() != b.format_version()) {
    out.differences.push_back({"format", a.format_version(), b.format_version(), "format"});
  }
  if (a.total_bytes() != b.total_bytes()) {
    out.differences.push_back({"total bytes", std::to_string(a.total_bytes()), std::to_string(b.total_bytes()), "size"});
  }
  if (a.container() == b.container()) {
    DiffMetadata(a, b, out.differences);
    DiffConfigs(a, b, out.differences);
  }
  DiffTensors(pairs, out.differences);
  return out;
}

int64_t StructureDiff::Count(std::string_view category) const {
  return std::count_if(differences.begin(), differences.end(), [&](const StructureDifference& d) { return d.category == category; });
}

Json StructureDiff::ToJson() const {
  Json list = Json::array();
  for (const StructureDifference& d : differences) {
    list.push_back({{"field", d.field}, {"file1_value", d.value_a}, {"file2_value", d.value_b}, {"category", d.category}, {"type", TypeOfCategory(d.category)}});
  }
  Json counts = Json::object();
  for (const char* category : {"format", "metadata", "tensor", "quantization", "size"}) counts[category] = Count(category);
  return {{"file1", file_a},
          {"file2", file_b},
          {"format1", format_a},
          {"format2", format_b},
          {"identical", differences.empty()},
          {"difference_count", differences.size()},
          {"structural_diffs", Count("format") + Count("metadata") + Count("tensor")},
          {"category_counts", counts},
          {"differences", list}};
}

}  // namespace apr
