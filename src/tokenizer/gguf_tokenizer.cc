// GgufTokenizer of carry.h. Kinds and keys: llama.cpp conversion/base.py (_set_vocab_gpt2,
// _set_vocab_sentencepiece, _set_vocab_t5, bert.py) and src/llama-vocab.cpp.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "format/simd_json.h"
#include "tokenizer/carry.h"
#include "tokenizer/json_components.h"
#include "tokenizer/model.h"
#include "tokenizer/pre_names.h"
#include "tokenizer/sentencepiece_bpe.h"
#include "tokenizer/splitter.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

namespace dom = simdjson::dom;

enum Type : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };


class Converter {
 public:
  Converter(const GgufTokenizerArgs& args, std::vector<std::string>& warnings)
      : path_(args.path), vocab_size_(args.vocab_size), warnings_(warnings), text_(MappedFile::Open(args.path)) {}

  MetaBuilder Run() {
    Read();
    tokenizer_ = Tokenizer::FromJsonFile(path_);
    if (type_ == "BPE" && IsByteLevel()) ByteLevelBpe();
    else if (type_ == "BPE") SentencePieceBpe();
    else if (type_ == "Unigram") Unigram();
    else if (type_ == "WordPiece") WordPiece();
    else throw Error(ErrorCode::kModelLoad, "GGUF has no tokenizer of kind " + type_, {.file = path_, .tensor = "model.type"});
    SpecialTokens();
    return std::move(out_);
  }

