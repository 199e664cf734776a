// A conversation with the tiny chat model: known answers, reuse of the cache, history.
#include "generate/chat.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "generate/chat_prompt.h"
#include "generate/gbnf.h"
#include "generate/stop_ids.h"

namespace apr {
namespace {

const std::string kChat = APR_SOURCE_DIR "/testdata/model/tiny-chat";

struct Room {
  std::shared_ptr<const Model> model = Model::Load(kChat);
  std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::FromModelFile(model->file());
  Session session{model, {.compute = {.threads = 1, .precision = Precision::kExact}}};
  Sampler sampler{SamplerOptions{}};
  ChatOptions options{.system = "", .max_tokens = 60, .stop_ids = {StopIdsOf(model->file()).at(0).id}};
};

Json Expected() {
  std::ifstream in(kChat + "/expected.json");
  std::ostringstream text;
  text << in.rdbuf();
  return ParseJson(text.str(), "expected.json")["chat"];
}

TEST(Chat, AnswersAsTheModelWasTaught) {
  Room room;
  for (const Json& chat : Expected()) {
    if (chat["messages"].size() != 1) continue;
    Chat talk(room.session, *room.tokenizer, room.sampler, room.options);
    std::string streamed;
    const ChatReply reply = talk.Say(chat["messages"][0]["content"], [&](const std::string& s) { streamed += s; });
    EXPECT_EQ(reply.text, chat["answer"]);
    EXPECT_EQ(streamed, reply.text);
    EXPECT_EQ(reply.result.ids, chat["answer_ids"].get<std::vector<int32_t>>());
  }
}

TEST(Chat, ALaterTurnIsWhatAFreshSessionSays) {
  Room room;
  Chat talk(room.session, *room.tokenizer, room.sampler, room.options);
  const auto ignore = [](const std::string&) {};
  const ChatReply first = talk.Say("What does rope do?", ignore);
  const ChatReply second = talk.Say("What does the norm do?", ignore);
  EXPECT_EQ(first.reused_tokens, 0);
  EXPECT_GT(second.reused_tokens, 30);
  ASSERT_EQ(talk.history().size(), 4U);

  Json messages = ParseJson(talk.HistoryJson(), "history");
  messages.erase(3);
  Session fresh(room.model, {.compute = {.threads = 1, .precision = Precision::kExact}});
  const PromptTokens prompt = ChatPrompt(room.model->file(), *room.tokenizer, messages);
  const GenerateResult whole = Generate(fresh, room.sampler,
                                        {.sequence = fresh.NewSequence(), .prompt = prompt.ids, .max_tokens = 60,
                                         .stop_ids = room.options.stop_ids, .on_token = nullptr, .hooks = {}});
  EXPECT_EQ(second.result.ids, whole.ids);
}

TEST(Chat, AFailedTurnLeavesTheHistoryAlone) {
  Room room;
  room.session.set_context(40);
  Chat talk(room.session, *room.tokenizer, room.sampler, room.options);
  const auto ignore = [](const std::string&) {};
  EXPECT_THROW(talk.Say(std::string(400, 'x'), ignore), Error);
  EXPECT_TRUE(talk.history().empty());
  EXPECT_EQ(talk.Say("What does rope do?", ignore).result.reason, StopReason::kContext);
  talk.SetSystem("Be brief.");
  ASSERT_EQ(talk.history().size(), 1U);
  EXPECT_EQ(talk.history()[0].content, "Be brief.");
}

TEST(Chat, AnInterruptedAnswerStays) {
  Room room;
  Chat talk(room.session, *room.tokenizer, room.sampler, room.options);
  int tokens = 0;
  const ChatReply reply = talk.Say("What does rope do?", [&](const std::string&) { ++tokens; },
                                   {.progress = nullptr, .cancelled = [&] { return tokens >= 5; }});
  EXPECT_EQ(reply.result.reason, StopReason::kCancelled);
  EXPECT_EQ(reply.result.ids.size(), 5U);
  EXPECT_EQ(talk.history().back().content, reply.text);
  EXPECT_FALSE(reply.text.empty());
}

TEST(Chat, UndoAndLoadGoOnAsIfNothingElseWasSaid) {
  Room room;
  Chat talk(room.session, *room.tokenizer, room.sampler, room.options);
  const auto ignore = [](const std::string&) {};
  EXPECT_FALSE(talk.Undo());
  const std::string first = talk.Say("What does rope do?", ignore).text;
  const std::string saved = talk.HistoryJson();
  const std::string second = talk.Say("What does the norm do?", ignore).text;
  EXPECT_TRUE(talk.Undo());
  EXPECT_EQ(talk.HistoryJson(), saved);
  EXPECT_EQ(talk.Say("What does the norm do?", ignore).text, second);
  talk.LoadHistory(saved, "saved");
  EXPECT_EQ(talk.Say("What does the norm do?", ignore).text, second);
  talk.Clear();
  for (const char* bad : {"{}", "[1]", "[{\"role\": \"user\"}]", "[", "[{\"role\": 1, \"content\": \"a\"}]"}) EXPECT_THROW(talk.LoadHistory(bad, "bad"), Error);
  EXPECT_TRUE(talk.history().empty());
}

TEST(Chat, StopsAndGrammarsHoldForEveryAnswer) {
  Room room;
  room.options.stops = {"ope"};
  room.options.grammar = std::make_shared<const Grammar>(ParseGbnf("root ::= \"the rope\" | \"a norm\"", "test"));
  room.options.trie = std::make_shared<const TokenTrie>(TokenTrie::FromTokenizer(*room.tokenizer, room.model->config().vocab_size));
  Chat talk(room.session, *room.tokenizer, room.sampler, room.options);
  for (int turn = 0; turn < 3; ++turn) {
    const ChatReply reply = talk.Say("What does rope do?", [](const std::string&) {});
    EXPECT_TRUE(reply.text == "the r" || reply.text == "a norm") << reply.text;
  }
}

}  // namespace
}  // namespace apr
