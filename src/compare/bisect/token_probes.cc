// See token_probes.h.
#include "compare/bisect/token_probes.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/bytes.h"
#include "tokenizer/recombine.h"
#include "tokenizer/tokenizer_parts.h"

namespace apr::bisect {
namespace {

constexpr int32_t kSample = 4000;        // pieces, where the vocabularies agree
constexpr int32_t kThorough = 30000;     // pieces, where they do not
constexpr size_t kMaxDiffering = 20000;  // pieces spelled otherwise that are tried
constexpr size_t kMaxMerges = 400;       // merges of other rank that are tried
constexpr int kNeighbours = 8;           // competitors of one merge on either side

using SpelledMerge = std::pair<std::string, std::string>;

const BpeModel* BpeOf(const Tokenizer& tokenizer) { return dynamic_cast<const BpeModel*>(tokenizer.parts().model.get()); }

std::map<SpelledMerge, size_t> Ranks(const std::vector<SpelledMerge>& merges) {
  std::map<SpelledMerge, size_t> out;
  for (size_t rank = 0; rank < merges.size(); ++rank) out[merges[rank]] = rank;
  return out;
}

// Merges that only one side has; else those that stand at another place of an equally long list.
std::vector<SpelledMerge> OtherRank(const std::vector<SpelledMerge>& a, const std::vector<SpelledMerge>& b) {
  std::vector<SpelledMerge> out;
  const std::set<SpelledMerge> in_a(a.begin(), a.end()), in_b(b.begin(), b.end());
  const auto add = [&](const SpelledMerge& merge) {
    if (out.size() < kMaxMerges) out.push_back(merge);
  };
  for (const SpelledMerge& merge : a) {
    if (!in_b.contains(merge)) add(merge);
  }
  for (const SpelledMerge& merge : b) {
    if (!in_a.contains(merge)) add(merge);
  }
  for (size_t i = 0; out.size() < kMaxMerges && i < std::min(a.size(), b.size()) && a.size() == b.size(); ++i) {
    if (a[i] != b[i]) add(a[i]);
  }
  return out;
}

}  // namespace

const std::vector<std::string>& FixedTexts() {
  static const std::vector<std::string> kTexts = {
      "Hello, world!",
      "The quick brown fox jumps over the lazy dog. It didn't see that it's the dog's turn; they'll say we've lost, I'm sure you'd agree.",
      " leading space and trailing space ",
      "IT'S NOT WHAT YOU'LL THINK, HE'D SAID: WE'RE DONE.",
      "two  spaces   three    four        eight                sixteen",
      "tab\tand\t\ttwo tabs\n",
      "line one\nline two\n\nline four\n\n\n  indented\r\nwindows line\r\n\r\n",
      "\n\n\nthree line breaks first",
      "def fib(n: int) -> int:\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)  # O(2^n)\n",
      "#include <vector>\nint main() { std::vector<int> v{1, 2, 3}; return v[0] == 1 ? 0 : -1; }",
      "{\"key\": [1, 2.5, -3e10], \"nested\": {\"a\": null, \"b\": true}}",
      "<html><body class=\"x\">a &amp; b</body></html>",
      "1 12 123 1234 12345 123456 1234567890 3.14159 1,000,000 2024-12-31 0x7F 10^9",
      "½ ² ٣٤٥ ४५६ 一二三 Ⅳ",
      "naïve café résumé Ångström Straße coöperate",
      "nai\xCC\x88ve cafe\xCC\x81 A\xCC\x8Angstro\xCC\x88m",  // the same with combining marks
      "Съешь же ещё этих мягких французских булок, да выпей чаю.",
      "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
      "שלום עולם، مرحبا بالعالم، كيف حالك؟",
      "नमस्ते दुनिया, आप कैसे हैं?",
      "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง",
      "你好，世界！今天天气很好。",
      "こんにちは世界。カタカナとひらがな、漢字。",
      "안녕하세요 세계! 한국어 문장입니다.",
      "Việt Nam: Tiếng Việt có dấu",
      "emoji 😀 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ ☃",
      "“curly” ‘quotes’ — dashes – and … dots • bullets «guillemets»",
      "\xEF\xBC\xA6\xEF\xBD\x95\xEF\xBD\x8C\xEF\xBD\x8C width ﬁ ligature ™ ㎏",
      "a\xC2\xA0no-break\xE2\x80\x89thin\xE3\x80\x80ideographic\xE2\x80\x8Bzero",
      "$100 + 20% = €120; user@example.com https://example.com/a?b=c&d=e#f C:\\path\\file.txt",
      "_under_score__ CamelCaseWord snake_case kebab-case UPPER lower MiXeD x1y2z3",
      "!!! ??? ... ,,, ;;; ::: --- === *** ### @@@ ((())) [[]] {{}} <<>> ||| ~~~ ``` ^^^",
      "\xE2\x96\x81 the space mark \xE2\x96\x81word",
      "<s> </s> <unk> <pad> <bos> <eos> <|endoftext|> <|im_start|>user<|im_end|> [INST] [/INST] <start_of_turn>",
      " ",
      "  ",
      "\n",
      "a",
      "don't",
      "word",
      " word",
  };
  return kTexts;
}

std::vector<std::string> VocabularyTexts(const Tokenizer& a, const Tokenizer& b, bool thorough) {
  std::vector<std::string> out;
  std::unordered_set<std::string> seen;
  const auto add = [&](std::string text) {
    if (!text.empty() && IsValidUtf8(text) && seen.insert(text).second) out.push_back(std::move(text));
  };
  const int32_t size = std::max(a.vocab_size(), b.vocab_size());
  // What is most likely to tell something first: these are not crowded out.
  for (int32_t id = 0; id < size && out.size() < kMaxDiffering; ++id) {
    for (const Tokenizer* side : {&a, &b}) {
      if (side->IsAdded(id)) add("ab " + side->IdToPiece(id).value_or("") + " cd");
      else if (a.IdToPiece(id) != b.IdToPiece(id)) add(side->TokenBytes(id));
    }
  }
  const int32_t stride = std::max(1, size / (thorough ? kThorough : kSample));
  for (int32_t id = 0; id < size; id += stride) {
    if (!a.IsAdded(id)) add(a.TokenBytes(id));
  }
  return out;
}

std::vector<std::string> MergeTexts(const Tokenizer& a, const Tokenizer& b) {
  if (BpeOf(a) == nullptr || BpeOf(b) == nullptr) return {};
  const std::vector<SpelledMerge> in_a = SpelledMerges(*BpeOf(a)), in_b = SpelledMerges(*BpeOf(b));
  const std::map<SpelledMerge, size_t> rank_a = Ranks(in_a), rank_b = Ranks(in_b);
  // Ranks of the merges that a piece takes part in, as the right one and as the left one.
  std::unordered_map<std::string, std::vector<size_t>> by_right, by_left;
  for (size_t rank = 0; rank < in_a.size(); ++rank) {
    by_right[in_a[rank].second].push_back(rank);
    by_left[in_a[rank].first].push_back(rank);
  }
  std::vector<std::string> out;
  const auto add = [&](const std::string& x, const std::string& y, const std::string& z) {
    std::string text;
    for (const std::string* piece : {&x, &y, &z}) {
      const auto id = piece->empty() ? std::nullopt : a.PieceToId(*piece);
      if (id) text += a.TokenBytes(*id);
    }
    if (!text.empty() && IsValidUtf8(text)) out.push_back(std::move(text));
  };
  for (const SpelledMerge& merge : OtherRank(in_a, in_b)) {
    const std::string &left = merge.first, &right = merge.second;
    add(left, right, "");
    const auto of = [&](const std::map<SpelledMerge, size_t>& ranks) {
      const auto it = ranks.find(merge);
      return it == ranks.end() ? in_a.size() : it->second;
    };
    const auto [low, high] = std::minmax({of(rank_a), of(rank_b)});
    // A neighbour's merge that ranks between the two places comes first on one side only.
    const auto between = [&, low = low, high = high](const std::vector<size_t>& ranks, const auto& use) {
      auto it = std::ranges::lower_bound(ranks, low);
      for (int i = 0; i < kNeighbours && it != ranks.end() && *it <= high; ++i, ++it) use(in_a[*it]);
    };
    between(by_right[left], [&](const SpelledMerge& other) { add(other.first, left, right); });
    between(by_left[right], [&](const SpelledMerge& other) { add(left, right, other.second); });
  }
  return out;
}

const std::vector<Conversation>& StandardConversations() {
  static const std::string kUser = R"([{"role": "user", "content": "What is 2+2?"}])";
  static const std::string kSystem =
      R"([{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Name a prime.\nOnly one."}])";
  static const std::string kTurns =
      R"([{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": " Hello. "},)"
      R"( {"role": "user", "content": "Tell me\n\na joke."}])";
  static const std::string kAnswered =
      R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}])";
  static const std::string kTools =
      R"([{"type": "function", "function": {"name": "weather", "description": "Weather of a place.", "parameters":)"
      R"( {"type": "object", "properties": {"place": {"type": "string", "description": "A town."}}, "required": ["place"]}}}])";
  static const std::vector<Conversation> kAll = {
      {"user", true, kUser, ""},           {"user, no generation prompt", false, kUser, ""},
      {"system and user", true, kSystem, ""}, {"three turns", true, kTurns, ""},
      {"answered", false, kAnswered, ""},  {"tools", true, kUser, kTools},
  };
  return kAll;
}

}  // namespace apr::bisect
