// See json_schema.h.
#include "generate/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "generate/json_number.h"
#include "generate/json_format.h"
#include "generate/json_pattern.h"
#include "generate/json_schema_merge.h"

namespace apr {
namespace {

constexpr int kMostSchemaNesting = 120;

GrammarExpr Text(std::string text) { return GrammarExpr::Text(std::move(text)); }
GrammarExpr Seq(std::vector<GrammarExpr> parts) { return GrammarExpr::Sequence(std::move(parts)); }

class Converter {
 public:
  Converter(const Json& root, const std::string& source) : root_(root), source_(source), builder_(source) {}

  Grammar Run() {
    space_ = builder_.RuleNamed("space");
    builder_.Define(space_, GrammarExpr::Choice({Seq({}), Text(" "),
        Seq({GrammarExpr::Repeat(Text("\n"), 1, 2), GrammarExpr::Repeat(GrammarExpr::Class({{' ', ' '}, {'\t', '\t'}}), 0, 20)})}));
    const GrammarExpr value = Value(root_, "#", 0);
    builder_.Define(builder_.RuleNamed("root"), value);
    return builder_.Build("root");
  }

 private:
  [[noreturn]] void Fail(const std::string& where, const std::string& what) const {
    throw Error(ErrorCode::kInvalidFormat, what, {.file = source_, .tensor = where});
  }

  GrammarExpr Space() const { return GrammarExpr::Rule(space_); }

  // The same as a rule of its own: what stands at several places is written out once.
  GrammarExpr Shared(const GrammarExpr& expression) {
    const uint32_t rule = builder_.RuleNamed(fmt::format("part {}", ++shared_));
    builder_.Define(rule, expression);
    return GrammarExpr::Rule(rule);
  }

  // The value of `schema`; `where` names its place.
  GrammarExpr Value(const Json& schema, const std::string& where, int depth) {
    if (depth > kMostSchemaNesting) Fail(where, fmt::format("the schema is nested deeper than {}, or refers to itself while being merged", kMostSchemaNesting));
    if (schema.is_boolean()) return schema.get<bool>() ? Any() : GrammarExpr::Choice({});
    if (!schema.is_object()) Fail(where, "a schema must be an object, true or false");
    CheckSchemaKeys(schema, source_, where);
    if (const auto ref = OnlyReference(schema)) return Reference(*ref, where, depth);
    const std::vector<Json> alternatives = FlattenSchema(schema, root_, source_, where);
    std::vector<GrammarExpr> parts;
    for (const Json& each : alternatives) parts.push_back(OfFlat(each, where, depth));
    return parts.size() == 1 ? std::move(parts[0]) : GrammarExpr::Choice(std::move(parts));
  }

  // A rule for each place that is referred to, so that schemas may contain themselves.
  GrammarExpr Reference(const std::string& ref, const std::string& where, int depth) {
    const auto it = references_.find(ref);
    if (it != references_.end()) return GrammarExpr::Rule(it->second);
    const uint32_t rule = builder_.RuleNamed("ref " + ref);
    references_[ref] = rule;
    const GrammarExpr value = Value(ResolveReference(ref, root_, source_, where), ref, depth + 1);
    builder_.Define(rule, value);
    return GrammarExpr::Rule(rule);
  }

  // A schema that FlattenSchema returned.
  GrammarExpr OfFlat(const Json& schema, const std::string& where, int depth) {
    if (schema.is_boolean()) return schema.get<bool>() ? Any() : GrammarExpr::Choice({});
    if (const auto ref = OnlyReference(schema)) return Reference(*ref, where, depth);
    if (schema.contains("const")) return Values(Json::array({schema["const"]}));
    if (schema.contains("enum")) {
      if (!schema["enum"].is_array()) Fail(where, "enum must be a list");
      return Values(schema["enum"]);
    }
    std::vector<GrammarExpr> parts;
    for (const std::string& type : TypesOf(schema, source_, where)) parts.push_back(OfType(type, schema, where, depth));
    if (parts.empty()) return Any();
    return parts.size() == 1 ? std::move(parts[0]) : GrammarExpr::Choice(std::move(parts));
  }

