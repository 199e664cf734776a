// Token ids as people and scripts write them: decimal numbers between commas or white space.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

// Throws kUsage (`source` empty: a command line) or kInvalidFormat (`source`: the file) with the offset
// of what is no id in [0, 2^31). At least one id must be there.
std::vector<int32_t> ParseIds(std::string_view text, const std::string& source = {});

// The ids of a whole file.
std::vector<int32_t> ReadIdsFile(const std::string& path);

std::string FormatIds(const std::vector<int32_t>& ids);  // "1,2,3"

}  // namespace apr
