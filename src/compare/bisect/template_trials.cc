// See special_trials.h: chat templates.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "compare/bisect/special_trials.h"
#include "compare/bisect/token_probes.h"
#include "compare/bisect/tokenizer_trials.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/chat_template_source.h"

namespace apr::bisect {
namespace {

constexpr const char* kNow = "2025-01-02T03:04:05";  // one clock for both sides

struct Template {
  ChatTemplateSource source;
  std::optional<ChatTemplate> parsed;
  std::string problem;  // why it is no template
  Json variables = Json::object();
};

// Texts of special tokens that the template's own file does not state, by what the tokenizer says.
void FillVariables(const Tokenizer& tokenizer, Json& variables) {
  const SpecialIds& ids = tokenizer.special_ids();
  const std::pair<const char*, std::optional<int32_t>> roles[] = {
      {"bos_token", ids.bos}, {"eos_token", ids.eos}, {"unk_token", ids.unk}, {"pad_token", ids.pad}};
  for (const auto& [role, id] : roles) {
    if (id && !variables.contains(role)) variables[role] = tokenizer.IdToPiece(*id).value_or("");
  }
}

std::optional<Template> Load(const Side& side, bool has_tools) {
  Template out;
  try {
    out.source = FindChatTemplate(side.file->path(), has_tools);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kNotFound) return std::nullopt;
    out.problem = error.what();
    return out;
  }
  try {
    out.variables = ParseJson(out.source.special_tokens_json, out.source.name);
    // A folder without a tokenizer_config.json states no tokens at all; its tokenizer knows them.
    if (out.variables.empty()) FillVariables(*side.tokenizer, out.variables);
    out.parsed = ChatTemplate::Parse(out.source.text, out.source.name);
  } catch (const Error& error) {
    out.problem = error.what();
  }
  return out;
}

struct Rendering {
  std::optional<std::string> text;
  std::string problem;
};

Rendering Render(const Template& source, const Json& variables, const Json& messages, const Json* tools, bool generation_prompt) {
  if (!source.parsed) return {std::nullopt, source.problem};
  try {
    return {source.parsed->Render({.messages = &messages, .tools = tools, .variables = &variables, .add_generation_prompt = generation_prompt, .now = kNow}), ""};
  } catch (const Error& error) {
    return {std::nullopt, error.what()};
  }
}

// Line 12: ... and the same of the other side, around the first byte that differs.
std::string FirstDifference(const std::string& a, const std::string& b) {
  const size_t at = static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  size_t from = at > 20 ? at - 20 : 0;
  while (from > 0 && from < a.size() && (static_cast<unsigned char>(a[from]) & 0xC0) == 0x80) --from;
  const auto part = [&](const std::string& text) { return Quoted(from < text.size() ? text.substr(from) : std::string()); };
  return fmt::format("from byte {} on A writes {}, B writes {}", at, part(a), part(b));
}

class TemplateSearch {
 public:
  TemplateSearch(const Side& a, const Side& b) : a_(a), b_(b) {}

  // What makes the two write a conversation otherwise: the template, the special tokens, or both.
  std::vector<Finding> Compare(const Conversation& conversation, int64_t& compared) {
    const bool has_tools = !conversation.tools_json.empty();
    const auto in_a = Load(a_, has_tools);
    const auto in_b = Load(b_, has_tools);
    if (!in_a || !in_b) return {};
    const Json messages = ParseJson(conversation.messages_json, "messages");
    const Json tools = has_tools ? ParseJson(conversation.tools_json, "tools") : Json();
    const Json* tools_used = has_tools ? &tools : nullptr;
    const auto render = [&](const Template& source, const Json& variables) {
      return Render(source, variables, messages, tools_used, conversation.generation_prompt);
    };
    ++compared;
    const Rendering of_a = render(*in_a, in_a->variables);
    const Rendering of_b = render(*in_b, in_b->variables);
    if (of_a.text == of_b.text) return {};
    if (!of_a.text && !in_a->parsed) return {};  // nothing to be right by
    const Rendering with_tokens = render(*in_b, in_a->variables);
    const Rendering with_template = render(*in_a, in_b->variables);
    std::vector<Finding> out;
    if (with_tokens.text != of_a.text) out.push_back(Named(conversation, of_a, with_tokens, *in_a, *in_b, false));
    if (with_template.text != of_a.text) out.push_back(Named(conversation, of_a, with_template, *in_a, *in_b, true));
    return out;
  }

