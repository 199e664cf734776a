// APR v2: reader and the checks that cost more than opening. Byte table: docs/formats/apr.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "format/apr_header.h"
#include "format/model_file.h"

namespace apr {

bool LooksLikeApr(Bytes bytes);         // "APR\0", "APR1", "APR2"
bool LooksLikeOtherMagic(Bytes bytes);  // a known magic that is no safetensors length

// Appends `file` with its tensors and metadata to `parts`. A payload that the flags call compressed is
// decompressed into memory, at most as much as its size makes plausible. Throws kInvalidFormat.
void ReadApr(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts);

// One shard of several (metadata `sharding`) becomes the whole model: the others lie beside it, named
// <stem>-0000i-of-0000N.apr. Metadata are the first shard's. Throws kNotFound, kInvalidFormat.
void JoinAprShards(ModelFileParts* parts);
// Path of the first shard that a manifest of .apr shards names. Throws kInvalidFormat.
std::string FirstAprShard(const std::string& manifest);
inline constexpr std::string_view kAprManifestEnd = ".manifest.json";

// The whole file, or each of its shards, against its footer: the checksum, and that nothing follows it. Reads every byte. For
// container() == kApr. `known`: checksums of ranges of the file that somebody has read already, ascending. Throws
// kInvalidFormat.
void ValidateApr(const ModelFile& file, std::span<const KnownCrc> known = {});

// What a model built from an .apr file must fulfil: embedding and output head agree with the declared
// vocabulary and width. No effect where these are not declared. Throws kInvalidFormat naming the
// tensor.
void CheckAprModelShapes(const ModelFile& file);

// The value of a canonical .apr key ("hidden_size"), also where the file spells it as one of the older
// aliases ("n_embd"). A null counts as absent.
const MetaValue* FindAprMeta(const ModelFile& file, std::string_view canonical_key);

}  // namespace apr
