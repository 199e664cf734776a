// See apr_output.h. Compressed files: docs/formats/apr.md; lz4.h (raw blocks), zstd.h (streaming).
#include "format/apr_output.h"

#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>

#include "base/error.h"
#include "format/apr_header.h"
#include "format/tensor_writer.h"

namespace apr {
namespace {

void FreeZstd(ZSTD_CCtx_s* context) { ZSTD_freeCCtx(context); }

constexpr int kZstdLevel = 3, kZstdMaxLevel = 19;

}  // namespace

AprOutput::AprOutput(const std::string& path, Overwrite overwrite, AprCompression compression, uint64_t size)
    : file_(path, overwrite), compression_(compression), zstd_(nullptr, FreeZstd) {
  const uint64_t payload = size - kAprHeaderBytes;
  if (compression == AprCompression::kLz4 && payload > LZ4_MAX_INPUT_SIZE) {
    RefuseToWrite(path, "", fmt::format("an LZ4 block holds at most {} bytes, this file has {}: zstd holds it", LZ4_MAX_INPUT_SIZE, payload));
  }
  if (compression != AprCompression::kZstd && compression != AprCompression::kZstdMax) return;
  zstd_.reset(ZSTD_createCCtx());
  const int level = compression == AprCompression::kZstd ? kZstdLevel : kZstdMaxLevel;
  if (zstd_ == nullptr || ZSTD_isError(ZSTD_CCtx_setParameter(zstd_.get(), ZSTD_c_compressionLevel, level)) ||
      ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(zstd_.get(), payload))) {
    throw Error(ErrorCode::kInternal, "Zstandard cannot be set up");
  }
  held_.resize(ZSTD_CStreamOutSize());
}

AprOutput::~AprOutput() = default;

void AprOutput::Write(Bytes bytes) {
  crc_ = Crc32(bytes, crc_);
  Emit(bytes);
}

void AprOutput::Pad() {
  static constexpr std::byte kZeros[kAprAlignment] = {};
  Write(Bytes(kZeros, AlignUp(position_, kAprAlignment) - position_));
}

void AprOutput::Emit(Bytes bytes) {
  const uint64_t plain = position_ < kAprHeaderBytes ? std::min<uint64_t>(kAprHeaderBytes - position_, bytes.size()) : 0;
  position_ += bytes.size();
  if (compression_ == AprCompression::kNone) return file_.Write(bytes);
  if (plain > 0) file_.Write(bytes.subspan(0, plain));
  if (bytes.size() > plain) Compress(bytes.subspan(plain), false);
}

void AprOutput::Compress(Bytes bytes, bool end) {
  if (compression_ == AprCompression::kLz4) {
    held_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return;
  }
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  size_t left = 1;
  while (in.pos < in.size || (end && left > 0)) {
    ZSTD_outBuffer out{held_.data(), held_.size(), 0};
    left = ZSTD_compressStream2(zstd_.get(), &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left)) throw Error(ErrorCode::kInternal, fmt::format("Zstandard: {}", ZSTD_getErrorName(left)));
    file_.Write(std::string_view(held_.data(), out.pos));
  }
}

void AprOutput::CompressLz4() {
  std::string block(static_cast<size_t>(LZ4_compressBound(static_cast<int>(held_.size()))), '\0');
  const int size = LZ4_compress_default(held_.data(), block.data(), static_cast<int>(held_.size()), static_cast<int>(block.size()));
  if (size <= 0) throw Error(ErrorCode::kInternal, "LZ4 failed");
  char length[4];
  StoreLe(length, static_cast<uint32_t>(held_.size()));
  file_.Write(std::string_view(length, sizeof length));
  file_.Write(std::string_view(block.data(), static_cast<size_t>(size)));
}

void AprOutput::Finish() {
  std::byte footer[4];
  StoreLe(footer, crc_);
  Emit(footer);
  if (compression_ == AprCompression::kLz4) CompressLz4();
  else if (compression_ != AprCompression::kNone) Compress({}, true);
  file_.Commit();
}

}  // namespace apr
