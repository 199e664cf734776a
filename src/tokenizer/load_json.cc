// Loading tokenizer.json (huggingface/tokenizers' serialised form). The vocabulary and the merges,
// which are nearly all of the file, are read by simdjson; the rest is small and goes through
// base/json.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/simd_json.h"
#include "tokenizer/json_components.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/word_models.h"

namespace apr {
namespace {

namespace dom = simdjson::dom;

// What the pass over the document brings home.
struct ModelFields {
  std::string type;
  Vocabulary vocabulary;
  bool vocabulary_is_list = false;
  bool has_vocabulary = false;
  std::vector<double> scores;  // of a list
  dom::array merges;
  size_t merge_count = 0;
  bool has_merges = false;
  Json other = Json::object();
};

[[noreturn]] void FailModel(std::string_view what, std::string key) {
  throw Error(ErrorCode::kInvalidFormat, std::string(what), {.tensor = std::move(key)});
}

// A score as `tokenizers` reads it: its JSON reader (serde_json, src/de.rs, f64_from_parts) rounds the
// digits and then the power of ten, which moves one score in seven by one unit in the last place.
// Where two ways through a text weigh the same, that decides between them.
double AsItsAuthorsRead(double exact) {
  const std::string text = fmt::format("{}", exact);  // shortest, as such files are written
  uint64_t digits = 0;
  int exponent = 0;
  bool fraction = false;
  size_t i = exact < 0 ? 1 : 0;
  for (; i < text.size() && text[i] != 'e'; ++i) {
    if (text[i] == '.') {
      fraction = true;
      continue;
    }
    if (text[i] < '0' || text[i] > '9') return exact;  // inf, nan
    digits = 10 * digits + static_cast<uint64_t>(text[i] - '0');
    exponent -= fraction ? 1 : 0;
  }
  if (i < text.size()) exponent += std::atoi(text.c_str() + i + 1);
  if (exponent < -300 || exponent > 300) return exact;
  const double power = std::pow(10.0, std::abs(exponent));
  const double size = exponent < 0 ? static_cast<double>(digits) / power : static_cast<double>(digits) * power;
  return exact < 0 ? -size : size;
}

class Loader {
 public:
  Loader(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}

  std::unique_ptr<TokenizerParts> Run() {
    try {
      ReadDocument();
      return Build();
    } catch (const simdjson::simdjson_error& e) {
      throw Error(ErrorCode::kInvalidFormat, fmt::format("a value of the wrong type: {}", e.what()),
                  {.file = file_, .tensor = reading_});
    } catch (const Error& e) {
      throw e.With({.file = file_});
    }
  }

 private:
  void ReadDocument() {
    const dom::element root =
        ParseWithSimdJson(&parser_, {.text = text_, .file = file_, .max_depth = 256});
    reading_ = "the document";
    for (const auto& [key, value] : root.get_object()) {
      reading_ = std::string(key);
      if (key == "model") {
        ReadModel(value);
      } else {
        top_[reading_] = Tree(value);
      }
    }
  }

  // A small value as a tree.
  Json Tree(dom::element value) { return ParseJson(simdjson::minify(value), file_); }

  void ReadModel(dom::element model) {
    for (const auto& [key, value] : model.get_object()) {
      reading_ = fmt::format("model.{}", key);
      if (key == "vocab" && (value.is_object() || value.is_array())) {
        ReadVocabulary(value);
      } else if (key == "merges" && value.is_array()) {
        ReadMerges(value);
      } else {
        model_.other[std::string(key)] = Tree(value);
      }
    }
  }

  void ReadVocabulary(dom::element value) {
    if (model_.has_vocabulary) FailModel("there are two vocabularies", "model.vocab");
    model_.has_vocabulary = true;
    model_.vocabulary_is_list = value.is_array();
    // An entry takes at least 5 bytes of JSON, so what is reserved stays below the file's size.
    model_.vocabulary.Reserve(text_.size() / 64, text_.size() / 8);
    if (value.is_object()) {
      for (const auto& [piece, number] : value.get_object()) {
        const uint64_t id = number.get_uint64();
        if (id > 0x7FFFFFFF) FailModel(fmt::format("token id {} is out of range", id), "vocab");
        model_.vocabulary.Add(static_cast<uint32_t>(id), piece);
      }
      return;
    }
    uint32_t id = 0;
    for (const dom::element entry : value.get_array()) {
      const dom::array pair = entry.get_array();
      if (pair.size() != 2)
        FailModel(fmt::format("entry {} is not a [piece, score] pair", id), "vocab");
      model_.vocabulary.Add(id, std::string_view(pair.at(0).get_string()));
      model_.scores.push_back(AsItsAuthorsRead(pair.at(1).get_double()));
      ++id;
    }
  }

