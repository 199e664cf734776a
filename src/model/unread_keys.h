// Which of the configuration keys that nothing reads may change what the model computes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "format/model_file.h"

namespace apr {

// Some of `unread`, and "rope_scaling.<key>" for unknown parameters of the rotation. A key matters
// when its name speaks of the forward pass and its value is not one that is known to say nothing
// about it. Bookkeeping keys never do; see IsBookkeeping.
std::vector<std::string> KeysThatMatter(const ModelFile& file, std::string_view architecture,
                                        const std::vector<std::string>& unread);

// Keys that say nothing about the forward pass: bookkeeping of transformers, settings of training
// and of kernels, token ids.
bool IsBookkeeping(std::string_view key);

}  // namespace apr
