// See lint.h.
#include "model/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "format/apr_reader.h"
#include "format/container_checks.h"
#include "format/packed_weights.h"
#include "model/inventory.h"
#include "model/resolve.h"

namespace apr {
namespace {

constexpr uint64_t kLargeTensor = 1 << 20;
constexpr uint64_t kGrid = 64;

// Parts of names that stand for longer ones (original Llama checkpoints and their kin).
constexpr std::pair<std::string_view, std::string_view> kAbbreviations[] = {
    {"wq", "q_proj"}, {"wk", "k_proj"}, {"wv", "v_proj"}, {"wo", "o_proj"},           {"w1", "gate_proj"},
    {"w2", "down_proj"}, {"w3", "up_proj"}, {"tok_embeddings", "embed_tokens"}, {"attn", "self_attn"}, {"emb", "embed_tokens"},
};

class Linter {
 public:
  explicit Linter(std::shared_ptr<const ModelFile> file) : file_(*file), weights_(std::move(file)) { report_.model = file_.path(); }

  LintReport Run() {
    for (const FileWarning& warning : file_.warnings()) {
      Add(LintLevel::kWarn, "Structure", warning.key.empty() ? warning.what : fmt::format("{}: {}", Printable(warning.key), warning.what),
          "rewrite the file with apr convert");
    }
    if (file_.tensors().empty()) Add(LintLevel::kError, "Structure", "the file holds no tensor", "");
    Metadata();
    Resolve();
    Naming();
    Efficiency();
    Layout();
    return std::move(report_);
  }

 private:
  void Add(LintLevel level, std::string category, std::string message, std::string suggestion) {
    report_.issues.push_back({level, std::move(category), std::move(message), std::move(suggestion)});
  }

  bool SaysText(std::string_view key) const {
    const MetaValue* value = file_.Meta(key);
    const auto text = value == nullptr ? std::nullopt : value->AsString();
    return text && !text->empty() && !value->AsJsonText();
  }
  bool SaysAny(std::initializer_list<std::string_view> keys) const {
    return std::ranges::any_of(keys, [&](std::string_view key) { return SaysText(key); });
  }

  void Metadata() {
    const bool folder = file_.container() == Container::kSafetensors;
    const bool license = SaysAny({"license", "general.license", "general.license.name"}) ||
                         (folder && (file_.Companion("LICENSE") || file_.Companion("LICENSE.txt") || file_.Companion("LICENSE.md")));
    if (!license) Add(LintLevel::kWarn, "Metadata", "no license", "state it: apr stamp --license, general.license, or a LICENSE file");
    const bool card = SaysAny({"model_card", "description", "general.description"}) || (folder && file_.Companion("README.md"));
    if (!card) Add(LintLevel::kWarn, "Metadata", "no model card or description", "add a README.md, general.description or description");
    const bool provenance = SaysAny({"data_source", "source", "general.source.url", "general.source.huggingface.repository", "general.url",
                                     "general.repo_url", "general.base_model.0.repo_url", "general.source.repo_url"});
    if (!provenance) Add(LintLevel::kWarn, "Metadata", "no provenance: nothing says where the weights come from",
                         "state the source: apr stamp --data-source, general.source.url");
  }

  void Resolve() {
    try {
      weights_ = UnpackWeights(weights_);
      resolved_ = ResolveConfig(*weights_);
      inventory_ = TakeInventory(*weights_, *resolved_->architecture, resolved_->config);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
      Add(LintLevel::kInfo, "Layout Contract", fmt::format("shapes are not checked against a configuration: {}", e.message()), "");
    }
  }

  static std::optional<std::string_view> Abbreviation(std::string_view name) {
    while (!name.empty()) {
      const size_t dot = std::min(name.find('.'), name.size());
      for (const auto& [part, full] : kAbbreviations) {
        if (name.substr(0, dot) == part) return full;
      }
      name.remove_prefix(std::min(dot + 1, name.size()));
    }
    return std::nullopt;
  }

  bool Canonical(const std::string& name) const {
    const auto named = [&](const Architecture& arch) {
      return std::ranges::any_of(RulesFor(arch, file_.container()), [&](const TensorRule& rule) { return MatchRule(rule, file_.container(), name).has_value(); });
    };
    if (resolved_) return named(*resolved_->architecture);
    return std::ranges::any_of(AllArchitectures(), named);
  }

