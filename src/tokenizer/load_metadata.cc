// Loading a tokenizer from a model's own metadata: GGUF's tokenizer.ggml.* keys, or .apr's
// tokenizer.* keys.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "format/model_file.h"
#include "tokenizer/pre_names.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/word_models.h"

namespace apr {
namespace {

// The keys of either container under one set of names.
class Keys {
 public:
  explicit Keys(const ModelFile& file) : file_(file), apr_(file.container() == Container::kApr) {}

  bool apr() const { return apr_; }
  std::string Name(std::string_view key) const {
    if (!apr_) return fmt::format("tokenizer.ggml.{}", key);
    if (key == "tokens") return "tokenizer.vocabulary";
    if (key == "pre") return "tokenizer.pre_type";
    return fmt::format("tokenizer.{}", key);
  }
  const MetaValue* Find(std::string_view key) const { return file_.Meta(Name(key)); }

  [[noreturn]] void Fail(std::string_view key, std::string what,
                         ErrorCode code = ErrorCode::kInvalidFormat) const {
    throw Error(code, std::move(what), {.file = file_.path(), .tensor = Name(key)});
  }
  std::optional<bool> Bool(std::string_view key) const {
    const MetaValue* value = Find(key);
    if (value == nullptr) return std::nullopt;
    if (const auto b = value->AsBool()) return b;
    Fail(key, "is not true or false");
  }
  std::optional<std::string> String(std::string_view key) const {
    const MetaValue* value = Find(key);
    if (value == nullptr) return std::nullopt;
    if (const auto s = value->AsString()) return std::string(*s);
    Fail(key, "is not a string");
  }
  std::optional<int32_t> Id(std::string_view key, size_t vocab_size) const {
    const MetaValue* value = Find(key);
    if (value == nullptr) return std::nullopt;
    const auto id = value->AsInt();
    if (!id) Fail(key, "is not a token id");
    if (*id < 0 || static_cast<uint64_t>(*id) >= vocab_size) return std::nullopt;
    return static_cast<int32_t>(*id);
  }
  // nullptr: no such key, or an empty list.
  const MetaValue* Strings(std::string_view key) const {
    const MetaValue* value = Find(key);
    if (value == nullptr) return nullptr;
    if (value->type() != MetaValue::Type::kArray || (value->size() > 0 && value->element_type() != MetaValue::Type::kString)) {
      Fail(key, "is not an array of strings");
    }
    return value->size() > 0 ? value : nullptr;
  }
  const MetaValue* NumberArray(std::string_view key, size_t count) const {
    const MetaValue* value = Find(key);
    if (value == nullptr) return nullptr;
    if (value->type() != MetaValue::Type::kArray) Fail(key, "is not an array");
    if (value->size() != count) {
      Fail(key, fmt::format("has {} entries for {} tokens", value->size(), count));
    }
    return value;
  }
  const ModelFile& file() const { return file_; }

 private:
  const ModelFile& file_;
  bool apr_;
};

// The strings of an array where they stand, one after the other.
class StringWalk {
 public:
  explicit StringWalk(const MetaValue& array) : at_(array.array_bytes().data()) {}
  std::string_view Next() {
    const auto length = static_cast<size_t>(LoadLe<uint64_t>(at_));
    const std::string_view out(reinterpret_cast<const char*>(at_ + 8), length);
    at_ += 8 + length;
    return out;
  }

 private:
  const std::byte* at_;
};

class MetadataLoader {
 public:
  MetadataLoader(const ModelFile& file, std::string pre)
      : keys_(file), parts_(std::make_unique<TokenizerParts>()), pre_given_(std::move(pre)) {}

  std::unique_ptr<TokenizerParts> Run() {
    if (keys_.Find("tokens") == nullptr) return nullptr;
    const std::string model = ModelName();
    if (model == "none" || model == "no_vocab") return nullptr;
    parts_->description.source = keys_.apr() ? "APR" : "GGUF";
    ReadPieces();
    ReadIds();
    if (model == "gpt2") {
      BuildByteLevel();
    } else if (model == "llama") {
      BuildSentencePiece();
    } else if (model == "bert") {
      BuildWordPiece();
    } else if (model == "t5") {
      BuildUnigram();
    } else {
      keys_.Fail("model", fmt::format("a tokenizer model of unknown type '{}'", model),
                 ErrorCode::kModelLoad);
    }
    AddBeginAndEnd(model);
    return std::move(parts_);
  }

