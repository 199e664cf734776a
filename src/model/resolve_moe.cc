// See resolve_moe.h. Sources: transformers configuration_{mixtral,qwen2_moe,qwen3_moe,olmoe,gpt_oss,
// deepseek_v2,deepseek_v3}.py; llama.cpp src/llama-model.cpp for GGUF.
#include "model/resolve_moe.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace apr {
namespace {

constexpr int64_t kMaxExperts = 65536;      // of one layer, and of the whole model
constexpr int64_t kMaxExpertWidth = int64_t{1} << 24;

const ConfigKey kExperts{"num_experts|num_local_experts|n_routed_experts", "expert_count", "num_experts"};
const ConfigKey kTopK{"num_experts_per_tok|experts_per_token", "expert_used_count", "num_experts_per_tok"};
const ConfigKey kExpertFfn{"moe_intermediate_size", "expert_feed_forward_length", "moe_intermediate_size"};
const ConfigKey kSharedFfn{"shared_expert_intermediate_size", "expert_shared_feed_forward_length"};
const ConfigKey kSharedCount{"n_shared_experts", "expert_shared_count"};
const ConfigKey kNormalize{"norm_topk_prob", "expert_weights_norm", "norm_topk_prob"};
const ConfigKey kScaling{"routed_scaling_factor", "expert_weights_scale"};
const ConfigKey kGroups{"n_group", "expert_group_count"};
const ConfigKey kTopGroups{"topk_group", "expert_group_used_count"};
const ConfigKey kTopKMethod{"topk_method"};
const ConfigKey kFirstDense{"first_k_dense_replace", "leading_dense_block_count"};
const ConfigKey kSparseStep{"decoder_sparse_step"};
const ConfigKey kMlpOnly{"mlp_only_layers"};

class MoeResolver {
 public:
  MoeResolver(ConfigReader& reader, const Architecture& arch, ModelConfig& config) : reader_(reader), arch_(arch), c_(config) {}

  void Run() {
    MoeSpec& m = c_.moe;
    m.experts = Size("moe_experts", kExperts, kMaxExperts);
    if (m.experts * c_.num_layers > kMaxExperts) {
      throw Error(ErrorCode::kModelLoad, fmt::format("{} experts in {} layers are more than {}", m.experts, c_.num_layers, kMaxExperts),
                  {.file = reader_.file().path(), .tensor = "num_experts"});
    }
    m.top_k = Size("moe_top_k", kTopK, m.experts);
    m.expert_ffn = arch_.expert_ffn_is_intermediate && !reader_.Has(kExpertFfn) ? c_.ffn_size : Size("moe_expert_ffn", kExpertFfn, kMaxExpertWidth);
    m.scoring = arch_.moe_scoring;
    m.router_bias = arch_.moe_router_bias;
    m.correction = arch_.moe_correction;
    m.expert_bias = arch_.moe_expert_bias;
    m.group_by_top2 = arch_.moe_group_by_top2;
    reader_.NoteRule("moe_scoring", m.scoring, "the architecture");
    Normalize();
    Shared();
    Groups();
    Layers();
    if (arch_.moe_scoring != "softmax_after_top_k") return;
    c_.swiglu_limit = reader_.Real({"swiglu_limit"}).value_or(7.0);
    c_.swiglu_alpha = reader_.Real({"swiglu_alpha"}).value_or(1.702);
    reader_.NoteRule("swiglu", fmt::format("limit {} alpha {}", c_.swiglu_limit, c_.swiglu_alpha), "config.json, or the constants of models/gpt_oss");
  }

 private:
  int64_t Size(const char* field, const ConfigKey& key, int64_t limit) {
    const int64_t value = reader_.RequiredSize(key, limit);
    reader_.Note(field, value);
    return value;
  }

  void Normalize() {
    MoeSpec& m = c_.moe;
    m.normalize = arch_.moe_normalize.present;
    if (m.scoring == "softmax_after_top_k") return;
    // llama.cpp renormalises Qwen3-MoE and not Qwen2-MoE or OLMoE, without a key in the file.
    if (reader_.is_gguf() && !reader_.Has(kNormalize)) {
      if (arch_.name == "qwen3_moe") m.normalize = true;
      return reader_.NoteRule("moe_norm_topk", m.normalize ? "true" : "false", "the architecture's GGUF files");
    }
    if (!arch_.moe_normalize.key.empty() || arch_.name == "deepseek_v2") {
      // DeepSeek-V2's code in transformers reads norm_topk_prob and never uses it.
      const auto flag = reader_.Bool(kNormalize);
      if (flag && arch_.name != "deepseek_v2") m.normalize = *flag;
    }
    reader_.Note("moe_norm_topk", m.normalize ? "true" : "false", reader_.last_origin());
  }

