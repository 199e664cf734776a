// A report as one page that needs nothing from outside: verdict, first difference and its cause, a map of
// layers and stages, hypotheses tried, what was looked at. Light and dark by prefers-color-scheme.
#pragma once

#include <string>

#include "compare/bisect/report.h"

namespace apr::bisect {

std::string ToHtml(const Report& report);

}  // namespace apr::bisect