  static GrammarExpr Values(const Json& list) {
    std::vector<GrammarExpr> parts;
    for (const Json& value : list) parts.push_back(Text(DumpJson(value, -1)));
    return GrammarExpr::Choice(std::move(parts));
  }

  GrammarExpr OfType(const std::string& type, const Json& schema, const std::string& where, int depth) {
    if (type == "null") return Text("null");
    if (type == "boolean") return GrammarExpr::Choice({Text("true"), Text("false")});
    if (type == "integer") return IntegerExpr(Bounds(schema, where));
    if (type == "number") return Number(schema, where);
    if (type == "string") return String(schema, where);
    if (type == "array") return Array(schema, where, depth);
    if (type == "object") return Object(schema, where, depth);
    Fail(where, fmt::format("unknown type '{}'", type));
  }

  NumberBounds Bounds(const Json& schema, const std::string& where) const {
    const auto number = [&](const char* key) -> std::optional<double> {
      if (!schema.contains(key)) return std::nullopt;
      if (!schema[key].is_number()) Fail(where, fmt::format("{} must be a number", key));
      return schema[key].get<double>();
    };
    NumberBounds out{number("minimum"), number("maximum")};
    const auto least = number("exclusiveMinimum");
    const auto most = number("exclusiveMaximum");
    if (least && (!out.least || *least >= *out.least)) {
      out.least = least;
      out.least_excluded = true;
    }
    if (most && (!out.most || *most <= *out.most)) {
      out.most = most;
      out.most_excluded = true;
    }
    return out;
  }

  GrammarExpr Number(const Json& schema, const std::string& where) const {
    const NumberBounds bounds = Bounds(schema, where);
    GrammarExpr decimal = NumberExpr(bounds);
    if (bounds.least || bounds.most) return decimal;
    const GrammarExpr digit = GrammarExpr::Class({{'0', '9'}});
    GrammarExpr exponent = Seq({GrammarExpr::Class({{'e', 'e'}, {'E', 'E'}}), GrammarExpr::Repeat(GrammarExpr::Class({{'+', '+'}, {'-', '-'}}), 0, 1),
                                GrammarExpr::Repeat(digit, 1, 2)});
    return Seq({std::move(decimal), GrammarExpr::Repeat(std::move(exponent), 0, 1)});
  }

  int64_t Count(const Json& schema, const char* key, int64_t otherwise, const std::string& where) const {
    if (!schema.contains(key)) return otherwise;
    const Json& value = schema[key];
    if (!value.is_number_integer() || value.get<int64_t>() < 0) Fail(where, fmt::format("{} must be a whole number, 0 or more", key));
    return value.get<int64_t>();
  }

  GrammarExpr Quoted(GrammarExpr inside) const { return Seq({Text("\""), std::move(inside), Text("\"")}); }

  GrammarExpr String(const Json& schema, const std::string& where) {
    const bool sized = schema.contains("minLength") || schema.contains("maxLength");
    if (schema.contains("pattern")) {
      if (sized) Fail(where, "pattern together with minLength or maxLength is not supported");
      if (!schema["pattern"].is_string()) Fail(where, "pattern must be a string");
      return Quoted(JsonPatternExpr(schema["pattern"].get<std::string>(), source_));
    }
    const int64_t least = Count(schema, "minLength", 0, where);
    const int64_t most = Count(schema, "maxLength", -1, where);
    if (schema.contains("format") && schema["format"].is_string()) {
      if (const auto format = JsonFormatOf(schema["format"].get<std::string>())) {
        const bool fits = least <= format->shortest && (most < 0 || (format->longest >= 0 && format->longest <= most));
        if (!fits) Fail(where, "format together with minLength or maxLength that it does not keep by itself is not supported");
        return Quoted(JsonPatternExpr(format->pattern, source_));
      }
    }
    if (most >= 0 && most < least) return GrammarExpr::Choice({});
    return Quoted(GrammarExpr::Repeat(GrammarExpr::Rule(Character()), least, most));
  }

  uint32_t Character() {
    const uint32_t rule = builder_.RuleNamed("character");
    if (!builder_.IsDefined(rule)) builder_.Define(rule, JsonCharacterExpr());
    return rule;
  }

