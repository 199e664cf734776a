// The pre-tokenizer names of GGUF (tokenizer.ggml.pre) and the published pattern behind each.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

struct PreName {
  const char* name;
  // Applied one after the other, each to the pieces of the one before.
  std::array<const char*, 6> patterns;  // nullptr: no more
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
  bool add_sep = false;
  bool nfc =
      false;  // the model's own tokenizer.json normalises to NFC, which the GGUF does not say
};

// nullptr for an unknown name.
const PreName* FindPreName(std::string_view name);
// The first name that stands for these patterns in this order; nullptr if none does.
const PreName* FindPreNameOf(const std::vector<std::string>& patterns, bool ignore_merges, bool nfc);

}  // namespace apr
