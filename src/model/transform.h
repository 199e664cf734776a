// Carrying out the transforms of the table (tensor_table.h), file to slots and slots to file.
#pragma once

#include <map>
#include <vector>

#include "format/model_file.h"
#include "graph/weight.h"
#include "model/config.h"
#include "model/slot.h"
#include "model/tensor_table.h"

namespace apr {

// The slots that a file's tensor holds. Views where the bytes can stay in place; where they are packed or the layout
// changes, bytes that are computed when somebody holds them (WeightRef::computed), while `file` lives. `keys`: the
// rule's slots with layer and expert filled in (for stacked experts without expert: every expert is returned). Throws
// kModelLoad when the shape does not fit.
std::map<SlotKey, WeightRef> ApplyTransform(Transform transform, const ModelConfig& config, const std::vector<SlotKey>& keys,
                                            const ModelFile& file, const TensorInfo& info);

// A tensor of a file under its own shape, packed or not.
WeightRef TensorAsWeight(const ModelFile& file, const TensorInfo& info);

// The whole of a slot in canonical order, f32, transforms applied: [rows * cols].
std::vector<float> ReadSlot(const WeightRef& weight);

}  // namespace apr
