// A GGUF to a GGUF of other types: names, order and metadata stay, whatever the architecture.
#pragma once

#include <memory>

#include "model/export_model.h"
#include "model/plan_types.h"

namespace apr {

// `plan`: from PlanTypesOfGguf. Of `options` the output, threads and overwriting count.
ExportReport QuantizeGguf(std::shared_ptr<const ModelFile> file, const TypePlan& plan, const TypePlanRequest& request, const ExportOptions& options);

}  // namespace apr
