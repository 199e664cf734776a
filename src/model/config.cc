// See config.h.
#include "model/config.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"

namespace apr {

Json ModelConfig::ToJson() const {
  Json out = Json::object();
  for (const ConfigSource& source : sources) out[source.field] = {{"value", source.value}, {"origin", source.origin}};
  return out;
}

std::string ModelConfig::ToText() const {
  size_t field = 0;
  size_t value = 0;
  for (const ConfigSource& s : sources) {
    field = std::max(field, s.field.size());
    value = std::max(value, std::min<size_t>(s.value.size(), 40));
  }
  std::string out;
  for (const ConfigSource& s : sources) out += fmt::format("{:<{}}  {:<{}}  {}\n", s.field, field, s.value, value, s.origin);
  return out;
}

}  // namespace apr