 private:
  std::string ModelName() const {
    auto model = keys_.String("model");
    if (!model && keys_.apr()) model = keys_.String("model_type");
    std::string name = model.value_or("");
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    if (keys_.apr()) {
      const bool merges = keys_.Find("merges") != nullptr && keys_.Find("merges")->size() > 0;
      if (name == "bpe" || (name.empty() && merges)) return "gpt2";
      if (name == "unigram" || name == "sentencepiece" || name == "spm" || name.empty()) {
        return keys_.Find("scores") != nullptr ? "llama" : merges ? "gpt2" : "none";
      }
    }
    if (name.empty()) keys_.Fail("model", "is missing beside a list of tokens");
    return name;
  }

  void ReadPieces() {
    if (const MetaValue* tokens = keys_.Strings("tokens")) {
      if (tokens->size() > 0x7FFFFFFF / 16) keys_.Fail("tokens", "has too many entries");
      count_ = tokens->size();
      vocabulary_.Reserve(count_, tokens->array_bytes().size() - 8 * count_);
      StringWalk walk(*tokens);
      for (size_t i = 0; i < count_; ++i) vocabulary_.Add(static_cast<uint32_t>(i), walk.Next());
    }
    CheckUtf8();
    vocabulary_.BuildIndex(true);
    types_.assign(count_, PieceType::kNormal);
    if (const MetaValue* value = keys_.NumberArray("token_type", count_)) {
      const auto types = value->AsInts();
      for (size_t i = 0; i < types.size(); ++i) {
        if (types[i] >= 1 && types[i] <= 6) types_[i] = static_cast<PieceType>(types[i]);
      }
      has_types_ = true;
    }
    if (const MetaValue* value = keys_.NumberArray("scores", count_)) {
      scores_ = value->AsFloats();
      if (scores_.size() != count_) keys_.Fail("scores", "is not an array of numbers");
    }
  }

  // Text is decoded as UTF-8 everywhere below, so a piece that is not is refused here. All of them behind one another
  // are if each is; the reverse holds where none begins within a character.
  void CheckUtf8() {
    bool whole = simdjson::validate_utf8(vocabulary_.text().data(), vocabulary_.text().size());
    for (uint32_t id = 0; whole && id < count_; ++id) {
      const std::string_view piece = vocabulary_.Piece(id);
      whole = piece.empty() || (static_cast<unsigned char>(piece[0]) & 0xC0) != 0x80;
    }
    for (uint32_t id = 0; !whole && id < count_; ++id) {
      if (!IsValidUtf8(vocabulary_.Piece(id))) keys_.Fail("tokens", fmt::format("piece {} is not valid UTF-8", id));
    }
  }

  // A file without scores has none that differ.
  std::vector<float> TakeScores() {
    scores_.resize(count_);
    return std::move(scores_);
  }

  void ReadIds() {
    SpecialIds& ids = parts_->special;
    const size_t count = count_;
    ids.bos = keys_.Id("bos_token_id", count);
    ids.eos = keys_.Id("eos_token_id", count);
    ids.unk = keys_.Id("unknown_token_id", count);
    ids.pad = keys_.Id("padding_token_id", count);
    ids.sep = keys_.Id("seperator_token_id", count);  // GGUF spells it so
    if (!ids.sep) ids.sep = keys_.Id("separator_token_id", count);
    ids.cls = keys_.Id("cls_token_id", count);
    ids.mask = keys_.Id("mask_token_id", count);
    ids.eot = keys_.Id("eot_token_id", count);
    // A file without types (.apr from safetensors) still names its special ids.
    if (!has_types_) {
      for (const auto& id : {ids.bos, ids.eos, ids.pad}) {
        if (id) types_[*id] = PieceType::kControl;
      }
    }
  }

  // Control and unknown pieces as special tokens; user-defined ones too if `user_defined`.
  void AddSpecialTokens(bool user_defined) {
    std::vector<AddedToken> tokens;
    for (uint32_t id = 0; id < types_.size(); ++id) {
      const bool special = types_[id] == PieceType::kControl || types_[id] == PieceType::kUnknown;
      if (!special && !(user_defined && types_[id] == PieceType::kUserDefined)) continue;
      AddedToken token;
      token.id = id;
      token.content = std::string(vocabulary_.Piece(id));
      token.special = special;
      tokens.push_back(std::move(token));
    }
    parts_->literal_added = true;
    parts_->SetAddedTokens(std::move(tokens));
  }

