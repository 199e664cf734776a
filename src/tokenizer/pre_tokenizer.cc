// See pre_tokenizer.h.
#include "tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "tokenizer/model.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

using unicode::kNumber;
using unicode::kPunctuation;
using unicode::kSpace;
using unicode::kWord;

// A stretch of a piece, and whether the pattern matched it. Stretches cover the piece in order.
struct Stretch {
  uint32_t begin;
  uint32_t end;
  bool match;
};
using Stretches = std::vector<Stretch>;

// Matches and what lies between them.
class StretchList {
 public:
  StretchList(std::string_view text, bool invert)
      : size_(static_cast<uint32_t>(text.size())), invert_(invert) {}
  void AddMatch(size_t begin, size_t end) {
    const auto b = static_cast<uint32_t>(begin);
    const auto e = static_cast<uint32_t>(end);
    if (b > done_) list_.push_back({done_, b, invert_});
    list_.push_back({b, e, !invert_});
    done_ = e;
  }
  Stretches Finish() {
    if (done_ < size_) list_.push_back({done_, size_, invert_});
    return std::move(list_);
  }

 private:
  Stretches list_;
  uint32_t size_;
  uint32_t done_ = 0;
  bool invert_;
};

// Every character that `is` holds for is a match of its own.
template <typename Is>
Stretches MatchCharacters(std::string_view text, Is&& is) {
  StretchList list(text, false);
  for (size_t i = 0; i < text.size();) {
    const auto [cp, length] = unicode::DecodeValid(text.data() + i);
    if (is(cp)) list.AddMatch(i, i + length);
    i += length;
  }
  return list.Finish();
}

Stretches Combine(Stretches list, SplitBehavior behavior) {
  Stretches out;
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return list;
    case SplitBehavior::kRemoved:
      std::copy_if(list.begin(), list.end(), std::back_inserter(out),
                   [](auto& s) { return !s.match; });
      return out;
    case SplitBehavior::kMergedWithPrevious:
      for (const Stretch& s : list) {
        if (s.match && !previous && !out.empty()) {
          out.back().end = s.end;
        } else {
          out.push_back(s);
        }
        previous = s.match;
      }
      return out;
    case SplitBehavior::kMergedWithNext:
      for (size_t i = list.size(); i-- > 0;) {
        if (list[i].match && !previous && !out.empty()) {
          out.back().begin = list[i].begin;
        } else {
          out.push_back(list[i]);
        }
        previous = list[i].match;
      }
      std::reverse(out.begin(), out.end());
      return out;
    case SplitBehavior::kContiguous:
      for (const Stretch& s : list) {
        if (s.match == previous && !out.empty()) {
          out.back().end = s.end;
        } else {
          out.push_back(s);
        }
        previous = s.match;
      }
      return out;
  }
  return out;
}

// Replaces each piece by what `match` and `behavior` cut it into.
template <typename Match>
void Cut(PieceList& list, SplitBehavior behavior, Match&& match) {
  std::vector<ByteSpan> pieces;
  const std::string_view text = list.text.text();
  for (const ByteSpan piece : list.pieces) {
    Stretches stretches = match(text.substr(piece.begin, piece.end - piece.begin));
    for (const Stretch& s : Combine(std::move(stretches), behavior)) {
      if (s.end > s.begin) pieces.push_back({piece.begin + s.begin, piece.begin + s.end});
    }
  }
  list.pieces = std::move(pieces);
  list.cut = true;
}

// Writes each piece anew: `rewrite(piece, out)` appends to `out`.
template <typename RewritePiece>
void Rewrite(PieceList& list, RewritePiece&& rewrite) {
  AlignedText out = AlignedText::Derived(list.text);
  for (ByteSpan& piece : list.pieces) {
    const auto begin = static_cast<uint32_t>(out.size());
    rewrite(piece, out);
    piece = {begin, static_cast<uint32_t>(out.size())};
  }
  list.text = std::move(out);
}

