// See token_trie.h.
#include "generate/token_trie.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tokenizer/tokenizer.h"

namespace apr {

TokenTrie::TokenTrie(std::vector<std::string> bytes) : bytes_(std::move(bytes)) {
  for (size_t id = 0; id < bytes_.size(); ++id) {
    if (!bytes_[id].empty()) order_.push_back(static_cast<int32_t>(id));
  }
  std::ranges::sort(order_, [&](int32_t a, int32_t b) { return std::pair(std::string_view(BytesOf(a)), a) < std::pair(std::string_view(BytesOf(b)), b); });
  // Breadth first, so that the children of a node lie side by side. A span of `order_` shares `depth` bytes.
  struct Span {
    size_t begin, end, depth;
  };
  std::vector<Span> spans = {{0, order_.size(), 0}};
  nodes_.emplace_back();
  for (size_t n = 0; n < nodes_.size(); ++n) {
    auto [begin, end, depth] = spans[n];
    nodes_[n].first_token = static_cast<uint32_t>(begin);
    while (begin < end && BytesOf(order_[begin]).size() == depth) ++begin;
    nodes_[n].tokens = static_cast<uint32_t>(begin) - nodes_[n].first_token;
    nodes_[n].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = BytesOf(order_[begin])[depth];
      size_t next = begin;
      while (next < end && BytesOf(order_[next])[depth] == byte) ++next;
      spans.push_back({begin, next, depth + 1});
      nodes_.push_back({.byte = static_cast<uint8_t>(byte)});
      ++nodes_[n].children;
      begin = next;
    }
  }
}

TokenTrie TokenTrie::FromTokenizer(const Tokenizer& tokenizer, int64_t size) {
  std::vector<std::string> bytes(static_cast<size_t>(std::max<int64_t>(size, tokenizer.vocab_size())));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.IsSpecial(id)) bytes[static_cast<size_t>(id)] = tokenizer.TokenBytes(id);
  }
  bytes.resize(static_cast<size_t>(size));
  return TokenTrie(std::move(bytes));
}

void TokenTrie::AddAllowed(GrammarMatcher& matcher, GrammarMatcher::State state, TokenMask& mask) const {
  std::vector<std::pair<uint32_t, GrammarMatcher::State>> work = {{0, state}};
  while (!work.empty()) {
    const auto [index, at] = work.back();
    work.pop_back();
    const Node& node = nodes_[index];
    for (uint32_t t = node.first_token; t < node.first_token + node.tokens; ++t) mask.Add(order_[t]);
    for (uint32_t c = node.first_child; c < node.first_child + node.children; ++c) {
      const auto next = matcher.Step(at, nodes_[c].byte);
      if (next != GrammarMatcher::kDead) work.emplace_back(c, next);
    }
  }
}

}  // namespace apr
