// Tokenizers on hand-made files: planted faults that the comparisons must find, hostile input,
// scanners against the regular expressions they stand for, windows against the whole, streaming.
#include "tokenizer/model.h"
#include "tokenizer/safe_cuts.h"
#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "tokenizer/merge.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/pre_names.h"
#include "tokenizer/regex.h"
#include "tokenizer/splitter.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

std::string BpeJson(const std::string& merges, const std::string& more = "") {
  return R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3,"bc":4,"abc":5},"merges":[)" +
         merges + "]}" + more + "}";
}

std::vector<int32_t> Ids(const std::string& json, const std::string& text) {
  return Tokenizer::FromJsonText(json, "test.json")->Encode(text).ids;
}

TEST(Bpe, RankDecidesAndAPlantedWrongMergeIsFound) {
  const std::vector<int32_t> expected = {5};
  EXPECT_EQ(Ids(BpeJson(R"("a b","ab c")"), "abc"), expected);
  // The same merges in another order, and one merge replaced: both are seen in the ids.
  EXPECT_NE(Ids(BpeJson(R"("b c","a b","ab c")"), "abc"), expected);
  EXPECT_NE(Ids(BpeJson(R"("a b","b c")"), "abc"), expected);
}

TEST(Bpe, MergesAsPairsOfStrings) {
  EXPECT_EQ(Ids(BpeJson(R"(["a","b"],["ab","c"])"), "abc"), std::vector<int32_t>{5});
}

// The message of the error that loading `json` ends with.
std::string LoadError(const std::string& json) {
  try {
    Tokenizer::FromJsonText(json, "test.json");
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

// What one token takes to its right may hold the beginning of the next: both are found, and only what is taken
// whole is gone (tokenizers 0.23 on the same file).
TEST(AddedTokensTest, OverlapInWhiteSpace) {
  const std::string json = R"({"model":{"type":"WordLevel","vocab":{"[UNK]":0,"x":1},"unk_token":"[UNK]"},"added_tokens":[
    {"id":2,"content":"a","single_word":false,"lstrip":false,"rstrip":true,"normalized":false,"special":false},
    {"id":3,"content":" b","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false},
    {"id":4,"content":"\n\n","single_word":false,"lstrip":true,"rstrip":true,"normalized":false,"special":false}]})";
  EXPECT_EQ(Ids(json, "a  b"), (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(Ids(json, "a  bx"), (std::vector<int32_t>{2, 3, 1}));
  EXPECT_EQ(Ids(json, "a b b"), (std::vector<int32_t>{2, 3, 3}));
  EXPECT_EQ(Ids(json, "x\n\n\n\n"), (std::vector<int32_t>{1, 4}));
}

TEST(TokenizerJson, ErrorsNameFileAndKey) {
  EXPECT_NE(LoadError("{").find("test.json"), std::string::npos);
  EXPECT_NE(LoadError("[]").find("test.json"), std::string::npos);
  EXPECT_NE(LoadError("{}").find("model.vocab"), std::string::npos);
  EXPECT_NE(LoadError(BpeJson(R"("a x")")).find("'x' is not in the vocabulary"), std::string::npos);
  EXPECT_NE(LoadError(BpeJson(R"("abc")")).find("merge 0"), std::string::npos);
  EXPECT_NE(LoadError(BpeJson("", R"(,"normalizer":{"type":"Nope"})")).find("unknown type 'Nope'"),
            std::string::npos);
  EXPECT_NE(LoadError(R"({"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}})")
                .find("out of range"),
            std::string::npos);
  EXPECT_NE(LoadError(R"({"model":{"type":"BPE","vocab":{"a":900000000},"merges":[]}})")
                .find("far beyond"),
            std::string::npos);
}

