// See token_lines.h.
#include "tokenizer/token_lines.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace apr {
namespace {

// Calls `each(json, out)` for every line; `out` is the line to write.
template <typename Each>
LineCounts MapLines(const std::string& input, const std::string& output, Overwrite overwrite,
                    Each&& each) {
  const auto file = MappedFile::Open(input);
  const std::string_view text = AsText(file->bytes());
  OutputFile out(output, overwrite);
  LineCounts counts;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      std::string result;
      try {
        const Json json = ParseJson(line, input);
        if (!json.is_object())
          throw Error(ErrorCode::kInvalidFormat, "the line is not a JSON object");
        result = each(json, counts);
      } catch (const Error& e) {
        throw Error(e.code(), fmt::format("line {}: {}", counts.lines + 1, e.message()),
                    {.file = input, .tensor = e.context().tensor, .offset = at});
      }
      out.Write(result);
      out.Write("\n");
      ++counts.lines;
    }
    at = end + 1;
  }
  out.Commit();
  return counts;
}

void AppendNumbers(const std::vector<int32_t>& ids, std::string& out) {
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i)
    fmt::format_to(std::back_inserter(out), "{}{}", i ? "," : "", ids[i]);
  out += ']';
}

bool Flag(const Json& line, const char* key, bool fallback) {
  const auto it = line.find(key);
  if (it == line.end() || it->is_null()) return fallback;
  if (!it->is_boolean()) {
    throw Error(ErrorCode::kInvalidFormat, fmt::format("\"{}\" is not true or false", key));
  }
  return it->get<bool>();
}

}  // namespace

Json TokenizeToJson(const Tokenizer& tokenizer, std::string_view text,
                    const EncodeOptions& options) {
  const Encoding encoding = tokenizer.Encode(text, options);
  Json json = {{"ids", encoding.ids}};
  Json pieces = Json::array();
  for (const int32_t id : encoding.ids) pieces.push_back(tokenizer.IdToPiece(id).value_or(""));
  json["pieces"] = std::move(pieces);
  json["count"] = encoding.ids.size();
  if (options.offsets) {
    Json spans = Json::array();
    for (const ByteSpan span : encoding.spans) spans.push_back({span.begin, span.end});
    json["offsets"] = std::move(spans);
  }
  return json;
}

LineCounts TokenizeLines(const Tokenizer& tokenizer, const std::string& input,
                         const std::string& output, const EncodeOptions& options,
                         Overwrite overwrite) {
  return MapLines(input, output, overwrite, [&](const Json& line, LineCounts& counts) {
    const auto text = line.find("text");
    if (text == line.end()) throw Error(ErrorCode::kInvalidFormat, "there is no \"text\"");
    if (text->is_null()) return std::string("{\"ids\": null}");
    if (!text->is_string()) throw Error(ErrorCode::kInvalidFormat, "\"text\" is not a string");
    EncodeOptions of_line = options;
    of_line.add_special = Flag(line, "add_special", options.add_special);
    of_line.parse_special = Flag(line, "parse_special", options.parse_special);
    const auto& value = text->get_ref<const std::string&>();
    const Encoding encoding = tokenizer.Encode(value, of_line);
    counts.text_bytes += value.size();
    counts.tokens += encoding.ids.size();
    std::string out = "{\"ids\": ";
    AppendNumbers(encoding.ids, out);
    if (options.offsets) {
      out += ", \"offsets\": [";
      for (size_t i = 0; i < encoding.spans.size(); ++i) {
        fmt::format_to(std::back_inserter(out), "{}[{},{}]", i ? "," : "", encoding.spans[i].begin,
                       encoding.spans[i].end);
      }
      out += ']';
    }
    out += '}';
    return out;
  });
}

LineCounts DetokenizeLines(const Tokenizer& tokenizer, const std::string& input,
                           const std::string& output, bool skip_special, Overwrite overwrite) {
  return MapLines(input, output, overwrite, [&](const Json& line, LineCounts& counts) {
    const auto ids = line.find("ids");
    if (ids == line.end() || !ids->is_array()) {
      throw Error(ErrorCode::kInvalidFormat, "there is no array \"ids\"");
    }
    std::vector<int32_t> tokens;
    tokens.reserve(ids->size());
    for (const Json& id : *ids) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
          id.get<int64_t>() >= tokenizer.vocab_size()) {
        throw Error(ErrorCode::kInvalidFormat, fmt::format("{} is not a token id", DumpJson(id, -1)));
      }
      tokens.push_back(id.get<int32_t>());
    }
    const std::string text = tokenizer.Decode(tokens, skip_special);
    counts.tokens += tokens.size();
    counts.text_bytes += text.size();
    return "{\"text\": " + DumpJson(text, -1) + "}";
  });
}

Json DescribeTokenizer(const Tokenizer& tokenizer) {
  const TokenizerDescription& d = tokenizer.description();
  Json json = {{"source", d.source},
               {"model", d.model},
               {"pre_name", d.pre_name},
               {"normalizer", d.normalizer},
               {"pre_tokenizer", d.pre_tokenizer},
               {"decoder", d.decoder},
               {"post_processor", d.post_processor},
               {"vocab_size", d.vocab_size},
               {"merges", d.merges},
               {"vocabulary_digest", fmt::format("{:016x}", tokenizer.vocabulary_digest())},
               {"merges_digest", fmt::format("{:016x}", tokenizer.merges_digest())},
               {"add_bos", tokenizer.add_bos()},
               {"add_eos", tokenizer.add_eos()},
               {"notes", d.notes}};
  const SpecialIds& ids = tokenizer.special_ids();
  const auto put = [&](const char* key, const std::optional<int32_t>& id) {
    if (id) json[key] = *id;
  };
  put("bos_token_id", ids.bos);
  put("eos_token_id", ids.eos);
  put("unk_token_id", ids.unk);
  put("pad_token_id", ids.pad);
  put("sep_token_id", ids.sep);
  put("cls_token_id", ids.cls);
  put("mask_token_id", ids.mask);
  put("eot_token_id", ids.eot);
  return json;
}

}  // namespace apr
