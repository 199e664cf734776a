// Grammars: what they accept, what is refused when they are read, what a mask allows against trying every token,
// and hostile ones.
#include "generate/grammar.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/error.h"
#include "generate/constraint.h"
#include "generate/gbnf.h"
#include "generate/grammar_text.h"
#include "generate/utf8_ranges.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

std::shared_ptr<const Grammar> Gbnf(const std::string& text) { return std::make_shared<const Grammar>(ParseGbnf(text, "test")); }

// "yes", "no", or "part": the beginning of a text of the grammar.
std::string Judge(const std::shared_ptr<const Grammar>& grammar, const std::string& text) {
  GrammarMatcher matcher(grammar);
  auto state = matcher.start();
  for (const char c : text) state = matcher.Step(state, static_cast<uint8_t>(c));
  return state == GrammarMatcher::kDead ? "no" : matcher.Accepts(state) ? "yes" : "part";
}

std::string ErrorOf(const std::string& text) {
  try {
    ParseGbnf(text, "test");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    return error.message();
  }
  return "none";
}

TEST(Gbnf, AcceptsWhatItDescribes) {
  const struct {
    const char* grammar;
    std::vector<const char*> yes, part, no;
  } cases[] = {
      {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "y", "n"}, {"yess", "x", "yno"}},
      {"root ::= [a-c]+ ([0-9]? \".\")*", {"a", "abc", "a.", "a1.2.", "c..9."}, {"a1", ""}, {"1", "a12", "d"}},
      {"root ::= a b\na ::= \"x\" a | \"\"  # a comment\nb ::= \"y\"{2,3}", {"yy", "xxxyyy"}, {"x", "xy"}, {"yyyy", "xz"}},
      {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\\\\\\"\"", {"A\u00e9\U0001F600\n\t\\\""}, {"A", "A\xC3"}, {"B", "Ae"}},
      {"root ::= [^a-z\\n]{3}", {"ABC", "\u00e9\u4e2d\U0001F600"}, {"A", "AB\xE4"}, {"aBC", "A\nB", "ABCD", "A\xFF"}},
      {"root ::= .", {"a", "\u4e2d"}, {"", "\xF0\x9F"}, {"ab", "\x80"}},
      {"root ::= (\n  \"a\" |\n  \"b\"\n)+\n\n", {"ab", "ba"}, {""}, {"c"}},
      {"root ::= \"(\" root? \")\"", {"()", "((()))"}, {"(("}, {")", "())"}},
      {"root ::= x{0}y{2,}\nx ::= \"x\"\ny ::= \"y\"", {"yy", "yyyyy"}, {"y"}, {"x"}},
      {"root ::= (\"a\"*)*", {"", "aaa"}, {}, {"b"}},                      // nothing repeated without end
      {"root ::= item*\nitem ::= \"\" | \"a\" item", {"", "aa"}, {}, {"b"}},
      {"root ::= \"a\" | dead \"x\"\ndead ::= \"y\" dead", {"a"}, {""}, {"y"}},  // an alternative without end is none
      {"root ::= [-a-z_]", {"-", "q", "_"}, {""}, {"A"}},
  };
  for (const auto& c : cases) {
    const auto grammar = Gbnf(c.grammar);
    for (const char* text : c.yes) EXPECT_EQ(Judge(grammar, text), "yes") << c.grammar << " : " << text;
    for (const char* text : c.part) EXPECT_EQ(Judge(grammar, text), "part") << c.grammar << " : " << text;
    for (const char* text : c.no) EXPECT_EQ(Judge(grammar, text), "no") << c.grammar << " : " << text;
  }
}

TEST(Gbnf, FaultsAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no rule 'root'"},
      {"root ::= a", "'a' is used and not defined"},
      {"root ::= \"a\"\nroot ::= \"b\"", "defined twice"},
      {"root = \"a\"", "'::='"},
      {"root ::= \"a", "no end"},
      {"root ::= [a", "no end"},
      {"root ::= [z-a]", "ends before it begins"},
      {"root ::= (\"a\"", "')'"},
      {"root ::= \"a\")", "')' without"},
      {"root ::= \"a\"{3,2}", "below the least"},
      {"root ::= \"a\"{x}", "number of repetitions"},
      {"root ::= \"\\q\"", "unknown escape"},
      {"root ::= \"\\uD800\"", "no character"},
      {"root ::= <think>", "tokens"},
      {"root ::= root \"a\" | \"a\"", "left-recursive"},
      {"root ::= a \"x\"\na ::= b \"y\" | \"a\"\nb ::= a", "left-recursive"},
      {"root ::= e root \"a\" | \"b\"\ne ::= \"\" | \"e\"", "left-recursive"},
      {"root ::= root", "no finite text"},
      {"root ::= \"a\" root", "no finite text"},
      {"root ::= \"a\"{2000000}", "too many"},
      {"root ::= \"a\"{900000} \"b\"{900000}", "too large"},
      {"root ::= \"\xFF\"", "UTF-8"},
  };
  for (const auto& [text, what] : cases) EXPECT_NE(ErrorOf(text).find(what), std::string::npos) << text << " -> " << ErrorOf(text);
  EXPECT_NE(ErrorOf("root ::= " + std::string(100000, '(')).find("nested deeper"), std::string::npos);
  EXPECT_NE(ErrorOf("root ::= \"a\"" + std::string(100000, '*')).find("nested too deeply"), std::string::npos);
}

