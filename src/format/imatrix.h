// Importance matrices: for each matrix of a model the mean square of the activations that its columns
// multiply, measured on text. Files of llama.cpp's llama-imatrix, both forms:
//   GGUF, general.type "imatrix": tensors <name>.in_sum2 [matrices, cols] and <name>.counts [matrices]
//   the older .dat: i32 entries, then per entry i32 name length, name, i32 calls, i32 values, f32[values]
// Source: ggml-org/llama.cpp tools/imatrix/imatrix.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"

namespace apr {

class ImportanceMatrix {
 public:
  // Throws kNotFound, kInvalidFormat (file, entry, offset): truncated, a count that does not fit, a value
  // that is negative or not finite, an entry given twice.
  static std::shared_ptr<const ImportanceMatrix> Open(const std::string& path);
  static std::shared_ptr<const ImportanceMatrix> FromMapped(std::shared_ptr<const MappedFile> file);

  // Values of tensor `name` (GGUF's name), one row of `cols` for each of its matrices; nullptr if the file
  // has none for it. A different number of values throws kInvalidFormat.
  const float* Find(const std::string& name, int64_t matrices, int64_t cols) const;

  size_t entries() const { return values_.size(); }
  const std::vector<std::string>& datasets() const { return datasets_; }
  int64_t chunks() const { return chunks_; }

 private:
  void ReadGguf(std::shared_ptr<const MappedFile> file);
  void ReadDat(const MappedFile& file);
  void Put(const std::string& name, std::vector<float> values);

  std::string path_;
  std::map<std::string, std::vector<float>> values_;
  std::vector<std::string> datasets_;
  int64_t chunks_ = 0;
};

}  // namespace apr
