// See export_json.h. Form of the files: huggingface/tokenizers (tokenizer.json) and transformers
// tokenization_utils_base.py (tokenizer_config.json). Merges of SentencePiece vocabularies: transformers
// convert_slow_tokenizer.py, generate_merges.
#include "tokenizer/export_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/pre_names.h"

namespace apr {
namespace {

constexpr const char* kVocabularyMark = "the vocabulary goes here";
constexpr const char* kMergesMark = "the merges go here";
constexpr int64_t kUnknownType = 2, kControlType = 3, kUserDefinedType = 4;

class Exporter {
 public:
  explicit Exporter(const ModelFile& file) : file_(file) {
    tokens_ = Strings("tokens");
    types_ = file.Meta("tokenizer.ggml.token_type") != nullptr ? file.Meta("tokenizer.ggml.token_type")->AsInts() : std::vector<int64_t>();
    types_.resize(tokens_.size(), 1);
  }

  TokenizerFiles Run() {
    const std::string model = Text("model").value_or("");
    Json merges;
    Json out = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", AddedTokens()}};
    if (model == "gpt2") merges = ByteLevel(out);
    else if (model == "llama") merges = SentencePiece(out);
    else throw Error(ErrorCode::kModelLoad, "a tokenizer of kind '" + model + "' is not converted to tokenizer.json", {.file = file_.path(), .tensor = "tokenizer.ggml.model"});
    result_.files.emplace_back("tokenizer.json", Finish(out, merges));
    result_.files.emplace_back("tokenizer_config.json", DumpJson(Config()) + "\n");
    result_.files.emplace_back("generation_config.json", DumpJson(GenerationConfig()) + "\n");
    return std::move(result_);
  }

 private:
  static std::string Key(const char* name) { return std::string("tokenizer.ggml.") + name; }
  std::vector<std::string_view> Strings(const char* name) const {
    const MetaValue* value = file_.Meta(Key(name));
    return value == nullptr ? std::vector<std::string_view>() : value->AsStrings();
  }
  std::optional<std::string> Text(const char* name) const {
    const MetaValue* value = file_.Meta(Key(name));
    if (value == nullptr || !value->AsString()) return std::nullopt;
    return std::string(*value->AsString());
  }
  std::optional<bool> Flag(const char* name) const {
    const MetaValue* value = file_.Meta(Key(name));
    return value == nullptr ? std::nullopt : value->AsBool();
  }
  std::optional<size_t> Id(const char* name) const {
    const MetaValue* value = file_.Meta(Key(name));
    if (value == nullptr || !value->AsInt() || *value->AsInt() < 0 || static_cast<size_t>(*value->AsInt()) >= tokens_.size()) return std::nullopt;
    return static_cast<size_t>(*value->AsInt());
  }

  Json AddedTokens() const {
    Json out = Json::array();
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const bool special = types_[i] == kControlType || types_[i] == kUnknownType;
      if (!special && types_[i] != kUserDefinedType) continue;
      out.push_back({{"id", i}, {"content", std::string(tokens_[i])}, {"single_word", false}, {"lstrip", false},
                     {"rstrip", false}, {"normalized", false}, {"special", special}});
    }
    return out;
  }

  // Written as text: an ordered JSON object of this size would be searched for every insertion.
  std::string Vocabulary() const {
    std::string out = "{";
    for (size_t i = 0; i < tokens_.size(); ++i) out += fmt::format("{}\n{}: {}", i > 0 ? "," : "", DumpJson(std::string(tokens_[i]), -1), i);
    return out + "\n}";
  }

  // The document with vocabulary and merges in their places.
  std::string Finish(const Json& out, const Json& merges) const {
    std::string text = DumpJson(out, 1);
    const auto put = [&](const char* mark, const std::string& what) {
      const std::string quoted = std::string("\"") + mark + "\"";
      text.replace(text.rfind(quoted), quoted.size(), what);
    };
    put(kMergesMark, DumpJson(merges, 0));
    put(kVocabularyMark, Vocabulary());
    return text + "\n";
  }

  // What is put around a text: BOS in front, EOS behind.
  Json Template(bool bos, bool eos) const {
    Json single = Json::array(), pair = Json::array(), special = Json::object();
    const auto piece = [&](std::optional<size_t> id, int type) {
      const std::string text(tokens_[*id]);
      special[text] = {{"id", text}, {"ids", Json::array({*id})}, {"tokens", Json::array({text})}};
      return Json{{"SpecialToken", {{"id", text}, {"type_id", type}}}};
    };
    const auto add = [&](Json& list, const char* sequence, int type) {
      if (bos) list.push_back(piece(Id("bos_token_id"), type));
      list.push_back({{"Sequence", {{"id", sequence}, {"type_id", type}}}});
      if (eos) list.push_back(piece(Id("eos_token_id"), type));
    };
    add(single, "A", 0);
    add(pair, "A", 0);
    add(pair, "B", 1);
    return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
  }

  Json PostProcessor(bool default_bos, Json otherwise) const {
    const bool bos = Flag("add_bos_token").value_or(default_bos) && Id("bos_token_id");
    const bool eos = Flag("add_eos_token").value_or(false) && Id("eos_token_id");
    return bos || eos ? Template(bos, eos) : std::move(otherwise);
  }

