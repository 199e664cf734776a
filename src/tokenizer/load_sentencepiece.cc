// Loading a SentencePiece tokenizer.model: a protocol buffer, ModelProto of google/sentencepiece,
// src/sentencepiece_model.proto. Only the wire format's own rules are relied upon; unknown fields
// are skipped.
#include <fmt/format.h>

#include <bit>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/word_models.h"

namespace apr {
namespace {

// The fields of one message, bounded by its bytes.
class Message {
 public:
  Message(std::string_view bytes, std::string file, uint64_t base)
      : reader_(AsBytes(bytes), std::move(file), base) {}

  struct Field {
    uint32_t number = 0;
    uint64_t value = 0;      // varint or fixed
    std::string_view bytes;  // length-delimited
    uint64_t offset = 0;     // of `bytes` in the file
    bool is_bytes = false;
  };

  bool Next(Field& field) {
    if (reader_.remaining() == 0) return false;
    const uint64_t tag = Varint();
    field = {};
    field.number = static_cast<uint32_t>(tag >> 3);
    if (tag >> 3 == 0 || tag >> 32 != 0) reader_.Fail("a protobuf field has an impossible number");
    switch (tag & 7) {
      case 0:
        field.value = Varint();
        break;
      case 1:
        field.value = reader_.Read<uint64_t>("a 64-bit field");
        break;
      case 2: {
        const uint64_t size = Varint();
        field.offset = reader_.offset();
        field.bytes = AsText(reader_.ReadBytes(size, "a protobuf field"));
        field.is_bytes = true;
        break;
      }
      case 5:
        field.value = reader_.Read<uint32_t>("a 32-bit field");
        break;
      default:
        reader_.Fail(fmt::format("protobuf wire type {} is not used by this format", tag & 7));
    }
    return true;
  }

  Message Sub(const Field& field) const {
    if (!field.is_bytes)
      reader_.Fail(fmt::format("protobuf field {} is not a message", field.number));
    return Message(field.bytes, reader_.file(), field.offset);
  }
  [[noreturn]] void Fail(std::string what) const { reader_.Fail(std::move(what)); }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = reader_.Read<uint8_t>("a varint");
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (!(byte & 0x80)) return value;
    }
    reader_.Fail("a varint is longer than ten bytes");
  }
  ByteReader reader_;
};

struct SentencePieceSpec {
  uint64_t model_type = 1;  // 1 unigram, 2 BPE, 3 word, 4 character
  bool byte_fallback = false;
  bool space_as_suffix = false;
  std::string_view charsmap;
  bool dummy_prefix = true;
  bool remove_extra = true;
  bool escape = true;
};

class SentencePieceLoader {
 public:
  SentencePieceLoader(std::string_view bytes, std::string file)
      : bytes_(bytes), file_(std::move(file)) {}

  std::unique_ptr<TokenizerParts> Run() {
    Message model(bytes_, file_, 0);
    Message::Field field;
    while (model.Next(field)) {
      if (field.number == 1) ReadPiece(model.Sub(field));
      if (field.number == 2) ReadTrainer(model.Sub(field));
      if (field.number == 3) ReadNormalizer(model.Sub(field));
    }
    if (vocabulary_.size() == 0) model.Fail("the model has no pieces");
    vocabulary_.BuildIndex(true);
    return Build();
  }

 private:
  void ReadPiece(Message message) {
    std::string_view piece;
    float score = 0;
    uint64_t type = 1;
    Message::Field field;
    while (message.Next(field)) {
      if (field.number == 1) piece = field.bytes;
      if (field.number == 2) score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
      if (field.number == 3) type = field.value;
    }
    if (!IsValidUtf8(piece)) message.Fail("a piece is not valid UTF-8");
    if (type < 1 || type > 6) message.Fail(fmt::format("a piece of unknown type {}", type));
    vocabulary_.Add(vocabulary_.size(), piece);
    types_.push_back(static_cast<PieceType>(type));
    scores_.push_back(score);
  }

  void ReadTrainer(Message message) {
    Message::Field field;
    while (message.Next(field)) {
      if (field.number == 3) spec_.model_type = field.value;
      if (field.number == 24) spec_.space_as_suffix = field.value != 0;
      if (field.number == 35) spec_.byte_fallback = field.value != 0;
    }
  }