  // One issue for all tensors of a kind, with the first as the example.
  void Naming() {
    std::string abbreviated, foreign, stands_for;
    int64_t abbreviations = 0, foreigners = 0;
    for (const TensorInfo& info : weights_->tensors()) {
      if (IsDerivedBuffer(info.name) || Canonical(info.name)) continue;
      if (const auto full = Abbreviation(info.name)) {
        if (abbreviations++ == 0) abbreviated = info.name, stands_for = std::string(*full);
      } else if (foreigners++ == 0) {
        foreign = info.name;
      }
    }
    if (abbreviations > 0) {
      Add(LintLevel::kInfo, "Tensor Naming", fmt::format("{} abbreviated names, such as '{}'", abbreviations, Printable(abbreviated)),
          fmt::format("write names in full: {}", stands_for));
    }
    if (foreigners > 0) {
      Add(LintLevel::kWarn, "Tensor Naming", fmt::format("{} names that are not canonical, such as '{}'", foreigners, Printable(foreign)),
          resolved_ ? fmt::format("the names of {} are listed by apr explain --kernel {}", resolved_->architecture->name, resolved_->architecture->name)
                    : "use the names of Hugging Face transformers, or those of GGUF");
    }
  }

  void Efficiency() {
    int64_t off_grid = 0, raw = 0;
    uint64_t raw_bytes = 0;
    const TensorInfo* first_off = nullptr;
    const TensorInfo* first_raw = nullptr;
    for (const TensorInfo& info : file_.tensors()) {
      if (info.bytes > 0 && info.offset % kGrid != 0 && off_grid++ == 0) first_off = &info;
      const bool wide = info.dtype == DType::kF32 || info.dtype == DType::kF64;
      if (!wide || info.bytes <= kLargeTensor) continue;
      raw_bytes += info.bytes;
      if (raw++ == 0) first_raw = &info;
    }
    if (off_grid > 0) {
      Add(LintLevel::kInfo, "Efficiency", fmt::format("{} tensors do not begin at a multiple of {} bytes, such as '{}' at {}", off_grid, kGrid,
                                                      Printable(first_off->name), first_off->offset),
          "aligned tensors are read faster: general.alignment 64, or .apr");
    }
    if (raw > 0) {
      Add(LintLevel::kInfo, "Efficiency", fmt::format("{} tensors of more than 1 MB are stored raw, {} bytes, such as '{}' ({})", raw, raw_bytes,
                                                      Printable(first_raw->name), NameOf(first_raw->dtype)),
          "store weights as BF16 or F16, or quantise them");
    }
  }

  void Layout() {
    if (file_.container() == Container::kApr) {
      try {
        CheckAprModelShapes(file_);
      } catch (const Error& e) {
        if (e.code() != ErrorCode::kInvalidFormat) throw;
        Add(LintLevel::kError, "Layout Contract", e.what(), "correct vocab_size or hidden_size, or the tensor");
      }
    }
    if (!inventory_) return;
    for (const InventoryEntry& entry : inventory_->entries) {
      if (entry.fits) continue;
      const Shape& have = entry.tensor->shape;
      const Shape& want = entry.expected;
      const bool vocabulary = entry.rule->slots.front() == Slot::kTokenEmbedding || entry.rule->slots.front() == Slot::kHead;
      // Rows beyond the vocabulary are padding that some trainers add.
      const bool padded = vocabulary && have.ndim() == 2 && have[1] == want[1] && have[0] > want[0];
      const bool turned = have.ndim() == 2 && want.ndim() == 2 && have[0] == want[1] && have[1] == want[0];
      Add(padded ? LintLevel::kWarn : LintLevel::kError, "Layout Contract",
          fmt::format("'{}' is {}, the configuration needs {}", Printable(entry.tensor->name), have.ToString(), want.ToString()),
          turned ? "the dimensions are swapped: weights are [out, in]" : "correct the configuration or the tensor");
    }
    for (const std::string& name : inventory_->missing) {
      Add(LintLevel::kWarn, "Layout Contract", fmt::format("'{}' is missing", name), "apr validate says what else is");
    }
  }

  const ModelFile& file_;
  std::shared_ptr<const ModelFile> weights_;  // file_ with packed weights as the tensors that they stand for
  std::optional<ResolvedConfig> resolved_;
  std::optional<Inventory> inventory_;
  LintReport report_;
};

}  // namespace

const char* LintLevelName(LintLevel level) {
  switch (level) {
    case LintLevel::kInfo: return "INFO";
    case LintLevel::kWarn: return "WARN";
    case LintLevel::kError: return "ERROR";
  }
  return "";
}

int64_t LintReport::Count(LintLevel level) const { return std::ranges::count(issues, level, &LintIssue::level); }

Json LintReport::ToJson() const {
  Json list = Json::array();
  for (const LintIssue& issue : issues) {
    list.push_back({{"level", LintLevelName(issue.level)},
                    {"category", issue.category},
                    {"message", issue.message},
                    {"suggestion", issue.suggestion.empty() ? Json(nullptr) : Json(issue.suggestion)}});
  }
  return {{"model", model},
          {"passed", passed()},
          {"error_count", Count(LintLevel::kError)},
          {"warn_count", Count(LintLevel::kWarn)},
          {"info_count", Count(LintLevel::kInfo)},
          {"total_issues", issues.size()},
          {"issues", std::move(list)}};
}

LintReport LintModel(std::shared_ptr<const ModelFile> file) { return Linter(std::move(file)).Run(); }

}  // namespace apr
