// See jinja_json.h.
#include "tokenizer/jinja_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "tokenizer/jinja_operator.h"
#include "tokenizer/jinja_text.h"

namespace apr::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& rt, const JsonStyle& style) : rt_(rt), style_(style) {}

  void Write(const Value& value) {
    const Runtime::Deeper deeper(rt_);
    rt_.Step();
    rt_.Reserve(out.size());
    switch (value.type()) {
      case Type::kNone:
        out += "null";
        break;
      case Type::kBool:
        out += value.bool_value() ? "true" : "false";
        break;
      case Type::kInt:
        out += IntText(value.int_value());
        break;
      case Type::kFloat:
        out += Number(value.float_value());
        break;
      case Type::kStr:
        Quote(Text(value));
        break;
      case Type::kList:
      case Type::kTuple:
        WriteList(Items(value));
        break;
      case Type::kDict:
        WriteDict(As<Dict>(value));
        break;
      default:
        rt_.FailType(fmt::format("Object of type {} is not JSON serializable", TypeName(value)));
    }
  }

  std::string out;

 private:
  static std::string Number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatText(value);
  }

  void Quote(std::string_view text) {
    rt_.StepBytes(text.size());
    rt_.Reserve(out.size() + text.size() * 2);
    out += '"';
    for (size_t i = 0; i < text.size();) {
      const size_t begin = i;
      const char32_t c = DecodeAt(text, &i);
      switch (c) {
        case '"':
          out += "\\\"";
          break;
        case '\\':
          out += "\\\\";
          break;
        case '\n':
          out += "\\n";
          break;
        case '\r':
          out += "\\r";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\f':
          out += "\\f";
          break;
        case '\b':
          out += "\\b";
          break;
        default:
          if (c < 0x20 || (c > 0x7E && style_.ensure_ascii)) {
            Escape(c);
          } else {
            out.append(text.substr(begin, i - begin));
          }
      }
    }
    out += '"';
  }

  void Escape(char32_t c) {
    const auto unit = [&](uint32_t code) { out += fmt::format("\\u{:04x}", code); };
    if (c < 0x10000) {
      unit(c);
    } else {
      unit(0xD800 + ((c - 0x10000) >> 10));
      unit(0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }

  void NewLine() {
    if (!style_.indented) return;
    rt_.Reserve(out.size() + style_.indent.size() * static_cast<size_t>(level_));
    rt_.StepBytes(style_.indent.size() * static_cast<size_t>(level_));
    out += '\n';
    for (int i = 0; i < level_; ++i) out += style_.indent;
  }

  void WriteList(const Values& items) {
    if (items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      NewLine();
      Write(items[i]);
    }
    --level_;
    NewLine();
    out += ']';
  }

  void WriteDict(const Dict& dict) {
    if (dict.entries.empty()) {
      out += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return Less(rt_, a->first, b->first); });
    }
    out += '{';
    ++level_;
    bool first = true;
    for (const auto* entry : entries) {
      if (!first) out += style_.item_separator;
      first = false;
      NewLine();
      WriteKey(entry->first);
      out += style_.key_separator;
      Write(entry->second);
    }
    --level_;
    NewLine();
    out += '}';
  }

  void WriteKey(const Value& key) {
    switch (key.type()) {
      case Type::kStr:
        Quote(Text(key));
        break;
      case Type::kNone:
        out += "\"null\"";
        break;
      case Type::kBool:
        out += key.bool_value() ? "\"true\"" : "\"false\"";
        break;
      case Type::kInt:
        out += '"' + IntText(key.int_value()) + '"';
        break;
      case Type::kFloat:
        out += '"' + Number(key.float_value()) + '"';
        break;
      default:
        rt_.FailType(
            fmt::format("keys must be str, int, float, bool or None, not {}", TypeName(key)));
    }
  }

  Runtime& rt_;
  const JsonStyle& style_;
  int level_ = 0;
};

}  // namespace

Value FromJson(Runtime& rt, const Json& json) {
  rt.Step();
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::Bool(json.get<bool>());
    case Json::value_t::number_integer:
      return Value::Int64(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      return rt.MakeInt(static_cast<Int>(json.get<uint64_t>()));
    case Json::value_t::number_float:
      return Value::Float(json.get<double>());
    case Json::value_t::string:
      return rt.MakeStr(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      Values items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(FromJson(rt, item));
      return rt.MakeList(std::move(items));
    }
    case Json::value_t::object: {
      Value dict(new Dict(&rt));
      for (const auto& [key, value] : json.items())
        As<Dict>(dict).Set(rt.MakeStr(key), FromJson(rt, value));
      return dict;
    }
    default:
      return Value::None();
  }
}

std::string ToJson(Runtime& rt, const Value& value, const JsonStyle& style) {
  JsonWriter writer(rt, style);
  writer.Write(value);
  return std::move(writer.out);
}

}  // namespace apr::jinja
