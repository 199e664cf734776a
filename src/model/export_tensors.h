// The transform table run backward: from slots of a model to the tensors of a file of any container.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "format/model_writer.h"
#include "model/model.h"

namespace apr {

// Element types: `choose(name, shape, stored)` decides; `stored` is that of the first part. Block types
// whose rows would not be whole blocks must not be chosen, except where the container pads rows.
using ChooseType = std::function<DType(const std::string& name, const Shape& shape, DType stored)>;

// Buffers that are kept from tensor to tensor.
struct EncodeBuffers {
  std::vector<std::vector<float>> values;  // of each thread
  std::vector<std::byte> bytes, before;
};

// How values become bytes, of one tensor at a time.
struct EncodeContext {
  std::shared_ptr<ThreadPool> pool;  // null: on the calling thread
  Container container = Container::kSafetensors;
  // Importance of the columns of matrix `matrix` (of a stack; else 0) of tensor `name`: [cols], or null.
  std::function<const float*(const std::string& name, int64_t matrix, int64_t cols)> importance;
  std::shared_ptr<EncodeBuffers> buffers;  // null: fresh ones for each tensor
};

// The tensors that `target` names for `model`, in table order, each written when asked for.
// Throws kModelLoad for a slot that the target's table cannot name.
std::vector<TensorToWrite> ExportTensors(std::shared_ptr<const Model> model, const std::vector<TensorRule>& target,
                                         const ChooseType& choose, const EncodeContext& context = {});

// A tensor of a file under its own name in another type. The same streaming and threads.
TensorToWrite Recoded(std::shared_ptr<const ModelFile> file, const TensorInfo& info, DType dtype, const EncodeContext& context);

}  // namespace apr
