// See transform.h.
#include "model/transform.h"

#include <fmt/format.h>


#include "base/error.h"
#include "model/stored_rows.h"
#include "op/context.h"

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

// A vector seen as one element per row, so that row operations hold for biases too.
StoredRows AsColumn(const StoredRows& tensor) { return tensor.shape().ndim() == 1 ? tensor.As({tensor.shape()[0], 1}) : tensor; }

class Applier {
 public:
  Applier(const ModelConfig& config, const std::vector<SlotKey>& keys, const StoredRows& tensor)
      : config_(config), keys_(keys), tensor_(tensor) {}

  std::map<SlotKey, WeightRef> Run(Transform transform) {
    switch (transform) {
      case Transform::kNone: SplitRows(); break;
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

  void Whole(const SlotKey& key, const StoredRows& rows) {
    const Shape expected = Expected(key);
    if (!SameMatrix(rows.shape(), expected)) WrongShape(key, rows.shape(), expected);
    out_[key] = rows.As(expected).InPlace();
  }

  // One slot as it stands, or several, one below the other.
  void SplitRows() {
    if (keys_.size() == 1) return Whole(keys_[0], tensor_);
    const bool vector = tensor_.shape().ndim() == 1;
    const StoredRows rows = AsColumn(tensor_);
    RequireParts(rows.shape().ndim() == 2 ? rows.rows() : -1, "rows");
    int64_t first = 0;
    for (const SlotKey& key : keys_) {
      const int64_t count = Expected(key)[0];
      Whole(key, rows.Part(first, count, vector ? Shape{count} : Shape{count, rows.shape().cols()}));
      first += count;
    }
  }

  void RequireParts(int64_t there, const char* what) const {
    int64_t total = 0;
    for (const SlotKey& key : keys_) total += Expected(key)[0];
    if (there == total) return;
    throw Error(ErrorCode::kModelLoad, fmt::format("needs {} {} for its {} parts, the file has {}", total, what, keys_.size(), tensor_.shape().ToString()));
  }

  void RopeRows() {
    Whole(keys_[0], tensor_);
    WeightRef& weight = out_[keys_[0]];
    const int64_t rotary = config_.ropes.empty() ? config_.head_dim : config_.ropes[0].table.rotary_dim;
    const Shape shape = weight.view.shape;
    const std::vector<int32_t> order = RopeRowOrder(shape[0], HeadsOf(config_, keys_[0].slot), rotary);
    if (shape.ndim() == 2) {
      weight.row_order = std::make_shared<const std::vector<int32_t>>(order);
      weight.grid = nullptr;
      return;
    }
    weight = AsColumn(tensor_.As(shape)).Gathered({order.begin(), order.end()}, shape);
  }

  void PlusOne() {
    Whole(keys_[0], tensor_);
    out_[keys_[0]].add = -1;
  }

  // The parts lie side by side as columns.
  void TransposedParts() {
    if (tensor_.shape().ndim() == 1) return SplitRows();
    if (tensor_.shape().ndim() != 2) WrongShape(keys_[0], tensor_.shape(), Expected(keys_[0]));
    const Shape turned{tensor_.shape()[1], tensor_.shape()[0]};
    if (keys_.size() > 1) RequireParts(turned[0], "columns");
    int64_t first = 0;
    for (const SlotKey& key : keys_) {
      const Shape expected = Expected(key);
      const Shape part{keys_.size() > 1 ? expected[0] : turned[0], turned[1]};
      if (!SameMatrix(part, expected)) WrongShape(key, part, expected);
      out_[key] = tensor_.Turned(first, 1, expected);
      first += part[0];
    }
  }

  // Row of part p, head h, element d is h * parts * D + p * D + d.
  void PerHeadInterleaved() {
    const StoredRows rows = AsColumn(tensor_);
    const auto parts = static_cast<int64_t>(keys_.size());
    const int64_t heads = config_.num_heads;
    const int64_t dim = config_.head_dim;
    if (rows.rows() != heads * parts * dim) {
      throw Error(ErrorCode::kModelLoad, fmt::format("needs {} rows, the file has {}", heads * parts * dim, tensor_.shape().ToString()));
    }
    for (int64_t p = 0; p < parts; ++p) {
      const SlotKey& key = keys_[static_cast<size_t>(p)];
      std::vector<int64_t> gather;
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t d = 0; d < dim; ++d) gather.push_back((h * parts + p) * dim + d);
      }
      CheckWidth(key, rows.shape().num_elements(), rows.rows());
      out_[key] = rows.Gathered(std::move(gather), Expected(key));
    }
  }

