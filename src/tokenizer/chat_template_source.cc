// See chat_template_source.h.
#include "tokenizer/chat_template_source.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/model_file.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

std::string ReadText(const std::string& path) {
  return std::string(AsText(MappedFile::Open(path)->bytes()));
}

[[noreturn]] void FailNone(const std::string& path) {
  throw Error(ErrorCode::kNotFound, "no chat template here", {.file = path});
}

// tokenizer_config.json states a token as its text or as an object with the text as "content".
Json TokensOfConfig(const Json& config) {
  Json tokens = Json::object();
  for (const auto& [key, value] : config.items()) {
    if (!key.ends_with("_token")) continue;
    if (value.is_string()) tokens[key] = value;
    if (value.is_object() && value.contains("content") && value["content"].is_string())
      tokens[key] = value["content"];
  }
  return tokens;
}

// The one of several named templates that suits.
const Json* Choose(const Json& named, bool has_tools) {
  const auto find = [&](const std::string& wanted) -> const Json* {
    for (const Json& entry : named) {
      if (entry.is_object() && entry.value("name", Json()) == wanted &&
          entry.contains("template")) {
        return &entry["template"];
      }
    }
    return nullptr;
  };
  if (has_tools) {
    if (const Json* with_tools = find("tool_use")) return with_tools;
  }
  return find("default");
}

// nullopt when the file states no template.
std::optional<ChatTemplateSource> FromConfig(const std::string& path, bool has_tools) {
  const Json config = ParseJson(ReadText(path), path);
  if (!config.is_object()) throw Error(ErrorCode::kInvalidFormat, "not an object", {.file = path});
  ChatTemplateSource source;
  source.name = path;
  source.special_tokens_json = DumpJson(TokensOfConfig(config), -1);
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return std::nullopt;
  const Json* text = &config["chat_template"];
  if (text->is_array()) text = Choose(*text, has_tools);
  if (text == nullptr || !text->is_string()) {
    throw Error(ErrorCode::kInvalidFormat,
                "chat_template is no text, nor a list with one named 'default'",
                {.file = path, .tensor = "chat_template"});
  }
  source.text = text->get<std::string>();
  return source;
}

std::optional<std::string> MetaText(const ModelFile& file, std::string_view key) {
  const MetaValue* value = file.Meta(key);
  const auto text = value == nullptr ? std::nullopt : value->AsString();
  return text ? std::optional<std::string>(std::string(*text)) : std::nullopt;
}

// Texts of the special tokens whose ids the metadata names, from its own vocabulary.
Json TokensOfMetadata(const ModelFile& file) {
  Json tokens = Json::object();
  for (const std::string prefix : {"tokenizer.ggml.", "tokenizer."}) {
    const MetaValue* vocabulary =
        file.Meta(prefix == "tokenizer." ? "tokenizer.vocabulary" : "tokenizer.ggml.tokens");
    if (vocabulary == nullptr) continue;
    const std::vector<std::string_view> texts = vocabulary->AsStrings();
    const auto add = [&](const char* role, const char* key) {
      const MetaValue* id_value = file.Meta(prefix + key);
      const auto id = id_value == nullptr ? std::nullopt : id_value->AsInt();
      if (id && *id >= 0 && static_cast<uint64_t>(*id) < texts.size()) {
        tokens[role] = std::string(texts[static_cast<size_t>(*id)]);
      }
    };
    add("bos_token", "bos_token_id");
    add("eos_token", "eos_token_id");
    add("unk_token", "unknown_token_id");
    add("sep_token", "seperator_token_id");  // GGUF spells it so
    add("pad_token", "padding_token_id");
    add("cls_token", "cls_token_id");
    add("mask_token", "mask_token_id");
    return tokens;
  }
  return tokens;
}

ChatTemplateSource FromModel(const std::string& path, bool has_tools) {
  const auto file = ModelFile::Open(path);
  const std::string keys[] = {
      has_tools ? "tokenizer.chat_template.tool_use" : "tokenizer.chat_template",
      "tokenizer.chat_template", "chat_template"};
  for (const std::string& key : keys) {
    if (auto text = MetaText(*file, key)) {
      return {std::move(*text), path + ": " + key, DumpJson(TokensOfMetadata(*file), -1)};
    }
  }
  FailNone(path);
}

ChatTemplateSource FromFolder(const std::string& folder, bool has_tools) {
  const std::string config_path = folder + "/tokenizer_config.json";
  const std::string files[] = {
      has_tools ? folder + "/additional_chat_templates/tool_use.jinja" : "",
      folder + "/chat_template.jinja"};
  for (const std::string& path : files) {
    if (path.empty() || !fs::is_regular_file(path)) continue;
    ChatTemplateSource source{ReadText(path), path, "{}"};
    if (fs::is_regular_file(config_path)) {
      const Json config = ParseJson(ReadText(config_path), config_path);
      if (config.is_object()) source.special_tokens_json = DumpJson(TokensOfConfig(config), -1);
    }
    return source;
  }
  for (const std::string& path : {config_path, folder + "/chat_template.json"}) {
    if (!fs::is_regular_file(path)) continue;
    if (auto source = FromConfig(path, has_tools)) return *source;
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".gguf" || extension == ".apr") return FromModel(folder, has_tools);
  }
  FailNone(folder);
}

}  // namespace

ChatTemplateSource FindChatTemplate(const std::string& path, bool has_tools) {
  if (fs::is_directory(path)) return FromFolder(path, has_tools);
  const fs::path extension = fs::path(path).extension();
  if (extension == ".jinja" || extension == ".j2" || extension == ".txt")
    return {ReadText(path), path, "{}"};
  if (extension == ".json") {
    if (auto source = FromConfig(path, has_tools)) return *source;
    const fs::path parent = fs::path(path).parent_path();
    if (fs::is_regular_file(parent / "chat_template.jinja"))
      return FromFolder(parent.string(), has_tools);
    FailNone(path);
  }
  if (extension == ".safetensors")
    return FromFolder(fs::path(path).parent_path().string(), has_tools);
  return FromModel(path, has_tools);
}

}  // namespace apr