 private:
  static std::string Key(std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); }

  void Read() {
    const dom::element root = ParseWithSimdJson(&parser_, {.text = AsText(text_->bytes()), .file = path_, .max_depth = 256});
    for (const auto& [key, value] : root.get_object()) {
      if (key == "model") ReadModel(value);
      else if (key != "added_tokens") top_[std::string(key)] = ParseJson(simdjson::minify(value), path_);
    }
    dom::array added;
    if (root["added_tokens"].get(added) == simdjson::SUCCESS) ReadAdded(added);
    Fill();
  }

  void ReadModel(dom::element model) {
    for (const auto& [key, value] : model.get_object()) {
      if (key == "vocab" && value.is_object()) {
        for (const auto& [piece, id] : value.get_object()) Put(static_cast<size_t>(id.get_uint64()), std::string(piece), kNormal);
      } else if (key == "vocab") {
        size_t id = 0;
        for (const dom::element entry : value.get_array()) {
          scores_.push_back(static_cast<float>(double(entry.at(1))));
          Put(id++, std::string(std::string_view(entry.at(0))), kNormal);
        }
      } else if (key == "merges") {
        for (const dom::element entry : value.get_array()) {
          std::string_view text;
          if (entry.get_string().get(text) == simdjson::SUCCESS) merges_.emplace_back(text);
          else merges_.push_back(fmt::format("{} {}", std::string_view(entry.at(0)), std::string_view(entry.at(1))));
        }
      } else {
        model_[std::string(key)] = ParseJson(simdjson::minify(value), path_);
      }
    }
    type_ = model_.contains("type") && model_["type"].is_string() ? model_["type"].get<std::string>()
            : !merges_.empty()                                    ? "BPE"
            : !scores_.empty()                                    ? "Unigram"
                                                                  : "WordPiece";
  }

  void Put(size_t id, std::string piece, Type type) {
    if (id > 0xFFFFFF) throw Error(ErrorCode::kInvalidFormat, fmt::format("token id {} is out of range", id), {.file = path_});
    if (id >= tokens_.size()) {
      tokens_.resize(id + 1);
      types_.resize(id + 1, kUnused);
    }
    tokens_[id] = std::move(piece);
    types_[id] = type;
  }

  void ReadAdded(dom::array added) {
    for (const dom::element entry : added) {
      const size_t id = entry["id"].get_uint64();
      bool special = false;
      if (entry["special"].get(special) != simdjson::SUCCESS) special = false;
      Put(id, std::string(std::string_view(entry["content"])), special ? kControl : kUserDefined);
    }
  }

  // llama.cpp refuses a list shorter than the embedding's rows.
  void Fill() {
    if (static_cast<int64_t>(tokens_.size()) > vocab_size_) {
      warnings_.push_back(fmt::format("the tokenizer has {} tokens, the model {}: those beyond are left out", tokens_.size(), vocab_size_));
    }
    tokens_.resize(static_cast<size_t>(vocab_size_));
    types_.resize(static_cast<size_t>(vocab_size_), kUnused);
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == kUnused) tokens_[i] = fmt::format("[PAD{}]", i);
    }
  }

  const Json& Top(const char* key) const {
    static const Json kNull;
    const auto it = top_.find(key);
    return it == top_.end() ? kNull : *it;
  }

  // The steps of a component that may be a Sequence of them.
  static std::vector<const Json*> Steps(const Json& json, const char* list) {
    if (!json.is_object()) return {};
    if (json.value("type", "") != "Sequence" || !json.contains(list)) return {&json};
    std::vector<const Json*> out;
    for (const Json& step : json[list]) out.push_back(&step);
    return out;
  }
  static bool HasStep(const std::vector<const Json*>& steps, std::string_view type) {
    return std::any_of(steps.begin(), steps.end(), [&](const Json* s) { return s->value("type", "") == type; });
  }
  bool IsByteLevel() const { return HasStep(Steps(Top("pre_tokenizer"), "pretokenizers"), "ByteLevel"); }

  void PutTokens(std::string_view model, std::string_view pre) {
    out_.SetString(Key("model"), model);
    out_.SetString(Key("pre"), pre);
    const std::vector<std::string_view> views(tokens_.begin(), tokens_.end());
    out_.SetStrings(Key("tokens"), views);
    out_.SetI32s(Key("token_type"), types_);
  }

  // The pieces' patterns in order; empty if a step is none that a pre-tokenizer name stands for.
  std::vector<std::string> Patterns() const {
    std::vector<std::string> out;
    for (const Json* step : Steps(Top("pre_tokenizer"), "pretokenizers")) {
      const std::string type = step->value("type", "");
      if (type == "Split" && step->contains("pattern") && (*step)["pattern"].contains("Regex")) out.push_back((*step)["pattern"]["Regex"]);
      else if (type == "Digits") out.push_back(step->value("individual_digits", false) ? "\\p{N}" : "\\p{N}+");
      else if (type == "ByteLevel" && step->value("use_regex", true)) out.push_back(kGpt2Pattern);
      else if (type != "ByteLevel") return {};
    }
    return out;
  }

  void ByteLevelBpe() {
    const bool nfc = HasStep(Steps(Top("normalizer"), "normalizers"), "NFC");
    const bool ignore = model_.value("ignore_merges", false);
    const std::vector<std::string> patterns = Patterns();
    const PreName* pre = FindPreNameOf(patterns, ignore, nfc);
    if (pre == nullptr) {
      warnings_.push_back("no pre-tokenizer name of GGUF stands for this tokenizer's patterns: \"default\" is written, texts may be cut differently");
    }
    PutTokens("gpt2", pre == nullptr ? "default" : pre->name);
    out_.SetStrings(Key("merges"), {merges_.begin(), merges_.end()});
    for (const Json* step : Steps(Top("pre_tokenizer"), "pretokenizers")) {
      if (step->value("type", "") == "ByteLevel" && step->value("add_prefix_space", false)) out_.SetBool(Key("add_space_prefix"), true);
    }
  }

  // A piece's score must order the merges as the list does: SentencePiece joins the best piece first.
  void SentencePieceBpe() {
    std::unordered_map<std::string, size_t> rank;
    for (size_t i = 0; i < merges_.size(); ++i) {
      const size_t space = merges_[i].find(' ', 1);
      if (space != std::string::npos) rank.emplace(merges_[i].substr(0, space) + merges_[i].substr(space + 1), i);
    }
    std::vector<float> scores(tokens_.size(), -1e4f);
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == kControl || types_[i] == kUserDefined) scores[i] = 0;
      else if (const auto it = rank.find(tokens_[i]); it != rank.end()) scores[i] = -static_cast<float>(it->second);
      else if (types_[i] == kNormal) scores[i] = -static_cast<float>(merges_.size());
    }
    MarkBytesAndUnknown();
    PutTokens("llama", "default");
    out_.SetF32s(Key("scores"), scores);
    out_.SetBool(Key("add_space_prefix"), AddsSpacePrefix());
  }

  void MarkBytesAndUnknown() {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (ByteOfPiece(tokens_[i])) types_[i] = kByte;
    }
    std::string unknown = model_.contains("unk_token") && model_["unk_token"].is_string() ? model_["unk_token"].get<std::string>() : "";
    if (model_.contains("unk_id") && model_["unk_id"].is_number_unsigned()) {
      const auto id = model_["unk_id"].get<size_t>();
      if (id < tokens_.size()) unknown = tokens_[id];
    }
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (!unknown.empty() && tokens_[i] == unknown) {
        types_[i] = kUnknown;
        out_.SetU32(Key("unknown_token_id"), static_cast<uint32_t>(i));
        return;
      }
    }
  }

  bool AddsSpacePrefix() const {
    const auto normalizers = Steps(Top("normalizer"), "normalizers");
    if (HasStep(normalizers, "Prepend")) return true;
    for (const auto* list : {"normalizer", "pre_tokenizer"}) {
      for (const Json* step : Steps(Top(list), list == std::string_view("normalizer") ? "normalizers" : "pretokenizers")) {
        if (step->value("type", "") != "Metaspace") continue;
        const std::string scheme = step->value("prepend_scheme", step->value("add_prefix_space", true) ? "always" : "never");
        if (scheme != "never") return true;
      }
    }
    return false;
  }

  void Unigram() {
    scores_.resize(tokens_.size(), -1e4f);
    MarkBytesAndUnknown();
    PutTokens("t5", "default");
    out_.SetF32s(Key("scores"), scores_);
    out_.SetBool(Key("add_space_prefix"), AddsSpacePrefix());
    const auto steps = Steps(Top("normalizer"), "normalizers");
    bool remove_extra = false;
    for (const Json* step : steps) {
      const std::string type = step->value("type", "");
      if (type == "Replace" && step->contains("pattern") && (*step)["pattern"].value("Regex", "") == " {2,}") remove_extra = true;
      if (type != "Precompiled" || !step->contains("precompiled_charsmap")) continue;
      const std::string map = FromBase64((*step)["precompiled_charsmap"].get<std::string>(), "normalizer");
      out_.Set(Key("precompiled_charsmap"), MetaValue::Array(MetaValue::Type::kU8, map.size(), AsBytes(map)));
    }
    out_.SetBool(Key("remove_extra_whitespaces"), remove_extra);
  }

  void WordPiece() {
    const std::string prefix = model_.value("continuing_subword_prefix", "##");
    for (size_t i = 0; i < tokens_.size(); ++i) {
      std::string& piece = tokens_[i];
      if (types_[i] != kNormal || (piece.front() == '[' && piece.back() == ']')) continue;
      piece = piece.rfind(prefix, 0) == 0 ? piece.substr(prefix.size()) : std::string(kSpaceMark) + piece;
    }
    MarkBytesAndUnknown();
    PutTokens("bert", "default");
    out_.SetU32(Key("token_type_count"), 2);
  }

  void SpecialTokens() {
    const SpecialIds& ids = tokenizer_->special_ids();
    const std::pair<const char*, std::optional<int32_t>> rows[] = {
        {"bos_token_id", ids.bos}, {"eos_token_id", ids.eos}, {"unknown_token_id", ids.unk}, {"padding_token_id", ids.pad},
        {"seperator_token_id", ids.sep},  // GGUF spells it so
        {"cls_token_id", ids.cls}, {"mask_token_id", ids.mask}};
    for (const auto& [key, id] : rows) {
      if (id && *id < vocab_size_) out_.SetU32(Key(key), static_cast<uint32_t>(*id));
    }
    const bool bert = type_ == "WordPiece";
    out_.SetBool(Key("add_bos_token"), bert ? !tokenizer_->prefix_ids().empty() : tokenizer_->add_bos());
    out_.SetBool(Key("add_eos_token"), !bert && tokenizer_->add_eos());
    if (bert) out_.SetBool(Key("add_sep_token"), !tokenizer_->suffix_ids().empty());
    const size_t said = (tokenizer_->add_bos() ? 1u : 0u) + (tokenizer_->add_eos() ? 1u : 0u);
    if (!bert && tokenizer_->prefix_ids().size() + tokenizer_->suffix_ids().size() > said) {
      warnings_.push_back("what the tokenizer puts around a text beyond BOS and EOS has no key in GGUF");
    }
  }

  const std::string path_;
  const int64_t vocab_size_;
  std::vector<std::string>& warnings_;
  std::shared_ptr<const MappedFile> text_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  dom::parser parser_;
  Json top_ = Json::object();
  Json model_ = Json::object();
  std::string type_;
  std::vector<std::string> tokens_;
  std::vector<int32_t> types_;
  std::vector<float> scores_;
  std::vector<std::string> merges_;
  MetaBuilder out_;
};

}  // namespace

MetaBuilder GgufTokenizer(const GgufTokenizerArgs& args, std::vector<std::string>& warnings) {
  try {
    return Converter(args, warnings).Run();
  } catch (const simdjson::simdjson_error& e) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("a value of the wrong type: {}", e.what()), {.file = args.path});
  }
}

}  // namespace apr
