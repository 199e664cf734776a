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

}  // namespace apr
