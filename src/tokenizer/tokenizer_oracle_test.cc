// Every line of the stored oracles: ids, decoded text, streaming rules, byte spans; and the
// published vocabularies' own test strings.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "tokenizer/tokenizer.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const char kShared[] = APR_SOURCE_DIR "/../shared/";

std::string ModelPath(const std::string& file) {
  const char* folder = std::getenv("APR_REAL_MODELS");
  return (folder != nullptr ? std::string(folder) : std::string(APR_SOURCE_DIR "/../models")) +
         "/" + file;
}

std::string ReadText(const std::string& path) {
  return std::string(AsText(MappedFile::Open(path)->bytes()));
}

std::shared_ptr<const Tokenizer> OpenCached(const std::string& path) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>> cache;
  auto& entry = cache[path];
  if (!entry) entry = Tokenizer::Open(path);
  return entry;
}

std::string FromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return out;
}

struct Case {
  const char* oracle;
  std::string tokenizer;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.oracle; }

class Oracle : public testing::TestWithParam<Case> {};

// Counts failures instead of printing thousands.
class Failures {
 public:
  void Add(size_t line, const std::string& what) {
    if (++count_ <= 8) ADD_FAILURE() << "line " << line << ": " << what;
  }
  ~Failures() {
    if (count_ > 8) ADD_FAILURE() << count_ << " lines differ in all";
  }

 private:
  size_t count_ = 0;
};

void CheckStream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const Json& line,
                 size_t number, Failures& failures) {
  const auto decoded = line["decoded"].get<std::string>();
  StreamDecoder stream = tokenizer.Stream();
  std::string said;
  for (const int32_t id : ids) {
    const std::string piece = stream.Push(id);
    if (!IsValidUtf8(piece)) failures.Add(number, "a streamed piece is not valid UTF-8");
    said += piece;
    if (decoded.compare(0, said.size(), said) != 0)
      failures.Add(number, "streamed text is no prefix");
  }
  said += stream.Flush();
  if (said != decoded) failures.Add(number, "streamed '" + said + "' for '" + decoded + "'");
  if (!line.contains("token_bytes")) return;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (tokenizer.TokenBytes(ids[i]) != FromHex(line["token_bytes"][i].get<std::string>())) {
      failures.Add(number, "bytes of token " + std::to_string(ids[i]));
    }
  }
}

// Spans cover the text in order; where nothing was normalised they give back the tokens' bytes.
void CheckSpans(const Tokenizer& tokenizer, const std::string& text, EncodeOptions options,
                const std::vector<int32_t>& ids, size_t number, Failures& failures) {
  options.offsets = true;
  const Encoding encoding = tokenizer.Encode(text, options);
  if (encoding.ids != ids) return failures.Add(number, "ids differ with offsets");
  if (encoding.spans.size() != ids.size()) return failures.Add(number, "spans are missing");
  const bool plain = tokenizer.description().normalizer.empty();
  uint32_t last = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const ByteSpan span = encoding.spans[i];
    if (span.begin > span.end || span.end > text.size() || span.begin < (plain ? last : 0)) {
      return failures.Add(number, "span " + std::to_string(i) + " is out of order");
    }
    last = span.end;
    if (plain && span.end > span.begin &&
        text.substr(span.begin, span.end - span.begin) != tokenizer.TokenBytes(ids[i])) {
      return failures.Add(number, "span " + std::to_string(i) + " has other bytes than its token");
    }
  }
}

