// What a configuration class of transformers takes for a key that config.json leaves out.
#pragma once

#include <string_view>

namespace apr {

// A JSON object for a Hugging Face model_type, "{}" where nothing has a default. It holds what the
// computation depends on; sizes that every file states (hidden_size, num_hidden_layers,
// num_attention_heads, vocab_size, intermediate_size) have none. null: "absent" is the default.
// Source: transformers 5.23.0, src/transformers/models/<name>/configuration_<name>.py.
std::string_view ClassDefaults(std::string_view model_type);

}  // namespace apr
