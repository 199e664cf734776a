// See architecture_names.h. Sources: the state dicts of transformers models/<name>/modeling_<name>.py;
// llama.cpp gguf-py/gguf/constants.py and tensor_mapping.py, convert_hf_to_gguf.py.
#include "model/architecture_names.h"

namespace apr {
namespace {

using enum Transform;

const std::vector<TensorRule> kGgufExperts = {
    {"blk.{L}.ffn_gate_inp.weight", {Slot::kRouter}},
    {"blk.{L}.ffn_gate_inp.bias", {Slot::kRouterBias}},
    {"blk.{L}.exp_probs_b.bias", {Slot::kRouterCorrection}},
    {"blk.{L}.ffn_gate_exps.weight", {Slot::kExpertGate}, kStackedExperts},
    {"blk.{L}.ffn_gate_exps.bias", {Slot::kExpertGateBias}, kStackedExperts},
    {"blk.{L}.ffn_up_exps.weight", {Slot::kExpertUp}, kStackedExperts},
    {"blk.{L}.ffn_up_exps.bias", {Slot::kExpertUpBias}, kStackedExperts},
    {"blk.{L}.ffn_down_exps.weight", {Slot::kExpertDown}, kStackedExperts},
    {"blk.{L}.ffn_down_exps.bias", {Slot::kExpertDownBias}, kStackedExperts},
    {"blk.{L}.ffn_gate_inp_shexp.weight", {Slot::kSharedRouter}},
    {"blk.{L}.ffn_gate_shexp.weight", {Slot::kSharedGate}},
    {"blk.{L}.ffn_gate_shexp.bias", {Slot::kSharedGateBias}},
    {"blk.{L}.ffn_up_shexp.weight", {Slot::kSharedUp}},
    {"blk.{L}.ffn_up_shexp.bias", {Slot::kSharedUpBias}},
    {"blk.{L}.ffn_down_shexp.weight", {Slot::kSharedDown}},
    {"blk.{L}.ffn_down_shexp.bias", {Slot::kSharedDownBias}},
};

std::vector<TensorRule> Joined(std::vector<TensorRule> a, const std::vector<TensorRule>& b) { return WithOverrides(a, b); }

}  // namespace

std::vector<TensorRule> GemmaFourNormNames() {
  return WithOverrides(LlamaNames(),
                       {{"model.layers.{L}.post_attention_layernorm.weight", {Slot::kPostAttnNorm}},
                        {"model.layers.{L}.pre_feedforward_layernorm.weight", {Slot::kFfnNorm}},
                        {"model.layers.{L}.post_feedforward_layernorm.weight", {Slot::kPostFfnNorm}}});
}

std::vector<TensorRule> MixtralNames() {
  return WithOverrides(LlamaNames(), {{"model.layers.{L}.block_sparse_moe.gate.weight", {Slot::kRouter}},
                                      {"model.layers.{L}.block_sparse_moe.experts.{E}.w1.weight", {Slot::kExpertGate}},
                                      {"model.layers.{L}.block_sparse_moe.experts.{E}.w3.weight", {Slot::kExpertUp}},
                                      {"model.layers.{L}.block_sparse_moe.experts.{E}.w2.weight", {Slot::kExpertDown}}});
}

std::vector<TensorRule> QwenMoeNames() {
  return WithOverrides(LlamaNames(), {{"model.layers.{L}.mlp.gate.weight", {Slot::kRouter}},
                                      {"model.layers.{L}.mlp.experts.{E}.gate_proj.weight", {Slot::kExpertGate}},
                                      {"model.layers.{L}.mlp.experts.{E}.up_proj.weight", {Slot::kExpertUp}},
                                      {"model.layers.{L}.mlp.experts.{E}.down_proj.weight", {Slot::kExpertDown}},
                                      {"model.layers.{L}.mlp.shared_expert_gate.weight", {Slot::kSharedRouter}},
                                      {"model.layers.{L}.mlp.shared_expert.gate_proj.weight", {Slot::kSharedGate}},
                                      {"model.layers.{L}.mlp.shared_expert.up_proj.weight", {Slot::kSharedUp}},
                                      {"model.layers.{L}.mlp.shared_expert.down_proj.weight", {Slot::kSharedDown}}});
}

std::vector<TensorRule> Phi3Names() {
  return WithOverrides(LlamaNames(), {{"model.layers.{L}.self_attn.qkv_proj.weight", {Slot::kQ, Slot::kK, Slot::kV}},
                                      {"model.layers.{L}.mlp.gate_up_proj.weight", {Slot::kGate, Slot::kUp}}});
}

std::vector<TensorRule> Gpt2Names() {
  return {{"transformer.wte.weight", {Slot::kTokenEmbedding}},
          {"transformer.wpe.weight", {Slot::kPositionEmbedding}},
          {"transformer.ln_f.weight", {Slot::kFinalNorm}},
          {"transformer.ln_f.bias", {Slot::kFinalNormBias}},
          {"lm_head.weight", {Slot::kHead}},
          {"transformer.h.{L}.ln_1.weight", {Slot::kAttnNorm}},
          {"transformer.h.{L}.ln_1.bias", {Slot::kAttnNormBias}},
          {"transformer.h.{L}.attn.c_attn.weight", {Slot::kQ, Slot::kK, Slot::kV}, kTransposed},
          {"transformer.h.{L}.attn.c_attn.bias", {Slot::kQBias, Slot::kKBias, Slot::kVBias}},
          {"transformer.h.{L}.attn.c_proj.weight", {Slot::kO}, kTransposed},
          {"transformer.h.{L}.attn.c_proj.bias", {Slot::kOBias}},
          {"transformer.h.{L}.ln_2.weight", {Slot::kFfnNorm}},
          {"transformer.h.{L}.ln_2.bias", {Slot::kFfnNormBias}},
          {"transformer.h.{L}.mlp.c_fc.weight", {Slot::kUp}, kTransposed},
          {"transformer.h.{L}.mlp.c_fc.bias", {Slot::kUpBias}},
          {"transformer.h.{L}.mlp.c_proj.weight", {Slot::kDown}, kTransposed},
          {"transformer.h.{L}.mlp.c_proj.bias", {Slot::kDownBias}}};
}

std::vector<TensorRule> GptNeoxNames() {
  return {{"gpt_neox.embed_in.weight", {Slot::kTokenEmbedding}},
          {"gpt_neox.final_layer_norm.weight", {Slot::kFinalNorm}},
          {"gpt_neox.final_layer_norm.bias", {Slot::kFinalNormBias}},
          {"embed_out.weight", {Slot::kHead}},
          {"gpt_neox.layers.{L}.input_layernorm.weight", {Slot::kAttnNorm}},
          {"gpt_neox.layers.{L}.input_layernorm.bias", {Slot::kAttnNormBias}},
          {"gpt_neox.layers.{L}.attention.query_key_value.weight", {Slot::kQ, Slot::kK, Slot::kV}, kPerHeadInterleaved},
          {"gpt_neox.layers.{L}.attention.query_key_value.bias", {Slot::kQBias, Slot::kKBias, Slot::kVBias}, kPerHeadInterleaved},
          {"gpt_neox.layers.{L}.attention.dense.weight", {Slot::kO}},
          {"gpt_neox.layers.{L}.attention.dense.bias", {Slot::kOBias}},
          {"gpt_neox.layers.{L}.post_attention_layernorm.weight", {Slot::kFfnNorm}},
          {"gpt_neox.layers.{L}.post_attention_layernorm.bias", {Slot::kFfnNormBias}},
          {"gpt_neox.layers.{L}.mlp.dense_h_to_4h.weight", {Slot::kUp}},
          {"gpt_neox.layers.{L}.mlp.dense_h_to_4h.bias", {Slot::kUpBias}},
          {"gpt_neox.layers.{L}.mlp.dense_4h_to_h.weight", {Slot::kDown}},
          {"gpt_neox.layers.{L}.mlp.dense_4h_to_h.bias", {Slot::kDownBias}}};
}

std::vector<TensorRule> Olmo2Names() {
  return WithOverrides(LlamaNames(),
                       {{"model.layers.{L}.post_attention_layernorm.weight", {Slot::kPostAttnNorm}},
                        {"model.layers.{L}.post_feedforward_layernorm.weight", {Slot::kPostFfnNorm}}});
}

std::vector<TensorRule> Starcoder2Names() {
  return WithOverrides(LlamaNames(), {{"model.layers.{L}.mlp.c_fc.weight", {Slot::kUp}},
                                      {"model.layers.{L}.mlp.c_fc.bias", {Slot::kUpBias}},
                                      {"model.layers.{L}.mlp.c_proj.weight", {Slot::kDown}},
                                      {"model.layers.{L}.mlp.c_proj.bias", {Slot::kDownBias}}});
}

std::vector<TensorRule> StableLmNames() {
  return WithOverrides(LlamaNames(), {{"model.layers.{L}.self_attn.q_layernorm.norms.{E}.weight", {Slot::kQNorm}, kHeadByHead},
                                      {"model.layers.{L}.self_attn.k_layernorm.norms.{E}.weight", {Slot::kKNorm}, kHeadByHead}});
}

std::vector<TensorRule> GptOssNames() {
  return WithOverrides(
      LlamaNames(),
      {{"model.layers.{L}.self_attn.sinks", {Slot::kSinks}},
       {"model.layers.{L}.mlp.router.weight", {Slot::kRouter}},
       {"model.layers.{L}.mlp.router.bias", {Slot::kRouterBias}},
       {"model.layers.{L}.mlp.experts.gate_up_proj", {Slot::kExpertGate, Slot::kExpertUp}, kStackedExpertsInterleavedTransposed},
       {"model.layers.{L}.mlp.experts.gate_up_proj_bias", {Slot::kExpertGateBias, Slot::kExpertUpBias}, kStackedExpertsInterleaved},
       {"model.layers.{L}.mlp.experts.down_proj", {Slot::kExpertDown}, kStackedExpertsTransposed},
       {"model.layers.{L}.mlp.experts.down_proj_bias", {Slot::kExpertDownBias}, kStackedExperts},
       // As published: MXFP4, each with its scales beside it (format/packed_weights.h), not transposed.
       {"model.layers.{L}.mlp.experts.gate_up_proj_blocks", {Slot::kExpertGate, Slot::kExpertUp}, kStackedExpertsInterleaved, true},
       {"model.layers.{L}.mlp.experts.down_proj_blocks", {Slot::kExpertDown}, kStackedExperts, true}});
}

std::vector<TensorRule> DeepseekNames() {
  return WithOverrides(QwenMoeNames(),
                       {{"model.layers.{L}.self_attn.q_a_proj.weight", {Slot::kQDown}},
                        {"model.layers.{L}.self_attn.q_a_proj.bias", {Slot::kQDownBias}},
                        {"model.layers.{L}.self_attn.q_a_layernorm.weight", {Slot::kQDownNorm}},
                        {"model.layers.{L}.self_attn.q_b_proj.weight", {Slot::kQUp}},
                        {"model.layers.{L}.self_attn.kv_a_proj_with_mqa.weight", {Slot::kKvDown}},
                        {"model.layers.{L}.self_attn.kv_a_proj_with_mqa.bias", {Slot::kKvDownBias}},
                        {"model.layers.{L}.self_attn.kv_a_layernorm.weight", {Slot::kKvDownNorm}},
                        {"model.layers.{L}.self_attn.kv_b_proj.weight", {Slot::kKvUp}},
                        {"model.layers.{L}.mlp.gate.e_score_correction_bias", {Slot::kRouterCorrection}},
                        {"model.layers.{L}.mlp.shared_experts.gate_proj.weight", {Slot::kSharedGate}},
                        {"model.layers.{L}.mlp.shared_experts.gate_proj.bias", {Slot::kSharedGateBias}},
                        {"model.layers.{L}.mlp.shared_experts.up_proj.weight", {Slot::kSharedUp}},
                        {"model.layers.{L}.mlp.shared_experts.up_proj.bias", {Slot::kSharedUpBias}},
                        {"model.layers.{L}.mlp.shared_experts.down_proj.weight", {Slot::kSharedDown}},
                        {"model.layers.{L}.mlp.shared_experts.down_proj.bias", {Slot::kSharedDownBias}}});
}

std::vector<TensorRule> GgufRopeRows() {
  return WithOverrides(GgufNames(), {{"blk.{L}.attn_q.weight", {Slot::kQ}, kRopeRows},
                                     {"blk.{L}.attn_q.bias", {Slot::kQBias}, kRopeRows},
                                     {"blk.{L}.attn_k.weight", {Slot::kK}, kRopeRows},
                                     {"blk.{L}.attn_k.bias", {Slot::kKBias}, kRopeRows}});
}

std::vector<TensorRule> GgufRopeRowsMoe() { return Joined(GgufRopeRows(), kGgufExperts); }

std::vector<TensorRule> GgufPlusOneNorms() {
  return WithOverrides(GgufNames(), {{"output_norm.weight", {Slot::kFinalNorm}, kPlusOne},
                                     {"blk.{L}.attn_norm.weight", {Slot::kAttnNorm}, kPlusOne},
                                     {"blk.{L}.attn_q_norm.weight", {Slot::kQNorm}, kPlusOne},
                                     {"blk.{L}.attn_k_norm.weight", {Slot::kKNorm}, kPlusOne},
                                     {"blk.{L}.post_attention_norm.weight", {Slot::kPostAttnNorm}, kPlusOne},
                                     {"blk.{L}.ffn_norm.weight", {Slot::kFfnNorm}, kPlusOne},
                                     {"blk.{L}.post_ffw_norm.weight", {Slot::kPostFfnNorm}, kPlusOne}});
}

std::vector<TensorRule> GgufMoe() { return Joined(GgufNames(), kGgufExperts); }

std::vector<TensorRule> GgufFusedQkv() {
  return WithOverrides(GgufNames(), {{"blk.{L}.attn_qkv.weight", {Slot::kQ, Slot::kK, Slot::kV}},
                                     {"blk.{L}.attn_qkv.bias", {Slot::kQBias, Slot::kKBias, Slot::kVBias}}});
}

std::vector<TensorRule> GgufPhi3() {
  return Joined(GgufFusedQkv(), {{"blk.{L}.ffn_up.weight", {Slot::kGate, Slot::kUp}}});
}

std::vector<TensorRule> GgufGptOss() {
  return Joined(GgufMoe(), {{"blk.{L}.attn_sinks.weight", {Slot::kSinks}},
                            {"blk.{L}.post_attention_norm.weight", {Slot::kFfnNorm}}});
}

std::vector<TensorRule> GgufDeepseek() {
  return Joined(GgufMoe(), {{"blk.{L}.attn_q_a.weight", {Slot::kQDown}},
                            {"blk.{L}.attn_q_a.bias", {Slot::kQDownBias}},
                            {"blk.{L}.attn_q_a_norm.weight", {Slot::kQDownNorm}},
                            {"blk.{L}.attn_q_b.weight", {Slot::kQUp}},
                            {"blk.{L}.attn_kv_a_mqa.weight", {Slot::kKvDown}},
                            {"blk.{L}.attn_kv_a_mqa.bias", {Slot::kKvDownBias}},
                            {"blk.{L}.attn_kv_a_norm.weight", {Slot::kKvDownNorm}},
                            {"blk.{L}.attn_kv_b.weight", {Slot::kKvUp}}});
}

}  // namespace apr