  void ReadMerges(dom::element value) {
    if (model_.has_merges) FailModel("there are two lists of merges", "model.merges");
    model_.has_merges = true;
    model_.merges = value.get_array();
    for (auto it = model_.merges.begin(); it != model_.merges.end(); ++it) ++model_.merge_count;
  }

  MergePair ReadMerge(dom::element entry, size_t rank) const {
    const auto fail = [&](std::string_view text) {
      FailModel(fmt::format("merge {} ('{}') is not two pieces", rank, text), "merges");
    };
    std::string_view text;
    if (entry.get_string().get(text) == simdjson::SUCCESS) {
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) fail(text);
      return {text.substr(0, space), text.substr(space + 1)};
    }
    const dom::array pair = entry.get_array();
    if (pair.size() != 2) fail("...");
    return {std::string_view(pair.at(0).get_string()), std::string_view(pair.at(1).get_string())};
  }

  // Read in the document: a list of them would take longer than finding the pieces.
  MergeSource Merges() const {
    return {model_.merge_count, [this](size_t begin) -> MergeSource::Reader {
              auto it = model_.merges.begin();
              for (size_t i = 0; i < begin; ++i) ++it;
              return [this, it, rank = begin](std::span<MergePair> out) mutable {
                for (MergePair& pair : out) {
                  pair = ReadMerge(*it, rank++);
                  ++it;
                }
              };
            }};
  }

  const Json& Top(const char* key) const {
    static const Json kNull;
    const auto it = top_.find(key);
    return it == top_.end() ? kNull : *it;
  }

  std::string ModelType() const {
    if (model_.other.contains("type") && model_.other["type"].is_string()) {
      return model_.other["type"].get<std::string>();
    }
    // Older files name no type; each model's own fields tell.
    if (model_.has_merges) return "BPE";
    if (model_.vocabulary_is_list) return "Unigram";
    return model_.other.contains("continuing_subword_prefix") ? "WordPiece" : "WordLevel";
  }

  bool ModelBool(const char* key) const {
    const auto it = model_.other.find(key);
    if (it == model_.other.end() || it->is_null()) return false;
    if (!it->is_boolean()) FailModel(fmt::format("\"{}\" is not true or false", key), "model");
    return it->get<bool>();
  }
  std::string ModelString(const char* key, const char* fallback) const {
    const auto it = model_.other.find(key);
    if (it == model_.other.end() || it->is_null()) return fallback;
    if (!it->is_string()) FailModel(fmt::format("\"{}\" is not a string", key), "model");
    return it->get<std::string>();
  }
  std::optional<uint64_t> ModelCount(const char* key) const {
    const auto it = model_.other.find(key);
    if (it == model_.other.end() || it->is_null()) return std::nullopt;
    if (!it->is_number_unsigned()) FailModel(fmt::format("\"{}\" is not a count", key), "model");
    return it->get<uint64_t>();
  }

  void BuildBpe(TokenizerParts& parts) {
    BpeOptions options;
    options.unk_token = ModelString("unk_token", "");
    options.continuing_subword_prefix = ModelString("continuing_subword_prefix", "");
    options.end_of_word_suffix = ModelString("end_of_word_suffix", "");
    options.fuse_unk = ModelBool("fuse_unk");
    options.byte_fallback = ModelBool("byte_fallback");
    options.ignore_merges = ModelBool("ignore_merges");
    const auto dropout = model_.other.find("dropout");
    if (dropout != model_.other.end() && dropout->is_number() && dropout->get<double>() != 0.0) {
      parts.description.notes.push_back(
          fmt::format("dropout {} is for training and is not applied", dropout->get<double>()));
    }
    MergeRules rules = MergeRules::Resolve(model_.vocabulary, Merges(), options);
    parts.merges_digest = rules.digest();
    parts.description.merges = model_.merge_count;
    auto model = std::make_unique<BpeModel>(std::move(model_.vocabulary), std::move(rules),
                                            std::move(options));
    ByteLevelForm form = ByteLevelFormFromJson(Top("pre_tokenizer"));
    if (form.splitter) {
      parts.byte_level = ByteLevelEncoder::Make(*model);
      if (parts.byte_level) {
        parts.splitter = std::move(form.splitter);
        parts.prefix_space = form.prefix_space;
      }
    }
    parts.model = std::move(model);
  }

