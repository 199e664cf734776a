// Words cut into parts and merged from characters on, against merging their bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/model.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

const std::vector<std::string> kCharacters = {"\u4f60", "\u597d", "\u4e16", "\u4f7d", "\u0430", "\u0431", "\U0001F600", "a", "\U00020000"};

// A byte-level vocabulary with random merges of what stands side by side in random text, some of which join parts of
// characters.
class RandomMerges {
 public:
  explicit RandomMerges(uint32_t seed) : random_(seed) {}

  Json Make(bool ignore_merges) {
    for (int b = 0; b < 256; ++b) Add(std::string(1, static_cast<char>(b)));
    const std::string sample = Text(4000, 0);
    Json merges = Json::array();
    for (int tries = 0; tries < 4000 && merges.size() < 60; ++tries) {
      const size_t at = Draw(sample.size() - 24);
      const std::string left = TokenAt(sample, at);
      const std::string right = TokenAt(sample, at + left.size());
      if (Add(left + right)) merges.push_back(ByteLevelSpelling(left) + " " + ByteLevelSpelling(right));
    }
    return {{"model", {{"type", "BPE"}, {"vocab", vocabulary_}, {"merges", merges}, {"ignore_merges", ignore_merges}}},
            {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}};
  }

  size_t Draw(size_t count) { return random_() % count; }
  std::string Text(size_t characters, size_t spaces) {
    std::string text;
    for (size_t i = 0; i < characters; ++i) text += kCharacters[Draw(kCharacters.size())] + (Draw(100) < spaces ? " " : "");
    return text;
  }

 private:
  bool Add(const std::string& bytes) {
    const std::string spelled = ByteLevelSpelling(bytes);
    if (vocabulary_.contains(spelled)) return false;
    vocabulary_[spelled] = tokens_.size();
    tokens_.push_back(bytes);
    return true;
  }
  // A token that `text` has at `from`, mostly a long one.
  std::string TokenAt(const std::string& text, size_t from) {
    size_t best = 1;
    for (const std::string& token : tokens_) {
      if (text.compare(from, token.size(), token) == 0 && token.size() <= 9 && Draw(3) != 0) best = std::max(best, token.size());
    }
    return text.substr(from, best);
  }

  std::mt19937 random_;
  Json vocabulary_ = Json::object();
  std::vector<std::string> tokens_;  // bytes
};

TEST(ByteLevelParts, IdsAreThoseOfMergingBytes) {
  size_t merged = 0;
  for (uint32_t round = 0; round < 60; ++round) {
    RandomMerges made(round);
    const auto tokenizer = Tokenizer::FromJsonText(made.Make(round % 3 == 0).dump(), "test.json");
    for (int i = 0; i < 60; ++i) {
      const std::string text = made.Text(1 + made.Draw(i < 50 ? 12 : 80), 10);
      const auto ids = tokenizer->Encode(text).ids;
      // Where offsets are asked for, whole words are merged from their bytes.
      ASSERT_EQ(ids, tokenizer->Encode(text, {.offsets = true}).ids) << "round " << round << ", '" << text << "'";
      merged += ids.size() < text.size();
    }
  }
  EXPECT_GT(merged, 1800u);
}

}  // namespace
}  // namespace apr
