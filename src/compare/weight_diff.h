// Comparing the weights of two files modulo what converters legitimately do: names, permutations,
// offsets, fusion, tying and storage types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/thread_pool.h"
#include "compare/element_diff.h"
#include "format/model_file.h"
#include "graph/weight.h"
#include "model/model.h"
#include "tensor/tensor.h"

namespace apr {

// One quantity that both files hold, under its canonical name.
struct WeightPair {
  std::string name;             // Hugging Face name (the file's own where no model is known)
  std::string name_a, name_b;   // as the files spell it
  WeightRef a, b;               // canonical orientation, same order of elements if shapes agree
  std::optional<SlotKey> key;   // where the pair was made through slots
};

// The two files side by side: what meets what, and what is alone. Holds both files open.
struct WeightPairs {
  std::vector<WeightPair> pairs;         // sorted by name
  std::vector<std::string> only_a, only_b;
  std::string basis;                     // "slots of qwen2" or "tensor names"
  std::shared_ptr<const ModelFile> file_a, file_b;
  std::optional<ModelConfig> config;     // of A, where the pairs were made through slots
};
// Through the transform tables when both files are models of known architectures, else by name
// (GGUF names mapped to Hugging Face ones). Tied heads meet stored ones: a head that one side stores
// and the other ties is compared with the embedding.
WeightPairs PairWeights(std::shared_ptr<const ModelFile> a, std::shared_ptr<const ModelFile> b);

enum class WeightVerdict {
  kIdentical,    // every element equal
  kExplained,    // as far apart as the storage types of the two sides must be
  kDifferent,    // farther
  kShape,        // shapes that cannot be compared
  kTransposed,   // shapes swapped and the elements equal in linear order or transposed
};
const char* WeightVerdictName(WeightVerdict verdict);

struct WeightRow {
  std::string name, name_a, name_b;
  DType dtype_a = DType::kF32, dtype_b = DType::kF32;  // of the elements that were compared
  std::string stored_a, stored_b;                      // how the files hold them: "Q4_K", "GPTQ int4"
  Shape shape_a, shape_b;
  ElementDiff diff;
  double expected_rmse = 0;   // that the storage types explain
  double ratio = 0;           // rmse / expected_rmse; infinite if nothing may differ and something does
  int64_t bad_runs = 0;       // runs of 256 elements that the storage types do not explain
  WeightVerdict verdict = WeightVerdict::kDifferent;
  std::string explanation;    // one sentence
  std::string status;         // Identical, NearlyIdentical, SmallDiff, MediumDiff, LargeDiff, Critical, Transposed

  std::vector<int64_t> Coordinate() const;  // of the worst element, in A's shape
  Json ToJson() const;
};

struct WeightDiff {
  std::string model_a, model_b, basis;
  std::vector<WeightRow> rows;         // sorted by name
  std::vector<std::string> only_a, only_b;

  // Nothing is missing, something was compared, and no row is different.
  bool agree() const;
  Json ToJson() const;
};

struct WeightDiffOptions {
  std::string filter;          // substring of the canonical name; empty: all
  int64_t limit = 0;           // tensors compared at most; 0: all
  std::optional<double> threshold;  // cosine below which a tensor counts as different
  // Matrices of swapped shape are also compared as each other's transpose; without it only equal bytes
  // under swapped dims (a reversed shape list) are recognised.
  bool transpose_aware = false;
};
WeightDiff DiffWeights(const WeightPairs& pairs, const WeightDiffOptions& options, ThreadPool& pool);

// The slots of two tables of one architecture side by side; a tied head meets a stored one.
void PairSlots(const Architecture& architecture, const ModelConfig& config, SlotTable a, SlotTable b, WeightPairs& out);

// One pair: elements, expected error, verdict. The work of one row of DiffWeights.
WeightRow CompareWeights(const WeightPair& pair, bool transpose_aware, ThreadPool& pool);

}  // namespace apr
