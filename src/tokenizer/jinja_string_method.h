// Methods of str, and the text operations they share with filters.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

const std::vector<std::pair<const char*, Builtin>>& StringMethods();

bool IsLowerCase(std::string_view text);  // str.islower()
bool IsUpperCase(std::string_view text);
// str.replace; a negative count replaces all.
std::string ReplaceText(Runtime& rt, std::string_view text, std::string_view old_text,
                        std::string_view new_text, int64_t count);

}  // namespace apr::jinja
