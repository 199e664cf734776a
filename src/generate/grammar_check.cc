// See grammar_check.h.
#include "generate/grammar_check.h"

#include <algorithm>

namespace apr {
namespace {

// For each rule the alternatives in which it occurs, as (rule, index of the alternative), once per occurrence.
using Uses = std::vector<std::vector<std::pair<uint32_t, uint32_t>>>;

struct Counts {
  Uses uses;
  std::vector<std::vector<uint32_t>> missing;  // per rule and alternative: occurrences of rules not yet proven
};

Counts CountRules(const Grammar& grammar, bool bytes_block) {
  Counts out;
  out.uses.resize(grammar.rules.size());
  for (uint32_t r = 0; r < grammar.rules.size(); ++r) {
    const auto& alternatives = grammar.rules[r].alternatives;
    out.missing.emplace_back(alternatives.size(), 0);
    for (uint32_t a = 0; a < alternatives.size(); ++a) {
      for (uint32_t s = alternatives[a]; grammar.symbols[s].kind != GrammarSymbol::kEnd; ++s) {
        const GrammarSymbol symbol = grammar.symbols[s];
        if (symbol.kind == GrammarSymbol::kBytes) {
          // An empty class matches nothing; a byte is never empty text.
          if (bytes_block || grammar.byte_sets[symbol.value].none()) ++out.missing[r][a];
          continue;
        }
        ++out.missing[r][a];
        out.uses[symbol.value].emplace_back(r, a);
      }
    }
  }
  return out;
}

// Rules of which one alternative has nothing missing, found from the bottom up.
std::vector<bool> Proven(const Grammar& grammar, Counts& counts) {
  std::vector<bool> proven(grammar.rules.size());
  std::vector<uint32_t> work;
  const auto prove = [&](uint32_t rule) {
    if (proven[rule]) return;
    proven[rule] = true;
    work.push_back(rule);
  };
  for (uint32_t r = 0; r < grammar.rules.size(); ++r) {
    if (std::ranges::find(counts.missing[r], 0U) != counts.missing[r].end()) prove(r);
  }
  while (!work.empty()) {
    const uint32_t rule = work.back();
    work.pop_back();
    for (const auto& [user, alternative] : counts.uses[rule]) {
      if (--counts.missing[user][alternative] == 0) prove(user);
    }
  }
  return proven;
}

struct LeftEdge {
  uint32_t to;
  bool grows;  // something follows in the alternative
};

std::vector<std::vector<LeftEdge>> LeftEdges(const Grammar& grammar) {
  Counts counts = CountRules(grammar, true);
  const std::vector<bool> nullable = Proven(grammar, counts);
  std::vector<std::vector<LeftEdge>> edges(grammar.rules.size());
  for (size_t r = 0; r < grammar.rules.size(); ++r) {
    for (const uint32_t start : grammar.rules[r].alternatives) {
      for (uint32_t s = start; grammar.symbols[s].kind == GrammarSymbol::kRule; ++s) {
        edges[r].push_back({grammar.symbols[s].value, grammar.symbols[s + 1].kind != GrammarSymbol::kEnd});
        if (!nullable[grammar.symbols[s].value]) break;
      }
    }
  }
  return edges;
}

// Tarjan's strongly connected components (SIAM J. Comput. 1, 1972) without recursion.
class Components {
 public:
  explicit Components(const std::vector<std::vector<LeftEdge>>& edges)
      : edges_(edges), order_(edges.size()), low_(edges.size()), of_(edges.size(), 0) {
    for (uint32_t r = 0; r < edges.size(); ++r) {
      if (order_[r] == 0) Visit(r);
    }
  }
  uint32_t of(uint32_t rule) const { return of_[rule]; }  // components count from 1

 private:
  struct Frame {
    uint32_t rule;
    size_t next;
  };
  void Enter(uint32_t rule) {
    order_[rule] = low_[rule] = ++clock_;
    open_.push_back(rule);
    frames_.push_back({rule, 0});
  }
  void Visit(uint32_t root) {
    Enter(root);
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      const uint32_t rule = frame.rule;
      if (frame.next < edges_[rule].size()) {
        const uint32_t to = edges_[rule][frame.next++].to;
        if (order_[to] == 0) Enter(to);
        else if (of_[to] == 0) low_[rule] = std::min(low_[rule], order_[to]);
        continue;
      }
      frames_.pop_back();
      if (!frames_.empty()) low_[frames_.back().rule] = std::min(low_[frames_.back().rule], low_[rule]);
      if (low_[rule] == order_[rule]) Close(rule);
    }
  }
  void Close(uint32_t rule) {
    ++count_;
    while (true) {
      const uint32_t member = open_.back();
      open_.pop_back();
      of_[member] = count_;
      if (member == rule) return;
    }
  }

  const std::vector<std::vector<LeftEdge>>& edges_;
  std::vector<uint32_t> order_, low_, of_;
  std::vector<uint32_t> open_;
  std::vector<Frame> frames_;
  uint32_t clock_ = 0;
  uint32_t count_ = 0;
};

}  // namespace

void DropEndlessAlternatives(Grammar& grammar) {
  Counts counts = CountRules(grammar, false);
  Proven(grammar, counts);
  for (size_t r = 0; r < grammar.rules.size(); ++r) {
    std::vector<uint32_t> kept;
    for (size_t a = 0; a < grammar.rules[r].alternatives.size(); ++a) {
      if (counts.missing[r][a] == 0) kept.push_back(grammar.rules[r].alternatives[a]);
    }
    grammar.rules[r].alternatives = std::move(kept);
  }
}

std::optional<uint32_t> FindLeftRecursion(const Grammar& grammar) {
  const auto edges = LeftEdges(grammar);
  const Components components(edges);
  for (uint32_t r = 0; r < edges.size(); ++r) {
    for (const LeftEdge& edge : edges[r]) {
      if (edge.grows && components.of(r) == components.of(edge.to)) return r;
    }
  }
  return std::nullopt;
}

}  // namespace apr
