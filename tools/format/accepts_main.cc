// A program for tools/format/differential.py: opens every path given on standard input, one a line, and
// prints for each "accept", its number of tensors and a digest of names, shapes and bytes, or "refuse"
// and the reason.
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "base/error.h"
#include "format/model_file.h"

namespace {

unsigned long Digest(const apr::ModelFile& file) {
  unsigned long crc = 0;
  const auto add = [&](const void* data, size_t size) {
    crc = crc32(crc, static_cast<const Bytef*>(data), static_cast<uInt>(size));
  };
  std::vector<const apr::TensorInfo*> order;
  for (const apr::TensorInfo& info : file.tensors()) order.push_back(&info);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->name < b->name; });
  for (const apr::TensorInfo* info : order) {
    const apr::Bytes bytes = file.View(*info).bytes;
    add(info->name.data(), info->name.size());
    add(info->shape.dims().data(), info->shape.dims().size_bytes());
    if (!bytes.empty()) add(bytes.data(), bytes.size());
  }
  return crc;
}

}  // namespace

int main() {
  std::string path;
  while (std::getline(std::cin, path)) {
    try {
      const auto file = apr::ModelFile::Open(path);
      std::printf("accept %zu %08lx\n", file->tensors().size(), Digest(*file));
    } catch (const apr::Error& error) {
      std::string reason = error.what();
      for (char& c : reason) c = c == '\n' ? ' ' : c;
      std::printf("refuse %s\n", reason.c_str());
    }
  }
}
