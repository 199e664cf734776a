// Files of one JSON object a line, in and out.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/json_fwd.h"

namespace apr {

class Console;

struct JsonlJob {
  std::string in;
  std::string out;  // empty: standard output
  bool force = false;
  std::string label;  // of the progress line
};

// Calls `convert` with every line's object, in order, and writes what it returns. Blank lines are passed
// over. Throws kInvalidFormat naming file and byte offset (of the line, or of the error in it). Returns the number of
// lines. With --json and no `out`: kUsage, since standard output is then one document.
int64_t ConvertJsonl(const JsonlJob& job, Console& console, const std::function<Json(const Json&)>& convert);

// A member of the line's object; throws kInvalidFormat (without place: ConvertJsonl adds it).
const Json& RequireMember(const Json& line, const char* key);

}  // namespace apr