  void BuildByteLevel() {
    std::string name = pre_given_.empty() ? keys_.String("pre").value_or("") : pre_given_;
    if (name.empty()) {
      name = "gpt-2";
      parts_->description.notes.push_back(
          fmt::format("{} is absent: GPT-2's pattern is used", keys_.Name("pre")));
    }
    const PreName* pre = FindPreName(name);
    if (pre == nullptr) {
      keys_.Fail("pre", fmt::format("unknown pre-tokenizer '{}'", name), ErrorCode::kModelLoad);
    }
    pre_ = pre;
    parts_->description.pre_name = name;
    std::vector<const char*> patterns;
    for (const char* pattern : pre->patterns) {
      if (pattern != nullptr) patterns.push_back(pattern);
    }
    parts_->splitter = MakeSplitterOf(patterns);
    parts_->description.pre_tokenizer =
        fmt::format("{} ({} pattern(s)), ByteLevel", name, patterns.size());
    if (pre->nfc) {
      parts_->normalizer = MakeNormalForm(NormalForm::kNfc);
      parts_->description.notes.push_back("NFC as the model family's tokenizer.json has it");
    }
    BpeOptions options;
    options.ignore_merges = pre->ignore_merges;
    options.skip_bad_merges = true;
    const MergeSource merges = Merges();
    MergeRules rules = MergeRules::Resolve(vocabulary_, merges, options);
    parts_->merges_digest = rules.digest();
    parts_->description.merges = merges.size;
    if (!rules.skipped().empty()) {
      parts_->description.notes.push_back(fmt::format(
          "{} merges name pieces that the vocabulary lacks and are left out", rules.skipped().size()));
    }
    AddSpecialTokens(true);
    auto model =
        std::make_unique<BpeModel>(std::move(vocabulary_), std::move(rules), std::move(options));
    parts_->byte_level = ByteLevelEncoder::Make(*model);
    parts_->model = std::move(model);
    parts_->decoder = MakeByteLevelDecoder();
    parts_->prefix_space = keys_.Bool("add_space_prefix").value_or(false);
  }

  MergeSource Merges() const {
    const MetaValue* lines = keys_.Strings("merges");
    if (lines == nullptr) keys_.Fail("merges", "is missing or empty");
    return {lines->size(), [this, lines](size_t begin) -> MergeSource::Reader {
              StringWalk walk(*lines);
              for (size_t i = 0; i < begin; ++i) walk.Next();
              return [this, walk, rank = begin](std::span<MergePair> out) mutable {
                for (MergePair& pair : out) {
                  const std::string_view line = walk.Next();
                  const size_t space = line.find(' ', 1);
                  if (space == std::string_view::npos) keys_.Fail("merges", fmt::format("merge {} ('{}') is not two pieces", rank, line));
                  pair = {line.substr(0, space), line.substr(space + 1)};
                  ++rank;
                }
              };
            }};
  }

  static std::unique_ptr<const Splitter> MakeSplitterOf(const std::vector<const char*>& patterns) {
    if (patterns.size() == 2 && std::string_view(patterns[0]) == R"(\p{N})" &&
        std::string_view(patterns[1]) == kGpt2Pattern) {
      return MakeDigitsGpt2Scanner();
    }
    std::vector<std::unique_ptr<const Splitter>> stages;
    for (const char* pattern : patterns) {
      auto stage = MakeScanner(pattern);
      if (!stage) stage = MakeRegexSplitter(std::make_shared<const Regex>(pattern));
      stages.push_back(std::move(stage));
    }
    return stages.size() == 1 ? std::move(stages[0]) : MakeChain(std::move(stages));
  }

  NormalizerPtr SpaceSteps(bool prefix, bool remove_extra) {
    std::vector<NormalizerPtr> steps;
    if (const MetaValue* map = keys_.Find("precompiled_charsmap")) {
      if (map->type() != MetaValue::Type::kArray)
        keys_.Fail("precompiled_charsmap", "is not an array");
      const std::string_view blob = AsText(map->array_bytes());
      if (!blob.empty()) steps.push_back(MakeCharsmap(blob, CharsmapMatch::kLongest));
    }
    steps.push_back(MakeSpaceNormalizer(
        {.remove_extra = remove_extra, .dummy_prefix = prefix, .escape = true}));
    return steps.size() == 1 ? std::move(steps[0]) : MakeNormalizerSequence(std::move(steps));
  }

  bool HasAllBytes() const {
    const auto ids = ByteFallbackIds(vocabulary_);
    return std::all_of(ids.begin(), ids.end(), [](const auto& id) { return id.has_value(); });
  }

