// Forward declaration of apr::Json for headers.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace apr {
using Json = nlohmann::ordered_json;
}  // namespace apr
