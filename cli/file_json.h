// How the commands that look into files show types, sizes, metadata and statistics.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json_fwd.h"
#include "format/model_file.h"
#include "tensor/statistics.h"

namespace apr {

// Scalars as they are, nested JSON as JSON; an array of more than 64 elements as its count and its first 8.
Json MetaToJson(const MetaValue& value);

// count, mean, std, l2_norm, min, max, max_abs, nan_count, inf_count.
Json StatisticsToJson(const Statistics& statistics);

// {"error": {code, message, file, tensor, offset}}: what every command writes when it ends with an error.
Json ErrorDocument(const Error& error);

// "98.4 MB" (10^6 bytes).
std::string HumanBytes(uint64_t bytes);

// Text of a file made fit for one line of a terminal: control characters as \n, \t, \xNN; at most
// `limit` bytes, cut between characters.
std::string OneLineText(std::string_view text, size_t limit);

// The element type that most elements of matrices have; "" without matrices.
std::string DominantType(const ModelFile& file);

// Whether `path` is a file that begins as a captured stage (APRT) does.
bool IsStageFile(const std::string& path);

}  // namespace apr
