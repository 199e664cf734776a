// Filters, tests and global functions by name.
#pragma once

#include <string_view>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

// nullptr if there is none. `self` of a filter or test is its operand.
Builtin FindFilter(std::string_view name);
Builtin FindTest(std::string_view name);
// Missing if there is none.
Value MakeGlobal(Runtime& rt, std::string_view name);

// Filters by subject; each gives nullptr for names of others.
Builtin FindTextFilter(std::string_view name);
Builtin FindSequenceFilter(std::string_view name);
Builtin FindValueFilter(std::string_view name);

}  // namespace apr::jinja
