// Which type each tensor should have, so that together they cost least at a given size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace apr {

struct TypeChoice {
  DType type = DType::kF32;
  uint64_t bytes = 0;
  double cost = 0;  // expected
};
struct TensorChoices {
  std::string tensor;
  std::vector<TypeChoice> choices;
  TypeChoice now;  // what it is in the model that is judged
};
struct CheapestTypes {
  std::vector<TypeChoice> chosen;  // as the tensors came
  uint64_t bytes = 0;
  double cost = 0;
};

// The cheapest mix found of at most `budget` bytes: every tensor starts at its smallest type, then the step that
// saves most cost per byte is taken until none fits (greedy on the lower convex hulls, which is optimal but for the
// last step). Throws kUsage if even the smallest types are too large.
CheapestTypes PlanTensorTypes(const std::vector<TensorChoices>& tensors, uint64_t budget);

}  // namespace apr
