// See gguf_metadata.h. Keys: ggml-org/ggml docs/gguf.md and llama.cpp gguf-py/gguf/constants.py; which
// model needs which: llama.cpp conversion/*.py; which engine reads which: llama.cpp src/models/*.cpp.
#include "model/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/export_config.h"
#include "model/gguf_extension.h"
#include "model/resolve.h"

namespace apr {
namespace {

// Keys that exist in GGUF and that llama.cpp reads for these architectures only.
struct ReadBy {
  std::string_view key;
  std::string_view architectures;  // '|' between
};
constexpr ReadBy kReadBy[] = {
    {"attention.sliding_window", "gemma2|gemma3|gpt-oss"},
    {"attention.sliding_window_pattern", "gemma2|gemma3|gpt-oss"},
    {"attention.scale", "granite"},
    {"attention.clamp_kqv", ""},
    {"logit_scale", "granite|command-r"},
    {"residual_scale", "granite"},
    {"embedding_scale", "granite"},
    {"attn_logit_softcapping", "gemma2"},
    {"final_logit_softcapping", "gemma2|gemma3"},
    {"expert_weights_norm", "deepseek2"},
    {"expert_weights_scale", "deepseek2"},
};

bool IsIn(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const size_t end = list.find('|');
    if (list.substr(0, end) == name) return true;
    list = end == std::string_view::npos ? std::string_view() : list.substr(end + 1);
  }
  return false;
}

TensorToWrite FloatVector(std::string name, std::vector<float> values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return {std::move(name), DType::kF32, shape,
          [values = std::move(values)](const ByteSink& sink) { sink(std::as_bytes(std::span(values))); }};
}

std::vector<float> Narrowed(const std::vector<double>& values) { return {values.begin(), values.end()}; }

class Describer {
 public:
  Describer(const Model& model, const std::vector<TensorToWrite>& tensors)
      : c_(model.config()), arch_(model.architecture()), tensors_(tensors) {}

  GgufDescription Run() {
    if (arch_.gguf.empty()) {
      throw Error(ErrorCode::kModelLoad, fmt::format("GGUF has no architecture for {}", arch_.name), {.tensor = "general.architecture"});
    }
    out_.metadata.SetString("general.architecture", arch_.gguf);
    Sizes();
    Attention();
    Windows();
    Scales();
    Rope();
    if (c_.moe.experts > 0) Experts();
    if (c_.latent.kv_rank > 0) Latent();
    std::vector<std::string> extended = ExtendGguf(c_, arch_, out_.metadata, [&] { return Resolved(); });
    if (!extended.empty()) {
      out_.warnings.push_back(fmt::format("written as {}: other engines do not read it", fmt::join(extended, ", ")));
    }
    for (const std::string& key : ignored_) out_.warnings.push_back(fmt::format("llama.cpp does not read {} for this architecture", key));
    Unloadable();
    return std::move(out_);
  }

 private:
  // What other engines refuse whatever is written (llama.cpp src/models/deepseek2.cpp, olmoe.cpp).
  void Unloadable() {
    if (arch_.gguf == "deepseek2" && c_.latent.q_rank == 0 && c_.num_layers != 26 && c_.num_layers != 27) {
      out_.warnings.push_back("llama.cpp loads a deepseek2 without q_lora_rank only with 26 or 27 layers");
    }
    if (arch_.gguf == "olmoe" && c_.num_kv_heads != c_.num_heads) {
      out_.warnings.push_back("llama.cpp loads an olmoe only with as many kv heads as heads");
    }
  }

  std::string Key(std::string_view name) const { return fmt::format("{}.{}", arch_.gguf, name); }
  void U32(std::string_view name, int64_t value) { out_.metadata.SetU32(Key(name), static_cast<uint32_t>(value)); }
  void F32(std::string_view name, double value) {
    out_.metadata.SetF32(Key(name), static_cast<float>(value));
    Reads(name);
  }
  // Warns where the key would say nothing to llama.cpp.
  void Reads(std::string_view name) {
    for (const ReadBy& row : kReadBy) {
      if (row.key == name && !IsIn(row.architectures, arch_.gguf)) ignored_.push_back(Key(name));
    }
  }

  void Sizes() {
    U32("vocab_size", c_.vocab_size);
    U32("context_length", c_.max_positions);
    U32("embedding_length", c_.hidden_size);
    U32("block_count", c_.num_layers);
    U32("feed_forward_length", c_.ffn_size);
  }