TEST(Utf8Ranges, SpellEveryCodePointOnce) {
  std::mt19937 random(1);
  const auto contains = [](const std::vector<ByteRanges>& ranges, const std::string& bytes) {
    int count = 0;
    for (const ByteRanges& each : ranges) {
      bool all = each.size() == bytes.size();
      for (size_t i = 0; all && i < bytes.size(); ++i) all = static_cast<uint8_t>(bytes[i]) >= each[i].first && static_cast<uint8_t>(bytes[i]) <= each[i].second;
      count += all ? 1 : 0;
    }
    return count;
  };
  const uint32_t edges[] = {0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0xD7FF, 0xD800, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x10FFFF};
  for (int round = 0; round < 300; ++round) {
    const auto pick = [&] { return random() % 2 == 0 ? edges[random() % std::size(edges)] : static_cast<uint32_t>(random() % 0x110000); };
    uint32_t a = pick();
    uint32_t b = pick();
    if (a > b) std::swap(a, b);
    const auto ranges = Utf8Ranges(a, b);
    for (int i = 0; i < 200; ++i) {
      const uint32_t c = i < 4 ? std::min(i < 2 ? a + static_cast<uint32_t>(i) : b + static_cast<uint32_t>(i) - 3, 0x10FFFFU) : pick();
      if (c >= 0xD800 && c < 0xE000) continue;
      std::string bytes;
      unicode::AppendUtf8(c, bytes);
      EXPECT_EQ(contains(ranges, bytes), c >= a && c <= b ? 1 : 0) << a << " " << b << " " << c;
    }
  }
}

TEST(GrammarMatcher, HostileGrammarsEndWithAnError) {
  // Each level doubles the ways to come here: 2^40 in all.
  std::string text = "root ::= a0\n";
  for (int i = 0; i < 40; ++i) text += fmt::format("a{} ::= a{} \"x\" | a{} \"y\" | a{} \"z\"\n", i, i + 1, i + 1, i + 1);
  text += "a40 ::= \"q\" | \"\"\n";
  const auto grammar = Gbnf(text);
  const auto start = std::chrono::steady_clock::now();
  try {
    GrammarMatcher matcher(grammar);
    matcher.Step(matcher.start(), 'q');
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInference);
    EXPECT_NE(error.message().find("ambiguous"), std::string::npos);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  // Nesting ends where the stack would be too deep, and what closes it stays allowed.
  const auto nested = Gbnf("root ::= \"(\" root? \")\"");
  GrammarMatcher matcher(nested);
  auto state = matcher.start();
  size_t depth = 0;
  for (auto next = state; (next = matcher.Step(state, '(')) != GrammarMatcher::kDead && depth < 100000; ++depth) state = next;
  EXPECT_GT(depth, 1000U);
  EXPECT_LE(depth, GrammarMatcher::kMostDepth);
  for (size_t i = 0; i < depth; ++i) state = matcher.Step(state, ')');
  EXPECT_TRUE(matcher.Accepts(state));
}

TEST(GrammarMatcher, ForgettingChangesNothing) {
  const auto grammar = Gbnf("root ::= \"[\" (root (\",\" root)*)? \"]\" | [0-9]+");
  GrammarMatcher plain(grammar);
  GrammarMatcher compacted(grammar);
  auto a = plain.start();
  auto b = compacted.start();
  for (const char c : std::string("[12,[3,[],[4]],5]")) {
    for (int byte = 0; byte < 256; ++byte) {
      EXPECT_EQ(plain.Step(a, static_cast<uint8_t>(byte)) == 0, compacted.Step(b, static_cast<uint8_t>(byte)) == 0);
    }
    a = plain.Step(a, static_cast<uint8_t>(c));
    b = compacted.Compact(compacted.Step(b, static_cast<uint8_t>(c)));
    EXPECT_EQ(plain.Accepts(a), compacted.Accepts(b));
  }
  EXPECT_TRUE(plain.Accepts(a));
}

