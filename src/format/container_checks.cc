// See container_checks.h.
#include "format/container_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace apr {
namespace {

bool LeavesFolder(std::string_view name) {
  if (!name.empty() && (name[0] == '/' || name[0] == '\\')) return true;
  size_t start = 0;
  while (start <= name.size()) {
    const size_t end = std::min(name.find_first_of("/\\", start), name.size());
    if (name.substr(start, end - start) == "..") return true;
    start = end + 1;
  }
  return false;
}

}  // namespace

std::optional<std::string> NameProblem(std::string_view name) {
  if (name.find('\0') != std::string_view::npos) return "holds a NUL byte";
  if (!IsValidUtf8(name)) return "is not UTF-8";
  if (LeavesFolder(name)) return "is a path that leads out of a folder";
  return std::nullopt;
}

std::string Printable(std::string_view name) {
  const bool plain_utf8 = IsValidUtf8(name);
  std::string out;
  for (const char c : name) {
    if (out.size() >= 120) return out + "…";
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !plain_utf8)) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

void CheckNoOverlap(std::span<const TensorInfo> tensors, const std::string& file) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.bytes > 0) order.push_back(&tensor);
  }
  std::ranges::sort(order, {}, [](const TensorInfo* t) { return t->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = *order[i - 1];
    if (order[i]->offset >= before.offset + before.bytes) continue;
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("the tensor's bytes overlap those of '{}', which end at {}",
                            Printable(before.name), before.offset + before.bytes),
                {.file = file, .tensor = Printable(order[i]->name), .offset = order[i]->offset});
  }
}

}  // namespace apr