TEST(SentencePieceFile, RefusesWhatIsNone) {
  EXPECT_THROW(Tokenizer::FromSentencePieceBytes("", "m"), Error);
  EXPECT_THROW(
      Tokenizer::FromSentencePieceBytes("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "m"),
      Error);
  EXPECT_THROW(Tokenizer::FromSentencePieceBytes(std::string(100, '\xFF'), "m"), Error);
}

// Random strings that meet every class the patterns know.
std::string RandomText(std::mt19937& random, size_t characters) {
  static const char32_t kAlphabet[] = {
      'a',      'B',    's',    't',    'r',    'e',    'l',     'v',    'm',    'd',
      'S',      '\'',   '\'',   ' ',    ' ',    ' ',    '\n',    '\r',   '\t',   '0',
      '1',      '.',    ',',    '/',    '_',    0x17F,  0xE9,    0x301,  0x4E00, 0x3042,
      0xA0,     0x3000, 0x85,   0x660,  0xBD,   0x2160, 0x1F600, 0x200D, 0x1C5,  0x2B0,
      0x10FFFF, 0xFFFF, 0xE000, 0x180E, 0x20AC, 0x212B, 0x2028};
  std::string out;
  for (size_t i = 0; i < characters; ++i) {
    unicode::AppendUtf8(kAlphabet[random() % std::size(kAlphabet)], out);
  }
  return out;
}

TEST(Splitter, ScannersEqualTheirPatterns) {
  const std::vector<std::string> names = {"gpt-2", "llama-bpe", "qwen2", "qwen35", "minicpm5"};
  std::mt19937 random(7);
  for (const std::string& name : names) {
    const PreName* pre = FindPreName(name);
    ASSERT_NE(pre, nullptr);
    const char* pattern = name == "minicpm5" ? pre->patterns[1] : pre->patterns[0];
    const auto scanner = MakeScanner(pattern);
    ASSERT_NE(scanner, nullptr) << name;
    const auto regex = MakeRegexSplitter(std::make_shared<Regex>(pattern));
    for (int i = 0; i < 4000; ++i) {
      const std::string text = RandomText(random, 1 + random() % 24);
      std::vector<uint32_t> fast, slow;
      scanner->Split(text, fast);
      regex->Split(text, slow);
      ASSERT_EQ(fast, slow) << name << ": " << testing::PrintToString(text);
    }
  }
}

TEST(Splitter, DigitsScannerEqualsTheChain) {
  std::vector<std::unique_ptr<const Splitter>> stages;
  stages.push_back(MakeRegexSplitter(std::make_shared<Regex>(R"(\p{N})")));
  stages.push_back(MakeRegexSplitter(std::make_shared<Regex>(kGpt2Pattern)));
  const auto chain = MakeChain(std::move(stages));
  const auto scanner = MakeDigitsGpt2Scanner();
  std::mt19937 random(8);
  for (int i = 0; i < 4000; ++i) {
    const std::string text = RandomText(random, 1 + random() % 24);
    std::vector<uint32_t> fast, slow;
    scanner->Split(text, fast);
    chain->Split(text, slow);
    ASSERT_EQ(fast, slow) << testing::PrintToString(text);
  }
}

TEST(Splitter, EveryPreNameCompilesAndCoversTheText) {
  std::mt19937 random(9);
  for (const char* name :
       {"default",    "deepseek-llm", "deepseek-coder", "deepseek-v3", "youtu",
        "falcon",     "bloom",        "viking",         "tekken",      "jais-2",
        "exaone-moe", "chameleon",    "gpt-4o",         "tiny_aya",    "superbpe",
        "bailingmoe", "seed-coder",   "kimi-k2",        "ufakzeka",    "laguna"}) {
    const PreName* pre = FindPreName(name);
    ASSERT_NE(pre, nullptr) << name;
    for (const char* pattern : pre->patterns) {
      if (pattern == nullptr) continue;
      const auto splitter = MakeRegexSplitter(std::make_shared<Regex>(pattern));
      const std::string text = RandomText(random, 200);
      std::vector<uint32_t> ends;
      splitter->Split(text, ends);
      ASSERT_FALSE(ends.empty());
      EXPECT_EQ(ends.back(), text.size());
    }
  }
  EXPECT_EQ(FindPreName("no-such-name"), nullptr);
}

// Random merges over a small alphabet; each ranks after those that make its parts, or as it comes.
MergeTable RandomMerges(std::mt19937& random, uint32_t count, bool ordered) {
  std::vector<uint32_t> ranks(count);
  std::iota(ranks.begin(), ranks.end(), 0u);
  if (!ordered) std::shuffle(ranks.begin(), ranks.end(), random);
  MergeTable table;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t made = 3 + i;
    // Parts of a few of the first symbols mostly, so that long tokens come about.
    const uint32_t left = random() % 4 == 0 ? random() % made : random() % std::min(made, 8u);
    const uint32_t right = random() % 4 == 0 ? random() % made : random() % std::min(made, 8u);
    if (table.Find(left, right).rank == kNoRank) table.Insert(left, right, {ranks[i], made});
  }
  return table;
}

// Few of them different, or one in a row for long.
Symbols RandomSymbols(std::mt19937& random, uint32_t count) {
  Symbols symbols;
  const uint32_t changes = 1 + random() % 40;
  uint32_t symbol = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (random() % changes == 0) symbol = random() % 3;
    symbols.push_back(symbol, i);
  }
  return symbols;
}

