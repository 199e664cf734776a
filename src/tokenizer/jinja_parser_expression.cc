// See jinja_parser.h: expressions. The grammar is jinja2's (pallets/jinja src/jinja2/parser.py).
#include <fmt/format.h>

#include <algorithm>

#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_parser.h"

namespace apr::jinja {
namespace {

constexpr int kMaxExpressionDepth = 400;

}  // namespace

ExprPtr Parser::NewExpr(ExprKind kind, uint32_t line) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

ExprPtr Parser::NewConst(Value value, uint32_t line) {
  ExprPtr expr = NewExpr(ExprKind::kConst, line);
  expr->value = std::move(value);
  return expr;
}

void Parser::Deepen(Expr* parent, const Expr* kid) {
  if (kid == nullptr || kid->depth < parent->depth) return;
  if (kid->depth >= kMaxExpressionDepth) {
    Fail(fmt::format("expression deeper than {} levels", kMaxExpressionDepth), parent->line);
  }
  parent->depth = static_cast<uint16_t>(kid->depth + 1);
}

void Parser::Adopt(Expr* parent, ExprPtr kid) {
  Deepen(parent, kid.get());
  parent->kids.push_back(std::move(kid));
}

ExprPtr Parser::Binary(Op op, ExprPtr left, ExprPtr right, uint32_t line) {
  ExprPtr node = NewExpr(ExprKind::kBinary, line);
  node->op = op;
  Adopt(node.get(), std::move(left));
  Adopt(node.get(), std::move(right));
  return node;
}

bool Parser::AtTupleEnd() const {
  const Token& token = Current();
  return token.type == TokenType::kVariableEnd || token.type == TokenType::kBlockEnd ||
         token.IsOp(")");
}

ExprPtr Parser::ParseTuple(const TupleRules& rules) {
  const Level level(this);
  const uint32_t line = Current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) ExpectOp(",");
    if (AtTupleEnd()) break;
    items.push_back(rules.simplified ? ParsePrimary(rules.with_namespace)
                                     : ParseExpression(rules.with_conditional));
    if (!Current().IsOp(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !rules.explicit_parentheses) {
    Fail(fmt::format("Expected an expression, got '{}'", Describe(Current())));
  }
  ExprPtr tuple = NewExpr(ExprKind::kTuple, line);
  for (ExprPtr& item : items) Adopt(tuple.get(), std::move(item));
  return tuple;
}

ExprPtr Parser::ParseExpression(bool with_conditional) {
  const Level level(this);
  return with_conditional ? ParseConditional() : ParseOr();
}

ExprPtr Parser::ParseConditional() {
  uint32_t line = Current().line;
  ExprPtr node = ParseOr();
  while (SkipName("if")) {
    ExprPtr conditional = NewExpr(ExprKind::kConditional, line);
    Adopt(conditional.get(), ParseOr());
    Adopt(conditional.get(), std::move(node));
    if (SkipName("else")) {
      const Level level(this);
      Adopt(conditional.get(), ParseConditional());
    } else {
      conditional->kids.push_back(nullptr);
    }
    node = std::move(conditional);
    line = Current().line;
  }
  return node;
}

ExprPtr Parser::ParseOr() {
  uint32_t line = Current().line;
  ExprPtr left = ParseAnd();
  while (SkipName("or")) {
    ExprPtr node = NewExpr(ExprKind::kOr, line);
    Adopt(node.get(), std::move(left));
    Adopt(node.get(), ParseAnd());
    left = std::move(node);
    line = Current().line;
  }
  return left;
}

ExprPtr Parser::ParseAnd() {
  uint32_t line = Current().line;
  ExprPtr left = ParseNot();
  while (SkipName("and")) {
    ExprPtr node = NewExpr(ExprKind::kAnd, line);
    Adopt(node.get(), std::move(left));
    Adopt(node.get(), ParseNot());
    left = std::move(node);
    line = Current().line;
  }
  return left;
}

ExprPtr Parser::ParseNot() {
  if (!Current().IsName("not")) return ParseCompare();
  const Level level(this);
  ExprPtr node = NewExpr(ExprKind::kNot, Next().line);
  Adopt(node.get(), ParseNot());
  return node;
}

ExprPtr Parser::ParseCompare() {
  constexpr std::pair<std::string_view, Op> kOps[] = {{"==", Op::kEq}, {"!=", Op::kNe},
                                                      {"<", Op::kLt},  {"<=", Op::kLe},
                                                      {">", Op::kGt},  {">=", Op::kGe}};
  const uint32_t line = Current().line;
  ExprPtr first = ParseSum();
  ExprPtr node;
  while (true) {
    Op op = Op::kIn;
    const auto* found = std::find_if(std::begin(kOps), std::end(kOps), [&](const auto& entry) {
      return Current().IsOp(entry.first);
    });
    if (found != std::end(kOps)) {
      op = found->second;
      ++at_;
    } else if (Current().IsName("not") && Look().IsName("in")) {
      op = Op::kNotIn;
      at_ += 2;
    } else if (!SkipName("in")) {
      break;
    }
    if (node == nullptr) {
      node = NewExpr(ExprKind::kCompare, line);
      Adopt(node.get(), std::move(first));
    }
    node->ops.push_back(op);
    Adopt(node.get(), ParseSum());
  }
  return node != nullptr ? std::move(node) : std::move(first);
}

ExprPtr Parser::ParseSum() {
  uint32_t line = Current().line;
  ExprPtr left = ParseConcat();
  while (Current().IsOp("+") || Current().IsOp("-")) {
    const Op op = Next().text == "+" ? Op::kAdd : Op::kSub;
    left = Binary(op, std::move(left), ParseConcat(), line);
    line = Current().line;
  }
  return left;
}

ExprPtr Parser::ParseConcat() {
  const uint32_t line = Current().line;
  ExprPtr first = ParseProduct();
  if (!Current().IsOp("~")) return first;
  ExprPtr node = NewExpr(ExprKind::kConcat, line);
  Adopt(node.get(), std::move(first));
  while (SkipOp("~")) Adopt(node.get(), ParseProduct());
  return node;
}

ExprPtr Parser::ParseProduct() {
  constexpr std::pair<std::string_view, Op> kOps[] = {
      {"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}};
  uint32_t line = Current().line;
  ExprPtr left = ParsePower();
  while (true) {
    const auto* found = std::find_if(std::begin(kOps), std::end(kOps), [&](const auto& entry) {
      return Current().IsOp(entry.first);
    });
    if (found == std::end(kOps)) return left;
    ++at_;
    left = Binary(found->second, std::move(left), ParsePower(), line);
    line = Current().line;
  }
}

ExprPtr Parser::ParsePower() {
  uint32_t line = Current().line;
  ExprPtr left = ParseUnary();
  while (SkipOp("**")) {
    left = Binary(Op::kPow, std::move(left), ParseUnary(), line);
    line = Current().line;
  }
  return left;
}

ExprPtr Parser::ParseUnary(bool with_filter) {
  const Level level(this);
  ExprPtr node;
  if (Current().IsOp("-") || Current().IsOp("+")) {
    const Token sign = Next();
    node = NewExpr(sign.text == "-" ? ExprKind::kNegate : ExprKind::kPlus, sign.line);
    Adopt(node.get(), ParseUnary(false));
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filter ? ParseFilterExpression(std::move(node)) : std::move(node);
}

ExprPtr Parser::ParsePrimary(bool with_namespace) {
  const Token& token = Current();
  const uint32_t line = token.line;
  switch (token.type) {
    case TokenType::kName: {
      const std::string name = Next().text;
      if (name == "true" || name == "True") return NewConst(Value::Bool(true), line);
      if (name == "false" || name == "False") return NewConst(Value::Bool(false), line);
      if (name == "none" || name == "None") return NewConst(Value::None(), line);
      ExprPtr node = NewExpr(ExprKind::kName, line);
      node->value = program_->Constant(name);
      if (with_namespace && SkipOp(".")) {
        node->kind = ExprKind::kNamespaceAttribute;
        node->named.emplace_back(program_->Constant(ExpectName().text), nullptr);
      }
      return node;
    }
    case TokenType::kString: {
      std::string text = Next().text;
      while (Current().type == TokenType::kString) text += Next().text;
      return NewConst(program_->Constant(std::move(text)), line);
    }
    case TokenType::kInteger: {
      const Int value = Next().integer;
      if (value == static_cast<int64_t>(value)) {
        return NewConst(Value::Int64(static_cast<int64_t>(value)), line);
      }
      program_->constants.push_back(std::make_unique<WideInt>(nullptr, value));
      return NewConst(Value(program_->constants.back().get()), line);
    }
    case TokenType::kFloat:
      return NewConst(Value::Float(Next().number), line);
    default:
      break;
  }
  if (SkipOp("(")) {
    TupleRules rules;
    rules.explicit_parentheses = true;
    ExprPtr node = ParseTuple(rules);
    ExpectOp(")");
    return node;
  }
  if (token.IsOp("[")) return ParseListDisplay();
  if (token.IsOp("{")) return ParseDictDisplay();
  Fail(fmt::format("unexpected '{}'", Describe(token)));
}

ExprPtr Parser::ParseListDisplay() {
  ExprPtr list = NewExpr(ExprKind::kList, Next().line);
  while (!Current().IsOp("]")) {
    if (!list->kids.empty()) ExpectOp(",");
    if (Current().IsOp("]")) break;
    Adopt(list.get(), ParseExpression());
  }
  ExpectOp("]");
  return list;
}

// Jinja works a dict of constants out while it compiles, reached or not, and stumbles over keys that cannot be hashed.
// Known here: literals, collections of them, and `and`, `or` that a literal on the left decides.
namespace {

bool IsConstant(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kConst:
      return true;
    case ExprKind::kTuple:
    case ExprKind::kList:
    case ExprKind::kDict:
      return std::ranges::all_of(expr.kids, [](const ExprPtr& kid) { return IsConstant(*kid); });
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      const Expr& left = *expr.kids[0];
      if (!IsConstant(left)) return false;
      const bool truthy = left.kind == ExprKind::kConst ? Truthy(left.value) : !left.kids.empty();
      return truthy == (expr.kind == ExprKind::kOr) || IsConstant(*expr.kids[1]);
    }
    default:
      return false;
  }
}

bool IsHashableConstant(const Expr& expr) {
  if (expr.kind == ExprKind::kList || expr.kind == ExprKind::kDict) return false;
  return expr.kind != ExprKind::kTuple || std::ranges::all_of(expr.kids, [](const ExprPtr& kid) { return IsHashableConstant(*kid); });
}

}  // namespace

ExprPtr Parser::ParseDictDisplay() {
  ExprPtr dict = NewExpr(ExprKind::kDict, Next().line);
  while (!Current().IsOp("}")) {
    if (!dict->kids.empty()) ExpectOp(",");
    if (Current().IsOp("}")) break;
    Adopt(dict.get(), ParseExpression());
    ExpectOp(":");
    Adopt(dict.get(), ParseExpression());
  }
  ExpectOp("}");
  if (IsConstant(*dict)) {
    for (size_t i = 0; i < dict->kids.size(); i += 2) {
      if (!IsHashableConstant(*dict->kids[i])) Fail("TypeError: a key of a dict cannot be hashed", dict->line);
    }
  }
  return dict;
}

ExprPtr Parser::ParsePostfix(ExprPtr node) {
  while (true) {
    if (Current().IsOp(".") || Current().IsOp("[")) {
      node = ParseSubscript(std::move(node));
    } else if (Current().IsOp("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::ParseFilterExpression(ExprPtr node) {
  while (true) {
    if (Current().IsOp("|")) {
      node = ParseFilter(std::move(node));
    } else if (Current().IsName("is")) {
      node = ParseTest(std::move(node));
    } else if (Current().IsOp("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::ParseSubscript(ExprPtr node) {
  const Token open = Next();
  if (open.text == ".") {
    const Token name = Next();
    if (name.type == TokenType::kName) {
      ExprPtr attribute = NewExpr(ExprKind::kAttribute, open.line);
      attribute->value = program_->Constant(name.text);
      Adopt(attribute.get(), std::move(node));
      return attribute;
    }
    if (name.type != TokenType::kInteger) Fail("expected name or number", name.line);
    if (name.integer != static_cast<int64_t>(name.integer)) Fail("index too large", name.line);
    ExprPtr item = NewExpr(ExprKind::kItem, open.line);
    Adopt(item.get(), std::move(node));
    Adopt(item.get(), NewConst(Value::Int64(static_cast<int64_t>(name.integer)), name.line));
    return item;
  }
  std::vector<ExprPtr> keys;
  while (!Current().IsOp("]")) {
    if (!keys.empty()) ExpectOp(",");
    keys.push_back(ParseSubscribed());
  }
  ExpectOp("]");
  ExprPtr item = NewExpr(ExprKind::kItem, open.line);
  Adopt(item.get(), std::move(node));
  if (keys.size() == 1) {
    Adopt(item.get(), std::move(keys[0]));
    return item;
  }
  ExprPtr tuple = NewExpr(ExprKind::kTuple, open.line);
  for (ExprPtr& key : keys) {
    if (key->kind == ExprKind::kSlice) Fail("a slice cannot be part of a tuple", key->line);
    Adopt(tuple.get(), std::move(key));
  }
  Adopt(item.get(), std::move(tuple));
  return item;
}

ExprPtr Parser::ParseSubscribed() {
  const uint32_t line = Current().line;
  const auto at_end = [&] {
    return Current().IsOp("]") || Current().IsOp(",") || Current().IsOp(":");
  };
  ExprPtr start;
  if (!Current().IsOp(":")) {
    start = ParseExpression();
    if (!Current().IsOp(":")) return start;
  }
  ++at_;
  ExprPtr slice = NewExpr(ExprKind::kSlice, line);
  Adopt(slice.get(), std::move(start));
  Adopt(slice.get(), at_end() ? nullptr : ParseExpression());
  const bool has_step = SkipOp(":");
  Adopt(slice.get(), !has_step || at_end() ? nullptr : ParseExpression());
  return slice;
}

void Parser::ParseCallArguments(Expr* call) {
  const uint32_t line = Current().line;
  const auto ensure = [&](bool valid) {
    if (!valid) Fail("invalid syntax for function call expression", line);
  };
  ExpectOp("(");
  bool first = true;
  while (!Current().IsOp(")")) {
    if (!first) {
      ExpectOp(",");
      if (Current().IsOp(")")) break;
    }
    first = false;
    if (SkipOp("*")) {
      ensure(call->star == nullptr && call->star_star == nullptr);
      call->star = ParseExpression();
      Deepen(call, call->star.get());
    } else if (SkipOp("**")) {
      ensure(call->star_star == nullptr);
      call->star_star = ParseExpression();
      Deepen(call, call->star_star.get());
    } else if (Current().type == TokenType::kName && Look().IsOp("=")) {
      ensure(call->star_star == nullptr);
      Value name = program_->Constant(Next().text);
      ++at_;
      for (const auto& [other, unused] : call->named) {
        if (Text(other) == Text(name)) Fail("keyword argument repeated: " + Text(name));
      }
      call->named.emplace_back(std::move(name), ParseExpression());
      Deepen(call, call->named.back().second.get());
    } else {
      ensure(call->star == nullptr && call->star_star == nullptr && call->named.empty());
      Adopt(call, ParseExpression());
    }
  }
  ExpectOp(")");
}

ExprPtr Parser::ParseCall(ExprPtr callee) {
  ExprPtr call = NewExpr(ExprKind::kCall, Current().line);
  Adopt(call.get(), std::move(callee));
  ParseCallArguments(call.get());
  return call;
}

std::string Parser::ParseDottedName() {
  std::string name = ExpectName().text;
  while (SkipOp(".")) name += "." + ExpectName().text;
  return name;
}

ExprPtr Parser::ParseFilter(ExprPtr node, bool start_inline) {
  while (start_inline || SkipOp("|")) {
    start_inline = false;
    ExprPtr filter = NewExpr(ExprKind::kFilter, Current().line);
    filter->value = program_->Constant(ParseDottedName());
    Adopt(filter.get(), std::move(node));
    if (Current().IsOp("(")) ParseCallArguments(filter.get());
    node = std::move(filter);
  }
  return node;
}

ExprPtr Parser::ParseTest(ExprPtr node) {
  const uint32_t line = Next().line;
  const bool negated = SkipName("not");
  ExprPtr test = NewExpr(ExprKind::kTest, line);
  test->value = program_->Constant(ParseDottedName());
  Adopt(test.get(), std::move(node));
  const Token& token = Current();
  const bool operand = token.type == TokenType::kName || token.type == TokenType::kString ||
                       token.type == TokenType::kInteger || token.type == TokenType::kFloat ||
                       token.IsOp("[") || token.IsOp("{");
  if (token.IsOp("(")) {
    ParseCallArguments(test.get());
  } else if (operand && !token.IsName("else") && !token.IsName("or") && !token.IsName("and")) {
    if (token.IsName("is")) Fail("You cannot chain multiple tests with is");
    Adopt(test.get(), ParsePostfix(ParsePrimary()));
  }
  if (!negated) return test;
  ExprPtr node_not = NewExpr(ExprKind::kNot, line);
  Adopt(node_not.get(), std::move(test));
  return node_not;
}

}  // namespace apr::jinja
