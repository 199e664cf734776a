// See jinja_parser.h: statements. The grammar is jinja2's (pallets/jinja src/jinja2/parser.py).
#include "tokenizer/jinja_parser.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tokenizer/chat_template.h"

namespace apr::jinja {
namespace {

constexpr int kMaxLevel = 150;  // of tags and parentheses within each other

bool IsConstantName(std::string_view name) {
  return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" ||
         name == "None";
}

bool CanAssign(const Expr& target) {
  switch (target.kind) {
    case ExprKind::kName:
      return !IsConstantName(Text(target.value));
    case ExprKind::kNamespaceAttribute:
      return true;
    case ExprKind::kTuple:
      return std::all_of(target.kids.begin(), target.kids.end(),
                         [](const ExprPtr& kid) { return CanAssign(*kid); });
    default:
      return false;
  }
}

}  // namespace

Parser::Level::Level(Parser* p) : parser(p) {
  if (++p->level_ > kMaxLevel) {
    --p->level_;
    p->Fail(fmt::format("nested deeper than {} levels", kMaxLevel));
  }
}

void Parser::Fail(const std::string& message, uint32_t line) const {
  throw TemplateError(TemplateErrorKind::kSyntax, message, line == 0 ? Current().line : line);
}

Token Parser::Next() {
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::SkipName(std::string_view name) {
  if (!Current().IsName(name)) return false;
  ++at_;
  return true;
}

bool Parser::SkipOp(std::string_view op) {
  if (!Current().IsOp(op)) return false;
  ++at_;
  return true;
}

void Parser::ExpectOp(std::string_view op) {
  if (!SkipOp(op)) Fail(fmt::format("expected token '{}', got '{}'", op, Describe(Current())));
}

void Parser::ExpectKeyword(std::string_view name) {
  if (!SkipName(name))
    Fail(fmt::format("expected token '{}', got '{}'", name, Describe(Current())));
}

Token Parser::ExpectName() {
  if (Current().type != TokenType::kName) {
    Fail(fmt::format("expected token 'name', got '{}'", Describe(Current())));
  }
  return Next();
}

void Parser::Expect(TokenType type) {
  if (Current().type != type) {
    Token wanted;
    wanted.type = type;
    Fail(fmt::format("expected token '{}', got '{}'", Describe(wanted), Describe(Current())));
  }
  ++at_;
}

StmtPtr Parser::NewStmt(StmtKind kind, uint32_t line) {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = line;
  return stmt;
}

Block Parser::ParseTemplate() {
  Block body = ParseBody({});
  if (Current().type != TokenType::kEnd) Fail("unexpected " + Describe(Current()));
  return body;
}

Block Parser::ParseBody(EndTags end_tags) {
  const Level level(this);
  Block body;
  while (Current().type != TokenType::kEnd) {
    const uint32_t line = Current().line;
    if (Current().type == TokenType::kData) {
      StmtPtr text = NewStmt(StmtKind::kText, line);
      text->text = Next().text;
      body.push_back(std::move(text));
    } else if (Current().type == TokenType::kVariableBegin) {
      ++at_;
      StmtPtr print = NewStmt(StmtKind::kPrint, line);
      print->expr = ParseTuple({});
      body.push_back(std::move(print));
      Expect(TokenType::kVariableEnd);
    } else {
      Expect(TokenType::kBlockBegin);
      const Token& tag = Current();
      if (tag.type == TokenType::kName &&
          std::find(end_tags.begin(), end_tags.end(), tag.text) != end_tags.end()) {
        return body;
      }
      if (tag.IsName("print")) {
        ParsePrintTag(&body);
      } else {
        body.push_back(ParseStatement());
      }
      Expect(TokenType::kBlockEnd);
    }
  }
  if (end_tags.size() > 0) {
    Fail(fmt::format("Unexpected end of template. Looking for the following tags: {}.",
                     fmt::join(end_tags, " or ")));
  }
  return body;
}

Block Parser::ParseStatements(EndTags end_tags, bool drop_end) {
  SkipOp(":");
  Expect(TokenType::kBlockEnd);
  Block body = ParseBody(end_tags);
  if (drop_end) ++at_;
  return body;
}

StmtPtr Parser::ParseStatement() {
  const Token& tag = Current();
  if (tag.type != TokenType::kName) Fail("tag name expected");
  if (tag.text == "for") return ParseFor();
  if (tag.text == "if") return ParseIf();
  if (tag.text == "set") return ParseSet();
  if (tag.text == "with") return ParseWith();
  if (tag.text == "macro") return ParseMacro();
  if (tag.text == "call") return ParseCallBlock();
  if (tag.text == "filter") return ParseFilterBlock();
  if (tag.text == "generation") return ParseGeneration();
  if (tag.text == "break") return NewStmt(StmtKind::kBreak, Next().line);
  if (tag.text == "continue") return NewStmt(StmtKind::kContinue, Next().line);
  for (const char* refused : {"include", "import", "from", "extends", "block", "autoescape"}) {
    if (tag.text == refused)
      Fail(fmt::format("the tag '{}' is not supported in chat templates", refused));
  }
  Fail(fmt::format("Encountered unknown tag '{}'.", tag.text));
}

void Parser::ParsePrintTag(Block* out) {
  const uint32_t line = Next().line;
  bool first = true;
  while (Current().type != TokenType::kBlockEnd) {
    if (!first) ExpectOp(",");
    first = false;
    StmtPtr print = NewStmt(StmtKind::kPrint, line);
    print->expr = ParseExpression();
    out->push_back(std::move(print));
  }
}

ExprPtr Parser::ParseTarget(bool with_namespace) {
  TupleRules rules;
  rules.simplified = true;
  rules.with_namespace = with_namespace;
  ExprPtr target = ParseTuple(rules);
  if (!CanAssign(*target)) Fail("can't assign to this expression", target->line);
  return target;
}

StmtPtr Parser::ParseFor() {
  StmtPtr stmt = NewStmt(StmtKind::kFor, Next().line);
  const size_t target_at = at_;
  stmt->target = ParseTarget(false);
  ExpectKeyword("in");
  TupleRules rules;
  rules.with_conditional = false;
  stmt->expr = ParseTuple(rules);
  if (SkipName("if")) {
    stmt->test = ParseExpression();
    const size_t resume = at_;
    at_ = target_at;
    stmt->test_target = ParseTarget(false);
    at_ = resume;
  }
  stmt->recursive = SkipName("recursive");
  stmt->body = ParseStatements({"endfor", "else"});
  if (Next().text == "else") stmt->else_body = ParseStatements({"endfor"}, true);
  return stmt;
}

StmtPtr Parser::ParseIf() {
  StmtPtr stmt = NewStmt(StmtKind::kIf, Next().line);
  while (true) {
    TupleRules rules;
    rules.with_conditional = false;
    Branch branch;
    branch.condition = ParseTuple(rules);
    branch.body = ParseStatements({"elif", "else", "endif"});
    stmt->branches.push_back(std::move(branch));
    const Token end = Next();
    if (end.text == "elif") continue;
    if (end.text == "else") stmt->else_body = ParseStatements({"endif"}, true);
    return stmt;
  }
}

StmtPtr Parser::ParseSet() {
  const uint32_t line = Next().line;
  ExprPtr target = ParseTarget(true);
  const bool assigns = SkipOp("=");
  StmtPtr stmt = NewStmt(assigns ? StmtKind::kSet : StmtKind::kSetBlock, line);
  stmt->target = std::move(target);
  if (assigns) {
    stmt->expr = ParseTuple({});
  } else {
    stmt->expr = ParseFilter(nullptr);
    stmt->body = ParseStatements({"endset"}, true);
  }
  return stmt;
}

StmtPtr Parser::ParseWith() {
  StmtPtr stmt = NewStmt(StmtKind::kWith, Next().line);
  while (Current().type != TokenType::kBlockEnd) {
    if (!stmt->assignments.empty()) ExpectOp(",");
    ExprPtr target = ParseTarget(false);
    ExpectOp("=");
    stmt->assignments.emplace_back(std::move(target), ParseExpression());
  }
  stmt->body = ParseStatements({"endwith"}, true);
  return stmt;
}

void Parser::ParseSignature(MacroDef* macro) {
  ExpectOp("(");
  while (!Current().IsOp(")")) {
    if (!macro->parameters.empty()) ExpectOp(",");
    const Token name = ExpectName();
    if (IsConstantName(name.text)) Fail("can't assign to '" + name.text + "'", name.line);
    Parameter parameter;
    parameter.name = program_->Constant(name.text);
    if (SkipOp("=")) {
      parameter.default_value = ParseExpression();
    } else if (!macro->parameters.empty() && macro->parameters.back().default_value != nullptr) {
      Fail("non-default argument follows default argument");
    }
    for (const Parameter& other : macro->parameters) {
      if (Text(other.name) == name.text) Fail("duplicate argument '" + name.text + "'", name.line);
    }
    macro->parameters.push_back(std::move(parameter));
  }
  ExpectOp(")");
}

StmtPtr Parser::ParseMacro() {
  StmtPtr stmt = NewStmt(StmtKind::kMacro, Next().line);
  stmt->macro = std::make_unique<MacroDef>();
  const Token name = ExpectName();
  if (IsConstantName(name.text)) Fail("can't assign to '" + name.text + "'", name.line);
  stmt->macro->name = name.text;
  ParseSignature(stmt->macro.get());
  stmt->macro->body = ParseStatements({"endmacro"}, true);
  return stmt;
}

StmtPtr Parser::ParseCallBlock() {
  StmtPtr stmt = NewStmt(StmtKind::kCallBlock, Next().line);
  stmt->macro = std::make_unique<MacroDef>();
  if (Current().IsOp("(")) ParseSignature(stmt->macro.get());
  stmt->expr = ParseExpression();
  if (stmt->expr->kind != ExprKind::kCall) Fail("expected call", stmt->line);
  stmt->macro->body = ParseStatements({"endcall"}, true);
  return stmt;
}

StmtPtr Parser::ParseFilterBlock() {
  StmtPtr stmt = NewStmt(StmtKind::kFilterBlock, Next().line);
  stmt->expr = ParseFilter(nullptr, true);
  stmt->body = ParseStatements({"endfilter"}, true);
  return stmt;
}

StmtPtr Parser::ParseGeneration() {
  StmtPtr stmt = NewStmt(StmtKind::kGeneration, Next().line);
  stmt->macro = std::make_unique<MacroDef>();
  stmt->macro->body = ParseStatements({"endgeneration"}, true);
  return stmt;
}

Program ParseProgram(std::string_view source) {
  Program program;
  Parser parser(Tokenize(source), &program);
  program.body = parser.ParseTemplate();
  Resolve(&program);
  return program;
}

}  // namespace apr::jinja