std::shared_ptr<const TokenTrie> ChatTrie(std::shared_ptr<const Tokenizer>& tokenizer) {
  tokenizer = Tokenizer::Open(APR_SOURCE_DIR "/testdata/model/tiny-chat");
  return std::make_shared<const TokenTrie>(TokenTrie::FromTokenizer(*tokenizer, tokenizer->vocab_size()));
}

const char* const kGrammars[] = {
    "root ::= (\"rope\" | \"norm\" | [a-z ]{3,9})+ \".\"",
    "root ::= \"{\" [ \\n]? (pair (\",\" pair)*)? \"}\"\npair ::= \"\\\"\" [a-z]+ \"\\\":\" (num | root)\nnum ::= \"-\"? [0-9]{1,4}",
    "root ::= [^\\x00-\\x7F]+ | \"What does \" .* \"?\"",
};

// The mask is what trying every token says; along random texts, each accepted to its end.
TEST(Constraint, AllowsWhatTheGrammarDoes) {
  std::shared_ptr<const Tokenizer> tokenizer;
  const auto trie = ChatTrie(tokenizer);
  const int32_t stop = tokenizer->vocab_size() - 1;
  std::mt19937 random(2);
  for (const char* text : kGrammars) {
    const auto grammar = Gbnf(text);
    Constraint constraint(grammar, trie, {stop});
    for (int round = 0; round < 8; ++round) {
      constraint.Restart();
      GrammarMatcher naive(grammar);
      auto state = naive.start();
      std::string made;
      while (made.size() < 200 && !constraint.must_end()) {
        const TokenMask& allowed = constraint.Allowed();
        std::vector<int32_t> ids;
        for (int32_t id = 0; id < trie->size(); ++id) {
          auto next = trie->BytesOf(id).empty() ? GrammarMatcher::kDead : state;
          for (const char c : trie->BytesOf(id)) next = naive.Step(next, static_cast<uint8_t>(c));
          const bool ends = id == stop && naive.Accepts(state);
          ASSERT_EQ(allowed.Contains(id), next != GrammarMatcher::kDead || ends) << text << " after '" << made << "', token " << id;
          if (next != GrammarMatcher::kDead) ids.push_back(id);
        }
        ASSERT_FALSE(ids.empty()) << made;
        const int32_t id = ids[random() % ids.size()];
        constraint.Accept(id);
        for (const char c : trie->BytesOf(id)) state = naive.Step(state, static_cast<uint8_t>(c));
        made += trie->BytesOf(id);
        EXPECT_NE(Judge(grammar, made), "no");
        EXPECT_EQ(constraint.may_end(), naive.Accepts(state));
      }
    }
  }
}

TEST(Constraint, RefusesTokensAndVocabularies) {
  std::shared_ptr<const Tokenizer> tokenizer;
  const auto trie = ChatTrie(tokenizer);
  Constraint constraint(Gbnf("root ::= \"rope\""), trie, {});
  EXPECT_EQ(constraint.Allowed().count() > 0, true);
  const auto digit = tokenizer->Encode("7").ids.at(0);
  EXPECT_FALSE(constraint.Allowed().Contains(digit));
  EXPECT_THROW(constraint.Accept(digit), Error);
  EXPECT_THROW(constraint.Accept(-1), Error);
  const auto only_a = std::make_shared<const TokenTrie>(TokenTrie({"a"}));
  EXPECT_THROW(Constraint(Gbnf("root ::= \"b\""), only_a, {}), Error);
  EXPECT_NO_THROW(Constraint(Gbnf("root ::= \"a\""), only_a, {}));
}

// A mask of a vocabulary of 100,000 tokens inside a string, where nearly all are allowed: found once, then kept.
TEST(Constraint, IsFastEnough) {
  std::mt19937 random(3);
  std::vector<std::string> tokens;
  for (int i = 0; i < 100000; ++i) {
    std::string token;
    for (size_t n = 1 + random() % 8; n > 0; --n) token.push_back(static_cast<char>('a' + random() % 26));
    tokens.push_back(token);
  }
  tokens.push_back("\"");
  const auto trie = std::make_shared<const TokenTrie>(tokens);
  Constraint constraint(Gbnf("root ::= \"\\\"\" [^\"]* \"\\\"\""), trie, {});
  constraint.Accept(100000);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(constraint.Allowed().Contains(5));
    constraint.Accept(5);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

}  // namespace
}  // namespace apr
