// Scripts for the UnicodeScripts pre-tokenizer (huggingface/tokenizers,
// pre_tokenizers/unicode_scripts/pre_tokenizer.rs, which counts kana as Han).
#include <algorithm>
#include <iterator>

#include "tokenizer/script_table.h"
#include "tokenizer/unicode.h"

namespace apr::unicode {

int ScriptOf(char32_t cp) {
  // The last range that begins at or before `cp`; the first begins at 0.
  const uint32_t key = static_cast<uint32_t>(cp) << 8 | 0xFF;
  return static_cast<int>(*(std::upper_bound(std::begin(kScriptRanges), std::end(kScriptRanges), key) - 1) & 0xFF);
}

}  // namespace apr::unicode
