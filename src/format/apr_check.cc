// The checks of .apr files beyond opening: see apr_reader.h.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/error.h"
#include "format/apr_header.h"
#include "format/apr_reader.h"

namespace apr {
namespace {

struct AliasRow {
  std::string_view canonical;
  std::string_view aliases[3];
};

// Older spellings, in order of preference; the canonical key wins over all.
constexpr AliasRow kAliases[] = {
    {"hidden_size", {"hidden_dim", "d_model", "n_embd"}},
    {"num_layers", {"n_layers", "num_hidden_layers", "n_layer"}},
    {"num_heads", {"n_heads", "num_attention_heads", "n_head"}},
    {"num_kv_heads", {"n_kv_heads", "num_key_value_heads", ""}},
    {"vocab_size", {"n_vocab", "", ""}},
    {"intermediate_size", {"ffn_dim", "intermediate_dim", "n_inner"}},
    {"max_position_embeddings", {"max_seq_len", "context_length", "n_ctx"}},
    {"rms_norm_eps", {"layer_norm_eps", "norm_eps", ""}},
};

constexpr std::string_view kVocabularyTensors[] = {
    "model.embed_tokens.weight", "embed_tokens.weight",
    "transformer.wte.weight",    "embeddings.word_embeddings.weight",
    "tok_embeddings.weight",     "token_embd.weight",
    "lm_head.weight",
};

const MetaValue* NonNull(const ModelFile& file, std::string_view key) {
  const MetaValue* value = file.Meta(key);
  return value != nullptr && value->AsJsonText() == "null" ? nullptr : value;
}

std::optional<int64_t> DeclaredSize(const ModelFile& file, std::string_view key) {
  const MetaValue* value = FindAprMeta(file, key);
  return value == nullptr ? std::nullopt : value->AsInt();
}

}  // namespace

const MetaValue* FindAprMeta(const ModelFile& file, std::string_view canonical_key) {
  if (const MetaValue* value = NonNull(file, canonical_key)) return value;
  for (const AliasRow& row : kAliases) {
    if (row.canonical != canonical_key) continue;
    for (const std::string_view alias : row.aliases) {
      if (alias.empty()) continue;
      if (const MetaValue* value = NonNull(file, alias)) return value;
    }
  }
  return nullptr;
}

void CheckAprModelShapes(const ModelFile& file) {
  const std::optional<int64_t> vocab = DeclaredSize(file, "vocab_size");
  const std::optional<int64_t> hidden = DeclaredSize(file, "hidden_size");
  if (!vocab || !hidden) return;
  for (const std::string_view name : kVocabularyTensors) {
    const TensorInfo* info = file.Find(name);
    if (info == nullptr || info->shape.ndim() != 2) continue;
    const int64_t rows = info->shape[0], cols = info->shape[1];
    if ((rows == *vocab && cols == *hidden) || (rows == *hidden && cols == *vocab)) continue;
    throw Error(ErrorCode::kInvalidFormat,
                fmt::format("the tensor is {}, but the metadata declare vocab_size {} and hidden_size {}",
                            info->shape.ToString(), *vocab, *hidden),
                {.file = file.path(), .tensor = info->name, .offset = info->offset});
  }
}

void ValidateApr(const ModelFile& file, std::span<const KnownCrc> known) {
  APR_CHECK(file.container() == Container::kApr);
  if (file.files().size() > 1) {
    for (const auto& shard : file.files()) ValidateApr(*ModelFile::FromMapped(shard));
    return;
  }
  const MappedFile& mapped = *file.files()[0];
  const Bytes bytes = mapped.bytes();
  uint64_t end = LoadLe<uint64_t>(bytes.data() + 32);  // data_offset, checked when it was opened
  for (const TensorInfo& info : file.tensors()) {
    end = std::max(end, AlignUp(info.offset + info.bytes, kAprAlignment));
  }
  ByteReader reader(bytes, mapped.path());
  if (bytes.size() < end + 4) {
    reader.FailAt(std::min<uint64_t>(end, bytes.size()), "truncated: the footer checksum is missing");
  }
  if (bytes.size() > end + 4) {
    reader.FailAt(end + 4, fmt::format("{} bytes follow the footer", bytes.size() - end - 4));
  }
  const auto stored = LoadLe<uint32_t>(bytes.data() + end);
  const uint32_t computed = Crc32Of(bytes.subspan(0, end), known);
  if (stored != computed) {
    reader.FailAt(end, fmt::format("the footer's checksum is {:08x}, the file's bytes give {:08x}",
                                   stored, computed));
  }
}

}  // namespace apr