// By the definition: the lowest rank, the leftmost, until none is left.
template <typename Find>
void MergeByDefinition(const Find& find, Symbols& symbols) {
  while (true) {
    Merge best;
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge merge = find(symbols.ids[i], symbols.ids[i + 1]);
      if (merge.rank < best.rank) best = merge, at = i;
    }
    if (best.rank == kNoRank) return;
    symbols.ids[at] = best.id;
    symbols.ids.erase(symbols.ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    symbols.begins.erase(symbols.begins.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// Merges of which several have one rank, as pieces of one score have.
class TiedPairs final : public PairSource {
 public:
  TiedPairs(const MergeTable& table, uint32_t tied) : table_(table), tied_(tied) {}
  Merge Pair(uint32_t left, uint32_t right, uint32_t, uint32_t, uint32_t) override {
    Merge merge = table_.Find(left, right);
    if (merge.rank != kNoRank) merge.rank /= tied_;
    return merge;
  }
  uint32_t ranks() const override { return table_.ranks(); }

 private:
  const MergeTable& table_;
  uint32_t tied_;
};

class AllSymbols final : public SymbolSource {
 public:
  explicit AllSymbols(const Symbols& symbols) : symbols_(symbols) {}
  uint32_t Read(uint32_t begin, size_t count, Symbols& out) const override {
    const auto end = static_cast<uint32_t>(std::min(symbols_.size(), begin + count));
    for (uint32_t i = begin; i < end; ++i) out.push_back(symbols_.ids[i], i);
    return end;
  }

 private:
  const Symbols& symbols_;
};

TEST(Merge, ScanListsAndWindowsEqualTheDefinition) {
  std::mt19937 random(10);
  MergeScratch scratch;
  for (int round = 0; round < 1000; ++round) {
    const MergeTable table = RandomMerges(random, 1 + random() % 60, round % 2 == 0);
    const uint32_t count = 1 + random() % 600;
    const Symbols symbols = RandomSymbols(random, count);
    Symbols expected = symbols;
    MergeByDefinition([&](uint32_t left, uint32_t right) { return table.Find(left, right); }, expected);
    Symbols whole = symbols;
    MergeAll(table, whole, count, scratch);
    ASSERT_EQ(whole.ids, expected.ids);
    ASSERT_EQ(whole.begins, expected.begins);
    for (const size_t window : {8, 40, 200}) {
      Symbols windows = symbols;
      MergeInWindows(table, windows, window, scratch);
      ASSERT_EQ(windows.ids, expected.ids) << "round " << round << ", window " << window;
      ASSERT_EQ(windows.begins, expected.begins);
    }
  }
}

TEST(Merge, TiedRanksMergeFromTheLeft) {
  std::mt19937 random(11);
  MergeScratch scratch;
  for (int round = 0; round < 500; ++round) {
    const MergeTable table = RandomMerges(random, 1 + random() % 60, round % 2 == 0);
    const uint32_t count = 1 + random() % 600;
    const Symbols symbols = RandomSymbols(random, count);
    TiedPairs pairs(table, 2 + random() % 60);
    Symbols expected = symbols;
    MergeByDefinition([&](uint32_t left, uint32_t right) { return pairs.Pair(left, right, 0, 0, 0); }, expected);
    Symbols whole = symbols;
    MergeAll(pairs, whole, count, scratch);
    ASSERT_EQ(whole.ids, expected.ids);
    Symbols windows;
    MergeInWindows(pairs, AllSymbols(symbols), count, 24, windows, scratch);
    ASSERT_EQ(windows.ids, expected.ids) << "round " << round;
    ASSERT_EQ(windows.begins, expected.begins);
  }
}

TEST(NormalForm, KnownCases) {
  EXPECT_EQ(Normalize("e\xCC\x81", NormalForm::kNfc), "\xC3\xA9");
  EXPECT_EQ(Normalize("\xC3\xA9", NormalForm::kNfd), "e\xCC\x81");
  EXPECT_EQ(Normalize("\xEF\xAC\x81", NormalForm::kNfkc), "fi");
  EXPECT_EQ(Normalize("\xE2\x84\xAB", NormalForm::kNfc), "\xC3\x85");
  // Marks come into the order of their classes; Hangul composes.
  EXPECT_EQ(Normalize("a\xCC\x81\xCC\xA3", NormalForm::kNfd), "a\xCC\xA3\xCC\x81");
  EXPECT_EQ(Normalize("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", NormalForm::kNfc), "\xEA\xB0\x81");
}

double SecondsOf(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(Hostile, LongRunsTakeLinearTime) {
  const std::string json =
      R"({"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
          "model":{"type":"BPE","vocab":{"a":0,"aa":1,"aaaa":2,"Ġ":3,"ĠĠ":4},"merges":["a a","aa aa","Ġ Ġ"]}})";
  const auto tokenizer = Tokenizer::FromJsonText(json, "test.json");
  // Twice the text may cost more than twice the time where caches end, but not four times and more.
  for (const char* unit : {"a", "ab", " ", "\xCC\x81\xCC\xA3"}) {
    std::string text;
    while (text.size() < 2'000'000) text += unit;
    const std::string half = text.substr(0, text.size() / 8);
    const double small = SecondsOf([&] { tokenizer->Encode(half); });
    const double large = SecondsOf([&] { tokenizer->Encode(text); });
    EXPECT_LT(large, 40 * small + 0.5) << testing::PrintToString(unit);
  }
}

TEST(Stream, NeverSplitsACharacterAndJoinsToTheWhole) {
  const std::string json =
      R"({"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
          {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
          "model":{"type":"BPE","byte_fallback":true,"vocab":{"▁a":0,"b":1,"<0xE4>":2,"<0xBD>":3,"<0xA0>":4},
          "merges":[]}})";
  const auto tokenizer = Tokenizer::FromJsonText(json, "test.json");
  const std::vector<std::vector<int32_t>> lists = {
      {0, 1}, {0, 2, 3, 4, 1}, {0, 2, 3, 1}, {2, 3, 4, 0}, {0, 0}};
  const std::vector<std::string> texts = {"ab",
                                          "a\xE4\xBD\xA0"
                                          "b",
                                          "a\xEF\xBF\xBD\xEF\xBF\xBD"
                                          "b",
                                          "\xE4\xBD\xA0 a", "a a"};
  for (size_t i = 0; i < lists.size(); ++i) {
    EXPECT_EQ(tokenizer->Decode(lists[i]), texts[i]);
    auto stream = tokenizer->Stream();
    std::string said;
    for (const int32_t id : lists[i]) {
      const std::string piece = stream.Push(id);
      EXPECT_TRUE(IsValidUtf8(piece));
      said += piece;
      EXPECT_EQ(texts[i].compare(0, said.size(), said), 0);
    }
    EXPECT_EQ(said + stream.Flush(), texts[i]);
  }
}

TEST(Encode, IllFormedTextCountsAsReplacementAndKeepsItsBytesInSpans) {
  const std::string json =
      R"({"model":{"type":"WordLevel","unk_token":"?","vocab":{"?":0,"a":1,"�":2}},
          "pre_tokenizer":{"type":"FixedLength","length":1}})";
  const auto encoding = Tokenizer::FromJsonText(json, "test.json")
                            ->Encode(
                                "a\xE4\xBD"
                                "a",
                                {.offsets = true});
  EXPECT_EQ(encoding.ids, (std::vector<int32_t>{1, 2, 1}));
  EXPECT_EQ(encoding.spans, (std::vector<ByteSpan>{{0, 1}, {1, 3}, {3, 4}}));
}