  // Any JSON value.
  GrammarExpr Any() {
    const uint32_t rule = builder_.RuleNamed("any value");
    if (any_started_) return GrammarExpr::Rule(rule);
    any_started_ = true;
    const Json all = {{"type", {"object", "array", "string", "number", "boolean", "null"}}};
    const GrammarExpr value = OfFlat(all, "true", 0);
    builder_.Define(rule, value);
    return GrammarExpr::Rule(rule);
  }

  GrammarExpr Separated(GrammarExpr item) const { return Seq({Space(), Text(","), Space(), std::move(item)}); }

  GrammarExpr Array(const Json& schema, const std::string& where, int depth) {
    const int64_t least = Count(schema, "minItems", 0, where);
    const int64_t most = Count(schema, "maxItems", -1, where);
    std::vector<GrammarExpr> first;
    if (schema.contains("prefixItems")) {
      if (!schema["prefixItems"].is_array()) Fail(where, "prefixItems must be a list");
      for (const Json& each : schema["prefixItems"]) first.push_back(Value(each, fmt::format("{}/prefixItems/{}", where, first.size()), depth + 1));
    }
    const bool closed = schema.contains("items") && schema["items"] == Json(false);
    std::optional<GrammarExpr> rest;
    if (!closed) rest = Shared(schema.contains("items") ? Value(schema["items"], where + "/items", depth + 1) : Any());
    const auto fixed = static_cast<int64_t>(first.size());
    if ((most >= 0 && most < least) || (closed && least > fixed)) return GrammarExpr::Choice({});
    return Seq({Text("["), Space(), Elements(std::move(first), rest, least, closed ? (most < 0 ? fixed : std::min(most, fixed)) : most), Space(), Text("]")});
  }

  // `first` one after the other, then `rest`, `least` to `most` in all. Built from the end.
  GrammarExpr Elements(std::vector<GrammarExpr> first, const std::optional<GrammarExpr>& rest, int64_t least, int64_t most) const {
    const auto fixed = static_cast<int64_t>(first.size());
    GrammarExpr tail = Seq({});
    if (rest && (most < 0 || most > fixed)) {
      const int64_t begin = std::max<int64_t>(fixed, 1);  // elements that come without looking at `rest` again
      GrammarExpr more = GrammarExpr::Repeat(Separated(*rest), std::max<int64_t>(0, least - begin),
                                             most < 0 ? -1 : most - begin);
      if (fixed > 0) {
        tail = std::move(more);
      } else {
        tail = Seq({*rest, std::move(more)});
        if (least == 0) tail = GrammarExpr::Repeat(std::move(tail), 0, 1);
      }
    }
    for (int64_t i = fixed - 1; i >= 0; --i) {
      if (most >= 0 && i >= most) continue;
      GrammarExpr item = std::move(first[static_cast<size_t>(i)]);
      if (i > 0) item = Separated(std::move(item));
      tail = Seq({std::move(item), std::move(tail)});
      if (i >= least) tail = GrammarExpr::Repeat(std::move(tail), 0, 1);
    }
    return tail;
  }

  struct Member {
    std::string name;
    bool required;
    GrammarExpr pair;  // "name": value
  };

  GrammarExpr Pair(GrammarExpr key, GrammarExpr value) const {
    return Seq({std::move(key), Space(), Text(":"), Space(), std::move(value)});
  }

  std::vector<Member> Members(const Json& schema, const std::string& where, int depth) {
    std::set<std::string> required;
    std::vector<std::string> order;
    if (schema.contains("required")) {
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) Fail(where, "required must be a list of names");
        if (required.insert(name.get<std::string>()).second) order.push_back(name.get<std::string>());
      }
    }
    std::vector<Member> out;
    const Json none = Json::object();
    const Json& properties = schema.contains("properties") ? schema["properties"] : none;
    if (!properties.is_object()) Fail(where, "properties must be an object");
    for (const auto& [name, value] : properties.items()) {
      out.push_back({name, required.contains(name), Shared(Pair(Text(DumpJson(Json(name), -1)), Value(value, where + "/properties/" + name, depth + 1)))});
    }
    for (const std::string& name : order) {
      if (properties.contains(name)) continue;
      if (schema.contains("additionalProperties") && schema["additionalProperties"] == Json(false)) Fail(where, fmt::format("'{}' is required and not allowed", name));
      const bool typed = schema.contains("additionalProperties") && schema["additionalProperties"].is_object();
      out.push_back({name, true, Shared(Pair(Text(DumpJson(Json(name), -1)), typed ? Value(schema["additionalProperties"], where, depth + 1) : Any()))});
    }
    return out;
  }