TEST_P(Oracle, EveryLine) {
  const std::string oracle =
      std::string(kShared) + "oracle/tokenizer/" + GetParam().oracle + ".jsonl";
  if (!fs::exists(oracle)) GTEST_SKIP() << oracle << " is absent";
  if (!fs::exists(GetParam().tokenizer)) GTEST_SKIP() << GetParam().tokenizer << " is absent";
  const auto tokenizer = OpenCached(GetParam().tokenizer);
  const std::string text = ReadText(oracle);
  Failures failures;
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    ++number;
    const Json line = ParseJson(std::string_view(text).substr(at, end - at), oracle);
    at = end + 1;
    const auto ids = line["ids"].get<std::vector<int32_t>>();
    EncodeOptions options;
    options.add_special = line["add_special"].get<bool>();
    options.parse_special = line["parse_special"].get<bool>();
    if (!line["text"].is_null()) {
      const auto input = line["text"].get<std::string>();
      const auto got = tokenizer->Encode(input, options).ids;
      if (got != ids) {
        failures.Add(number, line["text"].dump() + " gives " + Json(got).dump() + ", not " +
                                 Json(ids).dump());
      }
      CheckSpans(*tokenizer, input, options, ids, number, failures);
    }
    const std::string decoded = tokenizer->Decode(ids);
    if (decoded != line["decoded"].get<std::string>()) {
      failures.Add(number,
                   "decodes to " + Json(decoded).dump() + ", not " + line["decoded"].dump());
    }
    CheckStream(*tokenizer, ids, line, number, failures);
  }
  EXPECT_GT(number, 1000u);
}

std::string Vocab(const std::string& name) {
  return std::string(kShared) + "tokenizers/ggml-vocab/ggml-vocab-" + name + ".gguf";
}

INSTANTIATE_TEST_SUITE_P(
    Files, Oracle,
    testing::Values(Case{"qwen2_5", std::string(kShared) + "tokenizers/qwen2_5/tokenizer.json"},
                    Case{"llama3_2", std::string(kShared) + "tokenizers/llama3_2/tokenizer.json"},
                    Case{"smollm2", ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf")},
                    Case{"gemma3", ModelPath("gemma-3-270m-q4_k_m.gguf")},
                    Case{"gpt-2", Vocab("gpt-2")}, Case{"starcoder", Vocab("starcoder")},
                    Case{"refact", Vocab("refact")}, Case{"llama-spm", Vocab("llama-spm")}),
    [](const auto& param) {
      std::string name = param.param.oracle;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

// llama.cpp's own test strings: .inp holds them, .out the ids.
class GgmlVocab : public testing::TestWithParam<Case> {};

TEST_P(GgmlVocab, TestStrings) {
  const std::string base = Vocab(GetParam().oracle);
  if (!fs::exists(base + ".inp")) GTEST_SKIP() << base << ".inp is absent";
  const auto tokenizer = OpenCached(GetParam().tokenizer.empty() ? base : GetParam().tokenizer);
  const std::string inputs = ReadText(base + ".inp");
  const std::string outputs = ReadText(base + ".out");
  const std::string separator = "\n__ggml_vocab_test__\n";
  size_t in = 0;
  size_t out = 0;
  int compared = 0;
  while (out < outputs.size()) {
    const size_t in_end = std::min(inputs.find(separator, in), inputs.size());
    const size_t out_end = std::min(outputs.find('\n', out), outputs.size());
    const std::string text = inputs.substr(in, in_end - in);
    std::string ids;
    for (const int32_t id : tokenizer->Encode(text).ids) {
      ids += ' ';
      ids += std::to_string(id);
    }
    EXPECT_EQ(ids, outputs.substr(out, out_end - out)) << Json(text).dump();
    ++compared;
    in = in_end + separator.size();
    out = out_end + 1;
  }
  EXPECT_GE(compared, 40);
}

INSTANTIATE_TEST_SUITE_P(
    Files, GgmlVocab,
    testing::Values(Case{"gpt-2", ""}, Case{"starcoder", ""}, Case{"refact", ""},
                    Case{"llama-spm", ""}, Case{"phi-3", ""}, Case{"deepseek-coder", ""},
                    Case{"qwen2", std::string(kShared) + "tokenizers/qwen2_5/tokenizer.json"},
                    Case{"llama-bpe", std::string(kShared) + "tokenizers/llama3_2/tokenizer.json"}),
    [](const auto& param) {
      std::string name = param.param.oracle;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

}  // namespace
}  // namespace apr