  void BuildModel(TokenizerParts& parts) {
    const std::string type = ModelType();
    if (!model_.has_vocabulary) FailModel("the model has no vocabulary", "model.vocab");
    if (model_.vocabulary_is_list != (type == "Unigram")) {
      FailModel(fmt::format("a vocabulary of this form does not belong to a {} model", type),
                "model.vocab");
    }
    model_.vocabulary.BuildIndex(false);
    if (type == "BPE") return BuildBpe(parts);
    if (type == "Unigram") {
      UnigramOptions options;
      options.scores = std::move(model_.scores);
      options.byte_fallback = ModelBool("byte_fallback");
      if (const auto unk = ModelCount("unk_id")) {
        if (*unk >= model_.vocabulary.size()) FailModel("unk_id is not an id", "model.unk_id");
        options.unk_id = static_cast<uint32_t>(*unk);
      }
      parts.model =
          std::make_unique<UnigramModel>(std::move(model_.vocabulary), std::move(options));
    } else if (type == "WordPiece") {
      WordPieceOptions options;
      options.unk_token = ModelString("unk_token", "[UNK]");
      options.continuing_subword_prefix = ModelString("continuing_subword_prefix", "##");
      options.max_input_chars_per_word = ModelCount("max_input_chars_per_word").value_or(100);
      parts.model =
          std::make_unique<WordPieceModel>(std::move(model_.vocabulary), std::move(options));
    } else if (type == "WordLevel") {
      parts.model = std::make_unique<WordLevelModel>(std::move(model_.vocabulary),
                                                     ModelString("unk_token", "[UNK]"));
    } else {
      throw Error(ErrorCode::kModelLoad, fmt::format("a model of unknown type '{}'", type),
                  {.tensor = "model.type"});
    }
  }

  std::unique_ptr<TokenizerParts> Build() {
    auto parts = std::make_unique<TokenizerParts>();
    auto& notes = parts->description.notes;
    parts->description.source = "tokenizer.json";
    BuildModel(*parts);
    parts->normalizer = NormalizerFromJson(Top("normalizer"));
    parts->pre_tokenizer = PreTokenizerFromJson(Top("pre_tokenizer"));
    parts->decoder = DecoderFromJson(Top("decoder"));
    parts->SetAddedTokens(
        AddedTokensFromJson(Top("added_tokens"), parts->model->vocabulary(), notes));
    SpecialTemplate around = TemplateFromJson(Top("post_processor"));
    parts->prefix = std::move(around.prefix);
    parts->suffix = std::move(around.suffix);
    for (const char* key : {"truncation", "padding"}) {
      if (!Top(key).is_null())
        notes.push_back(fmt::format("\"{}\" is set and is not applied", key));
    }
    return parts;
  }

  std::string_view text_;
  std::string file_;
  std::string reading_;  // the key at hand, for errors
  dom::parser parser_;   // owns what the merges point to
  Json top_ = Json::object();
  ModelFields model_;
};

std::optional<std::string> TokenText(const Json& json) {
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object() && json.contains("content") && json["content"].is_string()) {
    return json["content"].get<std::string>();
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<TokenizerParts> LoadTokenizerJson(std::string_view text, const std::string& file) {
  return Loader(text, file).Run();
}

void ReadTokenizerConfig(const std::string& tokenizer_path, TokenizerParts& parts) {
  const auto path = std::filesystem::path(tokenizer_path).parent_path() / "tokenizer_config.json";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return;
  const auto file = MappedFile::Open(path.string());
  const Json config = ParseJson(AsText(file->bytes()), path.string());
  if (!config.is_object()) return;
  const auto find = [&](const char* key, std::optional<int32_t>& id) {
    const auto it = config.find(key);
    if (it == config.end()) return;
    const auto text = TokenText(*it);
    if (!text) return;
    if (const AddedToken* token = parts.added->Find(*text)) {
      id = static_cast<int32_t>(token->id);
    } else if (const auto found = parts.model->vocabulary().Find(*text)) {
      id = static_cast<int32_t>(*found);
    } else {
      parts.description.notes.push_back(
          fmt::format("{} '{}' is not in the vocabulary", key, *text));
    }
  };
  find("bos_token", parts.special.bos);
  find("eos_token", parts.special.eos);
  find("unk_token", parts.special.unk);
  find("pad_token", parts.special.pad);
  find("sep_token", parts.special.sep);
  find("cls_token", parts.special.cls);
  find("mask_token", parts.special.mask);
}

}  // namespace apr
