// See tokenizer.h.
#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "format/model_file.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/unicode.h"

namespace apr {

// A scratch for the length of a call.
class ScratchLoan {
 public:
  explicit ScratchLoan(TokenizerParts& parts) : parts_(parts) {
    const std::lock_guard lock(parts_.scratch_mutex);
    if (parts_.scratch.empty()) {
      scratch_ = std::make_unique<EncodeScratch>();
    } else {
      scratch_ = std::move(parts_.scratch.back());
      parts_.scratch.pop_back();
    }
  }
  ~ScratchLoan() {
    // What a huge word needed is not kept.
    constexpr size_t kKept = size_t{1} << 22;
    if (std::max(scratch_->symbols.ids.capacity(), scratch_->part_ids.capacity()) > kKept) return;
    const std::lock_guard lock(parts_.scratch_mutex);
    parts_.scratch.push_back(std::move(scratch_));
  }
  ScratchLoan(const ScratchLoan&) = delete;
  ScratchLoan& operator=(const ScratchLoan&) = delete;
  EncodeScratch& operator*() { return *scratch_; }

 private:
  TokenizerParts& parts_;
  std::unique_ptr<EncodeScratch> scratch_;
};

namespace {

AlignedText WithSpaceInFront(const AlignedText& text) {
  if (text.size() == 0 || text.text()[0] == ' ') return text;
  AlignedText out = AlignedText::Derived(text);
  out.Append(" ", text, 0, 0);
  out.Copy(text, 0, text.size());
  return out;
}

}  // namespace

// One Encode call.
class Tokenizer::Run {
 public:
  Run(TokenizerParts& parts, const EncodeOptions& options, Encoding& out)
      : parts_(parts), options_(options), out_(out), loan_(parts) {}

  void EncodeText(std::string_view text) {
    if (!parts_.added->any(false)) return EncodeRaw(text, 0);
    std::vector<AddedTokens::Part> cuts;
    parts_.added->Split(text, false, options_.parse_special, cuts);
    for (const auto& part : cuts) {
      if (part.token != nullptr) {
        Add(part.token->id, {Narrow(part.begin), Narrow(part.end)});
      } else {
        EncodeRaw(text.substr(part.begin, part.end - part.begin), Narrow(part.begin));
      }
    }
  }

  void Add(uint32_t id, ByteSpan span) {
    out_.ids.push_back(static_cast<int32_t>(id));
    if (options_.offsets) out_.spans.push_back(span);
  }

 private:
  static uint32_t Narrow(size_t v) { return static_cast<uint32_t>(v); }

  // Text between added tokens that are looked for before normalisation.
  void EncodeRaw(std::string_view raw, uint32_t offset) {
    if (!parts_.normalizer && !parts_.added->any(true) && parts_.byte_level &&
        !parts_.prefix_space) {
      return EncodeBytes(raw, [offset](ByteSpan s) {
        return ByteSpan{offset + s.begin, offset + s.end};
      });
    }
    const bool tracked =
        options_.offsets || (parts_.pre_tokenizer && parts_.pre_tokenizer->NeedsSources());
    AlignedText text(raw, offset, tracked);
    if (parts_.normalizer) text = parts_.normalizer->Apply(text);
    if (!parts_.added->any(true)) {
      // What normalisation took from the front is not part of the text any more.
      if (parts_.normalizer && tracked && text.size() > 0) {
        const uint32_t begin = text.Source(0, text.size()).begin;
        text = AlignedText::Slice(text, 0, text.size(), begin);
      }
      return EncodeNormalized(std::move(text));
    }
    std::vector<AddedTokens::Part> cuts;
    parts_.added->Split(text.text(), true, options_.parse_special, cuts);
    for (const auto& part : cuts) {
      if (part.token != nullptr) {
        Add(part.token->id, text.Source(part.begin, part.end));
        continue;
      }
      // A stretch begins where it came from.
      const uint32_t source = tracked ? text.Source(part.begin, part.end).begin : offset;
      const uint32_t begin = part.begin == 0 ? source : std::max(1u, source);
      AlignedText slice = AlignedText::Slice(text, part.begin, part.end, begin);
      EncodeNormalized(std::move(slice));
    }
  }

