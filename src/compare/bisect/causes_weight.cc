// Causes in how an engine loads weights: the right bytes in the wrong place or order.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "compare/bisect/diagnose.h"
#include "model/transform.h"
#include "op/embedding/embedding.h"
#include "op/linear/linear.h"
#include "op/norm/norm.h"

namespace apr::bisect {
namespace {

using Replaced = std::map<SlotKey, WeightRef>;
constexpr int64_t kLargestCopy = 64 << 20;  // elements of a matrix that is laid out anew

WeightRef WithRows(const WeightRef& weight, const std::vector<int32_t>& order) {
  WeightRef out = weight;
  auto rows = std::make_shared<std::vector<int32_t>>(order);
  if (weight.row_order) {
    for (int32_t& row : *rows) row = (*weight.row_order)[static_cast<size_t>(row)];
  }
  out.row_order = std::move(rows);
  return out;
}

WeightRef FromValues(std::vector<float> values, const WeightRef& like) {
  auto tensor = std::make_shared<Tensor>(DType::kF32, like.view.shape);
  std::ranges::copy(values, tensor->f32().begin());
  WeightRef out;
  out.view = tensor->view();
  out.owned = tensor;
  out.source = like.source;
  return out;
}

std::vector<int32_t> Inverse(const std::vector<int32_t>& order) {
  std::vector<int32_t> out(order.size());
  for (size_t i = 0; i < order.size(); ++i) out[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
  return out;
}

class WeightCauses {
 public:
  explicit WeightCauses(Diagnosis& d) : d_(d) {}

  void Run() {
    FindNodes();
    if (nodes_.empty()) return;
    for (const auto& group : Groups()) {
      Swapped(group);
      OtherLayer(group);
      Orders(group);
      Transposed(group);
      Zeroed(group);
    }
    if (!d_.explained()) Fused();
    if (!d_.explained()) Scaled();
  }

 private:
  struct Place {
    const Node* node = nullptr;
    SlotKey slot;
    WeightRef weight;
    std::string name;
  };

  // The weights that a failing part of the stage reads.
  void FindNodes() {
    const std::vector<std::string> failing = FailingParts();
    for (const int index : d_.cone()) {
      const Node& node = d_.graph().nodes[static_cast<size_t>(index)];
      const bool reads = node.op == &LinearOp() || node.op == &NormOp() || node.op == &EmbeddingOp();
      if (!reads || node.weights.empty() || !d_.model().present[static_cast<size_t>(node.weights[0])]) continue;
      if (!failing.empty() && std::ranges::find(failing, node.name) == failing.end()) continue;
      const auto id = static_cast<size_t>(node.weights[0]);
      nodes_.push_back({&node, d_.model().slots[id], d_.model().bound.weights[id], d_.graph().weights[id].name});
    }
  }

  // Names of the nodes that make those parts of the stage that are wrong; empty: it has one part.
  std::vector<std::string> FailingParts() {
    std::vector<std::string> out;
    if (d_.stage().parts.size() < 2) return out;
    const auto made = d_.evaluator().Evaluate(d_.base(), d_.index());
    const RecordedStage* recorded = d_.evaluator().run().Find(d_.stage().Path());
    if (!made || recorded->values.size() != made->values.size()) return out;
    int64_t column = 0;
    for (const ValueId part : d_.stage().parts) {
      const int64_t width = d_.graph().values[static_cast<size_t>(part)].width;
      double sum = 0, total = 0;
      for (int64_t r = 0; r < made->rows; ++r) {
        for (int64_t i = 0; i < width; ++i) {
          const auto at = static_cast<size_t>(r * made->width + column + i);
          const double difference = made->values[at] - recorded->values[at];
          sum += difference * difference;
          total += made->values[at] * made->values[at];
        }
      }
      column += width;
      if (!(std::sqrt(sum / std::max(total, 1e-300)) > d_.before().floor)) continue;
      out.push_back(d_.graph().nodes[static_cast<size_t>(d_.graph().values[static_cast<size_t>(part)].producer)].name);
    }
    return out;
  }

  // All wrong weights at once, then one by one.
  std::vector<std::vector<Place>> Groups() const {
    std::vector<std::vector<Place>> out;
    if (nodes_.size() > 1) out.push_back(nodes_);
    for (const Place& place : nodes_) out.push_back({place});
    return out;
  }

  static std::string Names(const std::vector<Place>& group) {
    std::string out;
    for (const Place& place : group) out += (out.empty() ? "" : ", ") + place.name;
    return out;
  }

  void Attempt(const char* name, const std::string& detail, const std::vector<Place>& group, const Replaced& replaced, const std::string& fix, int rank) {
    if (d_.explained() || replaced.empty()) return;
    Hypothesis h{.name = name, .detail = Names(group) + " " + detail, .a = nullptr, .b = nullptr, .tensor = group.front().name, .fix = fix, .rank = rank, .variation = d_.base()};
    h.variation.model = WithWeights(d_.model(), replaced);
    d_.Try(std::move(h));
  }

  void Swapped(const std::vector<Place>& group) {
    if (group.size() != 1) return;
    for (const auto& [key, slot] : d_.slots().slots) {
      if (key.layer != group[0].slot.layer || key == group[0].slot || !Same(slot.weight, group[0].weight)) continue;
      Attempt("swapped_tensors", fmt::format("is read from {}", HfName(*d_.model().architecture, key)), group, {{group[0].slot, slot.weight}},
              "load each tensor into its own place", 1);
    }
  }

  void OtherLayer(const std::vector<Place>& group) {
    if (group.size() != nodes_.size()) return;
    for (int layer = 0; layer < d_.model().config.num_layers; ++layer) {
      Replaced replaced;
      for (const Place& place : group) {
        if (place.slot.layer < 0 || place.slot.layer == layer) continue;
        const auto it = d_.slots().slots.find({place.slot.slot, layer, place.slot.expert});
        if (it != d_.slots().slots.end() && Same(it->second.weight, place.weight)) replaced[place.slot] = it->second.weight;
      }
      Attempt("layer_order", fmt::format("is that of layer {}", layer), group, replaced, "load each layer's tensors into that layer", 1);
    }
  }

  static bool Same(const WeightRef& x, const WeightRef& y) { return x.rows() == y.rows() && x.cols() == y.cols(); }

  void Orders(const std::vector<Place>& group) {
    const ModelConfig& c = d_.model().config;
    for (const int64_t heads : {c.num_heads, c.num_kv_heads, int64_t{1}}) {
      for (const bool own : {true, false}) {
        for (const bool inverse : {false, true}) {
          Replaced replaced;
          for (const Place& place : group) {
            if (place.slot.slot != Slot::kQ && place.slot.slot != Slot::kK) continue;
            const int64_t n = own ? HeadsOf(c, place.slot.slot) : heads;
            if (n < 1 || place.weight.rows() % n != 0 || (place.weight.rows() / n) % 2 != 0) continue;
            const int64_t dim = place.weight.rows() / n;
            const int64_t part = c.ropes.empty() || !own ? dim : std::min(dim, c.ropes[0].table.rotary_dim);
            const std::vector<int32_t> order = RopeRowOrder(place.weight.rows(), n, part);
            replaced[place.slot] = WithRows(place.weight, inverse ? Inverse(order) : order);
          }
          Attempt("rope_permutation", own ? "has its rows in the other rope order" : fmt::format("is permuted for {} heads", heads), group, replaced,
                  "permute the rows of q and k for the rope style in use", 1);
        }
      }
    }
    for (const int shift : {1, -1}) {
      Replaced replaced;
      for (const Place& place : group) {
        const auto rows = static_cast<int32_t>(place.weight.rows());
        if (place.weight.view.shape.ndim() != 2 || rows < 2) continue;
        std::vector<int32_t> order(static_cast<size_t>(rows));
        for (int32_t r = 0; r < rows; ++r) order[static_cast<size_t>(r)] = (r + shift + rows) % rows;
        replaced[place.slot] = WithRows(place.weight, order);
      }
      Attempt("shifted_rows", fmt::format("is read {:+} rows off", shift), group, replaced, "read the tensor from its own offset", 2);
    }
  }

  void Transposed(const std::vector<Place>& group) {
    for (const bool reshaped : {false, true}) {
      Replaced replaced;
      for (const Place& place : group) {
        const int64_t rows = place.weight.rows(), cols = place.weight.cols();
        if (place.node->op != &LinearOp() || rows * cols > kLargestCopy || (!reshaped && rows != cols)) continue;
        const std::vector<float> values = ReadSlot(place.weight);
        std::vector<float> turned(values.size());
        // Square: W^T. Else the bytes of [out, in] read as [in, out].
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t k = 0; k < cols; ++k) turned[static_cast<size_t>(r * cols + k)] = values[static_cast<size_t>(k * rows + r)];
        }
        replaced[place.slot] = FromValues(std::move(turned), place.weight);
      }
      Attempt("transposed", "is used transposed", group, replaced, "load the matrix as [out, in]", reshaped ? 2 : 1);
    }
  }