  void Attention() {
    U32("attention.head_count", c_.num_heads);
    U32("attention.head_count_kv", c_.num_kv_heads);
    U32("attention.key_length", c_.head_dim);
    U32("attention.value_length", c_.v_head_dim);
    F32(c_.layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", c_.norm_eps);
    if (!arch_.parallel_residual.key.empty()) out_.metadata.SetBool(Key("use_parallel_residual"), c_.parallel_residual);
  }

  void Windows() {
    int64_t window = 0;
    std::vector<bool> windowed;
    for (const LayerSpec& layer : c_.layers) {
      window = std::max(window, layer.window);
      windowed.push_back(layer.window > 0);
    }
    // llama.cpp tells Phi-4 from Phi-3 by a window of 0.
    if (arch_.gguf == "phi3") U32("attention.sliding_window", window);
    if (window == 0) return;
    U32("attention.sliding_window", window);
    Reads("attention.sliding_window");
    if (arch_.window != WindowRule::kEveryNthFull) return;
    bool usual = true;
    for (size_t i = 0; i < windowed.size(); ++i) {
      usual = usual && windowed[i] == (static_cast<int64_t>(i + 1) % arch_.window_pattern != 0);
    }
    if (!usual) out_.metadata.SetBools(Key("attention.sliding_window_pattern"), windowed);
  }

  void Scales() {
    const double usual = c_.latent.score_scale / std::sqrt(static_cast<double>(c_.head_dim));
    // Gemma 2 and 3 have a key of their own in config.json and none in GGUF.
    const bool query_scalar = arch_.norm_offset != 0 && arch_.post_norm;
    if (!query_scalar && (arch_.gguf == "granite" || std::abs(c_.attention_scale / usual - 1) > 1e-12)) F32("attention.scale", c_.attention_scale);
    if (c_.qkv_clip != 0) F32("attention.clamp_kqv", c_.qkv_clip);
    if (arch_.gguf == "granite") F32("logit_scale", 1 / c_.logit_scale);
    else if (c_.logit_scale != 1) F32("logit_scale", c_.logit_scale);
    if (arch_.gguf == "granite" || c_.residual_scale != 1) F32("residual_scale", c_.residual_scale);
    const bool derived = arch_.scale_embedding_by_sqrt_hidden;
    if (!derived && (arch_.gguf == "granite" || c_.embedding_scale != 1)) F32("embedding_scale", c_.embedding_scale);
    if (arch_.gguf == "gemma2" || c_.attention_softcap != 0) F32("attn_logit_softcapping", c_.attention_softcap);
    if (arch_.gguf == "gemma2" || c_.logit_softcap != 0) F32("final_logit_softcapping", c_.logit_softcap);
  }

  void Rope() {
    if (c_.ropes.empty()) return;
    const RopeTableAttributes& t = c_.ropes[0].table;
    U32("rope.dimension_count", t.rotary_dim);
    F32("rope.freq_base", t.theta);
    if (c_.ropes.size() > 1) F32("rope.freq_base_swa", c_.ropes[1].table.theta);
    if (arch_.gguf == "command-r" && t.scaling == "none") out_.metadata.SetString(Key("rope.scaling.type"), "none");
    if (t.scaling == "linear" || t.scaling == "yarn" || t.scaling == "longrope") {
      out_.metadata.SetString(Key("rope.scaling.type"), t.scaling);
    }
    if (t.scaling == "linear" || t.scaling == "yarn") F32("rope.scaling.factor", t.factor);
    if (t.scaling == "yarn") Yarn(t);
    if (t.scaling == "longrope") LongRope(t);
    if (t.scaling == "llama3" || t.scaling == "factors") FrequencyFactors(t);
  }

  void Yarn(const RopeTableAttributes& t) {
    U32("rope.scaling.original_context_length", static_cast<int64_t>(t.original_context));
    F32("rope.scaling.yarn_beta_fast", t.beta_fast);
    F32("rope.scaling.yarn_beta_slow", t.beta_slow);
    // llama.cpp multiplies attn_factor with the magnitude that it computes itself: with the usual one,
    // or, where the scores are scaled too (DeepSeek), with 1.
    const bool scores = c_.latent.kv_rank > 0 && c_.latent.score_scale != 1;
    const double own = scores || t.factor <= 1 ? 1 : 0.1 * std::log(t.factor) + 1;
    if (std::abs(t.attention_factor / own - 1) > 1e-12) F32("rope.scaling.attn_factor", t.attention_factor / own);
    if (scores) F32("rope.scaling.yarn_log_multiplier", (std::sqrt(c_.latent.score_scale) - 1) / std::log(t.factor));
  }

  void LongRope(const RopeTableAttributes& t) {
    U32("rope.scaling.original_context_length", static_cast<int64_t>(t.original_context));
    F32("rope.scaling.attn_factor", t.attention_factor);
    if (!IsIn("llama|granite|phi3", arch_.gguf)) return;
    out_.rope_tensors.push_back(FloatVector("rope_factors_long.weight", Narrowed(t.long_factors)));
    out_.rope_tensors.push_back(FloatVector("rope_factors_short.weight", Narrowed(t.factors)));
  }

  // Llama 3's rule has no key: GGUF keeps the divisors that follow from it.
  void FrequencyFactors(const RopeTableAttributes& t) {
    if (!IsIn("llama|granite", arch_.gguf)) return;
    out_.rope_tensors.push_back(FloatVector("rope_freqs.weight", Narrowed(RopeFactorsOf(t, Slot::kRopeFactors))));
    if (t.scaling == "llama3") ExtendRope(t, false, out_.metadata);  // the rule itself, exactly
  }

  void Experts() {
    const MoeSpec& m = c_.moe;
    U32("expert_count", m.experts);
    U32("expert_used_count", m.top_k);
    if (!arch_.expert_ffn_is_intermediate || m.expert_ffn != c_.ffn_size || arch_.gguf == "gpt-oss") {
      U32("expert_feed_forward_length", m.expert_ffn);
    }
    if (m.shared_gated) U32("expert_shared_feed_forward_length", m.shared_ffn);
    if (arch_.moe != MoeRule::kAfterDense) return;
    U32("expert_shared_count", m.shared_ffn / m.expert_ffn);
    int64_t dense = 0;
    while (dense < c_.num_layers && !c_.layers[static_cast<size_t>(dense)].moe) ++dense;
    U32("leading_dense_block_count", dense);
    F32("expert_weights_scale", m.scaling);
    if (m.normalize) out_.metadata.SetBool(Key("expert_weights_norm"), true);
    U32("expert_gating_func", m.scoring == "sigmoid" ? 2 : 1);
    if (m.groups > 1) {
      U32("expert_group_count", m.groups);
      U32("expert_group_used_count", m.top_groups);
    }
  }

  void Latent() {
    if (c_.latent.q_rank > 0) U32("attention.q_lora_rank", c_.latent.q_rank);
    U32("attention.kv_lora_rank", c_.latent.kv_rank);
  }

  // What a reader of the file as planned would resolve.
  ModelConfig Resolved() const {
    ModelFileParts parts{.container = Container::kGguf, .path = "the GGUF to be written", .metadata = out_.metadata.list()};
    for (const TensorToWrite& tensor : tensors_) parts.tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
    ModelConfig config = ResolveConfig(ModelFile(std::move(parts))).config;
    const RopeTableAttributes* mine = c_.ropes.empty() ? nullptr : &c_.ropes[0].table;
    if (mine != nullptr && !out_.rope_tensors.empty()) {
      // The tensors are what the reader adds (Model::Load).
      RopeTableAttributes& t = config.ropes[0].table;
      if (t.scaling == "none") t.scaling = "factors";
      if (t.scaling == "factors") t.factors = mine->factors;
      if (t.scaling == "longrope" && t.factors.empty()) {
        const auto rounded = [](const std::vector<double>& v) {
          const std::vector<float> narrow = Narrowed(v);
          return std::vector<double>(narrow.begin(), narrow.end());
        };
        t.factors = rounded(mine->factors);
        t.long_factors = rounded(mine->long_factors);
      }
    }
    return config;
  }

  const ModelConfig& c_;
  const Architecture& arch_;
  const std::vector<TensorToWrite>& tensors_;
  std::vector<std::string> ignored_;
  GgufDescription out_;
};

}  // namespace

GgufDescription DescribeForGguf(const Model& model, const std::vector<TensorToWrite>& tensors) {
  return Describer(model, tensors).Run();
}

}  // namespace apr
