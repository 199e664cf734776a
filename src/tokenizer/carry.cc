// See carry.h.
#include "tokenizer/carry.h"

#include <fmt/format.h>

#include <array>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "tokenizer/export_json.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

// Small files that a folder has and no container has a key for.
constexpr std::array kSmallFiles = {"tokenizer_config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json"};
constexpr uint64_t kSmallFileBytes = 1 << 20;
constexpr std::string_view kFilePrefix = "apr.file.";

// .apr's name for each of GGUF's keys where they differ.
std::string AprKey(std::string_view gguf) {
  constexpr std::string_view kPrefix = "tokenizer.ggml.";
  if (gguf.substr(0, kPrefix.size()) != kPrefix) return std::string(gguf);
  const std::string_view rest = gguf.substr(kPrefix.size());
  if (rest == "tokens") return "tokenizer.vocabulary";
  if (rest == "pre") return "tokenizer.pre_type";
  return "tokenizer." + std::string(rest);
}

std::string GgufKey(std::string_view apr) {
  if (apr == "tokenizer.vocabulary") return "tokenizer.ggml.tokens";
  if (apr == "tokenizer.pre_type") return "tokenizer.ggml.pre";
  if (apr == "tokenizer.chat_template" || apr.rfind("tokenizer.chat_template.", 0) == 0 || apr == "tokenizer.huggingface.json") return std::string(apr);
  return "tokenizer.ggml." + std::string(apr.substr(std::string_view("tokenizer.").size()));
}

// The name of a small file that `key` holds; a file has no say in any other name on this disk.
std::optional<std::string> SmallFile(std::string_view key) {
  for (const char* name : kSmallFiles) {
    if (key.substr(0, kFilePrefix.size()) == kFilePrefix && key.substr(kFilePrefix.size()) == name) return name;
  }
  return std::nullopt;
}

