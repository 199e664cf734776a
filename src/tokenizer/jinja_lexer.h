// Splits template text into tokens: text between tags, and the words and signs inside them, with
// white space removed as trim_blocks, lstrip_blocks and the - and + signs of tags demand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace apr::jinja {

enum class TokenType : uint8_t {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  uint32_t line = 1;
  std::string text;  // data, name, value of a string, operator
  Int integer = 0;
  double number = 0;

  bool Is(TokenType t, std::string_view s) const { return type == t && text == s; }
  bool IsName(std::string_view s) const { return Is(TokenType::kName, s); }
  bool IsOp(std::string_view s) const { return Is(TokenType::kOperator, s); }
};

// The last token is kEnd. Throws TemplateError(kSyntax).
std::vector<Token> Tokenize(std::string_view source);

// For messages: "name 'x'" reads x, "end of print statement", ...
std::string Describe(const Token& token);

}  // namespace apr::jinja