  void EncodeNormalized(AlignedText text) {
    if (text.size() == 0) return;
    if (parts_.byte_level) {
      if (parts_.prefix_space) text = WithSpaceInFront(text);
      return EncodeBytes(text.text(), [&](ByteSpan s) { return text.Source(s.begin, s.end); });
    }
    PieceList list{std::move(text), {}};
    list.pieces.push_back({0, Narrow(list.text.size())});
    if (parts_.pre_tokenizer) parts_.pre_tokenizer->Apply(list);
    for (const ByteSpan piece : list.pieces) {
      if (piece.end == piece.begin) continue;
      const auto word =
          std::string_view(list.text.text()).substr(piece.begin, piece.end - piece.begin);
      const size_t first = out_.spans.size();
      TokenSink sink{out_.ids, options_.offsets ? &out_.spans : nullptr};
      parts_.model->Encode(word, sink, *loan_);
      for (size_t i = first; i < out_.spans.size(); ++i) {
        const ByteSpan s = out_.spans[i];
        out_.spans[i] = list.text.Source(piece.begin + s.begin, piece.begin + s.end);
      }
    }
  }

  template <typename Source>
  void EncodeBytes(std::string_view text, Source&& source) {
    std::vector<uint32_t>& ends = (*loan_).ends;
    ends.clear();
    ends.reserve(text.size() / 4);
    parts_.splitter->Split(text, ends);
    const size_t first = out_.spans.size();
    TokenSink sink{out_.ids, options_.offsets ? &out_.spans : nullptr};
    parts_.byte_level->Encode(text, ends, sink, *loan_);
    for (size_t i = first; i < out_.spans.size(); ++i) out_.spans[i] = source(out_.spans[i]);
  }

  TokenizerParts& parts_;
  const EncodeOptions& options_;
  Encoding& out_;
  ScratchLoan loan_;
};

Tokenizer::Tokenizer(std::unique_ptr<TokenizerParts> parts) : parts_(std::move(parts)) {
  TokenizerDescription& d = parts_->description;
  d.model = parts_->model->kind();
  if (parts_->normalizer) d.normalizer = parts_->normalizer->Describe();
  if (d.pre_tokenizer.empty() && parts_->pre_tokenizer)
    d.pre_tokenizer = parts_->pre_tokenizer->Describe();
  d.decoder = parts_->decoder->Describe();
  d.vocab_size = static_cast<uint32_t>(vocab_size());
  d.byte_level_fast_path = parts_->byte_level != nullptr;
  if (d.post_processor.empty()) {
    for (const int32_t id : parts_->prefix) {
      d.post_processor += fmt::format("{} ", IdToPiece(id).value_or("?"));
    }
    d.post_processor += "$A";
    for (const int32_t id : parts_->suffix) {
      d.post_processor += fmt::format(" {}", IdToPiece(id).value_or("?"));
    }
  }
}

Tokenizer::~Tokenizer() = default;

void TokenizerParts::SetAddedTokens(std::vector<AddedToken> tokens) {
  added = std::make_unique<AddedTokens>(std::move(tokens), [this](const std::string& content) {
    return normalizer ? normalizer->Apply(AlignedText(content, 0, false)).text() : content;
  });
}

Encoding Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() >= std::numeric_limits<uint32_t>::max()) {
    throw Error(ErrorCode::kUsage, "a text of 4 GiB or more cannot be tokenized at once");
  }
  Encoding out;
  Run run(*parts_, options, out);
  if (options.add_special) {
    for (const int32_t id : parts_->prefix) run.Add(static_cast<uint32_t>(id), {0, 0});
  }
  if (IsValidUtf8(text)) {
    run.EncodeText(text);
  } else {
    // Spans are of the user's bytes: map them back from the repaired text.
    const std::string repaired = unicode::ReplaceIllFormed(text);
    run.EncodeText(repaired);
    if (options.offsets) {
      std::vector<uint32_t> source(repaired.size() + 1);
      size_t from = 0;
      for (size_t to = 0; to < repaired.size();) {
        const auto probe = unicode::ProbeUtf8(text.substr(from));
        const uint32_t length = probe.valid ? probe.length : 3;
        for (uint32_t i = 0; i < length; ++i) {
          source[to + i] = static_cast<uint32_t>(from + (probe.valid ? i : 0));
        }
        to += length;
        from += probe.length;
      }
      source.back() = static_cast<uint32_t>(text.size());
      for (ByteSpan& span : out.spans) span = {source[span.begin], source[span.end]};
    }
  }
  if (options.add_special) {
    const auto end = static_cast<uint32_t>(text.size());
    for (const int32_t id : parts_->suffix) run.Add(static_cast<uint32_t>(id), {end, end});
  }
  return out;
}

