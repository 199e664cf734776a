// See normalizer.h.
#include "tokenizer/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <utility>

#include "tokenizer/model.h"
#include "tokenizer/sentencepiece_bpe.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

// Rewrites character by character: `map(cp, out)` writes what the character becomes.
template <typename Map>
AlignedText MapCharacters(const AlignedText& text, Map&& map) {
  AlignedText out = AlignedText::Derived(text);
  const std::string& in = text.text();
  std::string buffer;
  for (size_t i = 0; i < in.size();) {
    const auto [cp, length] = unicode::DecodeValid(in.data() + i);
    buffer.clear();
    map(cp, buffer);
    if (!buffer.empty()) out.Append(buffer, text, i, i + length);
    i += length;
  }
  return out;
}

bool IsNonspacingMark(char32_t cp) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(cp)) == UTF8PROC_CATEGORY_MN;
}

bool IsChinese(char32_t cp) {
  return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
         (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
         (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
         (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

class FormNormalizer final : public Normalizer {
 public:
  explicit FormNormalizer(NormalForm form) : form_(form) {}
  AlignedText Apply(const AlignedText& text) const override { return Normalize(text, form_); }
  std::string Describe() const override {
    constexpr const char* kNames[] = {"NFC", "NFD", "NFKC", "NFKD"};
    return kNames[static_cast<int>(form_)];
  }

 private:
  NormalForm form_;
};

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options) : o_(options) {}

  AlignedText Apply(const AlignedText& text) const override {
    AlignedText t = text;
    if (o_.clean_text) t = Clean(t);
    if (o_.handle_chinese_chars) t = Pad(t);
    if (o_.strip_accents) {
      t = MapCharacters(Normalize(t, NormalForm::kNfd), [](char32_t cp, std::string& out) {
        if (!IsNonspacingMark(cp)) unicode::AppendUtf8(cp, out);
      });
    }
    if (o_.lowercase) t = MapCharacters(t, unicode::AppendLower);
    return t;
  }
  std::string Describe() const override {
    return fmt::format(
        "Bert(clean_text={}, handle_chinese_chars={}, strip_accents={}, lowercase={})",
        o_.clean_text, o_.handle_chinese_chars, o_.strip_accents, o_.lowercase);
  }

 private:
  static AlignedText Clean(const AlignedText& text) {
    return MapCharacters(text, [](char32_t cp, std::string& out) {
      const uint16_t flags = unicode::CharFlags(cp);
      const bool blank = cp == '\t' || cp == '\n' || cp == '\r';
      if (cp == 0 || cp == unicode::kReplacement || (!blank && (flags & unicode::kOther))) return;
      if (flags & unicode::kSpace) {
        out += ' ';
      } else {
        unicode::AppendUtf8(cp, out);
      }
    });
  }
  static AlignedText Pad(const AlignedText& text) {
    return MapCharacters(text, [](char32_t cp, std::string& out) {
      const bool chinese = IsChinese(cp);
      if (chinese) out += ' ';
      unicode::AppendUtf8(cp, out);
      if (chinese) out += ' ';
    });
  }
  BertNormalizerOptions o_;
};

// A rule on single characters.
class CharacterNormalizer final : public Normalizer {
 public:
  using Map = void (*)(char32_t, std::string&);
  CharacterNormalizer(const char* name, Map map) : name_(name), map_(map) {}
  AlignedText Apply(const AlignedText& text) const override { return MapCharacters(text, map_); }
  std::string Describe() const override { return name_; }

 private:
  const char* name_;
  Map map_;
};

void MapNmt(char32_t cp, std::string& out) {
  if ((cp >= 1 && cp <= 8) || cp == 0x0B || (cp >= 0x0E && cp <= 0x1F) || cp == 0x7F ||
      cp == 0x8F || cp == 0x9F) {
    return;
  }
  const bool space = cp == 9 || cp == 0x0A || cp == 0x0C || cp == 0x0D || cp == 0x1680 ||
                     (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 ||
                     cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
  unicode::AppendUtf8(space ? U' ' : cp, out);
}

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  AlignedText Apply(const AlignedText& text) const override {
    const std::string& in = text.text();
    size_t begin = 0;
    size_t end = in.size();
    while (left_ && begin < end) {
      const auto [cp, length] = unicode::DecodeValid(in.data() + begin);
      if (!(unicode::CharFlags(cp) & unicode::kSpace)) break;
      begin += length;
    }
    while (right_ && end > begin) {
      const char* last = unicode::PreviousCharacter(in.data() + begin, in.data() + end);
      if (!(unicode::CharFlags(unicode::DecodeValid(last).cp) & unicode::kSpace)) break;
      end = static_cast<size_t>(last - in.data());
    }
    AlignedText out = AlignedText::Derived(text);
    out.Copy(text, begin, end);
    return out;
  }
  std::string Describe() const override {
    return fmt::format("Strip(left={}, right={})", left_, right_);
  }

 private:
  bool left_, right_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  AlignedText Apply(const AlignedText& text) const override {
    if (text.size() == 0) return text;
    AlignedText out = AlignedText::Derived(text);
    out.Append(prefix_, text, 0, 0);
    out.Copy(text, 0, text.size());
    return out;
  }
  std::string Describe() const override { return fmt::format("Prepend(\"{}\")", prefix_); }

 private:
  std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  AlignedText Apply(const AlignedText& text) const override {
    AlignedText out = AlignedText::Derived(text);
    size_t done = 0;
    pattern_.ForEachMatch(text.text(), [&](size_t begin, size_t end) {
      out.Copy(text, done, begin);
      out.Append(content_, text, begin, end);
      done = end;
    });
    if (done == 0 && out.size() == 0) return text;
    out.Copy(text, done, text.size());
    return out;
  }
  std::string Describe() const override {
    return fmt::format("Replace(\"{}\" -> \"{}\")", pattern_.source(), content_);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevelNormalizer final : public Normalizer {
 public:
  AlignedText Apply(const AlignedText& text) const override {
    AlignedText out = AlignedText::Derived(text);
    std::string buffer;
    for (size_t i = 0; i < text.size(); ++i) {
      buffer.clear();
      unicode::AppendUtf8(ByteLevelCharacter(static_cast<uint8_t>(text.text()[i])), buffer);
      out.Append(buffer, text, i, i + 1);
    }
    return out;
  }
  std::string Describe() const override { return "ByteLevel"; }
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<NormalizerPtr> steps) : steps_(std::move(steps)) {}
  AlignedText Apply(const AlignedText& text) const override {
    AlignedText out = text;
    for (const auto& step : steps_) out = step->Apply(out);
    return out;
  }
  std::string Describe() const override {
    std::string out;
    for (const auto& step : steps_) {
      if (!out.empty()) out += ", ";
      out += step->Describe();
    }
    return fmt::format("[{}]", out);
  }

 private:
  std::vector<NormalizerPtr> steps_;
};

class SpaceNormalizer final : public Normalizer {
 public:
  explicit SpaceNormalizer(const SpaceRules& rules) : rules_(rules) {}
  AlignedText Apply(const AlignedText& text) const override {
    const std::string_view space = rules_.escape ? kSpaceMark : " ";
    const std::string& in = text.text();
    AlignedText out = AlignedText::Derived(text);
    size_t begin = 0;
    size_t end = in.size();
    if (rules_.remove_extra) {
      begin = std::min(in.find_first_not_of(' '), in.size());
      end = begin == in.size() ? begin : in.find_last_not_of(' ') + 1;
    }
    if (begin == end) return out;
    if (rules_.dummy_prefix) out.Append(space, text, begin, begin);
    for (size_t i = begin; i < end;) {
      size_t next = std::min(in.find(' ', i), end);
      if (next > i) out.Copy(text, i, next);
      i = next;
      if (i == end) break;
      size_t after = i + 1;
      while (rules_.remove_extra && after < end && in[after] == ' ') ++after;
      out.Append(space, text, i, after);
      i = after;
    }
    return out;
  }
  std::string Describe() const override {
    return fmt::format("Space(remove_extra={}, dummy_prefix={}, escape={})", rules_.remove_extra,
                       rules_.dummy_prefix, rules_.escape);
  }

 private:
  SpaceRules rules_;
};

}  // namespace

NormalizerPtr MakeNormalForm(NormalForm form) { return std::make_unique<FormNormalizer>(form); }
NormalizerPtr MakeBertNormalizer(const BertNormalizerOptions& options) {
  return std::make_unique<BertNormalizer>(options);
}
NormalizerPtr MakeLowercase() {
  return std::make_unique<CharacterNormalizer>("Lowercase", unicode::AppendLower);
}
NormalizerPtr MakeStripAccents() {
  return std::make_unique<CharacterNormalizer>("StripAccents", [](char32_t cp, std::string& out) {
    if (!(unicode::CharFlags(cp) & unicode::kMark)) unicode::AppendUtf8(cp, out);
  });
}
NormalizerPtr MakeNmt() { return std::make_unique<CharacterNormalizer>("Nmt", MapNmt); }
NormalizerPtr MakeStrip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
NormalizerPtr MakePrepend(std::string prefix) {
  return std::make_unique<Prepend>(std::move(prefix));
}
NormalizerPtr MakeReplace(Pattern pattern, std::string content) {
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}
NormalizerPtr MakeByteLevelNormalizer() { return std::make_unique<ByteLevelNormalizer>(); }
NormalizerPtr MakeNormalizerSequence(std::vector<NormalizerPtr> steps) {
  return std::make_unique<NormalizerSequence>(std::move(steps));
}
NormalizerPtr MakeSpaceNormalizer(const SpaceRules& rules) {
  return std::make_unique<SpaceNormalizer>(rules);
}

}  // namespace apr