  void Zeroed(const std::vector<Place>& group) {
    Replaced replaced;
    for (const Place& place : group) {
      const int64_t count = place.weight.view.shape.num_elements();
      if (count > kLargestCopy) continue;
      replaced[place.slot] = FromValues(std::vector<float>(static_cast<size_t>(count), 0.0F), place.weight);
    }
    Attempt("zeroed_tensor", "is all zeros", group, replaced, "load the tensor", 1);
  }

  // Parts of a fused projection cut in another order, or head by head.
  void Fused() {
    std::vector<SlotKey> keys;
    const int layer = d_.stage().layer;
    if (d_.stage().name == "qkv_matmul") keys = {{Slot::kQ, layer}, {Slot::kK, layer}, {Slot::kV, layer}};
    if (d_.stage().name == "ffn_gate" || d_.stage().name == "ffn_up") keys = {{Slot::kGate, layer}, {Slot::kUp, layer}};
    std::vector<const BoundSlot*> parts;
    int64_t rows = 0, cols = 0;
    for (const SlotKey& key : keys) {
      const auto it = d_.slots().slots.find(key);
      if (it == d_.slots().slots.end() || it->second.weight.view.shape.ndim() != 2) return;
      parts.push_back(&it->second);
      rows += it->second.weight.rows();
      cols = it->second.weight.cols();
    }
    if (parts.empty() || rows * cols > kLargestCopy) return;
    std::vector<float> fused;
    for (const BoundSlot* part : parts) {
      const std::vector<float> values = ReadSlot(part->weight);
      fused.insert(fused.end(), values.begin(), values.end());
    }
    const ModelConfig& c = d_.model().config;
    const bool qkv = parts.size() == 3;
    const int64_t units = qkv ? c.num_kv_heads : rows / 2;  // groups of rows that interleaving keeps together
    for (const bool from_interleaved : {true, false}) {
      // order[i]: row of the canonical [q; k; v] that stands at row i when laid out group by group.
      std::vector<int64_t> order;
      for (int64_t u = 0; u < units; ++u) {
        int64_t first = 0;
        for (const BoundSlot* part : parts) {
          const int64_t per = part->weight.rows() / units;
          for (int64_t r = 0; r < per; ++r) order.push_back(first + u * per + r);
          first += part->weight.rows();
        }
      }
      if (static_cast<int64_t>(order.size()) != rows) return;
      std::vector<float> laid(fused.size());
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t to = from_interleaved ? r : order[static_cast<size_t>(r)];
        const int64_t from = from_interleaved ? order[static_cast<size_t>(r)] : r;
        std::copy_n(fused.begin() + from * cols, cols, laid.begin() + to * cols);
      }
      AttemptLaid(keys, parts, laid, cols, "rows are interleaved where they should lie part by part, or the reverse");
    }
    if (!qkv) return;
    std::vector<size_t> turn = {0, 1, 2};
    while (std::next_permutation(turn.begin(), turn.end())) {
      std::vector<float> laid;
      for (const size_t p : turn) {
        const std::vector<float> values = ReadSlot(parts[p]->weight);
        laid.insert(laid.end(), values.begin(), values.end());
      }
      AttemptLaid(keys, parts, laid, cols, fmt::format("parts are cut in the order {} {} {}", "qkv"[turn[0]], "qkv"[turn[1]], "qkv"[turn[2]]));
    }
  }

