// See normal_form.h.
#include "tokenizer/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

int CombiningClass(utf8proc_int32_t cp) { return utf8proc_get_property(cp)->combining_class; }

// Marks after a starter in ascending order of class, stable: what canonical ordering means, here by
// a stable sort of each run because exchanging neighbours is quadratic on hostile runs.
void OrderMarks(std::vector<utf8proc_int32_t>& points) {
  size_t i = 0;
  while (i < points.size()) {
    if (CombiningClass(points[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    bool sorted = true;
    while (end < points.size() && CombiningClass(points[end]) != 0) {
      if (end > i && CombiningClass(points[end]) < CombiningClass(points[end - 1])) sorted = false;
      ++end;
    }
    if (!sorted) {
      std::stable_sort(points.begin() + i, points.begin() + end,
                       [](auto a, auto b) { return CombiningClass(a) < CombiningClass(b); });
    }
    i = end;
  }
}

class SegmentNormalizer {
 public:
  explicit SegmentNormalizer(NormalForm form)
      : compose_(form == NormalForm::kNfc || form == NormalForm::kNfkc),
        options_(form == NormalForm::kNfkc || form == NormalForm::kNfkd
                     ? static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT)
                     : UTF8PROC_DECOMPOSE) {}

  // True if a segment may begin with `cp`: its decomposition begins with a starter that never
  // composes with what stands before.
  bool BeginsSegment(char32_t cp) {
    if (cp < 0xC0) return true;
    if (compose_ && !(options_ & UTF8PROC_COMPAT))
      return !(unicode::CharFlags(cp) & unicode::kNfcCheck);
    Decompose(cp, one_);
    return !(unicode::CharFlags(static_cast<char32_t>(one_[0])) & unicode::kNfcCheck);
  }

  void Run(std::string_view segment, std::string& out) {
    points_.clear();
    for (size_t i = 0; i < segment.size();) {
      const auto [cp, length] = unicode::DecodeValid(segment.data() + i);
      Decompose(cp, one_);
      points_.insert(points_.end(), one_.begin(), one_.end());
      i += length;
    }
    OrderMarks(points_);
    size_t count = points_.size();
    if (compose_) {
      const auto composed = utf8proc_normalize_utf32(
          points_.data(), static_cast<utf8proc_ssize_t>(count),
          static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
      if (composed >= 0) count = static_cast<size_t>(composed);
    }
    for (size_t i = 0; i < count; ++i) unicode::AppendUtf8(static_cast<char32_t>(points_[i]), out);
  }

 private:
  void Decompose(char32_t cp, std::vector<utf8proc_int32_t>& out) {
    out.resize(24);
    int last_class = 0;
    const auto value = static_cast<utf8proc_int32_t>(cp);
    const auto count = utf8proc_decompose_char(value, out.data(), 24, options_, &last_class);
    if (count < 1 || count > 24) {
      out.assign(1, value);
    } else {
      out.resize(static_cast<size_t>(count));
    }
  }

  bool compose_;
  utf8proc_option_t options_;
  std::vector<utf8proc_int32_t> points_;
  std::vector<utf8proc_int32_t> one_;
};

size_t AsciiRun(std::string_view text, size_t from) {
  size_t i = from;
  while (i + 8 <= text.size() && !(LoadLe<uint64_t>(text.data() + i) & 0x8080808080808080u)) i += 8;
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

bool IsSurelyNfc(std::string_view text) {
  const uint16_t* table = unicode::CharTable();
  size_t i = 0;
  while (i < text.size()) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      i = AsciiRun(text, i);
      continue;
    }
    const auto [cp, length] = unicode::DecodeValid(text.data() + i);
    if (unicode::CharFlags(table, cp) & unicode::kNfcCheck) return false;
    i += length;
  }
  return true;
}

AlignedText Normalize(const AlignedText& text, NormalForm form) {
  const std::string& in = text.text();
  if (form == NormalForm::kNfc ? IsSurelyNfc(in) : AsciiRun(in, 0) == in.size()) return text;
  AlignedText out = AlignedText::Derived(text);
  SegmentNormalizer normalizer(form);
  std::string buffer;
  size_t i = 0;
  while (i < in.size()) {
    // [i, end): one character that begins a segment and all that cannot begin one.
    size_t end = i + unicode::SequenceLength(static_cast<unsigned char>(in[i]));
    while (end < in.size()) {
      const auto [cp, length] = unicode::DecodeValid(in.data() + end);
      if (normalizer.BeginsSegment(cp)) break;
      end += length;
    }
    if (end - i == 1) {
      out.Copy(text, i, end);
    } else {
      buffer.clear();
      normalizer.Run(std::string_view(in).substr(i, end - i), buffer);
      if (std::string_view(in).substr(i, end - i) == buffer) {
        out.Copy(text, i, end);
      } else {
        out.Append(buffer, text, i, end);
      }
    }
    i = end;
  }
  return out;
}

std::string Normalize(std::string_view text, NormalForm form) {
  return Normalize(AlignedText(text, 0, false), form).text();
}

}  // namespace apr
