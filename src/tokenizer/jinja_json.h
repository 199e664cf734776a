// JSON in and out of template values: Json to Value, and Python's json.dumps.
#pragma once

#include <string>

#include "base/json_fwd.h"
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

Value FromJson(Runtime& rt, const Json& json);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  std::string indent;  // of one level, when indented
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
// Throws TypeError for what JSON has no form for.
std::string ToJson(Runtime& rt, const Value& value, const JsonStyle& style);

}  // namespace apr::jinja
