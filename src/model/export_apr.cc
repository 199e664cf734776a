// ExportApr of export_model.h. Keys: docs/formats/apr.md.
#include <algorithm>
#include <set>

#include "base/json.h"
#include "format/apr_header.h"
#include "format/model_writer.h"
#include "model/export_config.h"
#include "model/export_model.h"
#include "model/provenance.h"

namespace apr {
namespace {

// Keys of config.json that .apr spells in its own way, or that say nothing there. A file must not hold
// both spellings: readers of the older system then dropped all metadata.
constexpr std::string_view kOtherSpelling[] = {
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "num_hidden_layers", "n_layer",
    "num_attention_heads", "n_head", "num_key_value_heads", "n_embd", "n_positions", "n_ctx", "n_inner", "layer_norm_eps",
    "layer_norm_epsilon", "norm_epsilon", "tie_word_embeddings", "hidden_size", "intermediate_size", "vocab_size",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "bos_token_id", "eos_token_id", "pad_token_id",
    "num_local_experts", "n_routed_experts", "quantization_config"};

constexpr std::string_view kWrittenAnew[] = {"quantiz", "tokenizer", "chat_template", "apr.file.", "shard", "checksum"};

// Types that both readers of the older system know; the others have codes that mean something else to one.
DType StoredInApr(DType stored) {
  for (const DType known : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_K, DType::kQ6_K, DType::kAprQ4, DType::kAprQ8}) {
    if (stored == known) return stored;
  }
  return DType::kF32;
}

void SetJson(MetaBuilder& out, const std::string& key, const Json& value) {
  if (value.is_string()) out.SetString(key, value.get<std::string>());
  else if (value.is_boolean()) out.SetBool(key, value.get<bool>());
  else if (value.is_number_integer()) out.SetI64(key, value.get<int64_t>());
  else if (value.is_number()) out.SetF64(key, value.get<double>());
  else out.SetJsonText(key, DumpJson(value, -1));
}

void Configuration(const Model& model, MetaBuilder& out) {
  const ModelConfig& c = model.config();
  const Architecture& arch = model.architecture();
  out.SetString("model_type", arch.name);
  out.SetString("architecture", arch.name);
  out.SetString("hf_architecture", arch.hf_class);
  out.SetString("hf_model_type", arch.name);
  const std::pair<const char*, int64_t> sizes[] = {
      {"hidden_size", c.hidden_size}, {"num_layers", c.num_layers}, {"num_heads", c.num_heads}, {"num_kv_heads", c.num_kv_heads},
      {"head_dim", c.head_dim}, {"vocab_size", c.vocab_size}, {"intermediate_size", c.ffn_size}, {"max_position_embeddings", c.max_positions}};
  for (const auto& [key, value] : sizes) out.SetI64(key, value);
  if (!c.ropes.empty()) {
    out.SetF64("rope_theta", c.ropes[0].table.theta);
    out.SetI64("rope_type", c.ropes[0].adjacent ? 0 : 2);
  }
  out.SetF64("rms_norm_eps", c.norm_eps);
  out.SetBool("tied_embeddings", c.tie_embeddings);
  if (c.moe.experts > 0) out.SetI64("num_experts", c.moe.experts);
  // All else as config.json says it.
  const Json config = HfConfig(model, "float32");
  for (const auto& [key, value] : config.items()) {
    const bool skip = std::find(std::begin(kOtherSpelling), std::end(kOtherSpelling), key) != std::end(kOtherSpelling);
    const bool there = std::any_of(out.list().begin(), out.list().end(), [&key = key](const auto& entry) { return entry.first == key; });
    if (!skip && !there && !value.is_null()) SetJson(out, key, value);
  }
}

// Keys of another .apr that nothing here spells stay: its author's notes, settings without effect. Not what is told of
// its bytes and its tokenizer, which are written anew.
void CarryNotes(const ModelFile& file, MetaBuilder& out) {
  if (file.container() != Container::kApr) return;
  for (const auto& [key, value] : file.metadata()) {
    const bool anew = std::any_of(std::begin(kWrittenAnew), std::end(kWrittenAnew), [&key = key](std::string_view s) { return key.starts_with(s); });
    const bool there = std::any_of(out.list().begin(), out.list().end(), [&key = key](const auto& entry) { return entry.first == key; });
    if (!anew && !there) out.Set(key, value);
  }
}

uint16_t Flags(const std::vector<TensorToWrite>& tensors, const MetaList& metadata) {
  uint16_t flags = kAprRowMajor;
  for (const TensorToWrite& tensor : tensors) {
    if (IsQuantized(tensor.dtype)) flags |= kAprQuantized;
  }
  for (const auto& [key, value] : metadata) {
    if (key == "tokenizer.vocabulary") flags |= kAprHasVocab;
  }
  return flags;
}

}  // namespace

ExportReport ExportApr(std::shared_ptr<const Model> model, const ExportOptions& options) {
  const ChooseType choose = [&](const std::string& name, const Shape& shape, DType stored) {
    if (shape.ndim() < 2) return DType::kF32;
    if (options.choose) return options.choose(name, shape, stored);
    return options.dtype ? *options.dtype : StoredInApr(stored);
  };
  auto tensors = TensorsToExport(model, options, model->architecture().hf, choose, Container::kApr);
  MetaBuilder metadata;
  Configuration(*model, metadata);
  const MetaBuilder provenance = AprProvenance(model->file());
  for (const MetaList* list : {&provenance.list(), &options.metadata}) {
    for (const auto& [key, value] : *list) metadata.Set(key, value);
  }
  CarryNotes(model->file(), metadata);
  const uint64_t count = tensors.size();
  const uint16_t flags = Flags(tensors, options.metadata);
  WriteApr({.path = options.out, .tensors = std::move(tensors), .metadata = metadata.list(), .flags = flags, .compression = options.compression,
            .overwrite = options.overwrite});
  return {.files = {options.out}, .tensors = count};
}

}  // namespace apr
