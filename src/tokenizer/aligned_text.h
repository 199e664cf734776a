// A text on its way through normalisers, with where each of its bytes came from in the user's text,
// so that every token can be traced to the bytes it stands for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

struct ByteSpan {
  uint32_t begin = 0;
  uint32_t end = 0;
  bool operator==(const ByteSpan&) const = default;
};

class AlignedText {
 public:
  // The part of the user's text that begins at `offset`; sources are kept if `tracked`.
  AlignedText(std::string_view text, uint32_t offset, bool tracked)
      : text_(text), offset_(offset), tracked_(tracked) {}
  // An empty text to Append() to, with the sources taken from `from`.
  static AlignedText Derived(const AlignedText& from) {
    AlignedText out({}, from.offset_, from.tracked_);
    out.identity_ = !from.tracked_;
    out.text_.reserve(from.text_.size());
    return out;
  }

  // Bytes [begin, end) of `from`, as a text that begins at `offset` of the user's.
  static AlignedText Slice(const AlignedText& from, size_t begin, size_t end, uint32_t offset) {
    AlignedText out({}, offset, from.tracked_);
    out.identity_ = !from.tracked_;
    out.Copy(from, begin, end);
    return out;
  }

  const std::string& text() const { return text_; }
  size_t size() const { return text_.size(); }
  bool tracked() const { return tracked_; }
  uint32_t offset() const { return offset_; }

  // Appends `bytes`, which stand for bytes [begin, end) of `from` (an empty range: inserted there).
  void Append(std::string_view bytes, const AlignedText& from, size_t begin, size_t end) {
    text_ += bytes;
    if (!tracked_) return;
    sources_.insert(sources_.end(), bytes.size(), from.Source(begin, end));
  }
  // Appends bytes [begin, end) of `from` unchanged, each with its own source.
  void Copy(const AlignedText& from, size_t begin, size_t end) {
    text_.append(from.text_, begin, end - begin);
    if (!tracked_) return;
    for (size_t i = begin; i < end; ++i) sources_.push_back(from.Source(i, i + 1));
  }

  // The bytes of the user's text that [begin, end) came from; meaningful only if tracked.
  ByteSpan Source(size_t begin, size_t end) const;

 private:
  std::string text_;
  std::vector<ByteSpan> sources_;  // one a byte, unless identity_
  uint32_t offset_ = 0;
  bool tracked_ = false;
  bool identity_ = true;
};

// A text cut into pieces: ranges of `text`, in order, not overlapping; gaps are dropped text.
struct PieceList {
  AlignedText text;
  std::vector<ByteSpan> pieces;
  bool cut = false;  // some step has cut it, even if only into one piece
};

}  // namespace apr
