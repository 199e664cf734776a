// See transform.h.
#include "model/transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "op/context.h"
#include "quant/quant.h"

namespace apr {
namespace {

[[noreturn]] void WrongShape(const SlotKey& key, const Shape& actual, const Shape& expected) {
  throw Error(ErrorCode::kModelLoad, fmt::format("{} needs shape {}, the file has {}", ToString(key),
                                                 expected.ToString(), actual.ToString()));
}

// Shapes that mean the same: [n] and [1, n] and [n, 1] hold the same row.
bool SameMatrix(const Shape& a, const Shape& b) {
  if (a == b) return true;
  return a.num_elements() == b.num_elements() && (a.ndim() <= 1 || b.ndim() <= 1) &&
         (a.ndim() <= 1 || a[0] == 1 || a[1] == 1) && (b.ndim() <= 1 || b[0] == 1 || b[1] == 1);
}

WeightRef Own(Tensor tensor) {
  WeightRef out;
  out.owned = std::make_shared<Tensor>(std::move(tensor));
  out.view = out.owned->view();
  return out;
}

// A 2-D (or 1-D) tensor with rows and columns exchanged. Plain types keep their dtype; block types,
// whose blocks run along rows, become f32.
Tensor Transposed(const TensorView& tensor) {
  const int64_t rows = tensor.shape.ndim() == 1 ? 1 : tensor.shape[0];
  const int64_t cols = tensor.cols();
  const DTypeInfo& info = InfoOf(tensor.dtype);
  Tensor decoded;
  TensorView source = tensor;
  if (info.block_elems > 1 || tensor.dtype == DType::kAprQ8) {
    decoded = Tensor(DType::kF32, tensor.shape);
    DecodeTensor(tensor, decoded.f32());
    source = decoded.view();
  }
  const size_t size = InfoOf(source.dtype).block_bytes;
  Tensor out(source.dtype, tensor.shape.ndim() == 1 ? tensor.shape : Shape{cols, rows});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      std::memcpy(out.mutable_bytes().data() + static_cast<size_t>(c * rows + r) * size,
                  source.bytes.data() + static_cast<size_t>(r * cols + c) * size, size);
    }
  }
  return out;
}

// Rows of `tensor` in the order given, copied as they stand.
Tensor GatherRows(const TensorView& tensor, const std::vector<int64_t>& rows, const Shape& shape) {
  Tensor out(tensor.dtype, shape);
  const size_t stride = tensor.row_bytes();
  std::byte* to = out.mutable_bytes().data();
  for (const int64_t row : rows) {
    std::memcpy(to, tensor.bytes.data() + static_cast<size_t>(row) * stride, stride);
    to += stride;
  }
  return out;
}

// A vector seen as one element per row, so that row operations hold for biases too.
TensorView AsColumn(const TensorView& tensor) {
  return tensor.shape.ndim() == 1 ? TensorView{tensor.dtype, Shape{tensor.shape[0], 1}, tensor.bytes} : tensor;
}

class Applier {
 public:
  Applier(const ModelConfig& config, const std::vector<SlotKey>& keys, const TensorView& tensor)
      : config_(config), keys_(keys), tensor_(tensor) {}

  std::map<SlotKey, WeightRef> Run(Transform transform) {
    switch (transform) {
      case Transform::kNone: SplitRows(tensor_); break;
      case Transform::kRopeRows: RopeRows(); break;
      case Transform::kPlusOne: PlusOne(); break;
      case Transform::kTransposed: TransposedParts(); break;
      case Transform::kPerHeadInterleaved: PerHeadInterleaved(); break;
      case Transform::kHeadByHead: break;  // several tensors make one slot: see the binder
      case Transform::kStackedExperts: Stacked(false, false); break;
      case Transform::kStackedExpertsTransposed: Stacked(true, false); break;
      case Transform::kStackedExpertsInterleaved: Stacked(false, true); break;
      case Transform::kStackedExpertsInterleavedTransposed: Stacked(true, true); break;
    }
    return std::move(out_);
  }

 private:
  Shape Expected(const SlotKey& key) const { return SlotShape(config_, key); }

  void Whole(const SlotKey& key, const TensorView& view) {
    const Shape expected = Expected(key);
    if (!SameMatrix(view.shape, expected)) WrongShape(key, view.shape, expected);
    WeightRef weight;
    weight.view = {view.dtype, expected, view.bytes};
    out_[key] = std::move(weight);
  }

  // One slot as it stands, or several, one below the other.
  void SplitRows(const TensorView& tensor) {
    if (keys_.size() == 1) return Whole(keys_[0], tensor);
    int64_t total = 0;
    for (const SlotKey& key : keys_) total += Expected(key)[0];
    const TensorView rows = AsColumn(tensor);
    if (rows.shape.ndim() != 2 || rows.shape[0] != total) {
      throw Error(ErrorCode::kModelLoad, fmt::format("needs {} rows for its {} parts, the file has {}", total,
                                                     keys_.size(), tensor.shape.ToString()));
    }
    int64_t first = 0;
    for (const SlotKey& key : keys_) {
      const int64_t count = Expected(key)[0];
      TensorView part = rows.Rows(first, count);
      if (tensor.shape.ndim() == 1) part.shape = Shape{count};
      Whole(key, part);
      first += count;
    }
  }

