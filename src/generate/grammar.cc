// See grammar.h.
#include "generate/grammar.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "generate/grammar_check.h"
#include "generate/utf8_ranges.h"

namespace apr {

GrammarExpr GrammarExpr::Text(std::string text) { return {.kind = kText, .text = std::move(text), .ranges = {}, .parts = {}}; }
GrammarExpr GrammarExpr::Class(std::vector<std::pair<uint32_t, uint32_t>> ranges) {
  return {.kind = kClass, .text = {}, .ranges = std::move(ranges), .parts = {}};
}
GrammarExpr GrammarExpr::Sequence(std::vector<GrammarExpr> parts) {
  return {.kind = kSequence, .text = {}, .ranges = {}, .parts = std::move(parts)};
}
GrammarExpr GrammarExpr::Choice(std::vector<GrammarExpr> parts) {
  return {.kind = kChoice, .text = {}, .ranges = {}, .parts = std::move(parts)};
}
GrammarExpr GrammarExpr::Repeat(GrammarExpr part, int64_t least, int64_t most) {
  GrammarExpr out{.kind = kRepeat, .text = {}, .ranges = {}, .parts = {}, .least = least, .most = most};
  out.parts.push_back(std::move(part));
  return out;
}
GrammarExpr GrammarExpr::Rule(uint32_t rule) {
  GrammarExpr out{.kind = kRule, .text = {}, .ranges = {}, .parts = {}};
  out.rule = rule;
  return out;
}

std::vector<std::pair<uint32_t, uint32_t>> ComplementOf(std::vector<std::pair<uint32_t, uint32_t>> ranges) {
  std::ranges::sort(ranges);
  std::vector<std::pair<uint32_t, uint32_t>> out;
  uint32_t next = 0;
  for (const auto& [first, last] : ranges) {
    if (first > next) out.emplace_back(next, first - 1);
    next = std::max(next, last + 1);
  }
  if (next <= 0x10FFFF) out.emplace_back(next, 0x10FFFF);
  return out;
}

GrammarBuilder::GrammarBuilder(std::string source) : source_(std::move(source)) {}

void GrammarBuilder::Fail(const std::string& what) const { throw Error(ErrorCode::kInvalidFormat, what, {.file = source_}); }

uint32_t GrammarBuilder::NewRule(const std::string& name) {
  grammar_.rules.push_back({name, {}});
  defined_.push_back(false);
  return static_cast<uint32_t>(grammar_.rules.size() - 1);
}

uint32_t GrammarBuilder::RuleNamed(const std::string& name) {
  const auto it = names_.find(name);
  if (it != names_.end()) return it->second;
  return names_[name] = NewRule(name);
}

GrammarSymbol GrammarBuilder::Bytes(const ByteSet& set) {
  const auto [it, is_new] = set_ids_.try_emplace(set.to_string(), static_cast<uint32_t>(grammar_.byte_sets.size()));
  if (is_new) grammar_.byte_sets.push_back(set);
  return {GrammarSymbol::kBytes, it->second};
}

void GrammarBuilder::Append(uint32_t rule, const std::vector<GrammarSymbol>& symbols) {
  if (grammar_.symbols.size() + symbols.size() >= kMostSymbols) {
    Fail(fmt::format("the grammar is too large: rule '{}' takes it beyond {} symbols", defining_, kMostSymbols));
  }
  grammar_.rules[rule].alternatives.push_back(static_cast<uint32_t>(grammar_.symbols.size()));
  grammar_.symbols.insert(grammar_.symbols.end(), symbols.begin(), symbols.end());
  grammar_.symbols.push_back({GrammarSymbol::kEnd, 0});
}

uint32_t GrammarBuilder::Anonymous(std::vector<std::vector<GrammarSymbol>> alternatives) {
  const uint32_t rule = NewRule(defining_);
  defined_[rule] = true;
  for (const auto& symbols : alternatives) Append(rule, symbols);
  return rule;
}

void GrammarBuilder::EmitClass(const GrammarExpr& expression, std::vector<GrammarSymbol>& out) {
  ByteSet single;
  std::vector<std::vector<GrammarSymbol>> longer;
  for (const auto& [first, last] : expression.ranges) {
    for (const ByteRanges& bytes : Utf8Ranges(first, last)) {
      std::vector<GrammarSymbol> symbols;
      for (const auto& [from, to] : bytes) {
        ByteSet set;
        for (int b = from; b <= to; ++b) set.set(static_cast<size_t>(b));
        symbols.push_back(Bytes(set));
        if (bytes.size() == 1) single |= set;
      }
      if (bytes.size() > 1) longer.push_back(std::move(symbols));
    }
  }
  if (longer.empty() || single.any()) longer.push_back({Bytes(single)});
  if (longer.size() == 1) out.insert(out.end(), longer[0].begin(), longer[0].end());
  else out.push_back({GrammarSymbol::kRule, Anonymous(std::move(longer))});
}

// x{least,most}: `least` times x, then rules that may each take one more.
void GrammarBuilder::EmitRepeat(const GrammarExpr& expression, std::vector<GrammarSymbol>& out) {
  std::vector<GrammarSymbol> item;
  Emit(expression.parts[0], item);
  const int64_t most = expression.most;
  if (item.size() > 1 && (expression.least > 1 || most != 1)) item = {{GrammarSymbol::kRule, Anonymous({item})}};
  const auto copies = static_cast<size_t>(std::max(expression.least, most));
  if (copies > kMostSymbols) Fail(fmt::format("rule '{}': {} repetitions are too many", defining_, copies));
  for (int64_t i = 0; i < expression.least; ++i) out.insert(out.end(), item.begin(), item.end());
  if (most < 0) {
    const uint32_t rule = NewRule(defining_);
    defined_[rule] = true;
    std::vector<GrammarSymbol> again = item;
    again.push_back({GrammarSymbol::kRule, rule});
    Append(rule, again);
    Append(rule, {});
    out.push_back({GrammarSymbol::kRule, rule});
    return;
  }
  std::vector<GrammarSymbol> rest;
  for (int64_t i = expression.least; i < most; ++i) {
    std::vector<GrammarSymbol> one = item;
    one.insert(one.end(), rest.begin(), rest.end());
    rest = {{GrammarSymbol::kRule, Anonymous({one, {}})}};
  }
  out.insert(out.end(), rest.begin(), rest.end());
}

void GrammarBuilder::Emit(const GrammarExpr& expression, std::vector<GrammarSymbol>& out) {
  switch (expression.kind) {
    case GrammarExpr::kText:
      for (const char c : expression.text) {
        ByteSet set;
        set.set(static_cast<uint8_t>(c));
        out.push_back(Bytes(set));
      }
      break;
    case GrammarExpr::kClass: EmitClass(expression, out); break;
    case GrammarExpr::kSequence:
      for (const GrammarExpr& part : expression.parts) Emit(part, out);
      break;
    case GrammarExpr::kChoice: {
      std::vector<std::vector<GrammarSymbol>> alternatives(expression.parts.size());
      for (size_t i = 0; i < alternatives.size(); ++i) Emit(expression.parts[i], alternatives[i]);
      out.push_back({GrammarSymbol::kRule, Anonymous(std::move(alternatives))});
      break;
    }
    case GrammarExpr::kRepeat: EmitRepeat(expression, out); break;
    case GrammarExpr::kRule: out.push_back({GrammarSymbol::kRule, expression.rule}); break;
  }
  if (out.size() >= kMostSymbols) Fail(fmt::format("the grammar is too large: rule '{}' has {} symbols", defining_, out.size()));
}

void GrammarBuilder::Define(uint32_t rule, const GrammarExpr& expression) {
  if (defined_[rule]) Fail(fmt::format("rule '{}' is defined twice", grammar_.rules[rule].name));
  defined_[rule] = true;
  defining_ = grammar_.rules[rule].name;
  const bool choice = expression.kind == GrammarExpr::kChoice;
  for (size_t i = 0; i < (choice ? expression.parts.size() : 1); ++i) {
    std::vector<GrammarSymbol> symbols;
    Emit(choice ? expression.parts[i] : expression, symbols);
    Append(rule, symbols);
  }
}

Grammar GrammarBuilder::Build(const std::string& root) {
  const auto it = names_.find(root);
  if (it == names_.end() || !defined_[it->second]) Fail(fmt::format("there is no rule '{}'", root));
  for (size_t r = 0; r < defined_.size(); ++r) {
    if (!defined_[r]) Fail(fmt::format("rule '{}' is used and not defined", grammar_.rules[r].name));
  }
  grammar_.root = it->second;
  DropEndlessAlternatives(grammar_);
  if (grammar_.rules[grammar_.root].alternatives.empty()) Fail(fmt::format("rule '{}' matches no finite text", root));
  if (const auto rule = FindLeftRecursion(grammar_)) {
    Fail(fmt::format("rule '{}' is left-recursive: it begins with itself", grammar_.rules[*rule].name));
  }
  return std::move(grammar_);
}

}  // namespace apr
