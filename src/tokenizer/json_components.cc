// See json_components.h. Field names and defaults: huggingface/tokenizers, tokenizers/src.
#include "tokenizer/json_components.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace apr {
namespace {

[[noreturn]] void FailField(std::string_view component, std::string_view what) {
  throw Error(ErrorCode::kInvalidFormat, fmt::format("{}", what),
              {.tensor = std::string(component)});
}

// One component's object: typed access to its fields, with the component named in errors.
class Fields {
 public:
  Fields(const Json& json, std::string component) : json_(json), component_(std::move(component)) {
    if (!json.is_object()) FailField(component_, "is not an object");
    if (json.contains("type") && json["type"].is_string()) type_ = json["type"].get<std::string>();
    if (type_.empty()) FailField(component_, "has no \"type\"");
    component_ += "." + type_;
  }
  const std::string& type() const { return type_; }
  const std::string& component() const { return component_; }
  bool Has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  const Json& At(const char* key) const {
    if (!json_.contains(key)) FailField(component_, fmt::format("lacks \"{}\"", key));
    return json_[key];
  }
  bool Bool(const char* key, bool fallback) const {
    if (!Has(key)) return fallback;
    if (!json_[key].is_boolean())
      FailField(component_, fmt::format("\"{}\" is not true or false", key));
    return json_[key].get<bool>();
  }
  std::string String(const char* key, const char* fallback) const {
    if (!Has(key) && fallback != nullptr) return fallback;
    if (!At(key).is_string()) FailField(component_, fmt::format("\"{}\" is not a string", key));
    return json_[key].get<std::string>();
  }
  uint64_t Count(const char* key, uint64_t fallback) const {
    if (!Has(key)) return fallback;
    if (!json_[key].is_number_unsigned())
      FailField(component_, fmt::format("\"{}\" is not a count", key));
    return json_[key].get<uint64_t>();
  }
  const Json& Array(const char* key) const {
    if (!At(key).is_array()) FailField(component_, fmt::format("\"{}\" is not an array", key));
    return json_[key];
  }
  Pattern PatternAt(const char* key) const {
    const Json& json = At(key);
    if (json.is_object() && json.size() == 1) {
      const std::string& kind = json.begin().key();
      const Json& value = json.begin().value();
      if (value.is_string() && kind == "String") return Pattern::Literal(value.get<std::string>());
      if (value.is_string() && kind == "Regex")
        return Pattern::Expression(value.get<std::string>());
    }
    FailField(component_, fmt::format("\"{}\" is neither a String nor a Regex", key));
  }
  SplitBehavior Behavior(const char* fallback) const {
    const std::string name = String("behavior", fallback);
    for (const auto behavior :
         {SplitBehavior::kRemoved, SplitBehavior::kIsolated, SplitBehavior::kMergedWithPrevious,
          SplitBehavior::kMergedWithNext, SplitBehavior::kContiguous}) {
      if (name == SplitBehaviorName(behavior)) return behavior;
    }
    FailField(component_, fmt::format("unknown behavior '{}'", name));
  }
  [[noreturn]] void FailType(std::string_view what) const {
    throw Error(ErrorCode::kModelLoad, fmt::format("{} of unknown type '{}'", what, type_),
                {.tensor = component_});
  }