  Json ByteLevel(Json& out) {
    const std::string name = Text("pre").value_or("gpt-2");
    const PreName* pre = FindPreName(name);
    if (pre == nullptr) throw Error(ErrorCode::kModelLoad, "unknown pre-tokenizer '" + name + "'", {.file = file_.path(), .tensor = Key("pre")});
    Json steps = Json::array();
    for (const char* pattern : pre->patterns) {
      if (pattern == nullptr) break;
      steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
    steps.push_back(bytes);
    out["normalizer"] = pre->nfc ? Json{{"type", "NFC"}} : Json(nullptr);
    out["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
    out["post_processor"] = PostProcessor(pre->add_bos, bytes);
    out["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    Json merges = Json::array();
    for (const std::string_view merge : Strings("merges")) merges.push_back(std::string(merge));
    out["model"] = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr}, {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr}, {"fuse_unk", false}, {"byte_fallback", false},
                    {"ignore_merges", pre->ignore_merges}, {"vocab", kVocabularyMark}, {"merges", kMergesMark}};
    return merges;
  }

  // A piece is made by joining any two pieces; SentencePiece joins the best-scored result first.
  Json MergesFromScores() const {
    const MetaValue* meta = file_.Meta(Key("scores"));
    std::vector<float> scores = meta == nullptr ? std::vector<float>() : meta->AsFloats();
    scores.resize(tokens_.size(), 0);
    std::unordered_map<std::string_view, size_t> ids;
    for (size_t i = 0; i < tokens_.size(); ++i) ids.emplace(tokens_[i], i);
    struct Merge {
      size_t piece, left, right;
    };
    std::vector<Merge> merges;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] != 1) continue;
      std::vector<Merge> own;
      for (size_t cut = 1; cut < tokens_[i].size(); ++cut) {
        if ((static_cast<unsigned char>(tokens_[i][cut]) & 0xC0) == 0x80) continue;  // inside a character
        const auto left = ids.find(tokens_[i].substr(0, cut));
        const auto right = ids.find(tokens_[i].substr(cut));
        if (left != ids.end() && right != ids.end()) own.push_back({i, left->second, right->second});
      }
      std::sort(own.begin(), own.end(), [](const Merge& a, const Merge& b) { return std::tie(a.left, a.right) < std::tie(b.left, b.right); });
      merges.insert(merges.end(), own.begin(), own.end());
    }
    std::stable_sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) { return scores[a.piece] > scores[b.piece]; });
    Json out = Json::array();
    for (const Merge& m : merges) out.push_back(Json::array({std::string(tokens_[m.left]), std::string(tokens_[m.right])}));
    return out;
  }

  Json SentencePiece(Json& out) {
    const bool prefix = Flag("add_space_prefix").value_or(true);
    const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
    Json steps = Json::array();
    if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
    steps.push_back(replace);
    out["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
    out["pre_tokenizer"] = nullptr;
    out["post_processor"] = PostProcessor(true, nullptr);
    Json decoders = Json::array({{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                                 {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
    if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    out["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
    const auto unknown = std::find(types_.begin(), types_.end(), kUnknownType);
    out["model"] = {{"type", "BPE"}, {"dropout", nullptr},
                    {"unk_token", unknown == types_.end() ? Json(nullptr) : Json(std::string(tokens_[static_cast<size_t>(unknown - types_.begin())]))},
                    {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr}, {"fuse_unk", true},
                    {"byte_fallback", true}, {"ignore_merges", false}, {"vocab", kVocabularyMark}, {"merges", kMergesMark}};
    result_.warnings.push_back("tokenizer.json expresses SentencePiece by merges: runs of more than 31 spaces may be cut differently");
    return MergesFromScores();
  }

  Json Config() const {
    Json out = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
    for (const auto& [key, meta] : {std::pair{"bos_token", "bos_token_id"}, std::pair{"eos_token", "eos_token_id"},
                                    std::pair{"unk_token", "unknown_token_id"}, std::pair{"pad_token", "padding_token_id"}}) {
      if (const auto id = Id(meta)) out[key] = std::string(tokens_[*id]);
    }
    if (const MetaValue* chat = file_.Meta("tokenizer.chat_template"); chat != nullptr && chat->AsString()) {
      out["chat_template"] = std::string(*chat->AsString());
    }
    return out;
  }

  Json GenerationConfig() const {
    Json out = {{"_from_model_config", true}};
    for (const auto& [key, meta] : {std::pair{"bos_token_id", "bos_token_id"}, std::pair{"eos_token_id", "eos_token_id"},
                                    std::pair{"pad_token_id", "padding_token_id"}}) {
      if (const auto id = Id(meta)) out[key] = *id;
    }
    return out;
  }

  const ModelFile& file_;
  std::vector<std::string_view> tokens_;
  std::vector<int64_t> types_;
  TokenizerFiles result_;
};

}  // namespace

std::optional<TokenizerFiles> TokenizerFilesFromGguf(const ModelFile& file) {
  if (file.container() != Container::kGguf || file.Meta("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
  return Exporter(file).Run();
}

}  // namespace apr
