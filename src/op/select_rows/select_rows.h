// select_rows: the rows of x for which logits are wanted, [T, C] -> [R, C]. What follows it (final norm,
// head) then costs nothing for the other positions.
#pragma once

#include "graph/op.h"

namespace apr {

struct SelectRowsAttributes {
  void Fields(FieldVisitor&) {}
};

const Op& SelectRowsOp();

}  // namespace apr
