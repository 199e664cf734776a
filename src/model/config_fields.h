// A resolved configuration as a list of named values: for comparing what two files mean.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace apr {

// One constant of the computation. Names are those of ModelConfig; of lists one field per list.
struct ConfigField {
  std::string name;
  std::string text;             // exact: equal texts mean equal values
  std::vector<double> numbers;  // the same where the value is numeric
};

// Everything that the computation depends on, in a fixed order; not where it came from.
std::vector<ConfigField> FieldsOf(const ModelConfig& config);

struct FieldDifference {
  std::string name;
  std::string a, b;
  // The numbers differ by no more than what storing them in single precision explains.
  bool only_rounded = false;
};
std::vector<FieldDifference> DifferingFields(const ModelConfig& a, const ModelConfig& b);

}  // namespace apr
