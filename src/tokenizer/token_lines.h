// The `tokenize` and `detokenize` commands as functions: one text or a file of JSON lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/output_file.h"
#include "tokenizer/tokenizer.h"

namespace apr {

// {"ids": [...], "pieces": [...], "count": n, and with options.offsets "offsets": [[begin, end],
// ...]}.
Json TokenizeToJson(const Tokenizer& tokenizer, std::string_view text,
                    const EncodeOptions& options);

struct LineCounts {
  uint64_t lines = 0;
  uint64_t tokens = 0;
  uint64_t text_bytes = 0;
};

// For every line {"text": ...} of `input` one line {"ids": [...]} (and "offsets") of `output`, in
// order; a line may override "add_special" and "parse_special"; "text": null gives {"ids": null}.
// Blank lines are skipped. Throws kInvalidFormat with file and offset of the line.
LineCounts TokenizeLines(const Tokenizer& tokenizer, const std::string& input,
                         const std::string& output, const EncodeOptions& options,
                         Overwrite overwrite);

// For every line {"ids": [...]} one line {"text": ...}.
LineCounts DetokenizeLines(const Tokenizer& tokenizer, const std::string& input,
                           const std::string& output, bool skip_special, Overwrite overwrite);

// For `apr tokenize --json`'s report of the tokenizer itself, and for comparing two.
Json DescribeTokenizer(const Tokenizer& tokenizer);

}  // namespace apr