  std::optional<uint32_t> Unknown() const {
    if (parts_->special.unk) return static_cast<uint32_t>(*parts_->special.unk);
    for (uint32_t id = 0; id < types_.size(); ++id) {
      if (types_[id] == PieceType::kUnknown) return id;
    }
    return std::nullopt;
  }

  void BuildSentencePiece() {
    const bool prefix = keys_.Bool("add_space_prefix").value_or(true);
    const bool remove_extra = keys_.Bool("remove_extra_whitespaces").value_or(false);
    parts_->normalizer = SpaceSteps(prefix, remove_extra);
    parts_->decoder = MakeSentencePieceDecoder(prefix || remove_extra);
    AddSpecialTokens(false);
    ScoredPieces pieces;
    pieces.unk_id = Unknown();
    pieces.byte_fallback = HasAllBytes();
    pieces.scores = TakeScores();
    pieces.types = std::move(types_);
    parts_->model = std::make_unique<SentencePieceBpe>(std::move(vocabulary_), std::move(pieces));
  }

  void BuildUnigram() {
    const bool prefix = keys_.Bool("add_space_prefix").value_or(true);
    const bool remove_extra = keys_.Bool("remove_extra_whitespaces").value_or(false);
    parts_->normalizer = SpaceSteps(prefix, remove_extra);
    parts_->decoder = MakeSentencePieceDecoder(prefix || remove_extra);
    AddSpecialTokens(false);
    UnigramOptions options;
    options.unk_id = Unknown();
    options.byte_fallback = HasAllBytes();
    options.single_precision = true;
    const std::vector<float> scores = TakeScores();
    options.scores.assign(scores.begin(), scores.end());
    options.types = std::move(types_);
    parts_->model = std::make_unique<UnigramModel>(std::move(vocabulary_), std::move(options));
  }

  // GGUF spells the first piece of a word with the space mark and the others bare.
  void BuildWordPiece() {
    parts_->normalizer = MakeBertNormalizer({});
    parts_->pre_tokenizer = MakeBertPreTokenizer();
    WordPieceOptions options;
    options.word_prefix = kSpaceMark;
    options.continuing_subword_prefix = "";
    options.max_input_chars_per_word = ~uint64_t{0};
    const auto unk = Unknown();
    options.unk_token = unk ? std::string(vocabulary_.Piece(*unk)) : "[UNK]";
    parts_->decoder = MakeSentencePieceDecoder(true);
    AddSpecialTokens(true);
    parts_->model = std::make_unique<WordPieceModel>(std::move(vocabulary_), std::move(options));
  }

  void AddBeginAndEnd(const std::string& model) {
    SpecialIds& ids = parts_->special;
    bool bos = model == "llama" || model == "bert";
    bool eos = model == "t5";
    bool sep = model == "bert";
    if (pre_ != nullptr) bos = pre_->add_bos;
    if (pre_ != nullptr) sep = pre_->add_sep;
    if (sep) bos = true;
    bos = keys_.Bool("add_bos_token").value_or(bos);
    eos = keys_.Bool("add_eos_token").value_or(eos);
    sep = keys_.Bool("add_sep_token").value_or(sep);
    if (model == "bert" && !ids.bos) ids.bos = ids.cls;
    if (bos && ids.bos) parts_->prefix.push_back(*ids.bos);
    if (bos && !ids.bos) Note("add_bos_token", "bos_token_id");
    if (eos && ids.eos) parts_->suffix.push_back(*ids.eos);
    if (eos && !ids.eos) Note("add_eos_token", "eos_token_id");
    const auto separator = ids.sep ? ids.sep : ids.eos;
    if (sep && !eos && separator) parts_->suffix.push_back(*separator);
  }
  void Note(std::string_view flag, std::string_view id) {
    parts_->description.notes.push_back(fmt::format(
        "{} holds and {} is not a token: nothing is added", keys_.Name(flag), keys_.Name(id)));
  }

  Keys keys_;
  std::unique_ptr<TokenizerParts> parts_;
  size_t count_ = 0;  // of tokens
  Vocabulary vocabulary_;
  std::vector<PieceType> types_;
  std::vector<float> scores_;
  bool has_types_ = false;
  const PreName* pre_ = nullptr;
  std::string pre_given_;  // instead of the file's; empty: the file's
};

}  // namespace

std::unique_ptr<TokenizerParts> LoadModelMetadata(const ModelFile& file, const std::string& pre) {
  if (file.container() == Container::kSafetensors) return nullptr;
  try {
    return MetadataLoader(file, pre).Run();
  } catch (const Error& e) {
    throw e.With({.file = file.path()});
  }
}

}  // namespace apr
