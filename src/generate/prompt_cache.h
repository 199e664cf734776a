// The cache of a sequence in a file, so that a later run need not compute its tokens again. docs/formats/aprk.md
// describes the bytes. What comes back is the same bits, so a restored run gives the same results.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/output_file.h"
#include "generate/session.h"

namespace apr {

// 64-bit digest of what a cache depends on in a model: its graph with every attribute, and all bytes of its
// weights. Reads the whole file once; computed with the session's number of threads.
uint64_t CacheDigest(const Session& session);

// Writes the tokens of `sequence` and their keys and values.
void SavePromptCache(const Session& session, int sequence, uint64_t digest, const std::string& path, Overwrite overwrite);

// Restores into `sequence`, which must hold nothing, what the file and `prompt` have in common at their beginning, at
// most all but the last token of the prompt. Returns the number of tokens. Throws kNotFound; kInvalidFormat for
// bytes that are no whole cache; kValidationFailed naming what differs: another model, executor, precision,
// instruction-set table or cache type would give other bits.
int64_t RestorePromptCache(Session& session, int sequence, uint64_t digest, const std::string& path, std::span<const int32_t> prompt);

}  // namespace apr
