// See provenance.h. Keys: ggml-org/ggml docs/gguf.md, "General metadata"; docs/formats/apr.md.
#include "model/provenance.h"

#include <algorithm>
#include <filesystem>
#include <string>

#include "base/bytes.h"
#include "base/mapped_file.h"

namespace apr {
namespace {

// What the writer decides anew.
constexpr std::string_view kTechnical[] = {"general.architecture", "general.file_type", "general.quantization_version", "general.alignment"};

// One fact's key in GGUF, in .apr and in a model card.
struct Fact {
  std::string_view gguf, apr, card;
};
constexpr Fact kFacts[] = {
    {"general.name", "name", "model_name"},
    {"general.author", "author", {}},
    {"general.version", "version", {}},
    {"general.description", "description", {}},
    {"general.license", "license", "license"},
    {"general.license.name", "license_name", "license_name"},
    {"general.license.link", "license_link", "license_link"},
    {"general.source.url", "source", {}},
    {"general.organization", "organization", {}},
    {"general.base_model.0.name", "base_model", "base_model"},
    {"apr.data_source", "data_source", {}},
    {"apr.data_license", "data_license", {}},
    {"apr.created_at", "created_at", {}},
};

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '"' || text.front() == '\'')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\r' || text.back() == '"' || text.back() == '\'')) text.remove_suffix(1);
  return text;
}

// Value of a top-level "key: value" line of the YAML block that a model card begins with.
std::string CardValue(std::string_view card, std::string_view key) {
  if (card.substr(0, 3) != "---") return {};
  size_t at = card.find('\n');
  while (at != std::string_view::npos && at + 1 < card.size()) {
    const size_t end = card.find('\n', at + 1);
    const std::string_view line = card.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
    if (line.substr(0, 3) == "---") break;
    if (line.substr(0, key.size()) == key && line.size() > key.size() && line[key.size()] == ':') {
      return std::string(Trimmed(line.substr(key.size() + 1)));
    }
    at = end;
  }
  return {};
}

std::string FolderName(const ModelFile& file) {
  return std::filesystem::weakly_canonical(std::filesystem::absolute(file.folder())).filename().string();
}

// Text of a fact in `file`, empty if it does not say.
class Facts {
 public:
  explicit Facts(const ModelFile& file) : file_(file) {
    if (const auto path = file.Companion("README.md")) card_ = MappedFile::Open(*path);
  }
  std::string Of(const Fact& fact) const {
    if (file_.container() == Container::kSafetensors) {
      if (card_ != nullptr && !fact.card.empty()) {
        if (std::string text = CardValue(AsText(card_->bytes()), fact.card); !text.empty()) return text;
      }
      return fact.gguf == "general.name" ? FolderName(file_) : std::string();
    }
    const MetaValue* value = file_.Meta(file_.container() == Container::kGguf ? fact.gguf : fact.apr);
    const auto text = value == nullptr ? std::nullopt : value->AsString();
    return text ? std::string(*text) : std::string();
  }

 private:
  const ModelFile& file_;
  std::shared_ptr<const MappedFile> card_;
};

}  // namespace

MetaBuilder GgufProvenance(const ModelFile& file) {
  MetaBuilder out;
  if (file.container() == Container::kGguf) {
    for (const auto& [key, value] : file.metadata()) {
      const bool technical = std::find(std::begin(kTechnical), std::end(kTechnical), key) != std::end(kTechnical);
      if (key.rfind("general.", 0) == 0 && !technical) out.Set(key, value);
    }
    return out;
  }
  out.SetString("general.type", "model");
  const Facts facts(file);
  for (const Fact& fact : kFacts) {
    if (const std::string text = facts.Of(fact); !text.empty()) out.SetString(fact.gguf, text);
  }
  return out;
}

MetaBuilder AprProvenance(const ModelFile& file) {
  MetaBuilder out;
  const Facts facts(file);
  for (const Fact& fact : kFacts) {
    if (const std::string text = facts.Of(fact); !text.empty()) out.SetString(fact.apr, text);
  }
  return out;
}

}  // namespace apr
