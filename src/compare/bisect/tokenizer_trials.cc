// See tokenizer_trials.h.
#include "compare/bisect/tokenizer_trials.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "compare/bisect/token_probes.h"
#include "tokenizer/pre_names.h"
#include "tokenizer/recombine.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/word_models.h"

namespace apr::bisect {
namespace {

// How the components of a tokenizer describe the space that they put in front of a text.
constexpr std::pair<std::string_view, std::string_view> kSpaceRules[] = {
    {"add_prefix_space=true", "add_prefix_space=false"}, {"dummy_prefix=true", "dummy_prefix=false"},
    {"prepend always", "prepend never"}, {"prepend first", "prepend never"},
    {"Prepend(\"\xE2\x96\x81\"), ", ""}, {"Prepend(\"\xE2\x96\x81\")", ""}, {"Prepend(\" \"), ", ""}};

using Ids = std::optional<std::vector<int32_t>>;  // nullopt: the tokenizer cannot spell the text

// Special tokens in the text are parsed, as prompts are; where both sides are a tokenizer.json also not.
Ids Encode(const Tokenizer& tokenizer, const std::string& text, bool parse_special) {
  try {
    return tokenizer.Encode(text, {.add_special = false, .parse_special = parse_special}).ids;
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool IsMetadata(const Tokenizer& t) { return t.description().source == "GGUF" || t.description().source == "APR"; }
bool IsJson(const Tokenizer& t) { return t.description().source == "tokenizer.json"; }

// A setting of a tokenizer as people name it: the parts it stands for.
struct Setting {
  std::string name;  // "space_prefix" stands for all rewriting of the text until it is known better
  unsigned parts = 0;
};

struct ProbeText {
  std::string text;
  bool parse_special = true;
  Ids expected;  // A's
};

// Whether two vocabularies rank what both have in the same order.
bool SameMerges(const TokenModel& a, const TokenModel& b) {
  const auto* bpe_a = dynamic_cast<const BpeModel*>(&a);
  const auto* bpe_b = dynamic_cast<const BpeModel*>(&b);
  if (bpe_a != nullptr && bpe_b != nullptr) {
    if (bpe_a->rules().digest() == bpe_b->rules().digest() && bpe_a->rules().skipped().empty() && bpe_b->rules().skipped().empty())
      return true;
    // A merge of a piece that only one side has goes with the piece.
    const auto shared = [&](const BpeModel& model) {
      std::vector<std::pair<std::string, std::string>> merges = SpelledMerges(model);
      const size_t prefix = model.options().continuing_subword_prefix.size();
      std::erase_if(merges, [&](const auto& merge) {
        const std::string result = merge.first + merge.second.substr(std::min(prefix, merge.second.size()));
        const auto in_both = [&](const std::string& piece) { return a.vocabulary().Find(piece) && b.vocabulary().Find(piece); };
        return !in_both(merge.first) || !in_both(merge.second) || !in_both(result);
      });
      return merges;
    };
    return shared(*bpe_a) == shared(*bpe_b);
  }
  const auto scores = [](const TokenModel& model) {
    std::map<std::string_view, std::pair<double, int>> out;
    const auto* scored = dynamic_cast<const SentencePieceBpe*>(&model);
    const auto* unigram = dynamic_cast<const UnigramModel*>(&model);
    for (uint32_t id = 0; (scored != nullptr || unigram != nullptr) && id < model.vocabulary().size(); ++id) {
      const double score = scored != nullptr ? static_cast<double>(scored->pieces().scores[id]) : unigram->options().scores[id];
      const auto* types = scored != nullptr ? &scored->pieces().types : &unigram->options().types;
      out[model.vocabulary().Piece(id)] = {score, types->empty() ? 1 : static_cast<int>((*types)[id])};
    }
    return out;
  };
  const auto of_a = scores(a);
  const auto of_b = scores(b);
  if (of_a.empty() || of_b.empty()) return of_a.empty() && of_b.empty() && std::string_view(a.kind()) == b.kind();
  return std::ranges::all_of(of_a, [&](const auto& entry) {
    const auto it = of_b.find(entry.first);
    return it == of_b.end() || it->second == entry.second;
  });
}

// Whether A's scores are B's by id, so that only the types of pieces differ.
bool SameScores(const TokenModel& a, const TokenModel& b) {
  const auto* sa = dynamic_cast<const SentencePieceBpe*>(&a);
  const auto* sb = dynamic_cast<const SentencePieceBpe*>(&b);
  if (sa != nullptr && sb != nullptr) return sa->pieces().scores == sb->pieces().scores;
  const auto* ua = dynamic_cast<const UnigramModel*>(&a);
  const auto* ub = dynamic_cast<const UnigramModel*>(&b);
  return ua != nullptr && ub != nullptr && ua->options().scores == ub->options().scores;
}

class Search {
 public:
  Search(const Tokenizer& a, const Tokenizer& b, const std::vector<std::string>& first, bool causes)
      : a_(a), b_(b), causes_(causes), same_merges_(SameMerges(*a.parts().model, *b.parts().model)) {
    const bool alike = same_merges_ && a.vocabulary_digest() == b.vocabulary_digest();
    for (const std::string& text : first) AddProbe(text);
    for (const std::string& text : FixedTexts()) AddProbe(text);
    for (const std::string& text : VocabularyTexts(a, b, !alike)) AddProbe(text);
    if (!same_merges_) {
      for (const std::string& text : MergeTexts(a, b)) AddProbe(text);
    }
  }

  TokenizerComparison Run() {
    TokenizerComparison out;
    out.texts = static_cast<int64_t>(probes_.size());
    for (size_t i = 0; i < probes_.size(); ++i) {
      if (Differs(b_, probes_[i])) differing_.push_back(i);
    }
    if (differing_.empty()) {
      AddSettingsWithoutEffect(out.findings);
      return out;
    }
    if (causes_) FindCauses(out.findings);
    if (out.findings.empty()) out.findings.push_back(Unexplained());
    return out;
  }

 private:
  void AddProbe(const std::string& text) {
    // A literal space mark: each container of a SentencePiece vocabulary has its own way with it.
    const bool marked = text.find(kSpaceMark) != std::string::npos;
    if (marked && a_.description().source != b_.description().source && a_.parts().byte_level == nullptr) return;
    probes_.push_back({text, true, Encode(a_, text, true)});
    if (!IsJson(a_) || !IsJson(b_)) return;
    Ids plain = Encode(a_, text, false);
    if (plain != probes_.back().expected) probes_.push_back({text, false, std::move(plain)});
  }

  bool Differs(const Tokenizer& b, const ProbeText& probe) const {
    const Ids got = Encode(b, probe.text, probe.parse_special);
    if (got == probe.expected) return false;
    if (a_.description().source == b_.description().source || !got || !probe.expected) return true;
    if (!HasMarked(*got) && !HasMarked(*probe.expected)) return true;
    return Skeleton(a_, *probe.expected) != Skeleton(b, *got);
  }

  // Containers disagree about the spaces beside a token that is found first (tokenizer.json puts one in
  // front of each stretch of text, SentencePiece in front of the whole): there only the tokens found and
  // the text between them count.
  bool HasMarked(const std::vector<int32_t>& ids) const { return std::ranges::any_of(ids, [&](int32_t id) { return IsMarked(id); }); }
  bool IsMarked(int32_t id) const { return a_.IsAdded(id) || b_.IsAdded(id); }
  std::string Skeleton(const Tokenizer& t, const std::vector<int32_t>& ids) const {
    std::string out;
    for (const int32_t id : ids) {
      const std::string text = IsMarked(id) ? fmt::format("\n#{}\n", id) : t.TokenBytes(id);
      std::ranges::copy_if(text, std::back_inserter(out), [](char c) { return c != ' '; });
    }
    return out;
  }

  // How many probes that differ at first still do, and the first of them.
  size_t CountDiffering(const Tokenizer& b, size_t* first = nullptr) const {
    size_t count = 0;
    for (const size_t i : differing_) {
      if (!Differs(b, probes_[i])) continue;
      if (count++ == 0 && first != nullptr) *first = i;
    }
    return count;
  }

  // Nothing that agreed before may differ now either; looked at on every probe in turn with a stride.
  bool Repairs(const Tokenizer& b) const {
    if (CountDiffering(b) != 0) return false;
    const size_t stride = std::max<size_t>(1, probes_.size() / 2000);
    for (size_t i = 0; i < probes_.size(); i += stride) {
      if (Differs(b, probes_[i])) return false;
    }
    return true;
  }

  std::shared_ptr<const Tokenizer> With(unsigned parts) const {
    try {
      return Recombine(b_, a_, parts);
    } catch (const Error&) {
      return nullptr;  // A's part does not fit B
    }
  }
  bool Repairs(unsigned parts) const {
    const auto trial = With(parts);
    return trial != nullptr && Repairs(*trial);
  }

  std::vector<Setting> Settings() const {
    const bool byte_level = b_.parts().byte_level != nullptr;
    // GGUF's name of the pre-tokenizer stands for pattern, NFC and ignore_merges together.
    const unsigned named = byte_level && (IsMetadata(b_) || IsMetadata(a_)) ? kPartNormalizer | kPartOptions : 0u;
    std::vector<Setting> out;
    if (!same_merges_) out.push_back({"merges", kPartMerges | (named == 0 ? kPartOptions : 0u)});
    if (same_merges_ && named == 0) out.push_back({"merges", kPartOptions});
    out.push_back({"vocabulary", kPartVocabulary | (same_merges_ ? kPartMerges : 0u)});
    out.push_back({"pretokenizer", kPartPreTokenizer | named});
    out.push_back({"space_prefix", kPartPrefixSpace | (named == 0 ? kPartNormalizer : 0u)});
    out.push_back({"special_tokens", kPartAddedTokens});
    return out;
  }

  // The fewest of A's settings that make B give A's ids: each of them is needed.
  void FindCauses(std::vector<Finding>& findings) {
    std::vector<Setting> needed = Settings();
    const auto parts_of = [](const std::vector<Setting>& list, size_t without) {
      unsigned parts = 0;
      for (size_t i = 0; i < list.size(); ++i) parts |= i == without ? 0u : list[i].parts;
      return parts;
    };
    if (!Repairs(parts_of(needed, needed.size()))) return;
    std::vector<Trial> trials;
    for (size_t i = 0; i < needed.size();) {
      if (Repairs(parts_of(needed, i))) needed.erase(needed.begin() + static_cast<std::ptrdiff_t>(i));
      else ++i;
    }
    for (const Setting& setting : Settings()) {
      const auto trial = With(setting.parts);
      const double left = trial == nullptr ? 1 : Share(CountDiffering(*trial));
      const bool accepted = std::ranges::any_of(needed, [&](const Setting& s) { return s.name == setting.name; });
      trials.push_back({setting.name, "A's in place of B's", left, accepted});
    }
    std::ranges::stable_sort(trials, {}, &Trial::error_after);
    // In the order in which text meets them: special tokens are found first, merges come last.
    std::ranges::reverse(needed);
    for (size_t i = 0; i < needed.size(); ++i) {
      const auto others_right = With(parts_of(needed, i));
      if (others_right != nullptr) findings.push_back(Named(needed[i], *others_right, trials));
    }
  }

  double Share(size_t count) const { return static_cast<double>(count) / static_cast<double>(differing_.size()); }

  // `only`: B with everything but this setting put right.
  Finding Named(const Setting& setting, const Tokenizer& only, const std::vector<Trial>& trials) const {
    size_t at = differing_.front();
    const size_t left = CountDiffering(only, &at);
    Finding finding;
    Cause cause;
    cause.name = NameOf(setting, only);
    finding.first = PlaceOf(only, probes_[at]);
    finding.first.key = KeyOf(cause.name);
    finding.first.error = static_cast<double>(left) / static_cast<double>(probes_.size());
    SetValues(cause);
    cause.evidence = fmt::format("{} of {} texts get other ids; with A's {} in B all are equal. {}", left, probes_.size(),
                                 What(cause.name), finding.first.note);
    cause.error_before = finding.first.error;
    cause.error_after = 0.0;
    cause.fix = fmt::format("write A's {} into B ({})", What(cause.name), finding.first.key);
    finding.cause = std::move(cause);
    finding.trials = trials;
    for (Trial& trial : finding.trials) {
      if (trial.accepted && trial.name == setting.name) trial.name = finding.cause->name;
    }
    return finding;
  }

  Place PlaceOf(const Tokenizer& b, const ProbeText& probe) const {
    Place place;
    place.phase = Phase::kTokens;
    place.floor = 0.0;
    const auto difference = CompareIds(a_, b, probe.text);
    if (!difference) {
      place.note = fmt::format("{} is found as a special token on one side only", Quoted(probe.text));
      return place;
    }
    place.position = static_cast<int64_t>(difference->position);
    if (difference->a) place.a = *difference->a;
    if (difference->b) place.b = *difference->b;
    place.note = Describe(*difference);
    return place;
  }

  Finding Unexplained() const {
    Finding finding;
    finding.first = PlaceOf(b_, probes_[differing_.front()]);
    finding.first.error = static_cast<double>(differing_.size()) / static_cast<double>(probes_.size());
    return finding;
  }

  // Rewriting and cutting of text are told apart by what repairs the ids: a space put in front or taken
  // away, or nothing of the kind.
  std::string NameOf(const Setting& setting, const Tokenizer& only) const {
    const bool rewriting = setting.name == "space_prefix" || setting.name == "pretokenizer";
    if (rewriting) return OnlySpaceInFront(only) || OnlySpaceRulesDiffer() ? "space_prefix" : "pretokenizer";
    if (setting.name == "merges" && SameScores(*a_.parts().model, *b_.parts().model)) return "special_tokens";
    if (setting.name == "vocabulary" && OnlySpecialPiecesDiffer()) return "special_tokens";
    return setting.name;
  }

  bool OnlySpaceInFront(const Tokenizer& only) const {
    size_t tried = 0;
    bool more = true, less = true;  // B lacks the space, or has one too many
    for (const size_t i : differing_) {
      const ProbeText& probe = probes_[i];
      if (probe.text.empty() || !Differs(only, probe)) continue;
      if (++tried > 200) break;
      const bool repaired = Encode(only, " " + probe.text, probe.parse_special) == probe.expected;
      const bool reversed = Encode(a_, " " + probe.text, probe.parse_special) == Encode(only, probe.text, probe.parse_special);
      // A text with tokens inside has several starts: it says nothing about the first one.
      const bool has_added = HasAddedTokens(probe);
      more = more && (repaired || has_added);
      less = less && (reversed || has_added);
    }
    return tried > 0 && (more || less);
  }
  // By what the tokenizers say of themselves, the rules for a space in front left out.
  bool OnlySpaceRulesDiffer() const {
    if (a_.description().source != b_.description().source) return false;
    const auto without = [](const Tokenizer& t) {
      std::string text = t.description().normalizer + " | " + t.description().pre_tokenizer;
      for (const auto& [rule, neutral] : kSpaceRules) {
        for (size_t at = text.find(rule); at != std::string::npos; at = text.find(rule)) text.replace(at, rule.size(), neutral);
      }
      return text;
    };
    return without(a_) == without(b_) &&
           (a_.description().normalizer != b_.description().normalizer || a_.description().pre_tokenizer != b_.description().pre_tokenizer);
  }
  bool HasAddedTokens(const ProbeText& probe) const {
    return probe.expected && std::ranges::any_of(*probe.expected, [&](int32_t id) { return a_.IsAdded(id); });
  }

  bool OnlySpecialPiecesDiffer() const {
    bool any = false;
    for (int32_t id = 0; id < std::max(a_.vocab_size(), b_.vocab_size()); ++id) {
      if (a_.IdToPiece(id) == b_.IdToPiece(id)) continue;
      if (!a_.IsAdded(id) && !b_.IsAdded(id)) return false;
      any = true;
    }
    return any;
  }

  std::string KeyOf(const std::string& name) const {
    const bool metadata = IsMetadata(a_) || IsMetadata(b_);
    const bool scored = dynamic_cast<const BpeModel*>(b_.parts().model.get()) == nullptr;
    if (name == "pretokenizer") return metadata ? "tokenizer.ggml.pre" : "pre_tokenizer";
    if (name == "space_prefix") return metadata ? "tokenizer.ggml.add_space_prefix" : "add_prefix_space";
    if (name == "vocabulary") return metadata ? "tokenizer.ggml.tokens" : "model.vocab";
    if (name == "special_tokens") return metadata ? "tokenizer.ggml.token_type" : "added_tokens";
    if (scored) return metadata ? "tokenizer.ggml.scores" : "model.vocab";
    return metadata ? "tokenizer.ggml.merges" : "model.merges";
  }

  static const char* What(const std::string& name) {
    if (name == "pretokenizer") return "pre-tokenizer";
    if (name == "space_prefix") return "rule for the space in front of a text";
    if (name == "special_tokens") return "added tokens";
    if (name == "vocabulary") return "vocabulary";
    return "merges";
  }

  void SetValues(Cause& cause) const {
    const auto set = [&](Json a, Json b) {
      cause.a = std::move(a);
      cause.b = std::move(b);
    };
    if (cause.name == "pretokenizer") return set(Pattern(a_), Pattern(b_));
    if (cause.name == "space_prefix") return set(Rewriting(a_), Rewriting(b_));
    if (cause.name == "vocabulary") return SetFirstPiece(cause);
    if (cause.name == "special_tokens") return SetFirstAdded(cause);
    SetFirstMerge(cause);
  }
  static Json Pattern(const Tokenizer& t) {
    const TokenizerDescription& d = t.description();
    return fmt::format("{}{}{}", d.pre_tokenizer.empty() ? "none" : d.pre_tokenizer, d.normalizer.empty() ? "" : ", after ", d.normalizer);
  }
  static Json Rewriting(const Tokenizer& t) {
    const TokenizerDescription& d = t.description();
    if (t.parts().prefix_space) return "a space in front of each stretch of text";
    return d.normalizer.empty() ? Json(d.pre_tokenizer.empty() ? "nothing in front" : d.pre_tokenizer) : Json(d.normalizer);
  }
  void SetFirstPiece(Cause& cause) const {
    for (int32_t id = 0; id < std::max(a_.vocab_size(), b_.vocab_size()); ++id) {
      const auto in_a = a_.IdToPiece(id);
      const auto in_b = b_.IdToPiece(id);
      if (in_a == in_b) continue;
      const auto json = [&](const std::optional<std::string>& piece) { return Json{{"id", id}, {"piece", piece ? Json(*piece) : Json(nullptr)}}; };
      cause.a = json(in_a);
      cause.b = json(in_b);
      return;
    }
  }
  void SetFirstAdded(Cause& cause) const {
    const auto json = [](const Tokenizer& t, const std::string& content) -> Json {
      const AddedToken* token = t.parts().added->Find(content);
      if (token == nullptr) return nullptr;
      return {{"id", token->id}, {"content", token->content}, {"special", token->special}};
    };
    for (const Tokenizer* side : {&a_, &b_}) {
      for (const AddedToken& token : side->parts().added->tokens()) {
        Json in_a = json(a_, token.content);
        Json in_b = json(b_, token.content);
        if (in_a == in_b) continue;
        cause.a = std::move(in_a);
        cause.b = std::move(in_b);
        return;
      }
    }
  }
  void SetFirstMerge(Cause& cause) const {
    const auto* bpe_a = dynamic_cast<const BpeModel*>(a_.parts().model.get());
    const auto* bpe_b = dynamic_cast<const BpeModel*>(b_.parts().model.get());
    if (bpe_a == nullptr || bpe_b == nullptr) {
      cause.a = a_.description().model;
      cause.b = b_.description().model;
      return;
    }
    const auto in_a = SpelledMerges(*bpe_a);
    const auto in_b = SpelledMerges(*bpe_b);
    const size_t rank = static_cast<size_t>(std::ranges::mismatch(in_a, in_b).in1 - in_a.begin());
    const auto json = [&](const auto& merges) -> Json {
      if (rank >= merges.size()) return {{"count", merges.size()}};
      return {{"rank", rank}, {"merge", merges[rank].first + " " + merges[rank].second}};
    };
    cause.a = json(in_a);
    cause.b = json(in_b);
  }

  // Between two files of one kind a setting that differs is told even if no text shows it.
  void AddSettingsWithoutEffect(std::vector<Finding>& findings) const {
    if (a_.description().source != b_.description().source) return;
    const auto add = [&](const std::string& name, const std::string& note) {
      Finding finding;
      finding.no_effect = true;
      finding.first.phase = Phase::kTokens;
      finding.first.key = KeyOf(name);
      finding.first.note = note;
      findings.push_back(std::move(finding));
    };
    if (!same_merges_) add("merges", "The merges differ; no text that was tried shows it.");
    if (a_.description().pre_name != b_.description().pre_name)
      add("pretokenizer", fmt::format("Pre-tokenizer '{}' against '{}'; no text that was tried shows it.", a_.description().pre_name, b_.description().pre_name));
  }

  const Tokenizer& a_;
  const Tokenizer& b_;
  bool causes_;
  bool same_merges_;
  std::vector<ProbeText> probes_;
  std::vector<size_t> differing_;  // indices of probes whose ids differ
};

}  // namespace

std::optional<IdDifference> CompareIds(const Tokenizer& a, const Tokenizer& b, const std::string& text) {
  const Ids in_a = Encode(a, text, true);
  const Ids in_b = Encode(b, text, true);
  if (in_a == in_b) return std::nullopt;
  IdDifference out{.text = text};
  static const std::vector<int32_t> kNone;
  const std::vector<int32_t>& ids_a = in_a ? *in_a : kNone;
  const std::vector<int32_t>& ids_b = in_b ? *in_b : kNone;
  out.position = static_cast<size_t>(std::ranges::mismatch(ids_a, ids_b).in1 - ids_a.begin());
  if (out.position < ids_a.size()) out.a = ids_a[out.position];
  if (out.position < ids_b.size()) out.b = ids_b[out.position];
  if (out.a) out.piece_a = a.IdToPiece(*out.a).value_or("");
  if (out.b) out.piece_b = b.IdToPiece(*out.b).value_or("");
  return out;
}

std::string Quoted(const std::string& text) {
  constexpr size_t kMost = 60;
  size_t end = std::min(text.size(), kMost);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  std::string out = DumpJson(text.substr(0, end), -1);
  if (end < text.size()) out += "...";
  return out;
}

std::string Describe(const IdDifference& d) {
  const auto token = [](const std::optional<int32_t>& id, const std::string& piece) {
    return id ? fmt::format("{} ({})", *id, Quoted(piece)) : std::string("nothing");
  };
  return fmt::format("Of the text {} token {} is {} in A and {} in B.", Quoted(d.text), d.position, token(d.a, d.piece_a), token(d.b, d.piece_b));
}

TokenizerComparison CompareTokenizers(const Tokenizer& a, const Tokenizer& b, const std::vector<std::string>& first, bool causes) {
  return Search(a, b, first, causes).Run();
}

}  // namespace apr::bisect
