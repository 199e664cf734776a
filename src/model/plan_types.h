// The types of a quantised model in any container: the mix is planned on GGUF's names, by which its rules
// go, and carried over to the names of the target.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/export_tensors.h"
#include "model/quant_mix.h"

namespace apr {

struct TypePlanRequest {
  std::string mix;
  std::vector<std::string> tensor_types;  // REGEX=TYPE, on GGUF names
  std::string imatrix;                    // path, empty: none
};

struct PlannedTensor {
  std::string name;  // in the target
  Shape shape;
  DType stored = DType::kF32;
  DType dtype = DType::kF32;
  uint64_t bytes = 0;
  bool fallback = false;
};

struct TypePlan {
  std::string mix;  // canonical name
  ChooseType choose;
  std::function<const float*(const std::string& name, int64_t matrix, int64_t cols)> importance;
  std::vector<PlannedTensor> tensors;
  std::vector<std::string> warnings;
  std::vector<std::string> notes;  // what a warning sums up, tensor by tensor
};

// Throws kUsage (unknown mix), kModelLoad (no GGUF names), kValidationFailed (the target cannot hold a
// type of the plan; a type that needs importance), kInvalidFormat (imatrix).
TypePlan PlanTypes(const std::shared_ptr<const Model>& model, Container target, const TypePlanRequest& request);

// The same for the tensors of a GGUF as they stand, whatever its architecture.
TypePlan PlanTypesOfGguf(const std::shared_ptr<const ModelFile>& file, const TypePlanRequest& request);

}  // namespace apr
