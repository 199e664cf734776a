// One self-contained HTML page for a comparison: no scripts, no outside resources, light and dark.
#pragma once

#include <string>

#include "compare/stage_diff.h"
#include "compare/weight_diff.h"

namespace apr {

std::string WeightDiffHtml(const WeightDiff& diff);
// Layers x stages heat map of the relative error, the first difference marked, and a table.
std::string StageDiffHtml(const StageDirectoryDiff& diff);

// Text made safe inside HTML.
std::string HtmlEscaped(std::string_view text);

}  // namespace apr
