// See constraint.h.
#include "generate/constraint.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace apr {
namespace {
constexpr size_t kMostMasks = 512;
}

Constraint::Constraint(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie, std::vector<int32_t> stop_ids)
    : trie_(std::move(trie)), stop_ids_(std::move(stop_ids)), matcher_(std::move(grammar)), state_(matcher_.start()) {
  if (Allowed().count() == 0 && !may_end()) {
    throw Error(ErrorCode::kUsage, "no token of the vocabulary begins a text of the grammar");
  }
}

const TokenMask& Constraint::Allowed() {
  if (matcher_.IsLarge() || masks_.size() > kMostMasks) {
    masks_.clear();
    state_ = matcher_.Compact(state_);
  }
  const auto [it, is_new] = masks_.try_emplace(state_, trie_->size());
  if (is_new) {
    trie_->AddAllowed(matcher_, state_, it->second);
    if (may_end()) {
      for (const int32_t id : stop_ids_) {
        if (id >= 0 && id < trie_->size()) it->second.Add(id);
      }
    }
  }
  return it->second;
}

void Constraint::Accept(int32_t id) {
  if (may_end() && std::ranges::find(stop_ids_, id) != stop_ids_.end()) return;
  GrammarMatcher::State next = state_;
  const bool known = id >= 0 && id < trie_->size() && !trie_->BytesOf(id).empty();
  if (known) {
    for (const char c : trie_->BytesOf(id)) next = matcher_.Step(next, static_cast<uint8_t>(c));
  }
  if (!known || next == GrammarMatcher::kDead) throw Error(ErrorCode::kInference, fmt::format("the grammar does not allow token {}", id));
  state_ = next;
}

}  // namespace apr
