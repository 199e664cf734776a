// See grammar_matcher.h.
#include "generate/grammar_matcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace apr {
namespace {

uint64_t HashOf(const std::vector<uint32_t>& places, bool accepts) {
  uint64_t hash = accepts ? 0x9E3779B97F4A7C15U : 1;
  for (const uint32_t p : places) hash = (hash ^ p) * 0xBF58476D1CE4E5B9U + (hash >> 29);
  return hash;
}

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  frames_.push_back({0, 0, 0});
  states_.push_back({{}, false, std::vector<uint32_t>(256, kDead)});
  ++closing_.round;
  for (const uint32_t first : grammar_->rules[grammar_->root].alternatives) Push(first, 0);
  start_ = FinishClosing();
}

uint32_t GrammarMatcher::Intern(uint32_t position, uint32_t parent) {
  const uint64_t key = static_cast<uint64_t>(position) << 32 | parent;
  const auto [it, is_new] = frame_ids_.try_emplace(key, static_cast<uint32_t>(frames_.size()));
  if (is_new) frames_.push_back({position, parent, frames_[parent].depth + 1});
  return it->second;
}

void GrammarMatcher::Push(uint32_t position, uint32_t parent) {
  // A rule that ends here leaves nothing to come back to: its parent goes on.
  while (grammar_->symbols[position].kind == GrammarSymbol::kEnd) {
    if (parent == 0) {
      closing_.accepts = true;
      return;
    }
    position = frames_[parent].position;
    parent = frames_[parent].parent;
  }
  if (frames_[parent].depth >= kMostDepth) return;
  const uint32_t frame = Intern(position, parent);
  if (closing_.seen_at.size() < frames_.size()) closing_.seen_at.resize(frames_.size() + frames_.size() / 2, 0);
  if (closing_.seen_at[frame] == closing_.round) return;
  closing_.seen_at[frame] = closing_.round;
  closing_.work.push_back(frame);
}

GrammarMatcher::State GrammarMatcher::FinishClosing() {
  size_t expansions = 0;
  while (!closing_.work.empty()) {
    const uint32_t frame = closing_.work.back();
    closing_.work.pop_back();
    const auto [position, parent, depth] = frames_[frame];
    const GrammarSymbol symbol = grammar_->symbols[position];
    if (symbol.kind == GrammarSymbol::kBytes) {
      closing_.places.push_back(frame);
      if (closing_.places.size() > kMostPlaces) break;
      continue;
    }
    const bool last = grammar_->symbols[position + 1].kind == GrammarSymbol::kEnd;
    const uint32_t behind = last ? parent : Intern(position + 1, parent);
    for (const uint32_t first : grammar_->rules[symbol.value].alternatives) Push(first, behind);
    if (++expansions > kMostExpansions) break;
  }
  const bool exploded = expansions > kMostExpansions || closing_.places.size() > kMostPlaces;
  std::vector<uint32_t> places = std::move(closing_.places);
  const bool accepts = closing_.accepts;
  closing_.places = {};
  closing_.work.clear();
  closing_.accepts = false;
  if (exploded) {
    throw Error(ErrorCode::kInference, fmt::format("the grammar is too ambiguous: more than {} ways to go on", kMostPlaces));
  }
  std::ranges::sort(places);
  return InternState(std::move(places), accepts);
}

GrammarMatcher::State GrammarMatcher::InternState(std::vector<uint32_t> places, bool accepts) {
  if (places.empty() && !accepts) return kDead;
  std::vector<State>& same_hash = state_ids_[HashOf(places, accepts)];
  for (const State s : same_hash) {
    if (states_[s].accepts == accepts && states_[s].places == places) return s;
  }
  same_hash.push_back(static_cast<State>(states_.size()));
  states_.push_back({std::move(places), accepts, {}});
  return same_hash.back();
}

GrammarMatcher::State GrammarMatcher::Compute(State state, uint8_t byte) {
  ++closing_.round;
  for (const uint32_t place : states_[state].places) {
    const auto [position, parent, depth] = frames_[place];
    if (grammar_->byte_sets[grammar_->symbols[position].value].test(byte)) Push(position + 1, parent);
  }
  const State next = FinishClosing();
  std::vector<uint32_t>& row = states_[state].next;
  if (row.empty()) row.assign(256, kUnknown);
  row[byte] = next;
  return next;
}

GrammarMatcher::State GrammarMatcher::Compact(State state) {
  const std::vector<Frame> old_frames = std::move(frames_);
  const StateData kept = std::move(states_[state]);
  frames_.clear();
  frame_ids_.clear();
  states_.clear();
  state_ids_.clear();
  closing_ = {};
  frames_.push_back({0, 0, 0});
  states_.push_back({{}, false, std::vector<uint32_t>(256, kDead)});
  closing_.round = 1;
  for (const uint32_t first : grammar_->rules[grammar_->root].alternatives) Push(first, 0);
  start_ = FinishClosing();
  std::vector<uint32_t> places;
  for (const uint32_t place : kept.places) {
    std::vector<uint32_t> positions;  // from the top of the stack down
    for (uint32_t frame = place; frame != 0; frame = old_frames[frame].parent) positions.push_back(old_frames[frame].position);
    uint32_t frame = 0;
    for (auto it = positions.rbegin(); it != positions.rend(); ++it) frame = Intern(*it, frame);
    places.push_back(frame);
  }
  std::ranges::sort(places);
  return InternState(std::move(places), kept.accepts);
}

}  // namespace apr
