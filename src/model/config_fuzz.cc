// Fuzz target of the configuration: config.json to a resolved configuration, a graph and an inventory. Its
// mutator changes one value of the JSON at a time, so that the checks behind the parser are reached.
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "format/fuzz_support.h"
#include "model/builder.h"
#include "model/inventory.h"
#include "model/model.h"
#include "model/resolve.h"

namespace apr {
namespace {

// Larger models are refused nowhere, but building their graph takes longer than a fuzzer has.
constexpr int64_t kMaxLayers = 16, kMaxExperts = 64;

void Use(const std::string& text) {
  try {
    ModelFileParts parts;
    parts.container = Container::kSafetensors;
    parts.path = "fuzz/model.safetensors";
    auto config = std::make_shared<Json>(ParseJson(text, "fuzz/config.json"));
    if (!config->is_object()) return;
    parts.config = config;
    const ModelFile file(std::move(parts));
    const ResolvedConfig resolved = ResolveConfig(file);
    if (resolved.config.ToText().empty() || resolved.config.ToJson().empty()) std::abort();
    if (resolved.config.num_layers > kMaxLayers || resolved.config.moe.experts > kMaxExperts) return;
    const Inventory inventory = TakeInventory(file, *resolved.architecture, resolved.config);
    if (inventory.missing.empty()) std::abort();  // there is no tensor
    BuildGraph(resolved.config, [&](const SlotKey& key) { return HfName(*resolved.architecture, key); }).graph.Verify();
  } catch (const Error& error) {
    // An error of ours to be shown, never a bug of ours.
    if (error.code() == ErrorCode::kInternal) std::abort();
  }
}

}  // namespace
}  // namespace apr

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  apr::Use(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}

#ifdef APR_LIBFUZZER
namespace {

apr::Json RandomValue(apr::FuzzRandom& random) {
  static const char* const kTexts[] = {"llama", "qwen2", "qwen3_moe", "gemma3_text", "gpt2", "deepseek_v3", "gpt_oss", "phi3", "gpt_neox", "mixtral",
                                       "linear", "dynamic", "yarn", "longrope", "llama3", "default", "silu", "gelu", "sliding_attention",
                                       "full_attention", "softmax", "sigmoid", "noaux_tc", "greedy"};
  switch (random.Below(8)) {
    case 0: return static_cast<int64_t>(random.Edge(64));
    case 1: return static_cast<int64_t>(random.Below(9));
    case 2: return -static_cast<int64_t>(random.Below(1 << 20));
    case 3: return static_cast<double>(random.Below(1000)) / 64;
    case 4: return random.Below(2) == 0 ? 1e300 : 1e-300;
    case 5: return kTexts[random.Below(std::size(kTexts))];
    case 6: return random.Below(2) == 0;
    default: return random.Below(2) == 0 ? apr::Json(nullptr) : apr::Json::array({1.0, 2, "full_attention"});
  }
}

// Changes a random member of a random object inside.
void MutateObject(apr::Json& object, apr::FuzzRandom& random, int depth) {
  static const char* const kKeys[] = {"rope_scaling", "rope_parameters", "layer_types", "sliding_window", "head_dim", "num_key_value_heads", "factor",
                                      "rope_type", "short_factor", "long_factor", "original_max_position_embeddings", "num_local_experts",
                                      "n_group", "topk_group", "q_lora_rank", "kv_lora_rank", "mlp_only_layers", "partial_rotary_factor"};
  if (object.empty() || random.Below(6) == 0) {
    object[kKeys[random.Below(std::size(kKeys))]] = RandomValue(random);
    return;
  }
  const auto member = std::next(object.begin(), static_cast<ptrdiff_t>(random.Below(object.size())));
  if (member->is_object() && depth < 4 && random.Below(2) == 0) return MutateObject(*member, random, depth + 1);
  if (random.Below(5) == 0) object.erase(member.key());
  else if (member->is_array() && !member->empty() && random.Below(2) == 0) (*member)[random.Below(member->size())] = RandomValue(random);
  else *member = RandomValue(random);
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  apr::FuzzRandom random(seed);
  apr::Json json = apr::Json::parse(data, data + size, nullptr, false);
  if (!json.is_object() || random.Below(5) == 0) return LLVMFuzzerMutate(data, size, max_size);
  MutateObject(json, random, 0);
  const std::string text = apr::DumpJson(json, -1);
  if (text.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, text.data(), text.size());
  return text.size();
}
#endif
