// See explain.h.
#include "model/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace apr {
namespace {

constexpr Explanation kExplanations[] = {
    {"E001", "bad magic", "The first bytes are those of no known container: GGUF begins with 'GGUF', .apr with 'APR' and a zero byte, safetensors with the length of its header and '{'.",
     "Check that the download is complete and no HTML page or Git LFS pointer; apr hex FILE --raw shows the bytes.", 4},
    {"E002", "checksum mismatch", "The checksum of an .apr header or footer is not what the bytes give: the file was changed or damaged after it was written.",
     "Fetch or convert the file again; apr validate names the checksum and both values.", 4},
    {"E003", "unsupported version", "The container's version is one that this program does not read: GGUF 2 and 3 and APR 2 are.",
     "Convert the file with a newer version of the program that wrote it.", 4},
    {"E004", "missing tensor", "The architecture needs a tensor that the file does not hold under any name it may have.",
     "apr validate lists every missing name; apr tree shows what is there. A shard may be absent, or the conversion dropped it.", 6},
    {"E005", "dimension mismatch", "A tensor's shape contradicts the configuration: vocab_size, hidden_size, heads or the feed-forward width.",
     "apr validate names tensor, shape and what the configuration needs; apr hex --contract shows how the stored shape is read.", 6},
    {"E006", "quantisation problem", "A quantised type that is unknown, a row that is no multiple of its block, or block scales that are NaN or infinite.",
     "apr validate finds bad scales; apr hex --blocks shows a block taken apart. Quantise again from the original weights.", 5},
    {"internal", "internal error", "The program did something wrong, whatever the input was.", "Report it with the command line and the file.", 1},
    {"usage", "wrong arguments", "A flag or argument is unknown, missing, out of range, or cannot be honoured for this file.", "apr COMMAND --help lists the flags.", 2},
    {"not_found", "not found", "The path does not exist or is not a file; a folder without model files counts as such. A name with a slash is a path first, never a download.",
     "Check the path; apr pull fetches models, apr list shows those at hand.", 3},
    {"invalid_format", "invalid format", "The bytes are not what the format demands. The message names file and offset, tensor or key.",
     "apr hex FILE --header and --raw show where; docs/formats describes every byte.", 4},
    {"validation_failed", "validation failed", "A check said no, or an output exists and --force was not given.", "The message or the JSON's 'passed' and findings say which.", 5},
    {"model_load_failed", "model cannot be loaded", "The file is well formed but is no model that this program computes: unknown architecture, missing tensor, wrong shape.",
     "apr architectures lists the known ones; apr validate says what is missing.", 6},
    {"io", "input or output failed", "The operating system refused to read or write: permissions, a full disk, a broken device.", "The message names the file and the system's reason.", 7},
    {"inference_failed", "inference failed", "The forward pass cannot be carried out: a token id outside the vocabulary, or more positions than the model has.", "Shorten the prompt or check the ids.", 8},
    {"not_built", "not built in", "This build or this machine lacks what was asked for by name; nothing else was used instead.", "apr devices lists what is there.", 9},
    {"network", "network failed", "A download could not be made or finished.", "Run the command again: finished parts are kept. --offline uses only what is there.", 10},
    {"http_not_found", "HTTP 404", "The server knows no such repository, revision or file.", "Check the spelling and the revision; private repositories need access.", 11},
    {"inconclusive", "inconclusive", "A comparison that can say neither yes nor no.", "The message says what is missing.", 12},
    {"cancelled", "interrupted", "The command was stopped by a signal; no half file is left.", "Run it again.", 130},
    {"F-DATA-QUALITY-001", "too many zeros", "More than half of an embedding or more than 80 % of a weight is zero: tensors that were allocated and never filled.",
     "Convert again from the original; compare with apr diff --values.", 5},
    {"F-DATA-QUALITY-002", "NaN or infinity", "An element is not a number: every result that depends on it is lost.", "The finding names the first element and its offset.", 5},
    {"F-DATA-QUALITY-003", "vanishing or constant weight", "The L2 norm of a weight is below 1e-6, or its largest and smallest element are the same.", "Convert again from the original.", 5},
    {"F-DATA-QUALITY-004", "empty embedding rows", "Rows in the middle of the vocabulary are zero: a shard or a part of the embedding is missing.", "Check that all shards were merged.", 5},
    {"F-DATA-QUALITY-005", "wrong element count", "A tensor has another number of elements than the configuration says.", "See E005.", 5},
    {"F-DATA-QUALITY-006", "bad block scale", "The scale of a quantised block is NaN or infinite, so that all its elements are.", "Quantise again; apr hex --blocks shows the block.", 5},
    {"F-DATA-QUALITY-007", "dead rows", "A weight has rows of nothing but zeros: outputs that never respond.", "Look for pruning, or for a part that was not copied.", 5},
};

struct SlotText {
  Slot slot;
  std::string_view text;
};
constexpr SlotText kSlots[] = {
    {Slot::kTokenEmbedding, "token embedding: one row per token, where the forward pass begins; also the output head of tied models"},
    {Slot::kPositionEmbedding, "position embedding: one row per position, added to the token's"},
    {Slot::kFinalNorm, "final norm: weight of the normalisation before the output head"},
    {Slot::kFinalNormBias, "bias of the final norm"},
    {Slot::kHead, "output head: turns the last hidden state into one logit per token"},
    {Slot::kHeadBias, "bias of the output head"},
    {Slot::kRopeFactors, "factors by which rotary frequencies are divided"},
    {Slot::kRopeFactorsLong, "factors of rotary frequencies for long contexts (longrope)"},
    {Slot::kRopeFactorsShort, "factors of rotary frequencies for short contexts (longrope)"},
    {Slot::kAttnNorm, "norm before attention"},
    {Slot::kAttnNormBias, "bias of the norm before attention"},
    {Slot::kQ, "query projection: hidden state to the queries of all heads"},
    {Slot::kQBias, "bias of the query projection"},
    {Slot::kK, "key projection: hidden state to the keys of the key/value heads"},
    {Slot::kKBias, "bias of the key projection"},
    {Slot::kV, "value projection: hidden state to the values of the key/value heads"},
    {Slot::kVBias, "bias of the value projection"},
    {Slot::kO, "output projection of attention: heads back to the hidden state"},
    {Slot::kOBias, "bias of the output projection of attention"},
    {Slot::kQNorm, "norm of the queries before rotation"},
    {Slot::kKNorm, "norm of the keys before rotation"},
    {Slot::kPostAttnNorm, "norm of attention's output before it is added to the residual"},
    {Slot::kSinks, "attention sinks: one learned logit per head that takes part in the softmax"},
    {Slot::kQDown, "latent attention: hidden state down to the rank of the queries"},
    {Slot::kQDownNorm, "latent attention: norm of the compressed queries"},
    {Slot::kQUp, "latent attention: compressed queries up to all heads"},
    {Slot::kKvDown, "latent attention: hidden state down to the compressed keys and values, and the shared rotary key"},
    {Slot::kKvDownNorm, "latent attention: norm of the compressed keys and values"},
    {Slot::kKvUp, "latent attention: compressed keys and values up to all heads"},
    {Slot::kFfnNorm, "norm before the feed-forward part"},
    {Slot::kFfnNormBias, "bias of the norm before the feed-forward part"},
    {Slot::kGate, "gate projection of the feed-forward part: what the activation is applied to"},
    {Slot::kGateBias, "bias of the gate projection"},
    {Slot::kUp, "up projection of the feed-forward part: hidden state to its width"},
    {Slot::kUpBias, "bias of the up projection"},
    {Slot::kDown, "down projection of the feed-forward part: back to the hidden state"},
    {Slot::kDownBias, "bias of the down projection"},
    {Slot::kPostFfnNorm, "norm of the feed-forward part's output before it is added to the residual"},
    {Slot::kRouter, "router: hidden state to one score per expert"},
    {Slot::kRouterBias, "bias of the router"},
    {Slot::kRouterCorrection, "correction added to the router's scores for choosing experts only"},
    {Slot::kSharedRouter, "gate of the shared expert"},
    {Slot::kSharedGate, "gate projection of the shared expert"},
    {Slot::kSharedUp, "up projection of the shared expert"},
    {Slot::kSharedDown, "down projection of the shared expert"},
    {Slot::kExpertGate, "gate projection of an expert"},
    {Slot::kExpertGateBias, "bias of an expert's gate projection"},
    {Slot::kExpertUp, "up projection of an expert"},
    {Slot::kExpertUpBias, "bias of an expert's up projection"},
    {Slot::kExpertDown, "down projection of an expert"},
    {Slot::kExpertDownBias, "bias of an expert's down projection"},
};

std::string OtherName(const Architecture& arch, Container naming, const TensorRule& rule, const NameMatch& match) {
  const Container other = naming == Container::kGguf ? Container::kSafetensors : Container::kGguf;
  for (const TensorRule& candidate : RulesFor(arch, other)) {
    if (std::ranges::find(candidate.slots, rule.slots.front()) != candidate.slots.end()) return ExpandName(candidate.name, match.layer, match.expert);
  }
  return "";
}

std::string Attention(const Architecture& a) {
  std::string out = a.latent_attention ? "latent (compressed keys and values)"
                    : a.single_kv_per_head ? "every head with its own key and value"
                                           : "heads may share keys and values (num_key_value_heads)";
  if (a.qkv_bias.present) out += ", with biases";
  else if (!a.qkv_bias.key.empty()) out += fmt::format(", biases by {}", a.qkv_bias.key);
  if (a.attention_sinks) out += ", with sinks";
  using Kind = ModelConfig::QkNorm;
  if (a.qk_norm == Kind::kPerHead) out += ", queries and keys normalised per head";
  if (a.qk_norm == Kind::kPerHeadOwnWeight) out += ", queries and keys normalised per head with a weight each";
  if (a.qk_norm == Kind::kFullWidth) out += ", queries and keys normalised over their whole width";
  return out;
}

std::string Positions(const Architecture& a) {
  if (a.learned_positions) return "learned position embedding";
  std::string out = a.adjacent_rope ? "rotary, adjacent pairs" : "rotary, split halves";
  if (a.default_rotary_part < 1) out += " of a part of the head";
  if (a.no_rope_layers) out += ", some layers without";
  if (a.local_rope_theta > 0) out += ", windowed layers with a base of their own";
  return out;
}

std::string Window(const Architecture& a) {
  switch (a.window) {
    case WindowRule::kNone: return "none: every layer sees the whole sequence";
    case WindowRule::kAll: return "sliding_window holds for every layer";
    case WindowRule::kQwen: return "sliding_window where use_sliding_window says so, by layer_types or max_window_layers";
    case WindowRule::kQwen2Moe: return "sliding_window where use_sliding_window says so, in every other layer or by layer_types";
    case WindowRule::kSwitched: return "sliding_window holds for every layer where use_sliding_window says so";
    case WindowRule::kWithoutRope: return "sliding_window where use_sliding_window says so, in layers that do not rotate or by layer_types";
    case WindowRule::kEveryNthFull: return fmt::format("all layers but one in {} are windowed, or layer_types", a.window_pattern);
  }
  return "";
}

std::string Experts(const Architecture& a) {
  switch (a.moe) {
    case MoeRule::kNone: return "none";
    case MoeRule::kEveryLayer: return fmt::format("in every layer, {} scores", a.moe_scoring);
    case MoeRule::kSparseStep: return fmt::format("every decoder_sparse_step-th layer, {} scores", a.moe_scoring);
    case MoeRule::kAfterDense: return fmt::format("from layer first_k_dense_replace on, {} scores", a.moe_scoring);
  }
  return "";
}

}  // namespace

