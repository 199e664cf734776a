// See added_tokens.h.
#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tokenizer/unicode.h"

namespace apr {
namespace {

bool IsWordAt(std::string_view text, size_t at) {
  return unicode::CharFlags(unicode::DecodeValid(text.data() + at).cp) & unicode::kWord;
}

bool EndsWithWord(std::string_view text) {
  if (text.empty()) return false;
  const char* last = unicode::PreviousCharacter(text.data(), text.data() + text.size());
  return IsWordAt(text, static_cast<size_t>(last - text.data()));
}

bool StartsWithWord(std::string_view text) { return !text.empty() && IsWordAt(text, 0); }

// Begin of the white space that ends at `end`, not before `limit`.
size_t SpaceBefore(std::string_view text, size_t limit, size_t end) {
  while (end > limit) {
    const char* last = unicode::PreviousCharacter(text.data() + limit, text.data() + end);
    if (!(unicode::CharFlags(unicode::DecodeValid(last).cp) & unicode::kSpace)) break;
    end = static_cast<size_t>(last - text.data());
  }
  return end;
}

size_t SpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const auto [cp, length] = unicode::DecodeValid(text.data() + begin);
    if (!(unicode::CharFlags(cp) & unicode::kSpace)) break;
    begin += length;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens,
                         const std::function<std::string(const std::string&)>& normalize)
    : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    AddedToken& each = tokens_[i];
    each.spelled = each.normalized ? normalize(each.content) : each.content;
    by_id_[tokens_[i].id] = i;
    by_content_[tokens_[i].content] = i;
  }
  // `tokenizers` leaves out what is spelled like a special token: one whose spelling normalisation
  // changed is not, another of the same spelling is.
  for (AddedToken& each : tokens_) {
    const AddedToken* same = Find(each.spelled);
    each.skipped = same != nullptr && same->special;
  }
  // Of two with one spelling the special one counts.
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const AddedToken& token = tokens_[i];
      if (token.special != special || token.content.empty()) continue;
      tries_[token.normalized].Insert(token.spelled, static_cast<uint32_t>(i));
    }
  }
  for (const bool normalized : {false, true}) {
    Begins& begins = begins_[normalized];
    for (int b = 0; b < 256; ++b) {
      if (!tries_[normalized].Begins(static_cast<unsigned char>(b))) continue;
      begins.byte[b] = true;
      begins.last = static_cast<char>(b);
      ++begins.count;
    }
  }
}

size_t AddedTokens::Begins::Next(std::string_view text, size_t at) const {
  if (count <= 1) return count == 0 ? text.size() : std::min(text.find(last, at), text.size());
  while (at < text.size() && !byte[static_cast<unsigned char>(text[at])]) ++at;
  return at;
}

void AddedTokens::Split(std::string_view text, bool normalized, bool parse_special,
                        std::vector<Part>& parts) const {
  const ByteTrie& trie = tries_[normalized];
  size_t done = 0;
  size_t at = 0;
  while (true) {
    at = begins_[normalized].Next(text, at);
    if (at >= text.size()) break;
    const ByteTrie::Match match = trie.Longest(text.substr(at));
    if (match.length == 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + match.length;
    at = end;
    const AddedToken& token = tokens_[match.value];
    if (token.special && !parse_special) continue;
    if (token.single_word &&
        (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) {
      continue;
    }
    // A token that begins in white space which the one before took to its right is found all the same.
    if (token.lstrip) begin = std::max(done, SpaceBefore(text, std::min(done, begin), begin));
    if (token.rstrip) end = SpaceAfter(text, end);
    if (begin >= end) continue;  // all of it was taken
    if (begin > done) parts.push_back({nullptr, done, begin});
    parts.push_back({&token, begin, end});
    done = end;
  }
  if (done < text.size()) parts.push_back({nullptr, done, text.size()});
}

const AddedToken* AddedTokens::Find(uint32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::Find(std::string_view content) const {
  const auto it = by_content_.find(content);
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

}  // namespace apr
