// See decoder.h: the decoder steps of tokenizer.json and the chain of them.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "tokenizer/decoder.h"
#include "tokenizer/model.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

using Locality = DecoderStep::Locality;
using Tokens = std::vector<std::string>;

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty() || text.find(from) == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, done)) {
    out.append(text, done, at - done);
    out.append(to);
    done = at + from.size();
  }
  out.append(text, done);
  text = std::move(out);
}

std::string CleanUp(std::string text) {
  constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) ReplaceAll(text, from, to);
  return text;
}

class ByteLevelStep final : public DecoderStep {
 public:
  void Apply(Tokens& tokens, bool, bool) const override {
    std::string bytes;
    for (const std::string& token : tokens) bytes += ByteLevelBytes(token).value_or(token);
    tokens.assign(1, unicode::ReplaceIllFormed(bytes));
  }
  std::string Describe() const override { return "ByteLevel"; }
  Locality locality() const override { return Locality::kWhole; }
};

class ReplaceStep final : public DecoderStep {
 public:
  ReplaceStep(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void Apply(Tokens& tokens, bool, bool) const override {
    for (std::string& token : tokens) {
      std::string out;
      size_t done = 0;
      pattern_.ForEachMatch(token, [&](size_t begin, size_t end) {
        out.append(token, done, begin - done);
        out += content_;
        done = end;
      });
      out.append(token, done, token.size() - done);
      token = std::move(out);
    }
  }
  std::string Describe() const override {
    return fmt::format("Replace(\"{}\" -> \"{}\")", pattern_.source(), content_);
  }
  Locality locality() const override { return Locality::kEach; }

 private:
  Pattern pattern_;
  std::string content_;
};

// A run of byte tokens becomes its text if it is well-formed as a whole, else U+FFFD for each byte.
class ByteFallbackStep final : public DecoderStep {
 public:
  void Apply(Tokens& tokens, bool, bool) const override {
    Tokens out;
    std::string run;
    const auto flush = [&] {
      if (run.empty()) return;
      if (IsValidUtf8(run)) {
        out.push_back(run);
      } else {
        out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
      }
      run.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = ByteOfPiece(token)) {
        run += static_cast<char>(*byte);
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    tokens = std::move(out);
  }
  std::string Describe() const override { return "ByteFallback"; }
  Locality locality() const override { return Locality::kRuns; }
};

class FuseStep final : public DecoderStep {
 public:
  void Apply(Tokens& tokens, bool, bool) const override {
    std::string joined;
    for (const std::string& token : tokens) joined += token;
    tokens.assign(1, std::move(joined));
  }
  std::string Describe() const override { return "Fuse"; }
  Locality locality() const override { return Locality::kJoin; }
};

class StripStep final : public DecoderStep {
 public:
  StripStep(std::string content, uint64_t start, uint64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void Apply(Tokens& tokens, bool, bool) const override {
    const size_t unit = content_.size();
    for (std::string& token : tokens) {
      size_t begin = 0;
      size_t end = token.size();
      for (uint64_t i = 0; i < start_ && unit > 0 && token.compare(begin, unit, content_) == 0;
           ++i) {
        begin += unit;
      }
      for (uint64_t i = 0; i < stop_ && unit > 0 && end >= begin + unit &&
                           token.compare(end - unit, unit, content_) == 0;
           ++i) {
        end -= unit;
      }
      token = token.substr(begin, end - begin);
    }
  }
  std::string Describe() const override {
    return fmt::format("Strip(\"{}\", {}, {})", content_, start_, stop_);
  }
  Locality locality() const override {
    return stop_ == 0 && start_ <= 1 ? Locality::kFirst : Locality::kEach;
  }

 private:
  std::string content_;
  uint64_t start_, stop_;
};

class MetaspaceStep final : public DecoderStep {
 public:
  MetaspaceStep(std::string replacement, PrependScheme scheme)
      : replacement_(std::move(replacement)), scheme_(scheme) {}
  void Apply(Tokens& tokens, bool first, bool) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const bool drop = first && i == 0 && scheme_ != PrependScheme::kNever;
      ReplaceAll(tokens[i], replacement_, drop ? "" : " ");
    }
  }
  std::string Describe() const override { return fmt::format("Metaspace(\"{}\")", replacement_); }
  Locality locality() const override { return Locality::kEach; }

 private:
  std::string replacement_;
  PrependScheme scheme_;
};

class WordPieceStep final : public DecoderStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void Apply(Tokens& tokens, bool first, bool) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (!first || i > 0) {
        if (token.starts_with(prefix_)) {
          token.erase(0, prefix_.size());
        } else {
          std::string spaced(1, ' ');
          spaced += token;
          token = std::move(spaced);
        }
      }
      if (cleanup_) token = CleanUp(std::move(token));
    }
  }
  std::string Describe() const override {
    return fmt::format("WordPiece(\"{}\", cleanup={})", prefix_, cleanup_);
  }
  Locality locality() const override { return Locality::kEach; }

 private:
  std::string prefix_;
  bool cleanup_;
};

class BpeStep final : public DecoderStep {
 public:
  explicit BpeStep(std::string suffix) : suffix_(std::move(suffix)) {}
  void Apply(Tokens& tokens, bool, bool last) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      ReplaceAll(tokens[i], suffix_, last && i + 1 == tokens.size() ? "" : " ");
    }
  }
  std::string Describe() const override { return fmt::format("BPEDecoder(\"{}\")", suffix_); }
  Locality locality() const override { return Locality::kEach; }

 private:
  std::string suffix_;
};