// A border is cut only where no token crosses it, wholly or with a part of a character.
TEST(SafeCutsTest, CutsOnlyWhatNoTokenJoins) {
  Vocabulary vocabulary;
  uint32_t id = 0;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    vocabulary.Add(id++, ByteLevelSpelling(std::string_view(&byte, 1)));
  }
  vocabulary.Add(id++, ByteLevelSpelling("\u4f60\u597d"));         // two whole characters
  vocabulary.Add(id++, ByteLevelSpelling("\xbd\xe4"));             // the end of U+597D, the beginning of U+4E16
  vocabulary.BuildIndex(false);
  const SafeCuts cuts(vocabulary);
  using Border = SafeCuts::Border;
  EXPECT_EQ(cuts.At(0x4f60, 0x597d, "\u4f60\u597d", 3), Border::kWhole);
  EXPECT_EQ(cuts.At(0x597d, 0x4e16, "\u597d\u4e16", 3), Border::kPartial);
  EXPECT_EQ(cuts.At(0x4f7d, 0x4e16, "\u4f7d\u4e16", 3), Border::kPartial) << "ends with the same byte";
  EXPECT_EQ(cuts.At(0x597d, 0x597d, "\u597d\u597d", 3), Border::kCut);
  EXPECT_EQ(cuts.At(0x4e16, 0x754c, "\u4e16\u754c", 3), Border::kCut) << "the filter knows two pairs only";
}

}  // namespace
}  // namespace apr