 private:
  // `of_b`: B's rendering with the other fault put right; `tokens`: the special tokens are at fault.
  Finding Named(const Conversation& conversation, const Rendering& of_a, const Rendering& of_b, const Template& in_a,
                const Template& in_b, bool tokens) const {
    Finding finding;
    Place& place = finding.first;
    place.phase = Phase::kTokens;
    place.key = tokens ? "special_tokens_map" : "chat_template";
    place.error = 1.0;
    place.floor = 0.0;
    Describe(conversation, of_a, of_b, place);
    Cause cause;
    cause.name = tokens ? "special_tokens" : NameOf(of_a, of_b);
    if (tokens) SetTokens(in_a, in_b, cause, place);
    else SetTemplates(in_a, in_b, cause);
    cause.evidence = place.note + (tokens ? " With A's special tokens B's template writes the same." : " With A's template B writes the same.");
    cause.error_before = 1.0;
    cause.error_after = 0.0;
    finding.cause = std::move(cause);
    return finding;
  }

  void Describe(const Conversation& conversation, const Rendering& of_a, const Rendering& of_b, Place& place) const {
    if (!of_a.text || !of_b.text) {
      place.note = fmt::format("Of the conversation '{}' {} fails: {}", conversation.name, of_a.text ? "B's template" : "A's template",
                               of_a.text ? of_b.problem : of_a.problem);
      return;
    }
    place.note = fmt::format("Of the conversation '{}' {}.", conversation.name, FirstDifference(*of_a.text, *of_b.text));
    const auto ids = [&](const std::string& text) { return a_.tokenizer->Encode(text, {.add_special = false, .parse_special = true}).ids; };
    const std::vector<int32_t> in_a = ids(*of_a.text), in_b = ids(*of_b.text);
    const size_t at = static_cast<size_t>(std::ranges::mismatch(in_a, in_b).in1 - in_a.begin());
    place.position = static_cast<int64_t>(at);
    if (at < in_a.size()) place.a = in_a[at];
    if (at < in_b.size()) place.b = in_b[at];
  }

  // B's template writes the BOS that the tokenizer adds as well.
  std::string NameOf(const Rendering& of_a, const Rendering& of_b) const {
    const auto bos = b_.tokenizer->special_ids().bos;
    const std::string piece = bos ? b_.tokenizer->IdToPiece(*bos).value_or("") : "";
    const bool doubled = !piece.empty() && of_a.text && of_b.text && b_.tokenizer->add_bos() && *of_b.text == piece + *of_a.text;
    return doubled ? "double_bos" : "chat_template";
  }

  static void SetTemplates(const Template& in_a, const Template& in_b, Cause& cause) {
    const auto told = [](const Template& t) { return Json(fmt::format("{} bytes in {}", t.source.text.size(), t.source.name)); };
    cause.a = told(in_a);
    cause.b = told(in_b);
    cause.fix = "write A's chat template into B";
  }

  static void SetTokens(const Template& in_a, const Template& in_b, Cause& cause, Place& place) {
    for (const auto& [role, value] : in_a.variables.items()) {
      const Json other = in_b.variables.value(role, Json());
      if (other == value) continue;
      place.key = role;
      cause.a = value;
      cause.b = other;
      break;
    }
    cause.fix = "write A's " + place.key + " into B";
  }

  const Side& a_;
  const Side& b_;
};

Finding TemplateAbsent(const Side& a) {
  Finding finding;
  finding.first.phase = Phase::kTokens;
  finding.first.key = "chat_template";
  finding.first.error = 1.0;
  finding.first.floor = 0.0;
  finding.first.note = "A carries a chat template and B none: a conversation reaches B as plain text.";
  const auto source = Load(a, false);
  finding.cause = Cause{.name = "chat_template",
                        .a = source ? Json(source->source.name) : Json(),
                        .b = nullptr,
                        .evidence = finding.first.note,
                        .error_before = 1.0,
                        .error_after = 0.0,
                        .fix = "write A's chat template into B"};
  return finding;
}

}  // namespace

std::vector<Finding> CompareTemplates(const Side& a, const Side& b, const std::string& messages,
                                      std::vector<std::string>& notes, int64_t& compared) {
  const auto in_a = Load(a, false);
  const auto in_b = Load(b, false);
  if (!in_a && !in_b) return {};
  if (!in_a) {
    notes.push_back("only B carries a chat template: nothing to compare it with");
    return {};
  }
  if (!in_b) return {TemplateAbsent(a)};
  TemplateSearch search(a, b);
  std::vector<Conversation> conversations = StandardConversations();
  if (!messages.empty()) conversations.insert(conversations.begin(), {"given", true, messages, ""});
  std::vector<Finding> out;  // the first of each name
  std::string names;
  for (const Conversation& conversation : conversations) {
    std::vector<Finding> findings = search.Compare(conversation, compared);
    if (!findings.empty()) names += (names.empty() ? "" : ", ") + conversation.name;
    for (Finding& finding : findings) {
      const bool known = std::ranges::any_of(out, [&](const Finding& f) { return f.cause->name == finding.cause->name; });
      if (!known) out.push_back(std::move(finding));
    }
  }
  for (Finding& finding : out) finding.cause->evidence += fmt::format(" Conversations that differ: {}.", names);
  return out;
}

}  // namespace apr::bisect