bool StartsWith(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

std::string ReadText(const std::string& path) { return std::string(AsText(MappedFile::Open(path)->bytes())); }

class Carrier {
 public:
  Carrier(const ModelFile& file, Container target, int64_t vocab_size) : file_(file), target_(target), vocab_size_(vocab_size) {}

  CarriedTokenizer Run() {
    if (file_.container() == Container::kSafetensors) FromFolder();
    else FromMetadata();
    if (target_ == Container::kSafetensors) ToFolder();
    if (target_ == Container::kApr) ToApr();
    if (!found_ && target_ == Container::kGguf) gguf_.SetString("tokenizer.ggml.model", "none");
    if (!found_) out_.warnings.push_back("the model has no tokenizer: nothing but token ids can be used with what is written");
    if (target_ == Container::kGguf) out_.metadata = std::move(gguf_);
    return std::move(out_);
  }

 private:
  void FromFolder() {
    if (target_ == Container::kSafetensors) {
      found_ = file_.Companion("tokenizer.json") || file_.Companion("tokenizer.model");
      return;
    }
    if (const auto path = file_.Companion("tokenizer.json")) {
      gguf_ = GgufTokenizer({*path, vocab_size_}, out_.warnings);
      gguf_.SetString("tokenizer.huggingface.json", ReadText(*path));
      found_ = true;
    } else if (file_.Companion("tokenizer.model")) {
      throw Error(ErrorCode::kModelLoad, "a tokenizer.model without tokenizer.json is not converted", {.file = *file_.Companion("tokenizer.model")});
    }
    Templates();
    for (const char* name : kSmallFiles) {
      const auto path = file_.Companion(name);
      if (!path) continue;
      std::string text = ReadText(*path);
      if (text.size() <= kSmallFileBytes && IsValidUtf8(text)) gguf_.SetString(std::string(kFilePrefix) + name, text);
      else out_.warnings.push_back(std::string(name) + " is too large, or no text, and was not carried along");
    }
    TokenIdsOfConfig();
  }

  // transformers saves a template of its own file, or in tokenizer_config.json: a text or a list.
  void Templates() {
    if (const auto path = file_.Companion("chat_template.jinja")) return gguf_.SetString("tokenizer.chat_template", ReadText(*path));
    const auto path = file_.Companion("tokenizer_config.json");
    if (!path) return;
    const Json config = ParseJson(ReadText(*path), *path);
    if (!config.is_object() || !config.contains("chat_template")) return;
    const Json& found = config["chat_template"];
    if (found.is_string()) gguf_.SetString("tokenizer.chat_template", found.get<std::string>());
    if (!found.is_array()) return;
    std::vector<std::string> names;
    for (const Json& each : found) {
      if (!each.is_object() || !each.contains("name") || !each.contains("template")) continue;
      const std::string name = each["name"];
      if (name == "default") {
        gguf_.SetString("tokenizer.chat_template", each["template"].get<std::string>());
      } else {
        gguf_.SetString("tokenizer.chat_template." + name, each["template"].get<std::string>());
        names.push_back(name);
      }
    }
    if (!names.empty()) gguf_.SetStrings("tokenizer.chat_templates", {names.begin(), names.end()});
  }

  // Ids that only the model's own configuration names.
  void TokenIdsOfConfig() {
    if (!found_ || file_.config() == nullptr) return;
    for (const auto& [key, gguf] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"}, std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                    std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
      const auto it = file_.config()->find(key);
      if (it == file_.config()->end() || Has(gguf)) continue;
      const Json& value = it->is_array() && !it->empty() ? (*it)[0] : *it;
      if (value.is_number_unsigned() && value.get<int64_t>() < vocab_size_) gguf_.SetU32(gguf, value.get<uint32_t>());
    }
  }
  bool Has(std::string_view key) const {
    for (const auto& entry : gguf_.list()) {
      if (entry.first == key) return true;
    }
    return false;
  }

  void FromMetadata() {
    const bool apr = file_.container() == Container::kApr;
    for (const auto& [key, value] : file_.metadata()) {
      if (SmallFile(key)) gguf_.Set(key, value);
      if (!StartsWith(key, "tokenizer.") || key == "tokenizer.vocab_size" || key == "tokenizer.model_type") continue;
      gguf_.Set(apr ? GgufKey(key) : key, value);
    }
    const MetaValue* tokens = file_.Meta(apr ? "tokenizer.vocabulary" : "tokenizer.ggml.tokens");
    found_ = tokens != nullptr;
    if (!apr || !found_) return;
    if (const MetaValue* chat = file_.Meta("chat_template"); chat != nullptr && !Has("tokenizer.chat_template")) gguf_.Set("tokenizer.chat_template", *chat);
    const auto tokenizer = Tokenizer::FromModelFile(file_);
    const std::string kind = tokenizer == nullptr ? "" : tokenizer->description().model;
    if (!Has("tokenizer.ggml.model") || *file_.Meta("tokenizer.model")->AsString() == "bpe") {
      gguf_.SetString("tokenizer.ggml.model", kind == "BPE" ? "gpt2" : "llama");
    }
    if (tokens->size() < static_cast<uint64_t>(vocab_size_)) Fill(*tokens);
  }

  void Fill(const MetaValue& tokens) {
    const std::vector<std::string_view> given = tokens.AsStrings();
    std::vector<std::string> all(given.begin(), given.end());
    std::vector<int32_t> types;
    const MetaValue* said = file_.Meta("tokenizer.token_type");
    for (size_t i = 0; i < given.size(); ++i) types.push_back(said != nullptr && i < said->size() ? static_cast<int32_t>(said->AsInts()[i]) : 1);
    while (static_cast<int64_t>(all.size()) < vocab_size_) {
      all.push_back(fmt::format("[PAD{}]", all.size()));
      types.push_back(5);
    }
    gguf_.SetStrings("tokenizer.ggml.tokens", {all.begin(), all.end()});
    gguf_.SetI32s("tokenizer.ggml.token_type", types);
    if (const MetaValue* scores = file_.Meta("tokenizer.scores")) {
      std::vector<float> filled = scores->AsFloats();
      filled.resize(all.size(), -1e4f);
      gguf_.SetF32s("tokenizer.ggml.scores", filled);
    }
  }

  void ToApr() {
    for (const auto& [key, value] : gguf_.list()) {
      // What .apr's own keys say already; its metadata are limited to 16 MiB.
      if (key == "tokenizer.huggingface.json") continue;
      out_.metadata.Set(AprKey(key), value);
      if (key == "tokenizer.chat_template") out_.metadata.Set("chat_template", value);
      if (key == "tokenizer.ggml.tokens") out_.metadata.SetU64("tokenizer.vocab_size", value.size());
    }
  }

  // Files that travelled whole come out whole; the others are made from the keys.
  void ToFolder() {
    if (file_.container() == Container::kSafetensors) return;
    std::optional<TokenizerFiles> made;
    bool whole = false;
    for (const auto& [key, value] : gguf_.list()) {
      const auto text = value.AsString();
      if (!text) continue;
      if (key == "tokenizer.huggingface.json") {
        out_.files.emplace_back("tokenizer.json", std::string(*text));
        whole = true;
      }
      if (const auto name = SmallFile(key)) out_.files.emplace_back(*name, std::string(*text));
    }
    if (!whole && found_) {
      ModelFileParts parts{.container = Container::kGguf, .path = file_.path(), .metadata = gguf_.list()};
      made = TokenizerFilesFromGguf(ModelFile(std::move(parts)));
    }
    if (made) {
      for (const std::string& warning : made->warnings) out_.warnings.push_back(warning);
      for (auto& file : made->files) {
        if (!HasFile(file.first)) out_.files.push_back(std::move(file));
      }
    }
    const auto settings = Text(std::string(kFilePrefix) + "tokenizer_config.json");
    const bool there = settings && settings->find("\"chat_template\"") != std::string::npos;
    if (const auto chat = Text("tokenizer.chat_template"); chat && whole && !there) out_.files.emplace_back("chat_template.jinja", *chat);
  }
  bool HasFile(const std::string& name) const {
    for (const auto& file : out_.files) {
      if (file.first == name) return true;
    }
    return false;
  }
  std::optional<std::string> Text(std::string_view key) const {
    for (const auto& [name, value] : gguf_.list()) {
      if (name == key && value.AsString()) return std::string(*value.AsString());
    }
    return std::nullopt;
  }

  const ModelFile& file_;
  const Container target_;
  const int64_t vocab_size_;
  MetaBuilder gguf_;  // in GGUF's keys, whatever the source
  bool found_ = false;
  CarriedTokenizer out_;
};

}  // namespace

CarriedTokenizer CarryTokenizer(const ModelFile& file, Container target, int64_t vocab_size) {
  return Carrier(file, target, vocab_size).Run();
}

CarriedTokenizer AprTokenizer(const std::string& folder, int64_t vocab_size) {
  CarriedTokenizer out;
  const MetaBuilder keys = GgufTokenizer({folder + "/tokenizer.json", vocab_size}, out.warnings);
  for (const auto& [key, value] : keys.list()) out.metadata.Set(AprKey(key), value);
  out.metadata.SetU64("tokenizer.vocab_size", static_cast<uint64_t>(vocab_size));
  return out;
}

}  // namespace apr
