// See model.h.
#include "tokenizer/model.h"

#include <array>

#include "tokenizer/unicode.h"
#include "tokenizer/word_cache.h"

namespace apr {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Printable Latin-1 stands for itself; the other bytes follow from U+0100 on, in order.
constexpr bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char16_t, 256> MakeByteCharacters() {
  std::array<char16_t, 256> table{};
  char16_t next = 256;
  for (int b = 0; b < 256; ++b) {
    table[b] = StandsForItself(b) ? static_cast<char16_t>(b) : next++;
  }
  return table;
}
constexpr auto kByteCharacters = MakeByteCharacters();

// Character (below 512) to byte, or -1.
constexpr std::array<int16_t, 512> MakeCharacterBytes() {
  std::array<int16_t, 512> table{};
  for (auto& entry : table) entry = -1;
  for (int b = 0; b < 256; ++b) table[kByteCharacters[b]] = static_cast<int16_t>(b);
  return table;
}
constexpr auto kCharacterBytes = MakeCharacterBytes();

}  // namespace

EncodeScratch::EncodeScratch() = default;
EncodeScratch::~EncodeScratch() = default;

std::optional<uint8_t> ByteOfPiece(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return std::nullopt;
  const int high = HexDigit(piece[3]);
  const int low = HexDigit(piece[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

std::vector<std::optional<uint32_t>> ByteFallbackIds(const Vocabulary& vocabulary) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::vector<std::optional<uint32_t>> ids(256);
  for (int b = 0; b < 256; ++b) {
    const char piece[] = {'<', '0', 'x', kHex[b >> 4], kHex[b & 15], '>'};
    ids[b] = vocabulary.Find(std::string_view(piece, 6));
  }
  return ids;
}

char32_t ByteLevelCharacter(uint8_t byte) { return kByteCharacters[byte]; }

bool ByteLevelBytes(std::string_view piece, std::string& bytes) {
  bytes.resize(piece.size());
  size_t count = 0;
  for (size_t i = 0; i < piece.size();) {
    const auto [cp, length] = unicode::DecodeValid(piece.data() + i);
    if (cp >= 512 || kCharacterBytes[cp] < 0) return false;
    bytes[count++] = static_cast<char>(kCharacterBytes[cp]);
    i += length;
  }
  bytes.resize(count);
  return true;
}

std::optional<std::string> ByteLevelBytes(std::string_view piece) {
  std::string out;
  if (!ByteLevelBytes(piece, out)) return std::nullopt;
  return out;
}

std::string ByteLevelSpelling(std::string_view bytes) {
  std::string out;
  out.reserve(2 * bytes.size());
  for (const char c : bytes) unicode::AppendUtf8(ByteLevelCharacter(static_cast<uint8_t>(c)), out);
  return out;
}

}  // namespace apr
