// The tokens after which a model has said all it has to say, as its files declare them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/model_file.h"

namespace apr {

struct StopId {
  int32_t id = 0;
  std::string origin;  // "generation_config.json: eos_token_id"
};

// generation_config.json's set; without one config.json's (or its text_config's); of GGUF the end of
// sequence, of turn and of message; of .apr eos_token_id. Empty: the file names none. Throws
// kInvalidFormat for a value that is no token id.
std::vector<StopId> StopIdsOf(const ModelFile& file);

}  // namespace apr
