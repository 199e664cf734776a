// JSON schemas as grammars: texts that must and must not pass, random texts of the grammar checked by a validator
// written from the specification, and what is refused by name.
#include "generate/json_schema.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "generate/grammar_matcher.h"
#include "generate/json_number.h"

namespace apr {
namespace {

std::shared_ptr<const Grammar> Of(const std::string& schema) {
  return std::make_shared<const Grammar>(GrammarOfJsonSchema(ParseJson(schema, "schema"), "schema"));
}

bool Accepts(const std::shared_ptr<const Grammar>& grammar, const std::string& text) {
  GrammarMatcher matcher(grammar);
  auto state = matcher.start();
  for (const char c : text) state = matcher.Step(state, static_cast<uint8_t>(c));
  return matcher.Accepts(state);
}

struct Case {
  const char* schema;
  std::vector<const char*> yes, no;
};

const Case kCases[] = {
    {R"({"type": "integer", "minimum": -12, "maximum": 305})", {"0", "-12", "305", "99", "-1"}, {"-13", "306", "1000", "01", "1.5", "-0", "-"}},
    {R"({"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 12})", {"10", "11"}, {"9", "12", "1"}},
    {R"({"type": "number", "minimum": 0.5, "maximum": 2})", {"1", "2", "1.5"}, {"0", "2.5", "-1", "3"}},
    {R"({"type": "number"})", {"0", "-1.25", "1e5", "2.5E-3"}, {"+1", ".5", "1.", "00"}},
    {R"({"type": "string", "minLength": 2, "maxLength": 3})", {R"("ab")", R"("ab\n")", R"("日本語")", R"("\u00e9x")"}, {R"("a")", R"("abcd")", "\"a\nb\"", R"("\ud800x")", R"("a\q")"}},
    {R"({"type": "string", "pattern": "^[a-z]+-\\d{2,3}$"})", {R"("ab-12")", R"("z-123")"}, {R"("ab-1")", R"("-12")", R"("ab-12x")"}},
    {R"({"type": "string", "pattern": "b+"})", {R"("abba")", R"("b")"}, {R"("aa")"}},
    {R"({"pattern": "^(\"|\\\\|\\n)$"})", {R"("\"")", R"("\\")", R"("\n")"}, {R"("x")", R"(""")"}},
    {R"({"type": "string", "format": "date"})", {R"("2024-02-28")", R"("1999-12-31")"}, {R"("2024-02-30")", R"("2024-13-01")", R"("2024-2-1")"}},
    {R"({"format": "email"})", {R"("a.b+c@ex-ample.org")"}, {R"("aaaaaaaaaaaaaaaa@b.org")", R"("a@b")", R"("a.@b.org")", R"("a@b..org")", R"("a@-b.org")", R"("a b@c.org")"}},
    {R"({"format": "email", "type": "string", "minLength": 3, "maxLength": 255})", {R"("a@b.org")"}, {R"("abc")"}},
    {R"({"format": "ipv4"})", {R"("0.10.199.255")"}, {R"("256.1.1.1")", R"("1.1.1")", R"("01.1.1.1")"}},
    {R"({"format": "ipv6"})", {R"("::")", R"("::1")", R"("2001:db8::ff00:42:8329")", R"("1:2:3:4:5:6:7:8")", R"("1:2:3:4:5:6:7::")"},
     {R"(":")", R"("1:2:3")", R"("1::2::3")", R"("1:2:3:4:5:6:7:8:9")", R"("1:2:3:4:5:6:7:8::")", R"("12345::")", R"("g::")"}},
    {R"({"format": "hostname"})", {R"("localhost")", R"("a-b.c1.org")"}, {R"("a..b")", R"("-a.b")", R"("a_b")"}},
    {R"({"format": "uri"})", {R"("https://a.org:80/b/c%20d?d=e&f#g")", R"("file://x/")"}, {R"("a.org/b")", R"("http://")", R"("http://a#b#c")"}},
    {R"({"format": "duration"})", {R"("P1Y2M3DT4H5M6S")", R"("PT5M")", R"("P2W")"}, {R"("P")", R"("P1H")", R"("PT")", R"("P1D2M")"}},
    {R"({"enum": ["a", 1, null, {"k": [true]}]})", {R"("a")", "1", "null", R"({"k":[true]})"}, {"2", R"("b")"}},
    {R"({"const": "x\"y"})", {R"("x\"y")"}, {R"("x")"}},
    {R"({"type": ["null", "boolean"]})", {"null", "true", "false"}, {"1"}},
    {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})", {"[1]", "[1, 2,3]", "[ 1 ]"}, {"[]", "[1,2,3,4]", "[1,]", "[\"a\"]"}},
    {R"({"type": "array", "items": {"type": "null"}})", {"[]", "[null,null]"}, {"[,null]"}},
    {R"({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false})", {"[]", "[1]", R"([1,"a"])"}, {R"([1,"a",2])", R"(["a"])"}},
    {R"({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "minItems": 2, "maxItems": 3})", {R"([1,"a"])", R"([1,"a","b"])"}, {"[1]", R"([1,"a","b","c"])", "[1,2]"}},
    {R"({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}, "c": {"type": "boolean"}}, "required": ["b"]})",
     {R"({"b":null})", R"({"a": 1, "b": null})", R"({"b":null,"c":true})", R"({"a":1,"b":null,"c":false})"},
     {"{}", R"({"a":1})", R"({"b":null,"a":1})", R"({,"b":null})", R"({"a":1"b":null})", R"({"b":null,})", R"({"b":null,"d":1})"}},
    {R"({"type": "object", "properties": {"ab": {"type": "integer"}}, "additionalProperties": {"type": "null"}})",
     {"{}", R"({"ab":1})", R"({"a":null})", R"({"ab":1,"abc":null,"x":null})"}, {R"({"ab":null})", R"({"a":1})", R"({"ab":1,"ab":null})"}},
    {R"({"type": "object", "additionalProperties": false})", {"{}"}, {R"({"a":1})"}},
    {R"({"required": ["k"]})", {R"({"k":[1,{"x":null}]})"}, {"{}"}},
    {R"({"anyOf": [{"type": "integer", "maximum": 3, "minimum": 0}, {"type": "string", "maxLength": 1}]})", {"2", R"("a")"}, {"7", R"("ab")"}},
    {R"({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"a": {"minimum": 5, "maximum": 6}, "b": {"type": "null"}}}]})",
     {R"({"a":5})", R"({"a":6,"b":null})"}, {R"({"a":4})", R"({"b":null})"}},
    {R"({"type": "object", "properties": {"t": {"type": "string"}}, "anyOf": [{"required": ["t"]}, {"properties": {"u": {"type": "null"}}, "required": ["u"]}]})",
     {R"({"t":""})", R"({"u":null})", R"({"t":"","u":null})"}, {"{}"}},
    {R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["v", "next"]}}})",
     {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"}, {R"({"v":1})", R"({"v":1,"next":{}})"}},
    {"true", {"1", R"({"a":[{},[]]})", "null"}, {"", "[1", "{\"a\"}"}},
};

TEST(JsonSchema, TextsThatPassAndThatDoNot) {
  for (const Case& c : kCases) {
    const auto grammar = Of(c.schema);
    for (const char* text : c.yes) EXPECT_TRUE(Accepts(grammar, text)) << c.schema << " : " << text;
    for (const char* text : c.no) EXPECT_FALSE(Accepts(grammar, text)) << c.schema << " : " << text;
  }
}

// What the keys mean, in the words of the specification.
class Validator {
 public:
  explicit Validator(const Json& root) : root_(root) {}
  bool Holds(const Json& schema, const Json& value) const {
    if (schema.is_boolean()) return schema.get<bool>();
    if (schema.contains("$ref")) {
      const std::string ref = schema["$ref"];
      if (!Holds(root_.at(nlohmann::json_pointer<std::string>(ref.substr(1))), value)) return false;
    }
    if (schema.contains("const") && schema["const"] != value) return false;
    if (schema.contains("enum") && std::ranges::find(schema["enum"], value) == schema["enum"].end()) return false;
    if (schema.contains("type") && !TypeHolds(schema["type"], value)) return false;
    if (schema.contains("anyOf") && std::ranges::none_of(schema["anyOf"], [&](const Json& s) { return Holds(s, value); })) return false;
    if (schema.contains("allOf") && !std::ranges::all_of(schema["allOf"], [&](const Json& s) { return Holds(s, value); })) return false;
    return NumberHolds(schema, value) && StringHolds(schema, value) && ArrayHolds(schema, value) && ObjectHolds(schema, value);
  }

 private:
  static bool TypeHolds(const Json& type, const Json& v) {
    if (type.is_array()) return std::ranges::any_of(type, [&](const Json& t) { return TypeHolds(t, v); });
    const std::string t = type;
    return t == "null" ? v.is_null() : t == "boolean" ? v.is_boolean() : t == "string" ? v.is_string() : t == "array" ? v.is_array()
         : t == "object" ? v.is_object() : t == "integer" ? v.is_number() && v.get<double>() == std::floor(v.get<double>()) : v.is_number();
  }
  static bool NumberHolds(const Json& s, const Json& v) {
    if (!v.is_number()) return true;
    const double x = v;
    return !(s.contains("minimum") && x < s["minimum"].get<double>()) && !(s.contains("maximum") && x > s["maximum"].get<double>()) &&
           !(s.contains("exclusiveMinimum") && x <= s["exclusiveMinimum"].get<double>()) &&
           !(s.contains("exclusiveMaximum") && x >= s["exclusiveMaximum"].get<double>());
  }
  static bool StringHolds(const Json& s, const Json& v) {
    if (!v.is_string()) return true;
    const std::string text = v;
    const auto length = std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; });
    return !(s.contains("minLength") && length < s["minLength"].get<int64_t>()) && !(s.contains("maxLength") && length > s["maxLength"].get<int64_t>());
  }
  bool ArrayHolds(const Json& s, const Json& v) const {
    if (!v.is_array()) return true;
    if (s.contains("minItems") && v.size() < s["minItems"].get<size_t>()) return false;
    if (s.contains("maxItems") && v.size() > s["maxItems"].get<size_t>()) return false;
    const size_t fixed = s.contains("prefixItems") ? s["prefixItems"].size() : 0;
    for (size_t i = 0; i < v.size(); ++i) {
      if (i < fixed ? !Holds(s["prefixItems"][i], v[i]) : s.contains("items") && !Holds(s["items"], v[i])) return false;
    }
    return true;
  }
  bool ObjectHolds(const Json& s, const Json& v) const {
    if (!v.is_object()) return true;
    for (const Json& name : s.value("required", Json::array())) {
      if (!v.contains(name.get<std::string>())) return false;
    }
    for (const auto& [name, value] : v.items()) {
      if (s.contains("properties") && s["properties"].contains(name)) {
        if (!Holds(s["properties"][name], value)) return false;
      } else if (s.contains("additionalProperties") && !Holds(s["additionalProperties"], value)) {
        return false;
      }
    }
    return true;
  }
  const Json& root_;
};

// A random text of the grammar, byte by byte; quotes and brackets are preferred so that it ends.
std::string RandomText(const std::shared_ptr<const Grammar>& grammar, std::mt19937& random) {
  GrammarMatcher matcher(grammar);
  auto state = matcher.start();
  std::string out;
  while (matcher.Continues(state) && !(matcher.Accepts(state) && random() % 3 == 0) && out.size() < 5000) {
    std::vector<uint8_t> bytes, closing;
    for (int b = 0; b < 256; ++b) {
      if (matcher.Step(state, static_cast<uint8_t>(b)) == GrammarMatcher::kDead) continue;
      bytes.push_back(static_cast<uint8_t>(b));
      if (b == '"' || b == ']' || b == '}' || b == 'n') closing.push_back(static_cast<uint8_t>(b));
    }
    const auto& from = !closing.empty() && random() % 3 == 0 ? closing : bytes;
    const uint8_t byte = from[random() % from.size()];
    out.push_back(static_cast<char>(byte));
    state = matcher.Step(state, byte);
  }
  return matcher.Accepts(state) ? out : "";
}

TEST(JsonSchema, EveryTextOfTheGrammarSatisfiesTheSchema) {
  std::mt19937 random(4);
  int complete = 0;
  for (const Case& c : kCases) {
    const Json schema = ParseJson(c.schema, "schema");
    const auto grammar = Of(c.schema);
    for (int round = 0; round < 60; ++round) {
      const std::string text = RandomText(grammar, random);
      if (text.empty()) continue;
      ++complete;
      Json value;
      ASSERT_NO_THROW(value = ParseJson(text, "text")) << c.schema << " : " << text;
      EXPECT_TRUE(Validator(schema).Holds(schema, value)) << c.schema << " : " << text;
    }
    for (const char* text : c.yes) EXPECT_TRUE(Validator(schema).Holds(schema, ParseJson(text, "text"))) << c.schema << " : " << text;
  }
  EXPECT_GT(complete, 1000);
}

TEST(JsonSchema, NumbersWithinBoundsAndNoOthers) {
  std::mt19937 random(6);
  for (int round = 0; round < 200; ++round) {
    const auto pick = [&] { return static_cast<int64_t>(random() % 2001) - 1000; };
    int64_t least = pick();
    int64_t most = pick();
    if (least > most) std::swap(least, most);
    GrammarBuilder builder("test");
    builder.Define(builder.RuleNamed("root"), IntegerExpr({.least = static_cast<double>(least), .most = static_cast<double>(most)}));
    const auto grammar = std::make_shared<const Grammar>(builder.Build("root"));
    for (int i = 0; i < 60; ++i) {
      const int64_t n = i < 4 ? (i < 2 ? least - i : most + i - 2) : pick();
      EXPECT_EQ(Accepts(grammar, std::to_string(n)), n >= least && n <= most) << least << " " << most << " " << n;
    }
  }
}

TEST(JsonSchema, WhatIsNotCarriedOutIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"not": {}})", "'not'"},
      {R"({"type": "array", "uniqueItems": true})", "'uniqueItems'"},
      {R"({"properties": {"a": {"multipleOf": 3}}})", "'multipleOf'"},
      {R"({"type": "text"})", "unknown type 'text'"},
      {R"({"$ref": "other.json"})", "another document"},
      {R"({"$ref": "#/$defs/none"})", "not in the schema"},
      {R"({"$ref": "#"})", "no finite text"},
      {R"x({"pattern": "(?=a)"})x", "plain groups"},
      {R"({"pattern": "a", "minLength": 3})", "not supported"},
      {R"({"allOf": [{"$ref": "#"}]})", "no finite text"},
      {R"({"type": "object", "allOf": [{"$ref": "#"}]})", "without end"},
      {R"([1])", "must be an object"},
      {R"({"minLength": -1})", "0 or more"},
      {R"({"type": "integer", "minimum": 5, "maximum": 4})", "no finite text"},
      {R"({"properties": {"a": 3}})", "must be an object"},
  };
  for (const auto& [schema, what] : cases) {
    try {
      Of(schema);
      ADD_FAILURE() << schema;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << schema << " -> " << error.what();
    }
  }
  std::string deep = "true";
  for (int i = 0; i < 200; ++i) deep = R"({"items": )" + deep + "}";
  EXPECT_THROW(Of(deep), Error);
}

}  // namespace
}  // namespace apr
