// See aligned_text.h.
#include "tokenizer/aligned_text.h"

namespace apr {

ByteSpan AlignedText::Source(size_t begin, size_t end) const {
  const auto narrow = [](size_t v) { return static_cast<uint32_t>(v); };
  if (identity_) return {offset_ + narrow(begin), offset_ + narrow(end)};
  if (sources_.empty()) return {offset_, offset_};
  if (begin >= end) {  // an insertion point: before what stands there, or after the last byte
    const uint32_t at = begin < sources_.size() ? sources_[begin].begin : sources_.back().end;
    return {at, at};
  }
  return {sources_[begin].begin, sources_[end - 1].end};
}

}  // namespace apr
