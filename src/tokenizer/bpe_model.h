// Byte-pair encoding with merges: over bytes in their byte-level spelling (GPT-2 and its heirs), or
// over characters with affixes, unknown tokens and byte fallback (tokenizer.json's general form).
#pragma once

#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/safe_cuts.h"

namespace apr {

struct BpeOptions {
  std::string unk_token;  // empty: none
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a word that is a piece is that piece
  // A merge whose parts or result the vocabulary lacks: an error, or left out and counted.
  bool skip_bad_merges = false;
};

using MergePair = std::pair<std::string_view, std::string_view>;

// The pairs of a list of merges in order of rank, read in blocks where they stand, by several threads.
struct MergeSource {
  using Reader = std::function<void(std::span<MergePair> next)>;
  size_t size = 0;
  std::function<Reader(size_t begin)> from;

  static MergeSource Of(const std::vector<MergePair>& pairs);  // borrows
};

// Merges as ids, in order of rank.
class MergeRules {
 public:
  // Throws kInvalidFormat (key "merges") naming the merge whose part or result the vocabulary lacks, unless
  // they are to be skipped.
  static MergeRules Resolve(const Vocabulary& vocabulary, const MergeSource& pairs, const BpeOptions& options);

  const MergeTable& table() const { return table_; }
  // Merges left out, as spelled, with their rank.
  struct Skipped {
    uint32_t rank;
    std::string left, right;
  };
  const std::vector<Skipped>& skipped() const { return skipped_; }
  // True if every merge ranks after all merges that make its parts (see safe_cuts.h).
  bool ordered() const { return ordered_; }
  uint64_t digest() const { return digest_; }  // of (left, right, result) in order of rank

 private:
  MergeTable table_;
  std::vector<Skipped> skipped_;
  bool ordered_ = true;
  uint64_t digest_ = 0;
};

class BpeModel : public TokenModel {
 public:
  BpeModel(Vocabulary vocabulary, MergeRules rules, BpeOptions options);
  // `word` in the spelling of the vocabulary (for a byte-level one: after ByteLevelSpelling).
  void Encode(std::string_view word, TokenSink& sink, EncodeScratch& scratch) const override;
  const char* kind() const override { return "BPE"; }

  const MergeRules& rules() const { return rules_; }
  const BpeOptions& options() const { return options_; }

 private:
  void AppendSymbols(std::string_view word, Symbols& symbols) const;

  MergeRules rules_;
  BpeOptions options_;
  std::optional<uint32_t> unk_;
  std::vector<std::optional<uint32_t>> byte_ids_;
};

// The fast way through a byte-level BpeModel: works on the bytes themselves, with a word cache.
class ByteLevelEncoder {
 public:
  // nullptr if `model` needs more than bytes and merges (affixes, or unknown tokens for missing
  // bytes).
  static std::unique_ptr<const ByteLevelEncoder> Make(const BpeModel& model);

  // Appends the tokens of the pieces of `text` that end at `ends`; spans are relative to `text`.
  void Encode(std::string_view text, const std::vector<uint32_t>& ends, TokenSink& sink,
              EncodeScratch& scratch) const;

 private:
  explicit ByteLevelEncoder(const BpeModel& model) : model_(model) {}
  // A word of up to kShortMerge bytes; the ids stand in `scratch`.
  std::span<const int32_t> EncodeShort(std::string_view word, EncodeScratch& scratch) const;
  // `part` of a word: never taken as a piece without merging.
  void EncodeWord(std::string_view word, bool part, Symbols& symbols, EncodeScratch& scratch) const;
  // A long word that is not ASCII alone, by its parts (safe_cuts.h); the ids stand in `scratch`.
  std::span<const int32_t> EncodeParts(std::string_view word, EncodeScratch& scratch) const;
  class ByteSymbols;
  struct Part;
  void FinishPart(std::string_view bytes, Part& part, EncodeScratch& scratch) const;
  void AppendCharacter(char32_t cp, std::string_view bytes, Part& part) const;
  void LearnCharacter(char32_t cp, std::string_view bytes) const;
  bool IsWorthCutting(std::string_view word) const;
  std::optional<uint32_t> FindWhole(std::string_view word) const;
  void PrepareParts() const;

  const BpeModel& model_;
  // Made when the first word needs it.
  mutable std::once_flag parts_made_;
  mutable std::unique_ptr<const SafeCuts> cuts_;
  // What characters become, learnt when met, by any thread: `first` is the first id plus 1, in its two highest bits how
  // many follow in `rest`; 0: not known yet. Null where merging cannot start from characters.
  struct Character {
    uint32_t first;
    uint32_t rest[3];
  };
  struct Free {
    void operator()(Character* memory) const { std::free(memory); }
  };
  static constexpr size_t kCharacters = 0x20000;
  mutable std::unique_ptr<Character[], Free> characters_;
  mutable std::mutex learning_;
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  uint32_t byte_ids_[256] = {};
  struct Spelling {
    char text[2];
    uint8_t size;
  };
  Spelling spellings_[256] = {};  // of each byte, in the vocabulary
  bool complete_ = true;  // every byte has a token
};

}  // namespace apr
