// Python's three ways to format: "..." % values, "...".format(values), and format specifications.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

// `format` % `arguments`; a Str.
Value FormatPercent(Runtime& rt, const Value& format, const Value& arguments);
// `format`.format(arguments), attributes and items as the sandbox allows them.
Value FormatBraces(Runtime& rt, const Value& format, const CallArgs& arguments);
// format(value, spec): the mini-language of [[fill]align][sign][#][0][width][,][.precision][type].
std::string FormatWithSpec(Runtime& rt, const Value& value, std::string_view spec);

// `value` with `precision` digits in the style of printf's e, f, g (or E, F, G).
std::string FormatFloat(Runtime& rt, double value, char style, int64_t precision);
// round(value, digits) of a float, digits >= 0: correctly rounded, ties to even.
double RoundFloat(double value, int digits);

}  // namespace apr::jinja
