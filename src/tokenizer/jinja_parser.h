// Turns tokens into the tree of jinja_ast.h, names not yet resolved. Statements are in
// jinja_parser.cc, expressions in jinja_parser_expression.cc.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_lexer.h"

namespace apr::jinja {

class Parser {
 public:
  Parser(std::vector<Token> tokens, Program* program)
      : tokens_(std::move(tokens)), program_(program) {}

  Block ParseTemplate();

 private:
  using EndTags = std::initializer_list<std::string_view>;

  const Token& Current() const { return tokens_[at_]; }
  const Token& Look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token Next();
  bool SkipName(std::string_view name);
  bool SkipOp(std::string_view op);
  void ExpectOp(std::string_view op);
  Token ExpectName();
  void ExpectKeyword(std::string_view name);
  void Expect(TokenType type);
  [[noreturn]] void Fail(const std::string& message, uint32_t line = 0) const;

  // Statements.
  StmtPtr NewStmt(StmtKind kind, uint32_t line);
  Block ParseBody(EndTags end_tags);  // up to the tag that ends it, whose name is current
  Block ParseStatements(EndTags end_tags, bool drop_end = false);
  StmtPtr ParseStatement();
  StmtPtr ParseFor();
  StmtPtr ParseIf();
  StmtPtr ParseSet();
  StmtPtr ParseWith();
  StmtPtr ParseMacro();
  StmtPtr ParseCallBlock();
  StmtPtr ParseFilterBlock();
  StmtPtr ParseGeneration();
  void ParsePrintTag(Block* out);
  void ParseSignature(MacroDef* macro);
  ExprPtr ParseTarget(bool with_namespace);

  // Expressions, from the loosest binding to the tightest.
  struct TupleRules {
    bool simplified = false;  // only names and literals
    bool with_conditional = true;
    bool explicit_parentheses = false;
    bool with_namespace = false;
  };
  ExprPtr ParseTuple(const TupleRules& rules);
  bool AtTupleEnd() const;
  ExprPtr ParseExpression(bool with_conditional = true);
  ExprPtr ParseConditional();
  ExprPtr ParseOr();
  ExprPtr ParseAnd();
  ExprPtr ParseNot();
  ExprPtr ParseCompare();
  ExprPtr ParseSum();
  ExprPtr ParseConcat();
  ExprPtr ParseProduct();
  ExprPtr ParsePower();
  ExprPtr ParseUnary(bool with_filter = true);
  ExprPtr ParsePrimary(bool with_namespace = false);
  ExprPtr ParseListDisplay();
  ExprPtr ParseDictDisplay();
  ExprPtr ParsePostfix(ExprPtr node);
  ExprPtr ParseFilterExpression(ExprPtr node);
  ExprPtr ParseSubscript(ExprPtr node);
  ExprPtr ParseSubscribed();
  ExprPtr ParseFilter(ExprPtr node, bool start_inline = false);
  ExprPtr ParseTest(ExprPtr node);
  void ParseCallArguments(Expr* call);
  ExprPtr ParseCall(ExprPtr callee);

  ExprPtr NewExpr(ExprKind kind, uint32_t line);
  ExprPtr NewConst(Value value, uint32_t line);
  void Adopt(Expr* parent, ExprPtr kid);  // appends to kids and bounds the depth
  void Deepen(Expr* parent, const Expr* kid);
  ExprPtr Binary(Op op, ExprPtr left, ExprPtr right, uint32_t line);
  std::string ParseDottedName();

  // Counts the nesting of the parser's own recursion.
  struct Level {
    explicit Level(Parser* p);
    ~Level() { --parser->level_; }
    Parser* parser;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Program* program_;
  int level_ = 0;
};

}  // namespace apr::jinja