  void AttemptLaid(const std::vector<SlotKey>& keys, const std::vector<const BoundSlot*>& parts, const std::vector<float>& laid, int64_t cols, const std::string& detail) {
    Replaced replaced;
    int64_t first = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      const int64_t n = parts[p]->weight.rows();
      replaced[keys[p]] = FromValues({laid.begin() + first * cols, laid.begin() + (first + n) * cols}, parts[p]->weight);
      first += n;
    }
    Attempt("fused_layout", detail, nodes_, replaced, "cut the fused tensor as A's architecture lays it out", 2);
  }

  // Where in a row of the stage the results of a node lie; the whole row if it makes none of the parts itself.
  std::pair<int64_t, int64_t> Columns(const Node& node, int64_t width) const {
    int64_t column = 0;
    for (const ValueId part : d_.stage().parts) {
      const auto& value = d_.graph().values[static_cast<size_t>(part)];
      if (&d_.graph().nodes[static_cast<size_t>(value.producer)] == &node) return {column, column + value.width};
      column += value.width;
    }
    return {0, width};
  }

  void Scaled() {
    const auto made = d_.evaluator().Evaluate(d_.base(), d_.index());
    const RecordedStage* recorded = d_.evaluator().run().Find(d_.stage().Path());
    if (!made || nodes_.size() != 1 || recorded->values.size() != made->values.size()) return;
    double cross = 0, squares = 0;
    const auto [first, last] = Columns(*nodes_[0].node, made->width);
    for (size_t i = 0; i < made->values.size(); ++i) {
      const int64_t column = static_cast<int64_t>(i) % made->width;
      if (column < first || column >= last) continue;
      cross += made->values[i] * recorded->values[i];
      squares += made->values[i] * made->values[i];
    }
    const double factor = cross / squares;
    if (!std::isfinite(factor)) return;
    Hypothesis h{.name = "scaled_tensor", .detail = fmt::format("{} times {}", nodes_[0].name, Shortest(factor)), .a = 1, .b = factor, .tensor = nodes_[0].name,
                 .fix = "load the tensor with its own scale", .rank = 3, .variation = d_.base()};
    const std::string target = nodes_[0].node->name;
    h.variation.rules.emplace_back([target, factor](const NodeCall& call, std::vector<double>& out) {
      if (call.node.name != target) return false;
      for (double& v : out) v *= factor;
      return true;
    });
    d_.Try(std::move(h));
  }

  Diagnosis& d_;
  std::vector<Place> nodes_;
};

}  // namespace

void TryWeightCauses(Diagnosis& d) { WeightCauses(d).Run(); }

}  // namespace apr::bisect
