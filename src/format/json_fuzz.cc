// Fuzz target of the JSON texts beside a model: the safetensors index (first byte even) and config.json
// (odd).
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "format/safetensors_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] % 2 == 0) {
      const apr::SafetensorsIndex index = apr::ParseSafetensorsIndex(text, "fuzz.index.json");
      for (const auto& [tensor, shard] : index.weight_map) {
        if (shard >= index.shards.size()) std::abort();
      }
      for (const std::string& shard : index.shards) {
        if (shard.find('/') != shard.npos || shard == "..") std::abort();
      }
    } else {
      const apr::Json value = apr::ParseJson(text, "config.json");
      const std::string dumped = apr::DumpJson(value);
      if (apr::ParseJson(dumped, "config.json") != value) std::abort();
    }
  } catch (const apr::Error& error) {
    if (error.context().file.empty()) std::abort();
  }
  return 0;
}
