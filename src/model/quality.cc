// See quality.h.
#include "model/quality.h"

#include "base/check.h"
#include "base/json.h"
#include "format/apr_reader.h"

namespace apr {
namespace {

bool SaysText(const ModelFile& file, std::string_view key) {
  const MetaValue* value = file.Meta(key);
  const auto text = value == nullptr ? std::nullopt : value->AsString();
  return text && !text->empty() && !value->AsJsonText();
}

bool SaysSize(const ModelFile& file, std::string_view key) {
  const MetaValue* value = FindAprMeta(file, key);
  return value != nullptr && value->AsInt().value_or(0) > 0;
}

bool HasList(const ModelFile& file, std::string_view key) {
  const MetaValue* value = file.Meta(key);
  return value != nullptr && value->type() == MetaValue::Type::kArray && value->size() > 0;
}

}  // namespace

Json QualityScore::ToJson() const {
  return {{"score", score()},
          {"ship_ready", score() >= kShipReady},
          {"threshold", kShipReady},
          {"breakdown",
           {{"physics", physics}, {"structural", structural}, {"provenance", provenance}, {"hf_identity", hf_identity}, {"tokenizer", tokenizer}}}};
}

QualityScore ScoreQuality(const ModelFile& file, bool checksums_hold) {
  APR_CHECK(file.container() == Container::kApr);
  QualityScore out;
  out.physics = checksums_hold ? 20 : 0;
  out.structural += SaysText(file, "architecture") || SaysText(file, "model.architecture") ? 5 : 0;
  for (const char* key : {"num_layers", "hidden_size", "vocab_size"}) out.structural += SaysSize(file, key) ? 5 : 0;
  out.provenance += SaysText(file, "license") ? 9 : 0;
  out.provenance += SaysText(file, "data_source") ? 8 : 0;
  out.provenance += SaysText(file, "data_license") ? 8 : 0;
  out.hf_identity += SaysText(file, "hf_architecture") ? 12 : 0;
  out.hf_identity += SaysText(file, "hf_model_type") ? 8 : 0;
  out.tokenizer += HasList(file, "tokenizer.vocabulary") ? 10 : 0;
  out.tokenizer += HasList(file, "tokenizer.merges") || HasList(file, "tokenizer.scores") ? 5 : 0;
  return out;
}

}  // namespace apr