class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void Apply(PieceList& list) const override {
    Cut(list, behavior_, [&](std::string_view text) {
      StretchList stretches(text, invert_);
      pattern_.ForEachMatch(text, [&](size_t b, size_t e) { stretches.AddMatch(b, e); });
      return stretches.Finish();
    });
  }
  std::string Describe() const override {
    return fmt::format("Split({} \"{}\", {}{})", pattern_.regex() ? "regex" : "string",
                       pattern_.source(), SplitBehaviorName(behavior_),
                       invert_ ? ", inverted" : "");
  }
  std::unique_ptr<const Splitter> AsSplitter() const override {
    // Matches or gaps isolated: which of them is the "match" makes no difference. A pattern that
    // covers every text may also have its gaps, of which there are none, removed.
    if (!pattern_.regex()) return nullptr;
    auto scanner = MakeScanner(pattern_.source());
    const bool total = scanner != nullptr && behavior_ == SplitBehavior::kRemoved && invert_;
    if (behavior_ != SplitBehavior::kIsolated && !total) return nullptr;
    return scanner ? std::move(scanner) : MakeRegexSplitter(pattern_.regex());
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class ByteLevel final : public PreTokenizer {
 public:
  explicit ByteLevel(const ByteLevelOptions& options) : options_(options) {}
  void Apply(PieceList& list) const override {
    if (options_.add_prefix_space) {
      Rewrite(list, [&, text = list.text](ByteSpan piece, AlignedText& out) {
        if (text.text()[piece.begin] != ' ') out.Append(" ", text, piece.begin, piece.begin);
        out.Copy(text, piece.begin, piece.end);
      });
    }
    if (options_.use_regex) {
      Cut(list, SplitBehavior::kIsolated, [&](std::string_view text) {
        std::vector<uint32_t> ends;
        scanner_->Split(text, ends);
        StretchList stretches(text, false);
        uint32_t begin = 0;
        for (const uint32_t end : ends) {
          stretches.AddMatch(begin, end);
          begin = end;
        }
        return stretches.Finish();
      });
    }
    std::string spelled;
    Rewrite(list, [&, text = list.text](ByteSpan piece, AlignedText& out) {
      for (uint32_t i = piece.begin; i < piece.end; ++i) {
        spelled.clear();
        unicode::AppendUtf8(ByteLevelCharacter(static_cast<uint8_t>(text.text()[i])), spelled);
        out.Append(spelled, text, i, i + 1);
      }
    });
  }
  std::string Describe() const override {
    return fmt::format("ByteLevel(add_prefix_space={}, use_regex={})", options_.add_prefix_space,
                       options_.use_regex);
  }

 private:
  ByteLevelOptions options_;
  std::unique_ptr<const Splitter> scanner_ = MakeScanner(kGpt2Pattern);
};

class Metaspace final : public PreTokenizer {
 public:
  explicit Metaspace(MetaspaceOptions options) : options_(std::move(options)) {}
  void Apply(PieceList& list) const override {
    const std::string& mark = options_.replacement;
    Rewrite(list, [&, text = list.text](ByteSpan piece, AlignedText& out) {
      const std::string_view in = std::string_view(text.text()).substr(0, piece.end);
      const bool marked = in[piece.begin] == ' ' || in.substr(piece.begin).starts_with(mark);
      // "First" is about the user's text: where a cut piece came from, or where all of it begins.
      const bool first =
          list.cut ? text.Source(piece.begin, piece.begin + 1).begin == 0 : text.offset() == 0;
      if (!marked && (options_.prepend_scheme == PrependScheme::kAlways ||
                      (options_.prepend_scheme == PrependScheme::kFirst && first))) {
        out.Append(mark, text, piece.begin, piece.begin);
      }
      for (size_t i = piece.begin; i < piece.end;) {
        const size_t space = std::min<size_t>(in.find(' ', i), piece.end);
        out.Copy(text, i, space);
        if (space < piece.end) out.Append(mark, text, space, space + 1);
        i = space + 1;
      }
    });
    if (!options_.split) return;
    Cut(list, SplitBehavior::kMergedWithNext, [&](std::string_view text) {
      StretchList stretches(text, false);
      for (size_t at = text.find(mark); at != std::string_view::npos;
           at = text.find(mark, at + mark.size())) {
        stretches.AddMatch(at, at + mark.size());
      }
      return stretches.Finish();
    });
  }
  bool NeedsSources() const override { return options_.prepend_scheme == PrependScheme::kFirst; }
  std::string Describe() const override {
    constexpr const char* kSchemes[] = {"first", "never", "always"};
    return fmt::format("Metaspace(\"{}\", prepend {}, split={})", options_.replacement,
                       kSchemes[static_cast<int>(options_.prepend_scheme)], options_.split);
  }

 private:
  MetaspaceOptions options_;
};

bool IsPunctuation(char32_t cp) {
  return unicode::IsAsciiPunctuation(cp) || (unicode::CharFlags(cp) & kPunctuation);
}
bool IsSpace(char32_t cp) { return unicode::CharFlags(cp) & kSpace; }

class Bert final : public PreTokenizer {
 public:
  void Apply(PieceList& list) const override {
    Cut(list, SplitBehavior::kRemoved,
        [](std::string_view t) { return MatchCharacters(t, IsSpace); });
    Cut(list, SplitBehavior::kIsolated,
        [](std::string_view t) { return MatchCharacters(t, IsPunctuation); });
  }
  std::string Describe() const override { return "Bert"; }
};

class Whitespace final : public PreTokenizer {
 public:
  void Apply(PieceList& list) const override {
    Cut(list, SplitBehavior::kRemoved, [](std::string_view text) {
      const auto kind = [](char32_t cp) {
        const uint16_t flags = unicode::CharFlags(cp);
        return flags & kWord ? 1 : flags & kSpace ? 0 : 2;
      };
      StretchList stretches(text, true);
      for (size_t i = 0; i < text.size();) {
        const auto first = unicode::DecodeValid(text.data() + i);
        const int k = kind(first.cp);
        size_t end = i + first.length;
        while (end < text.size()) {
          const auto next = unicode::DecodeValid(text.data() + end);
          if (kind(next.cp) != k) break;
          end += next.length;
        }
        if (k != 0) stretches.AddMatch(i, end);
        i = end;
      }
      return stretches.Finish();
    });
  }
  std::string Describe() const override { return "Whitespace"; }
};

// A predicate on characters and what to do with the ones it holds for.
class CharacterSplit final : public PreTokenizer {
 public:
  CharacterSplit(std::string name, bool (*is)(char32_t), SplitBehavior behavior)
      : name_(std::move(name)), is_(is), behavior_(behavior) {}
  void Apply(PieceList& list) const override {
    Cut(list, behavior_, [&](std::string_view text) { return MatchCharacters(text, is_); });
  }
  std::string Describe() const override { return name_; }
  std::unique_ptr<const Splitter> AsSplitter() const override;

 private:
  std::string name_;
  bool (*is_)(char32_t);
  SplitBehavior behavior_;
};

class CharacterSplitter final : public Splitter {
 public:
  CharacterSplitter(bool (*is)(char32_t), SplitBehavior behavior) : is_(is), behavior_(behavior) {}
  void Split(std::string_view text, std::vector<uint32_t>& ends) const override {
    for (const Stretch& s : Combine(MatchCharacters(text, is_), behavior_)) ends.push_back(s.end);
  }

 private:
  bool (*is_)(char32_t);
  SplitBehavior behavior_;
};

std::unique_ptr<const Splitter> CharacterSplit::AsSplitter() const {
  if (behavior_ == SplitBehavior::kRemoved) return nullptr;
  return std::make_unique<CharacterSplitter>(is_, behavior_);
}

class Delimiter final : public PreTokenizer {
 public:
  explicit Delimiter(std::string delimiter) : delimiter_(Pattern::Literal(std::move(delimiter))) {}
  void Apply(PieceList& list) const override {
    Cut(list, SplitBehavior::kRemoved, [&](std::string_view text) {
      StretchList stretches(text, false);
      delimiter_.ForEachMatch(text, [&](size_t b, size_t e) { stretches.AddMatch(b, e); });
      return stretches.Finish();
    });
  }
  std::string Describe() const override {
    return fmt::format("CharDelimiterSplit(\"{}\")", delimiter_.source());
  }

 private:
  Pattern delimiter_;
};

class UnicodeScripts final : public PreTokenizer {
 public:
  void Apply(PieceList& list) const override {
    Cut(list, SplitBehavior::kIsolated, [](std::string_view text) {
      // A piece begins where the script changes; a space belongs to any script, and spaces in front
      // of the first other character to no piece.
      Stretches pieces;
      int last = 0;
      for (size_t i = 0; i < text.size();) {
        const auto [cp, length] = unicode::DecodeValid(text.data() + i);
        const int script = cp == ' ' ? 0 : unicode::ScriptOf(cp);
        const auto at = static_cast<uint32_t>(i);
        if (script != 0 && script != last) {
          if (!pieces.empty()) pieces.back().end = at;
          pieces.push_back({at, at, true});
          last = script;
        }
        i += length;
      }
      if (!pieces.empty()) pieces.back().end = static_cast<uint32_t>(text.size());
      return pieces;
    });
  }
  std::string Describe() const override { return "UnicodeScripts"; }
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(uint64_t characters) : characters_(std::max<uint64_t>(1, characters)) {}
  void Apply(PieceList& list) const override {
    Cut(list, SplitBehavior::kIsolated, [&](std::string_view text) {
      StretchList stretches(text, false);
      for (size_t i = 0; i < text.size();) {
        size_t end = i;
        for (uint64_t n = 0; n < characters_ && end < text.size(); ++n) {
          end += unicode::SequenceLength(static_cast<unsigned char>(text[end]));
        }
        stretches.AddMatch(i, end);
        i = end;
      }
      return stretches.Finish();
    });
  }
  std::string Describe() const override { return fmt::format("FixedLength({})", characters_); }

 private:
  uint64_t characters_;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<PreTokenizerPtr> steps) : steps_(std::move(steps)) {}
  void Apply(PieceList& list) const override {
    for (const auto& step : steps_) step->Apply(list);
  }
  bool NeedsSources() const override {
    return std::any_of(steps_.begin(), steps_.end(),
                       [](const auto& s) { return s->NeedsSources(); });
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
  std::vector<PreTokenizerPtr> steps_;
};

}  // namespace

