// The bytes of an .apr file on their way to the disk: checksummed, padded, compressed if asked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/output_file.h"
#include "format/model_writer.h"

struct ZSTD_CCtx_s;

namespace apr {

class AprOutput {
 public:
  // `size`: bytes of the file before compression, header and footer included. Throws kValidationFailed if the
  // compression cannot hold that many.
  AprOutput(const std::string& path, Overwrite overwrite, AprCompression compression, uint64_t size);
  ~AprOutput();

  void Write(Bytes bytes);
  void Pad();     // to kAprAlignment
  void Finish();  // footer, commit

 private:
  void Emit(Bytes bytes);
  void Compress(Bytes bytes, bool end);
  void CompressLz4();

  OutputFile file_;
  AprCompression compression_;
  uint64_t position_ = 0;  // before compression
  uint32_t crc_ = 0;
  std::string held_;       // LZ4: everything after the header; Zstandard: room for output
  std::unique_ptr<ZSTD_CCtx_s, void (*)(ZSTD_CCtx_s*)> zstd_;
};

}  // namespace apr
