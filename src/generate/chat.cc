// See chat.h.
#include "generate/chat.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "generate/chat_prompt.h"
#include "generate/stop_strings.h"
#include "generate/text_stream.h"

namespace apr {
namespace {

Json ToJson(const std::vector<ChatMessage>& history) {
  Json out = Json::array();
  for (const ChatMessage& message : history) out.push_back({{"role", message.role}, {"content", message.content}});
  return out;
}

}  // namespace

Chat::Chat(Session& session, const Tokenizer& tokenizer, Sampler& sampler, ChatOptions options)
    : session_(session), tokenizer_(tokenizer), sampler_(sampler), options_(std::move(options)), sequence_(session.NewSequence()) {
  if (!HasChatTemplate(session.model().file())) {
    throw Error(ErrorCode::kModelLoad, "the model has no chat template: use apr run", {.file = session.model().file().path()});
  }
  Clear();
}

void Chat::Clear() {
  history_.clear();
  if (!options_.system.empty()) history_.push_back({"system", options_.system});
}

void Chat::SetSystem(std::string text) {
  options_.system = std::move(text);
  Clear();
}

bool Chat::Undo() {
  const auto last = std::ranges::find(history_.rbegin(), history_.rend(), "user", &ChatMessage::role);
  if (last == history_.rend()) return false;
  history_.erase(last.base() - 1, history_.end());
  return true;
}

void Chat::LoadHistory(const std::string& json, const std::string& source) {
  const Json list = ParseJson(json, source);
  if (!list.is_array()) throw Error(ErrorCode::kInvalidFormat, "is no list of messages", {.file = source});
  std::vector<ChatMessage> history;
  for (const Json& message : list) {
    const bool whole = message.is_object() && message.contains("role") && message.contains("content") && message["role"].is_string() &&
                       message["content"].is_string();
    if (!whole) throw Error(ErrorCode::kInvalidFormat, "a message needs \"role\" and \"content\", both texts", {.file = source});
    history.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  options_.system = !history.empty() && history[0].role == "system" ? history[0].content : "";
  history_ = std::move(history);
}

std::string Chat::HistoryJson() const { return DumpJson(ToJson(history_)) + "\n"; }

std::vector<int32_t> Chat::Render() const {
  return ChatPrompt(session_.model().file(), tokenizer_, ToJson(history_)).ids;
}

ChatReply Chat::Say(const std::string& message, const std::function<void(const std::string&)>& on_text,
                    const RunHooks& hooks) {
  const std::vector<ChatMessage> before = history_;
  history_.push_back({"user", message});
  try {
    const std::vector<int32_t> prompt = Render();
    // What the cache holds of this prompt stays; at least its last token runs, for its logits.
    const std::vector<int32_t>& held = session_.ids(sequence_);
    const auto differs = std::ranges::mismatch(prompt, held).in1;
    ChatReply reply;
    reply.reused_tokens = std::min<int64_t>(differs - prompt.begin(), static_cast<int64_t>(prompt.size()) - 1);
    session_.Truncate(sequence_, reply.reused_tokens);
    TextStream text(&tokenizer_, prompt);
    StopStrings stops(options_.stops);
    const auto emit = [&](const std::string& certain) {
      reply.text += certain;
      if (!certain.empty()) on_text(certain);
    };
    std::optional<Constraint> constraint;
    if (options_.grammar) constraint.emplace(options_.grammar, options_.trie, options_.stop_ids);
    reply.result = Generate(session_, sampler_,
                            {.sequence = sequence_,
                             .prompt = std::span(prompt).subspan(static_cast<size_t>(reply.reused_tokens)),
                             .max_tokens = options_.max_tokens,
                             .stop_ids = options_.stop_ids,
                             .constraint = constraint ? &*constraint : nullptr,
                             .on_token = [&](int32_t id) {
                               const bool end = std::ranges::find(options_.stop_ids, id) != options_.stop_ids.end();
                               if (!end) emit(stops.Push(text.Push(id)));
                               return !stops.stopped();
                             },
                             .hooks = hooks});
    emit(stops.Push(text.Finish()));
    emit(stops.Finish());
    history_.push_back({"assistant", reply.text});
    return reply;
  } catch (...) {
    history_ = before;
    throw;
  }
}

}  // namespace apr