 private:
  const Json& json_;
  std::string component_;
  std::string type_;
};

PrependScheme SchemeOf(const Fields& fields) {
  const std::string name = fields.String("prepend_scheme", "always");
  // The older field says whether there is a space at all.
  if (!fields.Bool("add_prefix_space", true) && !fields.Has("prepend_scheme"))
    return PrependScheme::kNever;
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  FailField(fields.component(), fmt::format("unknown prepend_scheme '{}'", name));
}

std::vector<DecoderStepPtr> DecoderSteps(const Json& json) {
  const Fields f(json, "decoder");
  std::vector<DecoderStepPtr> steps;
  const std::string& type = f.type();
  if (type == "Sequence") {
    for (const Json& item : f.Array("decoders")) {
      for (auto& step : DecoderSteps(item)) steps.push_back(std::move(step));
    }
  } else if (type == "ByteLevel") {
    steps.push_back(MakeByteLevelStep());
  } else if (type == "Replace") {
    steps.push_back(MakeReplaceStep(f.PatternAt("pattern"), f.String("content", nullptr)));
  } else if (type == "ByteFallback") {
    steps.push_back(MakeByteFallbackStep());
  } else if (type == "Fuse") {
    steps.push_back(MakeFuseStep());
  } else if (type == "Strip") {
    steps.push_back(
        MakeStripStep(f.String("content", nullptr), f.Count("start", 0), f.Count("stop", 0)));
  } else if (type == "Metaspace") {
    steps.push_back(MakeMetaspaceStep(f.String("replacement", "\xE2\x96\x81"), SchemeOf(f)));
  } else if (type == "WordPiece") {
    steps.push_back(MakeWordPieceStep(f.String("prefix", "##"), f.Bool("cleanup", true)));
  } else if (type == "BPEDecoder") {
    steps.push_back(MakeBpeStep(f.String("suffix", "</w>")));
  } else if (type == "CTC") {
    steps.push_back(MakeCtcStep(f.String("pad_token", "<pad>"),
                                f.String("word_delimiter_token", "|"), f.Bool("cleanup", true)));
  } else {
    f.FailType("a decoder");
  }
  return steps;
}

// Wraps what an inner template gives in `pieces` of an outer one.
struct TemplateItem {
  bool text = false;
  std::vector<int32_t> ids;
};

std::vector<int32_t> IdPair(const Fields& f, const char* key) {
  const Json& json = f.Array(key);
  if (json.size() != 2 || !json[1].is_number_unsigned()) {
    FailField(f.component(), fmt::format("\"{}\" is not a [token, id] pair", key));
  }
  return {static_cast<int32_t>(json[1].get<uint32_t>())};
}

std::vector<TemplateItem> TemplateItems(const Fields& f) {
  std::vector<TemplateItem> items;
  const Json& tokens = f.At("special_tokens");
  for (const Json& piece : f.Array("single")) {
    if (piece.is_object() && piece.contains("Sequence")) {
      items.push_back({true, {}});
    } else if (piece.is_object() && piece.contains("SpecialToken") &&
               piece["SpecialToken"].contains("id") && piece["SpecialToken"]["id"].is_string()) {
      const auto name = piece["SpecialToken"]["id"].get<std::string>();
      if (!tokens.is_object() || !tokens.contains(name) || !tokens[name].contains("ids") ||
          !tokens[name]["ids"].is_array()) {
        FailField(f.component(), fmt::format("the special token '{}' has no ids", name));
      }
      TemplateItem item;
      for (const Json& id : tokens[name]["ids"]) {
        if (!id.is_number_unsigned()) FailField(f.component(), "an id is not a number");
        item.ids.push_back(static_cast<int32_t>(id.get<uint32_t>()));
      }
      items.push_back(std::move(item));
    } else {
      FailField(f.component(), "a piece of \"single\" is neither Sequence nor SpecialToken");
    }
  }
  return items;
}

}  // namespace

std::string FromBase64(std::string_view text, const std::string& component) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const char* alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char* at = std::char_traits<char>::find(alphabet, 64, c);
    if (at == nullptr) FailField(component, "\"precompiled_charsmap\" is not base64");
    bits = bits << 6 | static_cast<uint32_t>(at - alphabet);
    if (++count % 4 != 1) out += static_cast<char>(bits >> (6 - 2 * ((count - 1) % 4)) & 0xFF);
  }
  return out;
}

