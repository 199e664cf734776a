// Fuzz target of importance matrices, both forms of file.
#include <cstdlib>

#include "base/error.h"
#include "format/imatrix.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const apr::Bytes bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto matrix = apr::ImportanceMatrix::FromMapped(apr::MappedFile::Borrowed("fuzz.imatrix", bytes));
    if (matrix->entries() == 0) std::abort();
  } catch (const apr::Error& error) {
    if (error.context().file.empty()) std::abort();
  }
  return 0;
}
