// The transform table run backward: from slots of a model to the tensors of a file of any container.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/model_writer.h"
#include "model/model.h"

namespace apr {

// The tensors that `target` names for `model`, in table order, each written when asked for. Element
// types: `choose(name, shape, stored)` decides; block types whose rows would not be whole blocks, and
// vectors, must not be chosen. Throws kModelLoad for a slot that the target's table cannot name.
using ChooseType = std::function<DType(const std::string& name, const Shape& shape, DType stored)>;
std::vector<TensorToWrite> ExportTensors(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target,
                                         const ChooseType& choose);

}  // namespace apr