NormalizerPtr NormalizerFromJson(const Json& json) {
  if (json.is_null()) return nullptr;
  const Fields f(json, "normalizer");
  const std::string& type = f.type();
  if (type == "Sequence") {
    std::vector<NormalizerPtr> steps;
    for (const Json& item : f.Array("normalizers")) {
      if (auto step = NormalizerFromJson(item)) steps.push_back(std::move(step));
    }
    if (steps.empty()) return nullptr;
    return MakeNormalizerSequence(std::move(steps));
  }
  if (type == "NFC") return MakeNormalForm(NormalForm::kNfc);
  if (type == "NFD") return MakeNormalForm(NormalForm::kNfd);
  if (type == "NFKC") return MakeNormalForm(NormalForm::kNfkc);
  if (type == "NFKD") return MakeNormalForm(NormalForm::kNfkd);
  if (type == "BertNormalizer") {
    const bool lowercase = f.Bool("lowercase", true);
    return MakeBertNormalizer({.clean_text = f.Bool("clean_text", true),
                               .handle_chinese_chars = f.Bool("handle_chinese_chars", true),
                               .strip_accents = f.Bool("strip_accents", lowercase),
                               .lowercase = lowercase});
  }
  if (type == "Lowercase") return MakeLowercase();
  if (type == "StripAccents") return MakeStripAccents();
  if (type == "Nmt") return MakeNmt();
  if (type == "Strip") return MakeStrip(f.Bool("strip_left", true), f.Bool("strip_right", true));
  if (type == "Prepend") return MakePrepend(f.String("prepend", nullptr));
  if (type == "Replace") return MakeReplace(f.PatternAt("pattern"), f.String("content", nullptr));
  if (type == "ByteLevel") return MakeByteLevelNormalizer();
  if (type == "Precompiled") {
    if (!f.Has("precompiled_charsmap")) return nullptr;
    const std::string blob = FromBase64(f.String("precompiled_charsmap", nullptr), f.component());
    return blob.empty() ? nullptr : MakeCharsmap(blob, CharsmapMatch::kGraphemes);
  }
  f.FailType("a normalizer");
}

PreTokenizerPtr PreTokenizerFromJson(const Json& json) {
  if (json.is_null()) return nullptr;
  const Fields f(json, "pre_tokenizer");
  const std::string& type = f.type();
  if (type == "Sequence") {
    std::vector<PreTokenizerPtr> steps;
    for (const Json& item : f.Array("pretokenizers")) {
      if (auto step = PreTokenizerFromJson(item)) steps.push_back(std::move(step));
    }
    return MakePreTokenizerSequence(std::move(steps));
  }
  if (type == "ByteLevel") {
    return MakeByteLevel({.add_prefix_space = f.Bool("add_prefix_space", true),
                          .use_regex = f.Bool("use_regex", true)});
  }
  if (type == "Split") {
    return MakeSplit(f.PatternAt("pattern"), f.Behavior(nullptr), f.Bool("invert", false));
  }
  if (type == "Metaspace") {
    MetaspaceOptions options;
    options.replacement = f.String("replacement", "\xE2\x96\x81");
    options.prepend_scheme = SchemeOf(f);
    options.split = f.Bool("split", true);
    return MakeMetaspace(std::move(options));
  }
  if (type == "BertPreTokenizer") return MakeBertPreTokenizer();
  if (type == "Whitespace") return MakeWhitespace();
  if (type == "WhitespaceSplit") return MakeWhitespaceSplit();
  if (type == "Punctuation") return MakePunctuation(f.Behavior("Isolated"));
  if (type == "Digits") return MakeDigits(f.Bool("individual_digits", false));
  if (type == "CharDelimiterSplit") return MakeDelimiter(f.String("delimiter", nullptr));
  if (type == "UnicodeScripts") return MakeUnicodeScripts();
  if (type == "FixedLength") return MakeFixedLength(f.Count("length", 5));
  f.FailType("a pre-tokenizer");
}

ByteLevelForm ByteLevelFormFromJson(const Json& json) {
  if (json.is_null()) return {};
  const Fields f(json, "pre_tokenizer");
  std::vector<const Json*> items{&json};
  if (f.type() == "Sequence") {
    items.clear();
    for (const Json& item : f.Array("pretokenizers")) items.push_back(&item);
  }
  if (items.empty()) return {};
  const Fields last(*items.back(), "pre_tokenizer");
  if (last.type() != "ByteLevel") return {};
  ByteLevelForm form;
  form.prefix_space = last.Bool("add_prefix_space", true);
  // In front of every piece, not of the text: left to the general way.
  if (form.prefix_space && items.size() > 1) return {};
  const bool gpt2 = last.Bool("use_regex", true);
  if (gpt2 && items.size() == 2) {
    const Fields digits(*items[0], "pre_tokenizer");
    if (digits.type() == "Digits" && digits.Bool("individual_digits", false)) {
      form.splitter = MakeDigitsGpt2Scanner();
      return form;
    }
  }
  std::vector<std::unique_ptr<const Splitter>> stages;
  for (size_t i = 0; i + 1 < items.size(); ++i) {
    const auto step = PreTokenizerFromJson(*items[i]);
    auto splitter = step ? step->AsSplitter() : nullptr;
    if (!splitter) return {};
    stages.push_back(std::move(splitter));
  }
  if (gpt2) stages.push_back(MakeScanner(kGpt2Pattern));
  form.splitter = stages.size() == 1 ? std::move(stages[0]) : MakeChain(std::move(stages));
  return form;
}

