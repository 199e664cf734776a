// See shown_model.h.
#include "compare/bisect/shown_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace apr::bisect {
namespace {

class Reader {
 public:
  Reader(RecordedRun& run, const Architecture& architecture) : run_(run) { out_.architecture = &architecture; }

  std::optional<ShownModel> Run() {
    if (!Sizes()) return std::nullopt;
    Descriptor();
    for (int layer = 0; layer < out_.config.num_layers; ++layer) Layer(layer);
    const std::string last = fmt::format("layer-{}/post_ffn_residual", out_.config.num_layers - 1);
    NormWeight({Slot::kFinalNorm, -1, -1}, last, "final_norm");
    out_.config.norm_offset = 0;  // part of the weights that were read off
    return std::move(out_);
  }

 private:
  static std::string In(int layer, const char* stage) { return fmt::format("layer-{}/{}", layer, stage); }

  int64_t Width(const std::string& name) {
    const RecordedStage* stage = run_.Has(name) ? run_.Find(name) : nullptr;
    return stage == nullptr || stage->shape.ndim() < 2 ? 0 : stage->shape.cols();
  }
  int64_t FirstWidth(const char* stage) {
    for (int layer = 0; layer < out_.config.num_layers; ++layer) {
      if (const int64_t width = Width(In(layer, stage)); width > 0) return width;
    }
    return 0;
  }

  bool Sizes() {
    ModelConfig& c = out_.config;
    for (const std::string& name : run_.Names()) {
      const auto parsed = ParseStageName(name);
      if (parsed && parsed->layer != kWholeModel) c.num_layers = std::max<int64_t>(c.num_layers, static_cast<int64_t>(parsed->layer) + 1);
    }
    for (const char* stage : {"embedding", "attn_norm", "attn_out", "post_ffn_residual"}) {
      if (c.hidden_size == 0) c.hidden_size = FirstWidth(stage);
    }
    for (const char* stage : {"attn_scores", "attn_softmax"}) {
      for (int layer = 0; layer < c.num_layers && c.num_heads == 0; ++layer) {
        const RecordedStage* scores = run_.Has(In(layer, stage)) ? run_.Find(In(layer, stage)) : nullptr;
        if (scores != nullptr && scores->shape.ndim() == 3) c.num_heads = scores->shape[0];
      }
    }
    const int64_t q = FirstWidth("q_post_rope"), k = FirstWidth("k_post_rope"), out = FirstWidth("attention");
    if (c.num_layers == 0 || c.hidden_size == 0 || c.num_heads == 0 || q == 0 || k == 0 || out == 0 || q % c.num_heads != 0) return false;
    c.head_dim = q / c.num_heads;
    c.num_kv_heads = std::max<int64_t>(1, k / c.head_dim);
    c.v_head_dim = out / c.num_heads;
    if (c.num_heads % c.num_kv_heads != 0 || c.head_dim % 2 != 0) return false;
    c.vocab_size = std::max<int64_t>(1, Width("lm_head"));
    c.ffn_size = std::max<int64_t>(1, FirstWidth("ffn_up"));
    c.max_positions = std::numeric_limits<int32_t>::max();
    return FirstWidth("qkv_matmul") == q + k + c.num_kv_heads * c.v_head_dim || FirstWidth("qkv_matmul") == 0;
  }

  bool Any(const char* stage) {
    for (int layer = 0; layer < out_.config.num_layers; ++layer) {
      if (run_.Has(In(layer, stage))) return true;
    }
    return false;
  }

  // What the architecture's table row says and what the stages that are there say.
  void Descriptor() {
    ModelConfig& c = out_.config;
    const Architecture& a = *out_.architecture;
    c.architecture = a.name;
    c.layer_norm = a.layer_norm;
    c.norm_eps = 1e-6;
    c.norm_has_bias = a.norm_has_bias;
    c.pre_norm = Any("attn_norm");
    c.post_norm = Any("post_attn_norm");
    c.qk_norm = Any("q_norm") ? a.qk_norm == ModelConfig::QkNorm::kNone ? ModelConfig::QkNorm::kPerHead : a.qk_norm : ModelConfig::QkNorm::kNone;
    c.mlp = Any("ffn_gate") ? MlpKind::kGated : MlpKind::kPlain;
    c.activation = a.activation;
    c.parallel_residual = !Any("post_attn_residual");
    c.shared_parallel_norm = c.parallel_residual && !Any("ffn_norm");
    c.attention_scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    c.q_bias = c.k_bias = c.v_bias = true;
    RopeSpec rope;
    rope.table = {.rotary_dim = c.head_dim, .theta = 10000};
    rope.adjacent = a.adjacent_rope;
    c.ropes = {rope};
    c.layers.resize(static_cast<size_t>(c.num_layers));
  }

  void Put(const SlotKey& key, const std::vector<double>& values) {
    auto tensor = std::make_shared<Tensor>(DType::kF64, Shape{static_cast<int64_t>(values.size())});
    std::ranges::copy(values, tensor->f64().begin());
    BoundSlot slot;
    slot.weight.view = tensor->view();
    slot.weight.owned = tensor;
    slot.weight.source = "read off the run";
    out_.slots.slots[key] = std::move(slot);
  }