struct StreamDecoder::State {
  const TokenizerParts* parts;
  bool skip_special;
  std::unique_ptr<DecoderStream> stream;

  void Push(int32_t id, std::string& out) {
    if (id < 0) return;
    const auto uid = static_cast<uint32_t>(id);
    DecoderToken token;
    if (const AddedToken* added = parts->added->Find(uid)) {
      if (added->skipped && skip_special) return;
      token.piece = added->spelled;
      token.control = added->special;
      token.literal = parts->literal_added;
    } else if (parts->model->vocabulary().Has(uid)) {
      token.piece = parts->model->vocabulary().Piece(uid);
      // A second id with the spelling of a special token.
      if (skip_special && parts->model->vocabulary().has_duplicates()) {
        const AddedToken* same = parts->added->Find(token.piece);
        if (same != nullptr && same->special) return;
      }
    } else {
      return;
    }
    token.unknown = parts->special.unk == id;
    stream->Push(token, out);
  }
};

StreamDecoder::StreamDecoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::Push(int32_t id) {
  std::string out;
  state_->Push(id, out);
  return out;
}

std::string StreamDecoder::Flush() {
  std::string out;
  state_->stream->Flush(out);
  return out;
}

StreamDecoder Tokenizer::Stream(bool skip_special) const {
  return StreamDecoder(std::make_unique<StreamDecoder::State>(
      StreamDecoder::State{parts_.get(), skip_special, parts_->decoder->NewStream()}));
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder::State state{parts_.get(), skip_special, parts_->decoder->NewStream()};
  std::string out;
  for (const int32_t id : ids) state.Push(id, out);
  state.stream->Flush(out);
  return out;
}

std::string Tokenizer::TokenBytes(int32_t id) const {
  const auto piece = IdToPiece(id);
  if (!piece) return {};
  const AddedToken* added = parts_->added->Find(static_cast<uint32_t>(id));
  if (added != nullptr) return added->spelled;
  return parts_->decoder->TokenBytes({*piece, false, false, false});
}

std::optional<std::string> Tokenizer::IdToPiece(int32_t id) const {
  if (id < 0) return std::nullopt;
  const auto uid = static_cast<uint32_t>(id);
  if (const AddedToken* added = parts_->added->Find(uid)) return added->spelled;
  if (!parts_->model->vocabulary().Has(uid)) return std::nullopt;
  return std::string(parts_->model->vocabulary().Piece(uid));
}

std::optional<int32_t> Tokenizer::PieceToId(std::string_view piece) const {
  if (const AddedToken* added = parts_->added->Find(piece)) return static_cast<int32_t>(added->id);
  const auto id = parts_->model->vocabulary().Find(piece);
  if (!id) return std::nullopt;
  return static_cast<int32_t>(*id);
}

int32_t Tokenizer::vocab_size() const {
  uint32_t size = parts_->model->vocabulary().size();
  for (const AddedToken& token : parts_->added->tokens()) size = std::max(size, token.id + 1);
  return static_cast<int32_t>(size);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const AddedToken* added = id < 0 ? nullptr : parts_->added->Find(static_cast<uint32_t>(id));
  return added != nullptr && added->special;
}

