// Unicode normal forms (Unicode Standard Annex 15) in linear time, with sources kept. Text that
// needs no change is recognised by a table scan and returned as it is.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/aligned_text.h"

namespace apr {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// True if the text surely is in NFC: no character of it has NFC_Quick_Check No or Maybe or a
// combining class. `text` must be well-formed UTF-8.
bool IsSurelyNfc(std::string_view text);

AlignedText Normalize(const AlignedText& text, NormalForm form);
std::string Normalize(std::string_view text, NormalForm form);

}  // namespace apr