  // Rows that are copied as they stand must be as wide as those of the slot.
  void CheckWidth(const SlotKey& key, int64_t elements, int64_t rows) const {
    const Shape expected = Expected(key);
    const int64_t width = expected.ndim() == 1 ? 1 : expected[1];
    if (elements != rows * width) WrongShape(key, tensor_.shape(), expected);
  }

  // [E, ...]: cuts expert after expert and treats each as one tensor.
  void Stacked(bool transposed, bool interleaved) {
    const int64_t experts = config_.moe.experts;
    if (experts < 1 || tensor_.shape().ndim() < 2 || tensor_.shape()[0] != experts) {
      throw Error(ErrorCode::kModelLoad, fmt::format("needs {} experts, the file has {}", experts, tensor_.shape().ToString()));
    }
    const Shape inner(tensor_.shape().dims().subspan(1));
    const int64_t rows = tensor_.rows() / experts;
    for (int64_t e = 0; e < experts; ++e) {
      std::vector<SlotKey> keys = keys_;
      for (SlotKey& key : keys) key.expert = static_cast<int>(e);
      Applier expert(config_, keys, tensor_.Part(e * rows, rows, inner));
      if (interleaved) expert.InterleavedRows(transposed);
      else if (transposed) expert.TransposedParts();
      else expert.SplitRows();
      out_.merge(expert.out_);
    }
  }

  // Rows (or, transposed, columns) gate, up, gate, up ...
  void InterleavedRows(bool transposed) {
    const StoredRows rows = AsColumn(tensor_);
    const bool columns = transposed && tensor_.shape().ndim() == 2;
    const int64_t there = columns ? rows.shape()[1] : rows.rows();
    const auto parts = static_cast<int64_t>(keys_.size());
    for (int64_t p = 0; p < parts; ++p) {
      const SlotKey& key = keys_[static_cast<size_t>(p)];
      const Shape expected = Expected(key);
      if (there != parts * expected[0]) WrongShape(key, tensor_.shape(), expected);
      CheckWidth(key, rows.shape().num_elements(), there);
      std::vector<int64_t> gather;
      for (int64_t r = 0; r < expected[0]; ++r) gather.push_back(r * parts + p);
      out_[key] = columns ? rows.Turned(p, parts, expected) : rows.Gathered(std::move(gather), expected);
    }
  }

  const ModelConfig& config_;
  const std::vector<SlotKey>& keys_;
  const StoredRows tensor_;
  std::map<SlotKey, WeightRef> out_;
};

// One scale for the whole tensor, or blocks across rows: there are no rows to point at.
bool HasNoRows(const TensorInfo& info) {
  return info.dtype == DType::kAprQ8 || (info.dtype == DType::kAprQ4 && info.shape.cols() % InfoOf(DType::kAprQ4).block_elems != 0);
}

}  // namespace

std::map<SlotKey, WeightRef> ApplyTransform(Transform transform, const ModelConfig& config, const std::vector<SlotKey>& keys,
                                            const ModelFile& file, const TensorInfo& info) {
  const StoredRows rows(file, info);
  if (!HasNoRows(info)) return Applier(config, keys, rows).Run(transform);
  const StoredRows decoded = rows.Decoded();
  if (!IsStacked(transform)) return Applier(config, keys, decoded).Run(transform);
  // Every expert by itself would have the whole decoded.
  const auto whole = decoded.Hold();
  std::map<SlotKey, WeightRef> out = Applier(config, keys, decoded).Run(transform);
  for (auto& [key, weight] : out) weight.owned = weight.Hold();
  return out;
}

WeightRef TensorAsWeight(const ModelFile& file, const TensorInfo& info) {
  WeightRef out = StoredRows(file, info).InPlace();
  out.source = info.name;
  return out;
}

std::vector<float> ReadSlot(const WeightRef& weight) { return ReadWeightF32(weight); }

}  // namespace apr