bool Tokenizer::IsAdded(int32_t id) const {
  return id >= 0 && parts_->added->Find(static_cast<uint32_t>(id)) != nullptr;
}

const SpecialIds& Tokenizer::special_ids() const { return parts_->special; }
const std::vector<int32_t>& Tokenizer::prefix_ids() const { return parts_->prefix; }
const std::vector<int32_t>& Tokenizer::suffix_ids() const { return parts_->suffix; }
bool Tokenizer::add_bos() const {
  return !parts_->prefix.empty() && parts_->special.bos == parts_->prefix.front();
}
bool Tokenizer::add_eos() const {
  return !parts_->suffix.empty() && parts_->special.eos == parts_->suffix.back();
}
const TokenizerDescription& Tokenizer::description() const { return parts_->description; }
uint64_t Tokenizer::merges_digest() const { return parts_->merges_digest; }

uint64_t Tokenizer::vocabulary_digest() const {
  uint64_t digest = 0;
  const int32_t size = vocab_size();
  for (int32_t id = 0; id < size; ++id) {
    const auto piece = IdToPiece(id);
    const uint64_t hash = piece ? HashBytes(*piece) : 0;
    digest = (digest ^ hash ^ static_cast<uint64_t>(id)) * 0x9E3779B97F4A7C15u;
    digest ^= digest >> 32;
  }
  return digest;
}

std::shared_ptr<const Tokenizer> Tokenizer::FromJsonText(std::string_view json,
                                                         const std::string& name) {
  return std::make_shared<const Tokenizer>(LoadTokenizerJson(json, name));
}

std::shared_ptr<const Tokenizer> Tokenizer::FromJsonFile(const std::string& path) {
  const auto file = MappedFile::Open(path);
  auto parts = LoadTokenizerJson(AsText(file->bytes()), path);
  ReadTokenizerConfig(path, *parts);
  return std::make_shared<const Tokenizer>(std::move(parts));
}

std::shared_ptr<const Tokenizer> Tokenizer::FromSentencePieceBytes(std::string_view bytes,
                                                                   const std::string& name) {
  return std::make_shared<const Tokenizer>(LoadSentencePiece(bytes, name));
}

std::shared_ptr<const Tokenizer> Tokenizer::FromSentencePieceFile(const std::string& path) {
  const auto file = MappedFile::Open(path);
  auto parts = LoadSentencePiece(AsText(file->bytes()), path);
  ReadTokenizerConfig(path, *parts);
  return std::make_shared<const Tokenizer>(std::move(parts));
}

std::shared_ptr<const Tokenizer> Tokenizer::FromModelFile(const ModelFile& file) {
  if (auto parts = LoadModelMetadata(file))
    return std::make_shared<const Tokenizer>(std::move(parts));
  if (const auto json = file.Companion("tokenizer.json")) return FromJsonFile(*json);
  if (const auto model = file.Companion("tokenizer.model")) return FromSentencePieceFile(*model);
  return nullptr;
}

std::shared_ptr<const Tokenizer> Tokenizer::Open(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    const fs::path folder(path);
    if (fs::exists(folder / "tokenizer.json", ignored))
      return FromJsonFile(folder / "tokenizer.json");
    if (fs::exists(folder / "tokenizer.model", ignored)) {
      return FromSentencePieceFile(folder / "tokenizer.model");
    }
  } else {
    const auto file = MappedFile::Open(path);
    const std::string_view text = AsText(file->bytes());
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '{' && !path.ends_with(".index.json")) {
      return FromJsonFile(path);
    }
    // A SentencePiece model begins with its first piece: field 1, length-delimited.
    if (!text.empty() && text[0] == '\x0A' && !path.ends_with(".safetensors")) {
      return FromSentencePieceFile(path);
    }
  }
  auto tokenizer = FromModelFile(*ModelFile::Open(path));
  if (!tokenizer) {
    throw Error(ErrorCode::kModelLoad, "there is no tokenizer in this file or beside it",
                {.file = path});
  }
  return tokenizer;
}

}  // namespace apr
