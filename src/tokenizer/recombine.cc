// See recombine.h.
#include "tokenizer/recombine.h"

#include <algorithm>

#include "base/error.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/word_models.h"

namespace apr {
namespace {

std::shared_ptr<const TokenModel> BpeWith(const BpeModel& rules_of, const TokenModel& vocabulary_of,
                                          const TokenModel& options_of) {
  const auto* options_model = dynamic_cast<const BpeModel*>(&options_of);
  BpeOptions options = options_model == nullptr ? rules_of.options() : options_model->options();
  BpeOptions lenient = options;
  lenient.skip_bad_merges = true;
  const auto spelled = SpelledMerges(rules_of);
  const std::vector<MergePair> views(spelled.begin(), spelled.end());
  MergeRules rules = MergeRules::Resolve(vocabulary_of.vocabulary(), MergeSource::Of(views), lenient);
  return std::make_shared<const BpeModel>(vocabulary_of.vocabulary(), std::move(rules), std::move(options));
}

// Scores and types of as many ids as the vocabulary has: new ones are never chosen.
template <typename Scores>
void FitToVocabulary(size_t size, Scores& scores, std::vector<PieceType>& types, bool typed) {
  const auto lowest = scores.empty() ? 0 : *std::ranges::min_element(scores);
  scores.resize(size, lowest);
  if (typed) types.resize(size, PieceType::kNormal);
}

// The model with the merges (scores) of one, the pieces of another, the options of a third.
std::shared_ptr<const TokenModel> ModelOf(const std::shared_ptr<const TokenModel>& merges_of,
                                          const std::shared_ptr<const TokenModel>& vocabulary_of,
                                          const std::shared_ptr<const TokenModel>& options_of) {
  const bool own_options = merges_of == options_of || dynamic_cast<const BpeModel*>(options_of.get()) == nullptr;
  if (merges_of == vocabulary_of && own_options) return merges_of;
  const Vocabulary& vocabulary = vocabulary_of->vocabulary();
  if (const auto* bpe = dynamic_cast<const BpeModel*>(merges_of.get())) return BpeWith(*bpe, *vocabulary_of, *options_of);
  if (merges_of == vocabulary_of) return merges_of;
  if (const auto* scored = dynamic_cast<const SentencePieceBpe*>(merges_of.get())) {
    ScoredPieces pieces = scored->pieces();
    FitToVocabulary(vocabulary.size(), pieces.scores, pieces.types, true);
    return std::make_shared<const SentencePieceBpe>(vocabulary, std::move(pieces));
  }
  if (const auto* unigram = dynamic_cast<const UnigramModel*>(merges_of.get())) {
    UnigramOptions options = unigram->options();
    FitToVocabulary(vocabulary.size(), options.scores, options.types, !options.types.empty());
    return std::make_shared<const UnigramModel>(vocabulary, std::move(options));
  }
  if (const auto* words = dynamic_cast<const WordPieceModel*>(merges_of.get()))
    return std::make_shared<const WordPieceModel>(vocabulary, words->options());
  if (const auto* words = dynamic_cast<const WordLevelModel*>(merges_of.get()))
    return std::make_shared<const WordLevelModel>(vocabulary, words->unk_token());
  throw Error(ErrorCode::kModelLoad, "a model of this kind has no exchangeable parts");
}

void TakePreTokenizer(const TokenizerParts& from, TokenizerParts& parts) {
  parts.pre_tokenizer = from.pre_tokenizer;
  parts.description.pre_name = from.description.pre_name;
  parts.description.pre_tokenizer = from.description.pre_tokenizer;
  if (!from.byte_level) return;
  const auto* bpe = dynamic_cast<const BpeModel*>(parts.model.get());
  if (bpe != nullptr) parts.byte_level = ByteLevelEncoder::Make(*bpe);
  if (parts.byte_level) {
    parts.splitter = from.splitter;
  } else if (!parts.pre_tokenizer) {
    throw Error(ErrorCode::kModelLoad, "a byte-level pre-tokenizer does not fit this model");
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> SpelledMerges(const BpeModel& model) {
  struct Ranked {
    uint32_t rank;
    std::pair<std::string, std::string> pair;
  };
  const Vocabulary& vocabulary = model.vocabulary();
  std::vector<Ranked> ranked;
  ranked.reserve(model.rules().table().size() + model.rules().skipped().size());
  model.rules().table().ForEach([&](uint32_t left, uint32_t right, const Merge& merge) {
    ranked.push_back({merge.rank, {std::string(vocabulary.Piece(left)), std::string(vocabulary.Piece(right))}});
  });
  for (const auto& skipped : model.rules().skipped()) ranked.push_back({skipped.rank, {skipped.left, skipped.right}});
  std::ranges::sort(ranked, {}, &Ranked::rank);
  std::vector<std::pair<std::string, std::string>> out;
  out.reserve(ranked.size());
  for (Ranked& entry : ranked) out.push_back(std::move(entry.pair));
  return out;
}

std::shared_ptr<const Tokenizer> Recombine(const Tokenizer& base, const Tokenizer& donor, unsigned from_donor) {
  const auto of = [&](unsigned part) -> const TokenizerParts& {
    return (from_donor & part) != 0 ? donor.parts() : base.parts();
  };
  auto parts = std::make_unique<TokenizerParts>();
  parts->model = ModelOf(of(kPartMerges).model, of(kPartVocabulary).model, of(kPartOptions).model);
  parts->merges_digest = of(kPartMerges).merges_digest;
  parts->normalizer = of(kPartNormalizer).normalizer;
  TakePreTokenizer(of(kPartPreTokenizer), *parts);
  parts->prefix_space = of(kPartPrefixSpace).prefix_space;
  parts->decoder = base.parts().decoder;
  parts->literal_added = of(kPartAddedTokens).literal_added;
  parts->SetAddedTokens(of(kPartAddedTokens).added->tokens());
  parts->prefix = of(kPartAround).prefix;
  parts->suffix = of(kPartAround).suffix;
  parts->special = of(kPartAround).special;
  parts->description.source = base.parts().description.source;
  return std::make_shared<const Tokenizer>(std::move(parts));
}

}  // namespace apr