  void ReadNormalizer(Message message) {
    Message::Field field;
    while (message.Next(field)) {
      if (field.number == 2) spec_.charsmap = field.bytes;
      if (field.number == 3) spec_.dummy_prefix = field.value != 0;
      if (field.number == 4) spec_.remove_extra = field.value != 0;
      if (field.number == 5) spec_.escape = field.value != 0;
    }
  }

  std::optional<uint32_t> FirstOf(PieceType type) const {
    for (uint32_t id = 0; id < types_.size(); ++id) {
      if (types_[id] == type) return id;
    }
    return std::nullopt;
  }

  std::optional<int32_t> Named(std::string_view piece) const {
    const auto id = vocabulary_.Find(piece);
    if (!id) return std::nullopt;
    return static_cast<int32_t>(*id);
  }

  std::unique_ptr<TokenizerParts> Build() {
    const auto refuse = [&](std::string what, const char* key) {
      throw Error(ErrorCode::kModelLoad, std::move(what), {.file = file_, .tensor = key});
    };
    if (spec_.space_as_suffix)
      refuse("pieces with the space behind them are not supported", "treat_whitespace_as_suffix");
    if (spec_.model_type != 1 && spec_.model_type != 2) {
      refuse(
          fmt::format("model type {} (neither unigram nor BPE) is not supported", spec_.model_type),
          "model_type");
    }
    auto parts = std::make_unique<TokenizerParts>();
    parts->description.source = "tokenizer.model";
    std::vector<NormalizerPtr> steps;
    if (!spec_.charsmap.empty())
      steps.push_back(MakeCharsmap(spec_.charsmap, CharsmapMatch::kLongest));
    steps.push_back(MakeSpaceNormalizer({.remove_extra = spec_.remove_extra,
                                         .dummy_prefix = spec_.dummy_prefix,
                                         .escape = spec_.escape}));
    parts->normalizer = MakeNormalizerSequence(std::move(steps));
    parts->decoder = MakeSentencePieceDecoder(spec_.dummy_prefix || spec_.remove_extra);
    SetSpecial(*parts);
    const auto unk = FirstOf(PieceType::kUnknown);
    if (spec_.model_type == 2) {
      ScoredPieces pieces;
      pieces.unk_id = unk;
      pieces.byte_fallback = spec_.byte_fallback;
      pieces.scores = std::move(scores_);
      pieces.types = std::move(types_);
      parts->model = std::make_unique<SentencePieceBpe>(std::move(vocabulary_), std::move(pieces));
    } else {
      UnigramOptions options;
      options.unk_id = unk;
      options.byte_fallback = spec_.byte_fallback;
      options.single_precision = true;
      options.scores.assign(scores_.begin(), scores_.end());
      options.types = std::move(types_);
      parts->model = std::make_unique<UnigramModel>(std::move(vocabulary_), std::move(options));
    }
    return parts;
  }

  // Ids by their usual names, and what transformers' slow tokenizers of the two model kinds put
  // around a text (Llama: BOS; T5: EOS): the file itself says nothing of that.
  void SetSpecial(TokenizerParts& parts) {
    std::vector<AddedToken> tokens;
    for (uint32_t id = 0; id < types_.size(); ++id) {
      if (types_[id] != PieceType::kControl && types_[id] != PieceType::kUnknown) continue;
      AddedToken token;
      token.id = id;
      token.content = std::string(vocabulary_.Piece(id));
      token.special = true;
      tokens.push_back(std::move(token));
    }
    parts.literal_added = true;
    parts.SetAddedTokens(std::move(tokens));
    SpecialIds& ids = parts.special;
    ids.bos = Named("<s>");
    ids.eos = Named("</s>");
    ids.pad = Named("<pad>");
    if (!ids.bos) ids.bos = Named("<bos>");
    if (!ids.eos) ids.eos = Named("<eos>");
    if (const auto unk = FirstOf(PieceType::kUnknown)) ids.unk = static_cast<int32_t>(*unk);
    if (spec_.model_type == 2 && ids.bos) parts.prefix.push_back(*ids.bos);
    if (spec_.model_type == 1 && ids.eos) parts.suffix.push_back(*ids.eos);
  }

  std::string_view bytes_;
  std::string file_;
  SentencePieceSpec spec_;
  Vocabulary vocabulary_;
  std::vector<PieceType> types_;
  std::vector<float> scores_;
};

}  // namespace

std::unique_ptr<TokenizerParts> LoadSentencePiece(std::string_view bytes, const std::string& file) {
  try {
    return SentencePieceLoader(bytes, file).Run();
  } catch (const Error& e) {
    throw e.With({.file = file});
  }
}

}  // namespace apr