  GrammarExpr Object(const Json& schema, const std::string& where, int depth) {
    std::vector<Member> members = Members(schema, where, depth);
    std::optional<GrammarExpr> further;
    const bool asked = schema.contains("additionalProperties") ? schema["additionalProperties"] != Json(false) : members.empty();
    if (asked) {
      std::vector<std::string> names;
      for (const Member& m : members) names.push_back(m.name);
      std::ranges::sort(names);
      GrammarExpr value = schema.contains("additionalProperties") ? Value(schema["additionalProperties"], where + "/additionalProperties", depth + 1) : Any();
      further = Shared(Pair(Seq({Text("\""), OtherName(names, 0)}), std::move(value)));
    }
    return Seq({Text("{"), Space(), ObjectBody(members, further), Space(), Text("}")});
  }

  // Members in order, optional ones left out at will. Two rules a member: nothing stands before it, or something
  // does and a comma must.
  GrammarExpr ObjectBody(const std::vector<Member>& members, const std::optional<GrammarExpr>& further) {
    GrammarExpr rest[2] = {Seq({}), Seq({})};  // [0] nothing stands before
    if (further) {
      rest[1] = GrammarExpr::Repeat(Separated(*further), 0, -1);
      rest[0] = GrammarExpr::Repeat(Seq({*further, rest[1]}), 0, 1);
    }
    for (size_t i = members.size(); i-- > 0;) {
      const Member& m = members[i];
      const GrammarExpr after = Shared(rest[1]);
      for (const size_t before : {0U, 1U}) {
        GrammarExpr with = Seq({before == 0 ? m.pair : Separated(m.pair), after});
        if (m.required) {
          rest[before] = std::move(with);
          continue;
        }
        rest[before] = GrammarExpr::Choice({std::move(with), before == 1 ? after : Shared(rest[0])});
      }
    }
    return std::move(rest[0]);
  }

  // The rest of a member's name from byte `at` on, with its closing quote, that is none of `names` (sorted, alike up
  // to `at`). Written without escapes, so that no other spelling of a name slips through.
  GrammarExpr OtherName(const std::vector<std::string>& names, size_t at) {
    const std::pair<uint32_t, uint32_t> kPlain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x7E}};
    std::map<char, std::vector<std::string>> next;
    bool ends = false;
    for (const std::string& name : names) {
      if (name.size() == at) ends = true;
      else next[name[at]].push_back(name);
    }
    const auto any = GrammarExpr::Repeat(GrammarExpr::Class({kPlain[0], kPlain[1], kPlain[2]}), 0, 63);
    std::vector<GrammarExpr> parts;
    if (!ends) parts.push_back(Text("\""));
    std::vector<std::pair<uint32_t, uint32_t>> others;
    for (const auto& [first, last] : kPlain) {
      for (uint32_t c = first; c <= last; ++c) {
        if (!next.contains(static_cast<char>(c))) others.emplace_back(c, c);
      }
    }
    parts.push_back(Seq({GrammarExpr::Class(std::move(others)), any, Text("\"")}));
    for (const auto& [c, same] : next) {
      const bool plain = std::ranges::any_of(kPlain, [byte = static_cast<uint8_t>(c)](const auto& r) { return byte >= r.first && byte <= r.second; });
      if (plain && at < 256) parts.push_back(Seq({Text(std::string(1, c)), OtherName(same, at + 1)}));
    }
    return GrammarExpr::Choice(std::move(parts));
  }

  const Json& root_;
  std::string source_;
  GrammarBuilder builder_;
  uint32_t space_ = 0;
  std::map<std::string, uint32_t> references_;
  bool any_started_ = false;
  int shared_ = 0;
};

}  // namespace

Grammar GrammarOfJsonSchema(const Json& schema, const std::string& source) { return Converter(schema, source).Run(); }

}  // namespace apr