class CtcStep final : public DecoderStep {
 public:
  CtcStep(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}
  void Apply(Tokens& tokens, bool, bool) const override {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    Tokens out;
    for (std::string& token : tokens) {
      ReplaceAll(token, pad_, "");
      if (cleanup_) {
        token = CleanUp(std::move(token));
        ReplaceAll(token, delimiter_, " ");
      }
      if (!token.empty()) out.push_back(std::move(token));
    }
    tokens = std::move(out);
  }
  std::string Describe() const override {
    return fmt::format("CTC(\"{}\", \"{}\", cleanup={})", pad_, delimiter_, cleanup_);
  }
  Locality locality() const override { return Locality::kWhole; }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

class DecoderChain final : public Decoder {
 public:
  DecoderChain(std::vector<DecoderStepPtr> steps, std::string separator)
      : steps_(std::move(steps)), separator_(std::move(separator)) {
    bool joined = false;
    for (const auto& step : steps_) {
      const Locality locality = step->locality();
      runs_ |= locality == Locality::kRuns;
      if (locality == Locality::kWhole) streams_ = false;
      if (joined && locality != Locality::kFirst && locality != Locality::kJoin) streams_ = false;
      joined |= locality == Locality::kJoin;
    }
  }
  std::unique_ptr<DecoderStream> NewStream() const override {
    return std::make_unique<Stream>(*this);
  }
  std::string TokenBytes(const DecoderToken& token) const override {
    if (runs_ && !token.control) {
      if (const auto byte = ByteOfPiece(token.piece))
        return std::string(1, static_cast<char>(*byte));
    }
    bool fused_first = false;
    return Run({std::string(token.piece)}, false, false, fused_first);
  }
  std::string Describe() const override {
    std::string out;
    for (const auto& step : steps_) {
      if (!out.empty()) out += ", ";
      out += step->Describe();
    }
    return steps_.size() == 1 ? out : fmt::format("[{}]", out);
  }

 private:
  // The text of tokens that stand together. After a Fuse, a step that concerns the first of what
  // was fused is taken only if nothing was fused before (`fused_first`, kept up to date here).
  std::string Run(Tokens tokens, bool first, bool last, bool& fused_first) const {
    bool joined = false;
    bool empty = false;
    for (const auto& step : steps_) {
      const Locality locality = step->locality();
      if (joined && locality == Locality::kFirst && !fused_first) continue;
      step->Apply(tokens, first, last);
      if (locality != Locality::kJoin) continue;
      joined = true;
      empty = tokens[0].empty();
    }
    if (!empty) fused_first = false;
    std::string out;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (steps_.empty() && (i > 0 || !first)) out += separator_;
      out += tokens[i];
    }
    return out;
  }

  // Holds the tokens that stand together (a run of bytes, or one token) until the next one shows
  // that they are complete and not the last.
  class Stream final : public DecoderStream {
   public:
    explicit Stream(const DecoderChain& chain) : chain_(chain) {}
    void Push(const DecoderToken& token, std::string& out) override {
      const bool byte = chain_.runs_ && ByteOfPiece(token.piece);
      if (!held_.empty() && chain_.streams_ && !(byte && held_bytes_)) Say(false, out);
      held_.emplace_back(token.piece);
      held_bytes_ = byte;
    }
    void Flush(std::string& out) override {
      if (!held_.empty()) Say(true, out);
      first_ = true;
      fused_first_ = true;
    }

   private:
    void Say(bool last, std::string& out) {
      out += chain_.Run(std::move(held_), first_, last, fused_first_);
      held_.clear();
      first_ = false;
    }
    const DecoderChain& chain_;
    Tokens held_;
    bool held_bytes_ = false;
    bool first_ = true;
    bool fused_first_ = true;
  };

  std::vector<DecoderStepPtr> steps_;
  std::string separator_;
  bool streams_ = true;
  bool runs_ = false;
};

}  // namespace

DecoderStepPtr MakeByteLevelStep() { return std::make_unique<ByteLevelStep>(); }
DecoderStepPtr MakeReplaceStep(Pattern pattern, std::string content) {
  return std::make_unique<ReplaceStep>(std::move(pattern), std::move(content));
}
DecoderStepPtr MakeByteFallbackStep() { return std::make_unique<ByteFallbackStep>(); }
DecoderStepPtr MakeFuseStep() { return std::make_unique<FuseStep>(); }
DecoderStepPtr MakeStripStep(std::string content, uint64_t start, uint64_t stop) {
  return std::make_unique<StripStep>(std::move(content), start, stop);
}
DecoderStepPtr MakeMetaspaceStep(std::string replacement, PrependScheme scheme) {
  return std::make_unique<MetaspaceStep>(std::move(replacement), scheme);
}
DecoderStepPtr MakeWordPieceStep(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceStep>(std::move(prefix), cleanup);
}
DecoderStepPtr MakeBpeStep(std::string suffix) {
  return std::make_unique<BpeStep>(std::move(suffix));
}
DecoderStepPtr MakeCtcStep(std::string pad_token, std::string word_delimiter, bool cleanup) {
  return std::make_unique<CtcStep>(std::move(pad_token), std::move(word_delimiter), cleanup);
}
DecoderPtr MakeDecoderChain(std::vector<DecoderStepPtr> steps, std::string separator) {
  return std::make_unique<DecoderChain>(std::move(steps), std::move(separator));
}

}  // namespace apr