  void Shared() {
    MoeSpec& m = c_.moe;
    if (arch_.shared_gated) {
      m.shared_ffn = Size("moe_shared_ffn", kSharedFfn, kMaxExpertWidth);
      m.shared_gated = true;
    } else if (arch_.moe == MoeRule::kAfterDense) {
      m.shared_ffn = reader_.Int(kSharedCount).value_or(0) * m.expert_ffn;
      reader_.Note("moe_shared_ffn", m.shared_ffn);
      m.shared_bias = c_.up_bias;
    }
    m.scaling = reader_.Real(kScaling).value_or(1);
  }

  void Groups() {
    MoeSpec& m = c_.moe;
    if (arch_.moe != MoeRule::kAfterDense) return;
    m.groups = std::max<int64_t>(1, reader_.Int(kGroups).value_or(1));
    m.top_groups = std::max<int64_t>(1, reader_.Int(kTopGroups).value_or(m.groups));
    const std::string method = reader_.Text(kTopKMethod).value_or("");
    // DeepSeek-V2's "greedy" chooses among all experts, whatever the groups; V3 does not read the key.
    if (method == "greedy" && arch_.name == "deepseek_v2") m.groups = m.top_groups = 1;
    reader_.NoteRule("moe_groups", fmt::format("{} of {}", m.top_groups, m.groups), "n_group, topk_group, topk_method");
  }

  void Layers() {
    const int64_t first = arch_.moe == MoeRule::kAfterDense ? reader_.Int(kFirstDense).value_or(0) : 0;
    const int64_t step = arch_.moe == MoeRule::kSparseStep ? reader_.Int(kSparseStep).value_or(1) : 1;
    std::vector<double> dense;
    if (arch_.moe == MoeRule::kSparseStep) dense = reader_.Reals(kMlpOnly).value_or(std::vector<double>());
    std::string list;
    for (int64_t i = 0; i < c_.num_layers; ++i) {
      const bool listed = std::find(dense.begin(), dense.end(), static_cast<double>(i)) != dense.end();
      const bool moe = i >= first && !listed && step > 0 && (i + 1) % step == 0;
      c_.layers[static_cast<size_t>(i)].moe = moe;
      if (moe) list += fmt::format("{}{}", list.empty() ? "" : ",", i);
    }
    reader_.NoteRule("moe_layers", list.empty() ? "none" : list, "first_k_dense_replace, decoder_sparse_step, mlp_only_layers");
  }

  ConfigReader& reader_;
  const Architecture& arch_;
  ModelConfig& c_;
};

}  // namespace

void ResolveMoe(ConfigReader& reader, const Architecture& arch, ModelConfig& config) {
  if (arch.moe != MoeRule::kNone) MoeResolver(reader, arch, config).Run();
}

void ResolveLatent(ConfigReader& reader, ModelConfig& c) {
  const auto size = [&](const char* field, const ConfigKey& key) {
    const int64_t value = reader.RequiredSize(key, kMaxExpertWidth);
    reader.Note(field, value);
    return value;
  };
  LatentSpec& m = c.latent;
  m.q_rank = reader.Int({"q_lora_rank", "attention.q_lora_rank"}).value_or(0);
  reader.NoteRule("latent_q_rank", std::to_string(m.q_rank), "q_lora_rank, 0 where absent");
  m.kv_rank = size("latent_kv_rank", {"kv_lora_rank", "attention.kv_lora_rank"});
  m.rope_dim = size("latent_rope_dim", {"qk_rope_head_dim", "rope.dimension_count"});
  if (reader.is_gguf()) {
    const int64_t key = size("head_dim", {"", "attention.key_length_mla|attention.key_length"});
    m.nope_dim = key - m.rope_dim;
    c.v_head_dim = size("v_head_dim", {"", "attention.value_length_mla|attention.value_length"});
  } else {
    m.nope_dim = size("latent_nope_dim", {"qk_nope_head_dim"});
    c.v_head_dim = size("v_head_dim", {"v_head_dim"});
  }
  c.head_dim = m.nope_dim + m.rope_dim;
  c.num_kv_heads = c.num_heads;
  reader.Ignore("qk_head_dim");
  reader.Ignore("head_dim");
  reader.Ignore("num_key_value_heads");
  // Of a file for attention in the compressed space: one key/value head of that width.
  for (const char* key : {"attention.head_count_kv", "attention.key_length", "attention.value_length"}) reader.IgnoreGguf(key);
  if (m.nope_dim < 1) throw Error(ErrorCode::kModelLoad, "qk_nope_head_dim must be positive", {.file = reader.file().path()});
}

}  // namespace apr
