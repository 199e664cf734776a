// The known name that somebody probably meant.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace apr {

// The candidate with the fewest insertions, deletions, replacements and swaps of neighbours from
// `typed`, if that is at most a third of its own length; or one that `typed` begins.
std::optional<std::string> NearestName(std::string_view typed, std::span<const std::string> candidates);

// Fewest insertions, deletions, replacements and swaps of neighbours that make `b` of `a` (optimal string alignment).
size_t EditDistance(std::string_view a, std::string_view b);

}  // namespace apr