  void RopeRows() {
    Whole(keys_[0], tensor_);
    WeightRef& weight = out_[keys_[0]];
    const int64_t rotary = config_.ropes.empty() ? config_.head_dim : config_.ropes[0].table.rotary_dim;
    const int64_t rows = weight.view.shape[0];
    const std::vector<int32_t> order = RopeRowOrder(rows, HeadsOf(config_, keys_[0].slot), rotary);
    if (weight.view.shape.ndim() == 2) {
      weight.row_order = std::make_shared<const std::vector<int32_t>>(order);
      return;
    }
    const std::vector<int64_t> gather(order.begin(), order.end());
    weight = Own(GatherRows(AsColumn(weight.view), gather, weight.view.shape));
  }

  void PlusOne() {
    Whole(keys_[0], tensor_);
    out_[keys_[0]].add = -1;
  }

  void TransposedParts() {
    const Tensor turned = Transposed(tensor_);
    SplitRows(turned.view());
    // The parts are views of `turned`: give each its own copy.
    for (auto& [key, weight] : out_) weight = Copy(weight.view);
  }

  static WeightRef Copy(const TensorView& view) {
    Tensor copy(view.dtype, view.shape);
    std::memcpy(copy.mutable_bytes().data(), view.bytes.data(), view.bytes.size());
    return Own(std::move(copy));
  }

  // Row of part p, head h, element d is h * parts * D + p * D + d.
  void PerHeadInterleaved() {
    const TensorView rows = AsColumn(tensor_);
    const auto parts = static_cast<int64_t>(keys_.size());
    const int64_t heads = config_.num_heads;
    const int64_t dim = config_.head_dim;
    if (rows.rows() != heads * parts * dim) {
      throw Error(ErrorCode::kModelLoad, fmt::format("needs {} rows, the file has {}", heads * parts * dim, tensor_.shape.ToString()));
    }
    for (int64_t p = 0; p < parts; ++p) {
      const SlotKey& key = keys_[static_cast<size_t>(p)];
      std::vector<int64_t> gather;
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < dim; ++d) gather.push_back((h * parts + p) * dim + d);
      }
      CheckWidth(key, rows);
      out_[key] = Own(GatherRows(rows, gather, Expected(key)));
    }
  }

  // Rows that are copied as they stand must be as wide as those of the slot.
  void CheckWidth(const SlotKey& key, const TensorView& rows) const {
    const Shape expected = Expected(key);
    const int64_t width = expected.ndim() == 1 ? 1 : expected[1];
    if (rows.shape.num_elements() != rows.rows() * width) WrongShape(key, tensor_.shape, expected);
  }

  // [E, ...]: cuts expert after expert and treats each as one tensor.
  void Stacked(bool transposed, bool interleaved) {
    const int64_t experts = config_.moe.experts;
    if (tensor_.shape.ndim() < 2 || tensor_.shape[0] != experts) {
      throw Error(ErrorCode::kModelLoad, fmt::format("needs {} experts, the file has {}", experts, tensor_.shape.ToString()));
    }
    const Shape inner(tensor_.shape.dims().subspan(1));
    const size_t stride = tensor_.bytes.size() / static_cast<size_t>(experts);
    for (int64_t e = 0; e < experts; ++e) {
      const TensorView one{tensor_.dtype, inner, tensor_.bytes.subspan(static_cast<size_t>(e) * stride, stride)};
      std::vector<SlotKey> keys = keys_;
      for (SlotKey& key : keys) key.expert = static_cast<int>(e);
      Applier expert(config_, keys, one);
      if (interleaved) expert.InterleavedRows(transposed);
      else if (transposed) expert.TransposedParts();
      else expert.SplitRows(one);
      out_.merge(expert.out_);
    }
  }

  // Rows (or, transposed, columns) gate, up, gate, up ...
  void InterleavedRows(bool transposed) {
    Tensor turned;
    TensorView rows = AsColumn(tensor_);
    if (transposed && tensor_.shape.ndim() == 2) {
      turned = Transposed(tensor_);
      rows = turned.view();
    }
    const auto parts = static_cast<int64_t>(keys_.size());
    for (int64_t p = 0; p < parts; ++p) {
      const SlotKey& key = keys_[static_cast<size_t>(p)];
      const Shape expected = Expected(key);
      if (rows.rows() != parts * expected[0]) WrongShape(key, tensor_.shape, expected);
      CheckWidth(key, rows);
      std::vector<int64_t> gather;
      for (int64_t r = 0; r < expected[0]; ++r) gather.push_back(r * parts + p);
      out_[key] = Own(GatherRows(rows, gather, expected));
    }
  }

  const ModelConfig& config_;
  const std::vector<SlotKey>& keys_;
  const TensorView tensor_;
  std::map<SlotKey, WeightRef> out_;
};

}  // namespace

std::map<SlotKey, WeightRef> ApplyTransform(Transform transform, const ModelConfig& config,
                                            const std::vector<SlotKey>& keys, const TensorView& tensor) {
  const bool flat = tensor.dtype == DType::kAprQ8 || (tensor.dtype == DType::kAprQ4 && tensor.cols() % InfoOf(DType::kAprQ4).block_elems != 0);
  if (!flat) return Applier(config, keys, tensor).Run(transform);
  // One scale for the whole tensor, or blocks across rows: there are no rows to point at.
  auto decoded = std::make_shared<Tensor>(DType::kF32, tensor.shape);
  DecodeTensor(tensor, decoded->f32());
  std::map<SlotKey, WeightRef> out = Applier(config, keys, decoded->view()).Run(transform);
  for (auto& [key, weight] : out) {
    if (weight.owned == nullptr) weight.owned = decoded;
  }
  return out;
}

std::vector<float> ReadSlot(const WeightRef& weight) { return ReadWeightF32(weight); }

}  // namespace apr
