// The f32 side of linear: how a weight is read, which kernel multiplies it, and how rows are shared
// out. Every output element is one dot product summed in one fixed order, whatever the number of rows,
// threads or chunks (linear_kernels.h says which order).
#pragma once

#include <memory>
#include <string>

#include "graph/op.h"

namespace apr {

// The kernel is chosen here: by ActiveIsa(), the weight's type and the precision.
std::unique_ptr<CpuState> PrepareLinearCpu(const CpuPrepareContext& context);
void LinearCpu(const OpContext<float>& context);

// Which kernel a prepared linear node runs, for people: "Q4_1 x int8, avx512vnni", "F16 x f32, avx2",
// "Q3_K x f32, avx2, rows decoded one by one (no int8 kernel of this type)".
std::string LinearKernelName(const CpuState& state);

}  // namespace apr
