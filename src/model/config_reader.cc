// See config_reader.h.
#include "model/config_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    out.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return out;
}

// Keys that say nothing about the forward pass: bookkeeping of transformers, training-time settings,
// token ids (the tokenizer reads those). Source: transformers configuration_utils.py and the
// configuration classes of the supported models.
constexpr std::string_view kHarmless[] = {
    "_name_or_path", "architectures", "auto_map", "attention_dropout", "attn_pdrop", "bos_token_id",
    "classifier_dropout", "dtype", "embd_pdrop", "embedding_dropout", "eos_token_id", "hidden_dropout",
    "id2label", "initializer_range", "is_decoder", "label2id", "layer_norm_initializer", "model_type",
    "output_router_logits", "pad_token_id", "pretraining_tp", "resid_pdrop", "residual_dropout",
    "router_aux_loss_coef", "router_jitter_noise", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params", "torch_dtype",
    "transformers_version", "use_cache", "unk_token_id", "sep_token_id", "decoder_start_token_id",
    "add_cross_attention", "problem_type", "return_dict", "output_attentions", "output_hidden_states",
    "torchscript", "use_bfloat16", "chunk_size_feed_forward", "tokenizer_class", "prefix", "seq_aux",
    "aux_loss_alpha", "reorder_and_upcast_attn", "gradient_checkpointing", "attn_implementation",
    "_attn_implementation", "_attn_implementation_autoset", "cache_implementation", "ep_size",
    "num_nextn_predict_layers", "layer_norm_elementwise_affine", "is_llama_config", "rope_interleaved",
    "max_window_layers", "tie_word_embeddings", "is_encoder_decoder", "cross_attention_hidden_size",
};

bool IsHarmless(std::string_view key) {
  return std::find(std::begin(kHarmless), std::end(kHarmless), key) != std::end(kHarmless);
}

// A null, false, zero-length or empty setting switches nothing on.
bool SaysNothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

// GGUF key groups that do not describe the forward pass.
bool IsHarmlessGguf(std::string_view key) {
  for (const std::string_view prefix : {"general.", "tokenizer.", "split.", "quantize.", "GGUF.", "imatrix."}) {
    if (key.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

std::string FileLabel(const ModelFile& file) {
  switch (file.container()) {
    case Container::kGguf: return "gguf";
    case Container::kApr: return "apr";
    case Container::kSafetensors: return "config.json";
  }
  return "?";
}

}  // namespace

ConfigReader::ConfigReader(const ModelFile& file, ModelConfig& out) : file_(file), out_(out) {
  if (!is_gguf()) return;
  if (const MetaValue* name = file.Meta("general.architecture")) {
    if (const auto text = name->AsString()) prefix_ = std::string(*text) + ".";
  }
}

const Json* ConfigReader::FindJson(std::string_view path) const {
  const Json* at = file_.config();
  for (const std::string_view step : Split(path, '.')) {
    if (at == nullptr || !at->is_object()) return nullptr;
    const auto it = at->find(std::string(step));
    if (it == at->end() || it->is_null()) return nullptr;
    at = &*it;
  }
  return at;
}

const Json* ConfigReader::FindHf(const ConfigKey& key) {
  if (file_.container() != Container::kSafetensors || file_.config() == nullptr) return nullptr;
  for (const std::string_view path : Split(key.hf, '|')) {
    if (const Json* value = FindJson(path)) {
      // Other spellings that say the same are read too; one that contradicts stays unread.
      for (const std::string_view other : Split(key.hf, '|')) {
        const Json* same = FindJson(other);
        if (same != nullptr && *same == *value) read_.insert(std::string(other));
      }
      key_ = std::string(path);
      origin_ = fmt::format("config.json: {}", path);
      return value;
    }
  }
  return nullptr;
}

const MetaValue* ConfigReader::FindMeta(const ConfigKey& key) {
  std::vector<std::string> names;
  if (is_gguf()) {
    // What GGUF has no standard key for travels under the Hugging Face name.
    names.push_back("apr." + std::string(Split(key.hf, '|').front()));
    for (const std::string_view name : Split(key.gguf, '|')) {
      names.push_back(name.front() == '/' ? std::string(name.substr(1)) : prefix_ + std::string(name));
    }
  } else if (is_apr()) {
    for (const std::string_view name : Split(key.apr, '|')) names.emplace_back(name);
    for (const std::string_view name : Split(key.hf, '|')) names.emplace_back(name);
  }
  for (const std::string& name : names) {
    if (const MetaValue* value = file_.Meta(name)) {
      read_.insert(name);
      key_ = name;
      origin_ = fmt::format("{}: {}", FileLabel(file_), name);
      return value;
    }
  }
  return nullptr;
}

void ConfigReader::WrongKind(const char* wanted) const {
  throw Error(ErrorCode::kInvalidFormat, fmt::format("{} is not {}", key_, wanted), {.file = file_.path(), .tensor = key_});
}

bool ConfigReader::Has(const ConfigKey& key) const {
  ConfigReader probe = *this;
  return probe.FindHf(key) != nullptr || probe.FindMeta(key) != nullptr;
}

std::optional<double> ConfigReader::Real(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_number()) WrongKind("a number");
    return value->get<double>();
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto number = value->AsDouble()) return number;
    WrongKind("a number");
  }
  return std::nullopt;
}

