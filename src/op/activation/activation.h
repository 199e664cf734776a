// activation: an element-wise non-linearity.
#pragma once

#include <string>
#include <string_view>

#include "graph/op.h"

namespace apr {

struct ActivationAttributes {
  // "silu": x / (1 + e^-x). "gelu_tanh": 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
  // "gelu": 0.5 x (1 + erf(x / sqrt 2)). "quick_gelu": x / (1 + e^(-1.702 x)). "relu", "relu2": max(x, 0)^2.
  std::string kind;
  void Fields(FieldVisitor& v) { v.Text("kind", kind); }
};

bool IsActivation(std::string_view kind);

// The non-linearity itself in f64, for this op and for experts. Throws kModelLoad for an unknown kind.
double (*ActivationFunction(std::string_view kind))(double);

// Inputs: x. Output like x.
const Op& ActivationOp();

}  // namespace apr
