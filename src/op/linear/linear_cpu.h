// The f32 side of linear: how a weight is read, which kernel multiplies it, and how rows are shared
// out. Every output element is one dot product summed in one fixed order, whatever the number of rows,
// threads or chunks.
#pragma once

#include <memory>

#include "graph/op.h"

namespace apr {

std::unique_ptr<CpuState> PrepareLinearCpu(const CpuPrepareContext& context);
void LinearCpu(const OpContext<float>& context);

}  // namespace apr
