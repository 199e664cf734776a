// GGUF versions 2 and 3, little-endian: reader. Source: ggml, docs/gguf.md. Byte table:
// docs/formats/gguf.md.
#pragma once

#include <memory>
#include <string>

#include "format/model_file.h"

namespace apr {

// Appends `file` with its tensors and metadata to `parts`. Throws kInvalidFormat (key or tensor,
// offset).
void ReadGguf(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts);

// If the file that `parts` holds is one part of several (key split.count), replaces it by all of them:
// the tensors of every part, the metadata of the first. Parts are named
// <anything>-00001-of-0000N.gguf, as llama.cpp's gguf-split does. Throws kInvalidFormat when the parts
// contradict each other, kNotFound when one is absent.
void JoinGgufSplits(ModelFileParts* parts);

}  // namespace apr
