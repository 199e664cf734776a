// Compressed APR files: everything after the 64-byte header is one LZ4 or Zstandard blob.
#pragma once

#include <memory>

#include "base/mapped_file.h"
#include "format/apr_header.h"

namespace apr {

// False when the bytes after the header are plainly the uncompressed metadata: JSON in place.
bool StartsWithCompressedPayload(Bytes file, const AprHeader& header);

// The file as it would be uncompressed (header first). The memory it may take is bounded by what the
// compressed size makes plausible, before anything is allocated. Throws kInvalidFormat.
std::shared_ptr<const MappedFile> DecompressAprPayload(const MappedFile& file,
                                                       const AprHeader& header);

}  // namespace apr
