// Runs a grammar over bytes. A state is the set of places that the text read so far may have led to, each a
// position in a rule with what waits behind it (a stack, shared between places). States and the steps between
// them are found when first needed and kept, as a lazy automaton, so that most steps are one look into a table.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "generate/grammar.h"

namespace apr {

class GrammarMatcher {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;  // no text can follow

  // Throws what Step throws.
  explicit GrammarMatcher(std::shared_ptr<const Grammar> grammar);

  State start() const { return start_; }
  // Throws kInference where a grammar leads to more than kMostPlaces places at once. Nesting deeper than
  // kMostDepth rules is taken as not allowed.
  State Step(State state, uint8_t byte) {
    const std::vector<uint32_t>& next = states_[state].next;
    return !next.empty() && next[byte] != kUnknown ? next[byte] : Compute(state, byte);
  }
  // The text may end here.
  bool Accepts(State state) const { return states_[state].accepts; }
  // Something may follow.
  bool Continues(State state) const { return !states_[state].places.empty(); }

  // Memory in use, and what to do about it: forgets all but `state`, whose new number is returned. Numbers
  // given out before are void.
  bool IsLarge() const { return states_.size() > kMostStates || frames_.size() > kMostFrames; }
  State Compact(State state);

  static constexpr size_t kMostPlaces = 1 << 14;
  static constexpr uint32_t kMostDepth = 2000;

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX;
  static constexpr size_t kMostStates = 1 << 15;
  static constexpr size_t kMostExpansions = 1 << 20;
  static constexpr size_t kMostFrames = 1 << 20;

  // Symbol `position` of the grammar is next; then the frame `parent` goes on. Frame 0 is the end of the text.
  struct Frame {
    uint32_t position;
    uint32_t parent;
    uint32_t depth;
  };
  struct StateData {
    std::vector<uint32_t> places;  // frames whose next symbol reads a byte, ascending
    bool accepts = false;
    std::vector<uint32_t> next;    // per byte; empty: none is known
  };

  State Compute(State state, uint8_t byte);
  uint32_t Intern(uint32_t position, uint32_t parent);
  State InternState(std::vector<uint32_t> places, bool accepts);
  // Adds (position, parent), or what follows it where it is an end, to what FinishClosing expands.
  void Push(uint32_t position, uint32_t parent);
  State FinishClosing();

  std::shared_ptr<const Grammar> grammar_;
  std::vector<Frame> frames_;
  std::unordered_map<uint64_t, uint32_t> frame_ids_;
  std::vector<StateData> states_;
  std::unordered_map<uint64_t, std::vector<State>> state_ids_;  // by hash
  State start_ = kDead;

  struct Closing {
    std::vector<uint32_t> work;     // frames to expand
    std::vector<uint32_t> seen_at;  // per frame: round in which it was met
    std::vector<uint32_t> places;
    bool accepts = false;
    uint32_t round = 0;
  } closing_;
};

}  // namespace apr
