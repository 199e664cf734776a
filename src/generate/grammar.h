// Context-free grammars over bytes, as the matcher runs them, and the expressions they are built from.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace apr {

using ByteSet = std::bitset<256>;

struct GrammarSymbol {
  enum Kind : uint32_t { kEnd, kBytes, kRule } kind = kEnd;
  uint32_t value = 0;  // index into byte_sets or rules
};

struct GrammarRule {
  std::string name;
  std::vector<uint32_t> alternatives;  // first symbol of each; runs to the next kEnd
};

struct Grammar {
  std::vector<GrammarSymbol> symbols;
  std::vector<ByteSet> byte_sets;
  std::vector<GrammarRule> rules;
  uint32_t root = 0;
};

// What a rule may consist of. Built by a parser (gbnf.h, json_schema.h), turned into a Grammar by
// GrammarBuilder.
struct GrammarExpr {
  enum Kind { kText, kClass, kSequence, kChoice, kRepeat, kRule } kind = kSequence;
  std::string text;                                   // kText: bytes
  std::vector<std::pair<uint32_t, uint32_t>> ranges;  // kClass: code points, both ends in it
  std::vector<GrammarExpr> parts;                     // kSequence, kChoice; kRepeat: one
  int64_t least = 0, most = -1;                       // kRepeat; most -1: no end
  uint32_t rule = 0;                                  // kRule

  static GrammarExpr Text(std::string text);
  static GrammarExpr Class(std::vector<std::pair<uint32_t, uint32_t>> ranges);
  static GrammarExpr Sequence(std::vector<GrammarExpr> parts);
  static GrammarExpr Choice(std::vector<GrammarExpr> parts);
  static GrammarExpr Repeat(GrammarExpr part, int64_t least, int64_t most);
  static GrammarExpr Rule(uint32_t rule);
};

// Every code point that is in none of the ranges; surrogates are in no class.
std::vector<std::pair<uint32_t, uint32_t>> ComplementOf(std::vector<std::pair<uint32_t, uint32_t>> ranges);

class GrammarBuilder {
 public:
  // `source`: file for errors.
  explicit GrammarBuilder(std::string source);

  // The rule of that name; made where it is new.
  uint32_t RuleNamed(const std::string& name);
  bool IsDefined(uint32_t rule) const { return defined_[rule]; }
  // Throws kInvalidFormat: defined twice, or the grammar would have more than kMostSymbols symbols.
  void Define(uint32_t rule, const GrammarExpr& expression);

  // Throws kInvalidFormat, naming the rule: one that is used and not defined; left recursion (a rule that
  // would have to be expanded before it reads a byte, with something left to do behind it); a root that
  // matches no finite text. Alternatives that could never end are left out.
  Grammar Build(const std::string& root);

  static constexpr size_t kMostSymbols = size_t{1} << 20;

 private:
  [[noreturn]] void Fail(const std::string& what) const;
  void Emit(const GrammarExpr& expression, std::vector<GrammarSymbol>& out);
  void EmitClass(const GrammarExpr& expression, std::vector<GrammarSymbol>& out);
  void EmitRepeat(const GrammarExpr& expression, std::vector<GrammarSymbol>& out);
  GrammarSymbol Bytes(const ByteSet& set);
  uint32_t NewRule(const std::string& name);
  uint32_t Anonymous(std::vector<std::vector<GrammarSymbol>> alternatives);
  void Append(uint32_t rule, const std::vector<GrammarSymbol>& symbols);

  std::string source_;
  std::string defining_;  // name of the rule whose expression is being turned into symbols
  Grammar grammar_;
  std::vector<bool> defined_;
  std::map<std::string, uint32_t> names_;
  std::map<std::string, uint32_t> set_ids_;
};

}  // namespace apr
