// See hex_text.h.
#include "cli/hex_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"

namespace apr {
namespace {

std::string PlainText(Bytes bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    const auto c = static_cast<char>(b);
    out += c >= 0x20 && c <= 0x7E ? c : '.';
  }
  return out;
}

}  // namespace

std::string HexDigits(Bytes bytes) {
  std::string out;
  for (const std::byte b : bytes) out += fmt::format("{}{:02x}", out.empty() ? "" : " ", static_cast<unsigned>(b));
  return out;
}

std::string HexRows(Bytes bytes, uint64_t offset, size_t width) {
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += width) {
    const Bytes row = bytes.subspan(at, std::min(width, bytes.size() - at));
    out += fmt::format("{:08x}  {:<{}}  {}\n", offset + at, HexDigits(row), 3 * width - 1, PlainText(row));
  }
  return out;
}

Json HexRowsJson(Bytes bytes, uint64_t offset, size_t width) {
  Json out = Json::array();
  for (size_t at = 0; at < bytes.size(); at += width) {
    const Bytes row = bytes.subspan(at, std::min(width, bytes.size() - at));
    out.push_back({{"offset", offset + at}, {"hex", HexDigits(row)}, {"text", PlainText(row)}});
  }
  return out;
}

}  // namespace apr
