// Methods of values by name: those of str, list, tuple, dict, range and the objects of templates.
#pragma once

#include <array>
#include <string_view>

#include "tokenizer/jinja_value.h"

namespace apr::jinja {

// What one name means as a method of each type. A method that would change a list or dict exists,
// but reaching for it gives an undefined value (the sandbox).
struct MethodRow {
  const char* name = nullptr;
  std::array<Builtin, kTypeCount> by_type{};
  std::array<bool, kTypeCount> unsafe{};
};

// nullptr if no type has a method of that name. Rows live as long as the program.
const MethodRow* FindMethods(std::string_view name);

}  // namespace apr::jinja