const char* SplitBehaviorName(SplitBehavior behavior) {
  constexpr const char* kBehaviors[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  return kBehaviors[static_cast<int>(behavior)];
}

PreTokenizerPtr MakeSplit(Pattern pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}
PreTokenizerPtr MakeByteLevel(const ByteLevelOptions& options) {
  return std::make_unique<ByteLevel>(options);
}
PreTokenizerPtr MakeMetaspace(const MetaspaceOptions& options) {
  return std::make_unique<Metaspace>(options);
}
PreTokenizerPtr MakeBertPreTokenizer() { return std::make_unique<Bert>(); }
PreTokenizerPtr MakeWhitespace() { return std::make_unique<Whitespace>(); }
PreTokenizerPtr MakeWhitespaceSplit() {
  return std::make_unique<CharacterSplit>("WhitespaceSplit", IsSpace, SplitBehavior::kRemoved);
}
PreTokenizerPtr MakePunctuation(SplitBehavior behavior) {
  return std::make_unique<CharacterSplit>(
      fmt::format("Punctuation({})", SplitBehaviorName(behavior)), IsPunctuation, behavior);
}
PreTokenizerPtr MakeDigits(bool individual) {
  return std::make_unique<CharacterSplit>(
      fmt::format("Digits(individual={})", individual),
      [](char32_t cp) -> bool { return unicode::CharFlags(cp) & kNumber; },
      individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}
PreTokenizerPtr MakeDelimiter(std::string delimiter) {
  return std::make_unique<Delimiter>(std::move(delimiter));
}
PreTokenizerPtr MakeUnicodeScripts() { return std::make_unique<UnicodeScripts>(); }
PreTokenizerPtr MakeFixedLength(uint64_t characters) {
  return std::make_unique<FixedLength>(characters);
}
PreTokenizerPtr MakePreTokenizerSequence(std::vector<PreTokenizerPtr> steps) {
  return std::make_unique<PreTokenizerSequence>(std::move(steps));
}

}  // namespace apr
