// See decoder.h: the decoders that work on bytes. The steps of tokenizer.json are in
// decoder_steps.cc.
#include "tokenizer/decoder.h"

#include <fmt/format.h>

#include "tokenizer/model.h"
#include "tokenizer/sentencepiece_bpe.h"
#include "tokenizer/unicode.h"

namespace apr {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

// What one U+FFFD stands for.
enum class IllFormed { kMaximalPart, kByte };

// Moves the whole characters of `pending` to `out`; an unfinished one at the end stays unless
// `final`.
void Drain(std::string& pending, bool final, IllFormed unit, std::string& out) {
  size_t at = 0;
  while (at < pending.size()) {
    const auto probe = unicode::ProbeUtf8(std::string_view(pending).substr(at));
    if (probe.truncated && !final) break;
    if (probe.valid) {
      out.append(pending, at, probe.length);
      at += probe.length;
    } else {
      out += kReplacement;
      at += unit == IllFormed::kByte ? 1 : probe.length;
    }
  }
  pending.erase(0, at);
}

std::string ReplaceMarks(std::string_view piece) {
  std::string out;
  out.reserve(piece.size());
  for (size_t i = 0; i < piece.size();) {
    if (piece.substr(i, kSpaceMark.size()) == kSpaceMark) {
      out += ' ';
      i += kSpaceMark.size();
    } else {
      out += piece[i++];
    }
  }
  return out;
}

class ByteLevelDecoder final : public Decoder {
 public:
  std::unique_ptr<DecoderStream> NewStream() const override {
    return std::make_unique<Stream>(*this);
  }
  std::string TokenBytes(const DecoderToken& token) const override {
    if (!token.literal) {
      if (auto bytes = ByteLevelBytes(token.piece)) return *std::move(bytes);
    }
    return std::string(token.piece);
  }
  std::string Describe() const override { return "ByteLevel"; }

 private:
  class Stream final : public DecoderStream {
   public:
    explicit Stream(const ByteLevelDecoder& decoder) : decoder_(decoder) {}
    void Push(const DecoderToken& token, std::string& out) override {
      pending_ += decoder_.TokenBytes(token);
      Drain(pending_, false, IllFormed::kMaximalPart, out);
    }
    void Flush(std::string& out) override { Drain(pending_, true, IllFormed::kMaximalPart, out); }

   private:
    const ByteLevelDecoder& decoder_;
    std::string pending_;
  };
};

class SentencePieceDecoder final : public Decoder {
 public:
  explicit SentencePieceDecoder(bool strip_first_space) : strip_(strip_first_space) {}
  std::unique_ptr<DecoderStream> NewStream() const override {
    return std::make_unique<Stream>(strip_);
  }
  std::string TokenBytes(const DecoderToken& token) const override {
    if (token.control || token.literal) return std::string(token.piece);
    if (const auto byte = ByteOfPiece(token.piece)) return std::string(1, static_cast<char>(*byte));
    return ReplaceMarks(token.piece);
  }
  std::string Describe() const override {
    return fmt::format("SentencePiece(strip_first_space={})", strip_);
  }

 private:
  class Stream final : public DecoderStream {
   public:
    explicit Stream(bool strip) : strip_(strip) {}

    void Push(const DecoderToken& token, std::string& out) override {
      const auto byte = token.control || token.literal ? std::nullopt : ByteOfPiece(token.piece);
      const size_t before = out.size();
      if (byte) {
        pending_ += static_cast<char>(*byte);
        Drain(pending_, false, IllFormed::kByte, out);
        began_ |= out.size() > before || !pending_.empty();
        return;
      }
      Drain(pending_, true, IllFormed::kByte, out);
      if (token.control) {
        if (!strip_) out += token.piece;
      } else if (token.unknown && strip_) {
        out += " \xE2\x81\x87 ";  // SentencePiece's default surface of the unknown piece
      } else if (token.literal) {
        out += token.piece;
      } else {
        std::string_view piece = token.piece;
        if (strip_ && !began_ && piece.substr(0, kSpaceMark.size()) == kSpaceMark) {
          piece.remove_prefix(kSpaceMark.size());
          began_ = true;
        }
        out += ReplaceMarks(piece);
      }
      began_ |= out.size() > before;
    }
    void Flush(std::string& out) override {
      Drain(pending_, true, IllFormed::kByte, out);
      began_ = false;
    }

   private:
    bool strip_;
    bool began_ = false;  // something was said, or the first space was taken off
    std::string pending_;
  };
  bool strip_;
};

}  // namespace

DecoderPtr MakeByteLevelDecoder() { return std::make_unique<ByteLevelDecoder>(); }
DecoderPtr MakeSentencePieceDecoder(bool strip_first_space) {
  return std::make_unique<SentencePieceDecoder>(strip_first_space);
}

}  // namespace apr