std::span<const Explanation> AllExplanations() { return kExplanations; }

const Explanation* FindExplanation(std::string_view code) {
  for (const Explanation& e : kExplanations) {
    if (EqualNoCase(e.code, code)) return &e;
  }
  const bool number = !code.empty() && std::ranges::all_of(code, [](char c) { return c >= '0' && c <= '9'; });
  for (const Explanation& e : kExplanations) {
    if (number && !e.code.starts_with('E') && !e.code.starts_with('F') && std::to_string(e.exit_code) == code) return &e;
  }
  return nullptr;
}

std::string_view SlotMeaning(Slot slot) {
  const auto found = std::ranges::find(kSlots, slot, &SlotText::slot);
  return found == std::end(kSlots) ? std::string_view() : found->text;
}

std::vector<TensorMeaning> ExplainTensor(const std::string& name, const Architecture* only) {
  std::vector<TensorMeaning> out;
  for (const Architecture& arch : AllArchitectures()) {
    if (only != nullptr && &arch != only) continue;
    for (const Container naming : {Container::kSafetensors, Container::kGguf}) {
      for (const TensorRule& rule : RulesFor(arch, naming)) {
        const auto match = MatchRule(rule, naming, name);
        if (!match) continue;
        const auto same = std::ranges::find_if(out, [&](const TensorMeaning& m) { return m.naming == naming && m.slots == rule.slots; });
        if (same != out.end()) {
          same->architectures.emplace_back(arch.name);
        } else {
          out.push_back({rule.slots.front(), rule.slots, match->layer, match->expert, naming, OtherName(arch, naming, rule, *match), {std::string(arch.name)}});
        }
      }
    }
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> KernelClass(const Architecture& a) {
  std::string norm = a.layer_norm ? "layer norm" : "RMS norm";
  if (a.norm_offset != 0) norm += fmt::format(", weights multiply as w + {:g}", a.norm_offset);
  norm += a.pre_norm ? (a.post_norm ? ", before and after each part" : ", before each part") : ", after each part";
  std::string mlp = a.mlp == MlpKind::kGated ? "gated: down(act(gate) * up)" : "plain: down(act(up))";
  mlp += fmt::format(", {} where the file names no other", a.activation);
  std::string residual = a.parallel_residual.present ? "attention and feed-forward part side by side" : "one after the other";
  if (!a.parallel_residual.key.empty()) residual += fmt::format(" (by {})", a.parallel_residual.key);
  return {{"norm", norm},           {"attention", Attention(a)}, {"positions", Positions(a)}, {"window", Window(a)},
          {"feed_forward", mlp},    {"experts", Experts(a)},     {"residual", residual},
          {"head", a.tie_default ? "tied to the embedding unless the file says otherwise" : "own matrix unless the file ties it"}};
}

}  // namespace apr
