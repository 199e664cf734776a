// Fuzz target of the tokenizers: the first byte chooses between reading a tokenizer.json, reading a
// SentencePiece model, and encoding and decoding with fixed small tokenizers, where the text must
// come back.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/error.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace {

using apr::Tokenizer;

// A byte-level tokenizer with all 256 bytes and a few merges.
std::shared_ptr<const Tokenizer> MakeByteLevel() {
  std::string vocab;
  for (int b = 0; b < 256; ++b) {
    std::string piece;
    // bytes_to_unicode: printable Latin-1 as it is, the rest from U+0100 on.
    static int next = 256;
    const bool self = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    apr::unicode::AppendUtf8(static_cast<char32_t>(self ? b : next++), piece);
    const bool escaped = piece == "\"" || piece == "\\";
    vocab += escaped ? "\"\\" : "\"";
    vocab += piece;
    vocab += "\":";
    vocab += std::to_string(b);
    vocab += ',';
  }
  vocab += "\"ab\":256,\"abc\":257,\"\xC4\xA0t\":258,\"aa\":259,\"aaaa\":260";
  std::string json =
      R"({"added_tokens":[{"id":261,"content":"<x>","special":true}],
          "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},
          "model":{"type":"BPE","vocab":{)";
  json += vocab;
  json += R"(},"merges":["a b","ab c","Ġ t","a a","aa aa"]}})";
  return Tokenizer::FromJsonText(json, "fuzz");
}

void RoundTrip(std::string_view text) {
  static const auto tokenizer = MakeByteLevel();
  apr::EncodeOptions options{.parse_special = true, .offsets = true};
  const auto encoding = tokenizer->Encode(text, options);
  APR_CHECK(encoding.spans.size() == encoding.ids.size());
  for (const auto& span : encoding.spans)
    APR_CHECK(span.begin <= span.end && span.end <= text.size());
  options.offsets = false;
  APR_CHECK(tokenizer->Encode(text, options).ids == encoding.ids);
  const std::string expected = apr::unicode::ReplaceIllFormed(text);
  APR_CHECK(tokenizer->Decode(encoding.ids) == expected);
  auto stream = tokenizer->Stream();
  std::string said;
  for (const int32_t id : encoding.ids) said += stream.Push(id);
  APR_CHECK(said + stream.Flush() == expected);
  const std::string nfc = apr::Normalize(expected, apr::NormalForm::kNfc);
  APR_CHECK(apr::Normalize(nfc, apr::NormalForm::kNfc) == nfc);
}

void Use(const Tokenizer& tokenizer) {
  for (const std::string_view text : {"Hello, world  123", "", "\xC3\xA9\xE4\xBD\xA0 <x>\n\n"}) {
    const auto encoding =
        tokenizer.Encode(text, {.add_special = true, .parse_special = true, .offsets = true});
    (void)tokenizer.Decode(encoding.ids);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] % 3 == 0) Use(*Tokenizer::FromJsonText(rest, "fuzz"));
    if (data[0] % 3 == 1) Use(*Tokenizer::FromSentencePieceBytes(rest, "fuzz"));
    if (data[0] % 3 == 2) RoundTrip(rest);
  } catch (const apr::Error&) {
    // What input may cause.
  }
  return 0;
}