DecoderPtr DecoderFromJson(const Json& json) {
  if (json.is_null()) return MakeDecoderChain({}, " ");
  const Fields f(json, "decoder");
  if (f.type() == "ByteLevel") return MakeByteLevelDecoder();
  auto steps = DecoderSteps(json);
  return MakeDecoderChain(std::move(steps), "");
}

SpecialTemplate TemplateFromJson(const Json& json) {
  SpecialTemplate out;
  if (json.is_null()) return out;
  const Fields f(json, "post_processor");
  const std::string& type = f.type();
  if (type == "ByteLevel") return out;
  if (type == "Sequence") {
    for (const Json& item : f.Array("processors")) {
      const SpecialTemplate outer = TemplateFromJson(item);
      out.prefix.insert(out.prefix.begin(), outer.prefix.begin(), outer.prefix.end());
      out.suffix.insert(out.suffix.end(), outer.suffix.begin(), outer.suffix.end());
      out.has_text = out.has_text && outer.has_text;
    }
    return out;
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    out.prefix = IdPair(f, "cls");
    out.suffix = IdPair(f, "sep");
    return out;
  }
  if (type != "TemplateProcessing") f.FailType("a post-processor");
  int texts = 0;
  for (const TemplateItem& item : TemplateItems(f)) {
    texts += item.text;
    auto& side = texts > 0 ? out.suffix : out.prefix;
    side.insert(side.end(), item.ids.begin(), item.ids.end());
  }
  if (texts != 1) {
    throw Error(ErrorCode::kModelLoad,
                fmt::format("the template for one text has it {} times, not once", texts),
                {.tensor = f.component()});
  }
  return out;
}

std::vector<AddedToken> AddedTokensFromJson(const Json& json, const Vocabulary& vocabulary,
                                            std::vector<std::string>& notes) {
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  if (!json.is_array()) FailField("added_tokens", "is not an array");
  uint64_t next = vocabulary.count();
  std::unordered_map<std::string, size_t> seen;
  for (const Json& item : json) {
    if (!item.is_object() || !item.contains("content") || !item["content"].is_string()) {
      FailField("added_tokens", "an entry has no \"content\"");
    }
    const auto flag = [&](const char* key, bool fallback) {
      if (!item.contains(key)) return fallback;
      if (!item[key].is_boolean())
        FailField("added_tokens", fmt::format("\"{}\" is not true or false", key));
      return item[key].get<bool>();
    };
    AddedToken token;
    token.content = item["content"].get<std::string>();
    if (token.content.empty()) continue;
    token.special = flag("special", false);
    token.normalized = flag("normalized", !token.special);
    token.single_word = flag("single_word", false);
    token.lstrip = flag("lstrip", false);
    token.rstrip = flag("rstrip", false);
    const auto earlier = seen.find(token.content);
    if (earlier != seen.end()) {
      token.id = tokens[earlier->second].id;
    } else if (const auto id = vocabulary.Find(token.content)) {
      token.id = *id;
      if (*id >= next) next = *id + uint64_t{1};
    } else {
      token.id = static_cast<uint32_t>(next++);
    }
    const Json& declared = item.contains("id") ? item["id"] : Json();
    if (declared.is_number_unsigned() && declared.get<uint64_t>() != token.id) {
      notes.push_back(
          fmt::format("added token '{}' is declared as id {} and is {}, as tokenizers counts",
                      token.content, declared.get<uint64_t>(), token.id));
    }
    if (earlier != seen.end()) {
      tokens[earlier->second] = std::move(token);
      continue;
    }
    seen.emplace(token.content, tokens.size());
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace apr
