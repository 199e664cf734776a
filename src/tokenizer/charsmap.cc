// SentencePiece's precompiled character map, see MakeCharsmap in normalizer.h. The trie is a
// double array as darts-clone writes it: a unit holds a label in its low byte, an offset to its
// children, and whether a value follows.
#include <fmt/format.h>
#include <utf8proc.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

class Charsmap {
 public:
  explicit Charsmap(std::string_view blob) {
    const auto fail = [](std::string what) {
      throw Error(ErrorCode::kInvalidFormat, std::move(what), {.tensor = "precompiled_charsmap"});
    };
    if (blob.size() < 4) fail("the character map is shorter than its header");
    const uint64_t trie_bytes = LoadLe<uint32_t>(blob.data());
    if (trie_bytes > blob.size() - 4 || trie_bytes % 4 != 0) {
      fail(fmt::format("the character map's trie of {} bytes does not fit into {} bytes",
                       trie_bytes, blob.size() - 4));
    }
    units_.resize(trie_bytes / 4);
    for (size_t i = 0; i < units_.size(); ++i)
      units_[i] = LoadLe<uint32_t>(blob.data() + 4 + 4 * i);
    texts_ = blob.substr(4 + trie_bytes);
  }

  struct Match {
    size_t length = 0;
    std::string_view text;
  };
  // The shortest or longest key that `text` begins with.
  std::optional<Match> Find(std::string_view text, bool longest) const {
    std::optional<Match> best;
    if (units_.empty()) return best;
    uint64_t node = Offset(units_[0]);
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      if (byte == 0) break;
      node ^= byte;
      if (node >= units_.size()) break;
      const uint32_t unit = units_[node];
      if ((unit & 0x800000FFu) != byte) break;
      node ^= Offset(unit);
      if ((unit >> 8 & 1) && node < units_.size()) {
        const uint64_t at = units_[node] & 0x7FFFFFFFu;
        if (at < texts_.size()) {
          const size_t end = std::min(texts_.find('\0', at), texts_.size());
          best = Match{i + 1, std::string_view(texts_).substr(at, end - at)};
          if (!longest) break;
        }
      }
    }
    return best;
  }

 private:
  static uint64_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
  std::vector<uint32_t> units_;
  std::string texts_;
};

class CharsmapNormalizer final : public Normalizer {
 public:
  CharsmapNormalizer(std::string_view blob, CharsmapMatch match) : map_(blob), match_(match) {}

  AlignedText Apply(const AlignedText& text) const override {
    return match_ == CharsmapMatch::kLongest ? ApplyLongest(text) : ApplyGraphemes(text);
  }
  std::string Describe() const override { return "Precompiled"; }

 private:
  AlignedText ApplyLongest(const AlignedText& text) const {
    const std::string_view in = text.text();
    AlignedText out = AlignedText::Derived(text);
    for (size_t i = 0; i < in.size();) {
      if (const auto match = map_.Find(in.substr(i), true)) {
        out.Append(match->text, text, i, i + match->length);
        i += match->length;
      } else {
        const uint32_t length = unicode::SequenceLength(static_cast<unsigned char>(in[i]));
        out.Copy(text, i, i + length);
        i += length;
      }
    }
    return out;
  }

  AlignedText ApplyGraphemes(const AlignedText& text) const {
    const std::string_view in = text.text();
    AlignedText out = AlignedText::Derived(text);
    for (size_t begin = 0; begin < in.size();) {
      const size_t end = GraphemeEnd(in, begin);
      const std::string_view grapheme = in.substr(begin, end - begin);
      const auto whole = grapheme.size() < 6 ? map_.Find(grapheme, false) : std::nullopt;
      if (whole) {
        out.Append(whole->text, text, begin, end);
      } else {
        for (size_t i = begin; i < end;) {
          const uint32_t length = unicode::SequenceLength(static_cast<unsigned char>(in[i]));
          if (const auto match = map_.Find(in.substr(i, length), false)) {
            out.Append(match->text, text, i, i + length);
          } else {
            out.Copy(text, i, i + length);
          }
          i += length;
        }
      }
      begin = end;
    }
    return out;
  }

  static size_t GraphemeEnd(std::string_view in, size_t begin) {
    utf8proc_int32_t state = 0;
    auto [previous, length] = unicode::DecodeValid(in.data() + begin);
    size_t at = begin + length;
    while (at < in.size()) {
      const auto next = unicode::DecodeValid(in.data() + at);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(previous),
                                           static_cast<utf8proc_int32_t>(next.cp), &state)) {
        break;
      }
      previous = next.cp;
      at += next.length;
    }
    return at;
  }

  Charsmap map_;
  CharsmapMatch match_;
};

}  // namespace

NormalizerPtr MakeCharsmap(std::string_view blob, CharsmapMatch match) {
  return std::make_unique<CharsmapNormalizer>(blob, match);
}

}  // namespace apr
