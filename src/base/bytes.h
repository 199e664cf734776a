// Reading little-endian values out of bytes that somebody else wrote. Every read is bounded; an
// overrun throws Error(kInvalidFormat) with the offset. This machine must be little-endian too.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace apr {

static_assert(std::endian::native == std::endian::little, "big-endian machines are not supported");

using Bytes = std::span<const std::byte>;

// Unaligned load and store of a trivially copyable value.
template <typename T>
T LoadLe(const void* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void StoreLe(void* to, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof value);
}

template <typename T>
void AppendLe(std::string* out, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

inline std::string_view AsText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Checked arithmetic on sizes that come from a file: nullopt on overflow.
std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b);
std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b);

inline uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// True if the texts are equal but for the case of ASCII letters.
bool EqualNoCase(std::string_view a, std::string_view b);

// True if `text` is well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
bool IsValidUtf8(std::string_view text);

// A cursor over `bytes` (borrowed). `file` names the source in errors; `base` is the file offset of
// bytes[0].
class ByteReader {
 public:
  ByteReader(Bytes bytes, std::string file, uint64_t base = 0)
      : bytes_(bytes), file_(std::move(file)), base_(base) {}

  uint64_t offset() const { return base_ + position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  // `what` names the field in the error: "truncated: <what> needs 8 bytes, 3 remain".
  template <typename T>
  T Read(std::string_view what) {
    return LoadLe<T>(ReadBytes(sizeof(T), what).data());
  }
  Bytes ReadBytes(uint64_t count, std::string_view what);
  void Skip(uint64_t count, std::string_view what) { ReadBytes(count, what); }

  // Throws kInvalidFormat naming the file and the current offset (or `at`).
  [[noreturn]] void Fail(std::string message, std::string key = {}) const;
  [[noreturn]] void FailAt(uint64_t at, std::string message, std::string key = {}) const;

  const std::string& file() const { return file_; }

 private:
  Bytes bytes_;
  std::string file_;
  uint64_t base_;
  size_t position_ = 0;
};

}  // namespace apr
