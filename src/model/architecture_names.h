// Name tables of the architectures, built from the shared ones of tensor_table.h.
#pragma once

#include <vector>

#include "model/tensor_table.h"

namespace apr {

// Hugging Face.
std::vector<TensorRule> GemmaFourNormNames();  // Gemma 2 and 3
std::vector<TensorRule> MixtralNames();
std::vector<TensorRule> QwenMoeNames();        // Qwen2-MoE, Qwen3-MoE, OLMoE
std::vector<TensorRule> Phi3Names();
std::vector<TensorRule> Gpt2Names();
std::vector<TensorRule> GptNeoxNames();
std::vector<TensorRule> Olmo2Names();
std::vector<TensorRule> Starcoder2Names();
std::vector<TensorRule> StableLmNames();
std::vector<TensorRule> GptOssNames();
std::vector<TensorRule> DeepseekNames();

// GGUF.
std::vector<TensorRule> GgufRopeRows();        // rows of q and k in adjacent-pair order
std::vector<TensorRule> GgufRopeRowsMoe();
std::vector<TensorRule> GgufPlusOneNorms();    // norm weights stored as w + 1
std::vector<TensorRule> GgufMoe();
std::vector<TensorRule> GgufFusedQkv();        // attn_qkv
std::vector<TensorRule> GgufPhi3();            // attn_qkv, and gate and up in ffn_up
std::vector<TensorRule> GgufGptOss();
std::vector<TensorRule> GgufDeepseek();

}  // namespace apr