  void Layer(int layer) {
    const ModelConfig& c = out_.config;
    const std::string before = layer == 0 ? "layer-0/embedding" : In(layer - 1, "post_ffn_residual");
    NormWeight({Slot::kAttnNorm, layer, -1}, before, In(layer, "attn_norm"));
    NormWeight({Slot::kFfnNorm, layer, -1}, c.parallel_residual ? before : In(layer, "post_attn_residual"), In(layer, "ffn_norm"));
    NormWeight({Slot::kPostAttnNorm, layer, -1}, In(layer, "attn_out"), In(layer, "post_attn_norm"));
    NormWeight({Slot::kPostFfnNorm, layer, -1}, In(layer, run_.Has(In(layer, "moe_ffn_out")) ? "moe_ffn_out" : "ffn_out"), In(layer, "post_ffn_norm"));
    Biases(layer);
  }

  // bias = what is added to every row alike.
  void Biases(int layer) {
    const RecordedStage* x = run_.Has(In(layer, "qkv_matmul")) ? run_.Find(In(layer, "qkv_matmul")) : nullptr;
    const RecordedStage* y = run_.Has(In(layer, "qkv_bias")) ? run_.Find(In(layer, "qkv_bias")) : nullptr;
    if (x == nullptr || y == nullptr || x->values.size() != y->values.size()) return;
    const auto width = static_cast<size_t>(x->shape.cols());
    std::vector<double> mean(width);
    for (size_t i = 0; i < x->values.size(); ++i) mean[i % width] += (y->values[i] - x->values[i]) * static_cast<double>(width) / static_cast<double>(x->values.size());
    const ModelConfig& c = out_.config;
    const auto q = mean.begin() + c.num_heads * c.head_dim, k = q + c.num_kv_heads * c.head_dim;
    Put({Slot::kQBias, layer, -1}, {mean.begin(), q});
    Put({Slot::kKBias, layer, -1}, {q, k});
    Put({Slot::kVBias, layer, -1}, {k, mean.end()});
  }

  // Weights (and bias of a layer norm) by least squares for each column, with the eps that leaves least over.
  void NormWeight(const SlotKey& key, const std::string& from, const std::string& to) {
    const RecordedStage* x = run_.Has(from) ? run_.Find(from) : nullptr;
    const RecordedStage* y = run_.Has(to) ? run_.Find(to) : nullptr;
    if (x == nullptr || y == nullptr || x->values.size() != y->values.size() || x->shape.ndim() != 2) return;
    const auto width = static_cast<size_t>(x->shape.cols());
    double best = std::numeric_limits<double>::infinity();
    std::vector<double> chosen;
    std::vector<double> shift;
    std::vector<double> candidates = {out_.config.norm_eps};
    if (!eps_known_) {
      for (int quarter = -48; quarter <= -3; ++quarter) candidates.push_back(std::pow(10.0, quarter / 4.0));
    }
    for (const double eps : candidates) {
      std::vector<double> weight, bias;
      const double left = Fit(*x, *y, width, eps, weight, bias);
      if (left >= 0.999 * best) continue;
      best = left;
      chosen = weight;
      shift = bias;
      if (!eps_known_) out_.config.norm_eps = eps;
    }
    Put(key, chosen);
    if (out_.config.norm_has_bias) {
      static constexpr std::pair<Slot, Slot> kBiasOf[] = {{Slot::kAttnNorm, Slot::kAttnNormBias}, {Slot::kFfnNorm, Slot::kFfnNormBias}, {Slot::kFinalNorm, Slot::kFinalNormBias}};
      for (const auto& [norm, its_bias] : kBiasOf) {
        if (key.slot == norm) Put({its_bias, key.layer, -1}, shift);
      }
    }
    eps_known_ = true;
  }

  double Fit(const RecordedStage& x, const RecordedStage& y, size_t width, double eps, std::vector<double>& weight, std::vector<double>& bias) const {
    const size_t rows = x.values.size() / width;
    std::vector<double> n(x.values.size());
    for (size_t r = 0; r < rows; ++r) {
      double mean = 0, squares = 0;
      for (size_t i = 0; i < width && out_.config.layer_norm; ++i) mean += x.values[r * width + i] / static_cast<double>(width);
      for (size_t i = 0; i < width; ++i) squares += std::pow(x.values[r * width + i] - mean, 2) / static_cast<double>(width);
      for (size_t i = 0; i < width; ++i) n[r * width + i] = (x.values[r * width + i] - mean) / std::sqrt(squares + eps);
    }
    weight.assign(width, 0);
    bias.assign(width, 0);
    double left = 0;
    for (size_t i = 0; i < width; ++i) {
      double sn = 0, sy = 0, nn = 0, ny = 0;
      for (size_t r = 0; r < rows; ++r) {
        const double a = n[r * width + i], b = y.values[r * width + i];
        sn += a;
        sy += b;
        nn += a * a;
        ny += a * b;
      }
      const auto count = static_cast<double>(rows);
      if (out_.config.norm_has_bias) {
        const double det = nn * count - sn * sn;
        weight[i] = det > 0 ? (ny * count - sn * sy) / det : 1;
        bias[i] = (sy - weight[i] * sn) / count;
      } else {
        weight[i] = nn > 0 ? ny / nn : 1;
      }
      for (size_t r = 0; r < rows; ++r) left += std::pow(y.values[r * width + i] - weight[i] * n[r * width + i] - bias[i], 2);
    }
    return left;
  }

  RecordedRun& run_;
  ShownModel out_;
  bool eps_known_ = false;
};

}  // namespace

std::optional<ShownModel> ReadShownModel(RecordedRun& run, const std::string& architecture) {
  const Architecture* known = FindByModelType(architecture);
  if (known == nullptr) known = FindByModelType("llama");
  if (known == nullptr || known->latent_attention) return std::nullopt;
  return Reader(run, *known).Run();
}

}  // namespace apr::bisect