std::optional<int64_t> ConfigReader::Int(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (value->is_number_integer()) return value->get<int64_t>();
    if (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()) &&
        std::abs(value->get<double>()) < 1e15) {
      return static_cast<int64_t>(value->get<double>());
    }
    WrongKind("an integer");
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto number = value->AsInt()) return number;
    // Some writers store per-layer counts as arrays; equal entries are one count.
    const std::vector<int64_t> all = value->AsInts();
    if (!all.empty() && std::all_of(all.begin(), all.end(), [&](int64_t v) { return v == all[0]; })) return all[0];
    WrongKind("an integer, or one integer for all layers");
  }
  return std::nullopt;
}

std::optional<bool> ConfigReader::Bool(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_boolean()) WrongKind("true or false");
    return value->get<bool>();
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto flag = value->AsBool()) return flag;
    WrongKind("true or false");
  }
  return std::nullopt;
}

std::optional<std::string> ConfigReader::Text(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_string()) WrongKind("a string");
    return value->get<std::string>();
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (const auto text = value->AsString()) return std::string(*text);
    WrongKind("a string");
  }
  return std::nullopt;
}

std::optional<std::vector<double>> ConfigReader::Reals(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_array()) WrongKind("a list of numbers");
    std::vector<double> out;
    for (const Json& item : *value) {
      if (item.is_boolean()) out.push_back(item.get<bool>() ? 1 : 0);
      else if (item.is_number()) out.push_back(item.get<double>());
      else WrongKind("a list of numbers");
    }
    return out;
  }
  if (const MetaValue* value = FindMeta(key)) {
    if (value->type() == MetaValue::Type::kArray) return value->AsDoubles();
    if (value->type() == MetaValue::Type::kJson) {
      const Json list = ParseJson(*value->AsString(), file_.path());
      if (list.is_array()) return list.get<std::vector<double>>();
    }
    WrongKind("a list of numbers");
  }
  return std::nullopt;
}

std::optional<std::vector<std::string>> ConfigReader::Texts(const ConfigKey& key) {
  if (const Json* value = FindHf(key)) {
    if (!value->is_array()) WrongKind("a list of strings");
    std::vector<std::string> out;
    for (const Json& item : *value) {
      if (!item.is_string()) WrongKind("a list of strings");
      out.push_back(item.get<std::string>());
    }
    return out;
  }
  if (const MetaValue* value = FindMeta(key)) {
    const std::vector<std::string_view> all = value->AsStrings();
    return std::vector<std::string>(all.begin(), all.end());
  }
  return std::nullopt;
}

int64_t ConfigReader::RequiredSize(const ConfigKey& key, int64_t limit) {
  const std::optional<int64_t> value = Int(key);
  if (!value) {
    const std::string_view name = is_gguf() && !key.gguf.empty() ? key.gguf : key.hf;
    throw Error(ErrorCode::kModelLoad, fmt::format("{} is missing", Split(name, '|').front()),
                {.file = file_.path(), .tensor = std::string(Split(name, '|').front())});
  }
  if (*value < 1 || *value > limit) {
    throw Error(ErrorCode::kModelLoad, fmt::format("{} = {} is not in 1 .. {}", key_, *value, limit),
                {.file = file_.path(), .tensor = key_});
  }
  return *value;
}

double ConfigReader::RequiredReal(const ConfigKey& key) {
  const std::optional<double> value = Real(key);
  if (value && std::isfinite(*value)) return *value;
  const std::string name(Split(is_gguf() && !key.gguf.empty() ? key.gguf : key.hf, '|').front());
  throw Error(ErrorCode::kModelLoad, fmt::format("{} is {}", name, value ? "not finite" : "missing"),
              {.file = file_.path(), .tensor = name});
}

void ConfigReader::Note(std::string field, std::string value, std::string origin) {
  out_.sources.push_back({std::move(field), std::move(value), std::move(origin)});
}
void ConfigReader::Note(const char* field, double value) { Note(field, fmt::format("{}", value), origin_); }
void ConfigReader::NoteRule(const char* field, std::string value, std::string rule) {
  Note(field, std::move(value), "rule: " + std::move(rule));
}

std::vector<std::string> ConfigReader::UnreadKeys() const {
  std::vector<std::string> out;
  const auto was_read = [&](const std::string& key) { return read_.count(key) > 0; };
  if (file_.container() == Container::kSafetensors) {
    if (file_.config() == nullptr || !file_.config()->is_object()) return out;
    for (const auto& [key, value] : file_.config()->items()) {
      if (was_read(key) || IsHarmless(key) || SaysNothing(value)) continue;
      const std::string prefix = key + ".";
      const bool inside = value.is_object() && std::any_of(read_.begin(), read_.end(), [&](const std::string& r) {
        return r.rfind(prefix, 0) == 0;
      });
      if (!inside) out.push_back(key);
    }
  } else if (is_gguf()) {
    for (const auto& [key, value] : file_.metadata()) {
      if (!was_read(key) && !IsHarmlessGguf(key)) out.push_back(key);
    }
  }
  return out;
}

}  // namespace apr
