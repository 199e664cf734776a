// `apr run` and the tokenizer commands from outside: known answers, JSON, streaming, interrupts, memory.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "base/json.h"
#include "cli/program_under_test.h"
#include "format/model_writer.h"
#include "format/test_limits.h"

namespace apr {
namespace {

const std::string kChat = APR_SOURCE_DIR "/testdata/model/tiny-chat";
const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";

Json ExpectedChats() {
  const std::string path = kChat + "/expected.json";
  return ParseJson(ReadText(path), path)["chat"];
}

std::string Joined(const Json& ids) { return fmt::format("{}", fmt::join(ids.get<std::vector<int>>(), ",")); }

TEST(Run, AnswersKnownQuestions) {
  for (const Json& chat : ExpectedChats()) {
    const std::string question = chat["messages"].back()["content"];
    if (chat["messages"].size() != 1) continue;
    const Json got = RunApr({"run", kChat, question, "-n", "100", "--precision", "exact", "--json"}).Document();
    EXPECT_EQ(got["prompt_ids"], chat["prompt_ids"]) << question;
    EXPECT_EQ(got["tokens"], chat["answer_ids"]) << question;
    EXPECT_EQ(got["text"], chat["answer"]) << question;
    EXPECT_EQ(got["stop_reason"], "eos");
    // The text is the same streamed, and from ids.
    EXPECT_EQ(RunApr({"run", kChat, "-p", question, "-n", "100"}).out, chat["answer"].get<std::string>() + "\n");
    const Json by_ids = RunApr({"run", kChat, "--ids", Joined(chat["prompt_ids"]), "-n", "100", "--json"}).Document();
    EXPECT_EQ(by_ids["text"], chat["answer"]);
    EXPECT_TRUE(by_ids["chat_template"].is_null());
  }
}

TEST(Run, DocumentSaysWhatRan) {
  const Json got = RunApr({"run", kLlama, "--ids", "1,2,3", "-n", "7", "--ignore-eos", "--threads", "1", "--json"}).Document();
  for (const char* key : {"model", "text", "tokens", "tokens_generated", "max_tokens", "tok_per_sec", "prompt_tok_per_sec",
                          "load_ms", "first_token_ms", "inference_time_ms", "precision", "device", "threads", "isa",
                          "used_gpu", "cached", "backend"}) {
    EXPECT_TRUE(got.contains(key)) << key;
  }
  EXPECT_EQ(got["tokens"].size(), 7U);
  EXPECT_EQ(got["stop_reason"], "length");
  EXPECT_EQ(got["precision"], "fast");
  EXPECT_EQ(got["threads"], 1);
  EXPECT_TRUE(got["text"].is_null());  // this model has no tokenizer
  EXPECT_EQ(RunApr({"run", kLlama, "--ids", "1", "-n", "1", "--executor", "reference", "--json"}).Document()["precision"], "f64");
}

TEST(Run, FlagsDoWhatTheySay) {
  const auto tokens = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", kChat, "What does rope do?", "-n", "12", "--json"});
    return RunApr(flags).Document();
  };
  const Json greedy = tokens({});
  EXPECT_NE(tokens({"--raw"})["prompt_ids"], greedy["prompt_ids"]);
  EXPECT_NE(tokens({"--system", "Be brief."})["prompt_ids"], greedy["prompt_ids"]);
  EXPECT_EQ(tokens({"--temperature", "3", "--seed", "1"})["tokens"], tokens({"--temperature", "3", "--seed", "1"})["tokens"]);
  EXPECT_NE(tokens({"--temperature", "3", "--seed", "1"})["tokens"], tokens({"--temperature", "3", "--seed", "2"})["tokens"]);
  EXPECT_EQ(tokens({"--temperature", "3", "--top-k", "1"})["tokens"], greedy["tokens"]);
  EXPECT_EQ(tokens({"--temperature", "3", "--top-p", "1e-9"})["tokens"], greedy["tokens"]);
  EXPECT_EQ(tokens({"--temperature", "3", "--min-p", "1"})["tokens"], greedy["tokens"]);
  EXPECT_NE(tokens({"--repeat-penalty", "100"})["tokens"], greedy["tokens"]);
  EXPECT_EQ(tokens({"--logit-bias", "7=1000"})["tokens"][0], 7);
  const Json full = tokens({"--context", "30"});
  EXPECT_EQ(full["stop_reason"], "context");
  EXPECT_EQ(full["prompt_tokens"].get<size_t>() + full["tokens"].size(), 31U);  // the last one is never run
}

TEST(Run, ErrorsByName) {
  const auto expect = [](std::vector<std::string> arguments, int code, const std::string& message) {
    const ProgramResult result = RunApr(arguments);
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    EXPECT_TRUE(result.out.empty()) << result.out;
  };
  expect({"run", kChat}, 2, "--ids");
  expect({"run", kChat, "a", "-p", "b"}, 2, "exclude");
  expect({"run", kLlama, "a"}, 6, "no tokenizer");
  expect({"run", kLlama, "--ids", "1,2,3,4", "--context", "3"}, 8, "context of 3 tokens");
  expect({"run", kLlama, "--ids", "96"}, 8, "96");
  expect({"run", kLlama, "--ids", "1", "--top-p", "0"}, 2, "top-p");
  expect({"run", kLlama, "--ids", "1", "--logit-bias", "x"}, 2, "--logit-bias");
  expect({"run", kChat, "a", "--raw", "--system", "b"}, 2, "--system");
  expect({"run", kChat, "--ids", "1", "--system", "b"}, 2, "--system");
  expect({"run", kChat, "a", "--batch-jsonl", "b"}, 2, "--batch-jsonl");
}

TEST(Run, InterruptKeepsWhatWasSaid) {
  const ProgramResult result = RunApr({.arguments = {"run", kChat, "What does rope do?", "-n", "1000000000", "--ignore-eos",
                                                     "--context", "1000000000"},
                                       .interrupt_when = [](const std::string& out) { return out.size() > 20; }});
  EXPECT_EQ(result.code, 130) << result.err;
  EXPECT_EQ(result.out.substr(0, 20), ExpectedChats()[0]["answer"].get<std::string>().substr(0, 20));
  const auto start = std::chrono::steady_clock::now();
  const ProgramResult json = RunApr(
      {.arguments = {"run", kLlama, "--ids", "1", "-n", "1000000000", "--ignore-eos", "--context", "1000000000", "--json"},
       .interrupt_when = [&](const std::string&) { return std::chrono::steady_clock::now() - start > std::chrono::seconds(1); }});
  EXPECT_EQ(json.code, 130);
  EXPECT_EQ(json.Document()["stop_reason"], "interrupted");
}

TEST(Tokenize, ThereAndBack) {
  const std::string text = "What does rope do?  \n\t\"Höhe\" 日本 🙂";
  const Json encoded = RunApr({"tokenize", kChat, text, "--json"}).Document();
  ASSERT_FALSE(encoded["ids"].empty());
  EXPECT_EQ(RunApr({"detokenize", kChat, Joined(encoded["ids"]), "--json"}).Document()["text"], text);
  EXPECT_EQ(RunApr({"tokenize", kChat + "/tokenizer.json", text}).out, Joined(encoded["ids"]) + "\n");
  const ScratchFolder scratch("tokenize");
  WriteText(scratch / "in.jsonl", DumpJson(Json{{"text", text}}, -1) + "\n\n" + R"({"text": ""})" + "\n");
  WriteText(scratch / "text", text);
  EXPECT_EQ(RunApr({"tokenize", kChat, "--file", scratch / "text", "--json"}).Document(), encoded);
  EXPECT_EQ(RunApr({"tokenize", kChat, "--file", scratch / "text", "a"}).code, 2) << "two texts";
  EXPECT_EQ(RunApr({"tokenize", kChat, "--file", scratch / "text", "--jsonl", scratch / "in.jsonl", "--out", scratch / "no"}).code, 2);
  EXPECT_EQ(RunApr({"tokenize", kChat, "--file", scratch / "absent"}).code, 3);
  const Json report = RunApr({"tokenize", kChat, "--jsonl", scratch / "in.jsonl", "--out", scratch / "ids.jsonl", "--json"}).Document();
  EXPECT_EQ(report["lines"], 2);
  const std::string ids = ReadText(scratch / "ids.jsonl");
  EXPECT_EQ(ParseJson(ids.substr(0, ids.find('\n')), "ids")["ids"], encoded["ids"]);
  ASSERT_EQ(RunApr({"detokenize", kChat, "--jsonl", scratch / "ids.jsonl", "--out", scratch / "back.jsonl"}).code, 0);
  const std::string back = ReadText(scratch / "back.jsonl");
  EXPECT_EQ(ParseJson(back.substr(0, back.find('\n')), "back")["text"], text);
  WriteText(scratch / "bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
  const ProgramResult bad = RunApr({"tokenize", kChat, "--jsonl", scratch / "bad.jsonl", "--out", scratch / "no.jsonl", "--json"});
  EXPECT_EQ(bad.code, 4);
  EXPECT_EQ(bad.Document()["error"]["file"], scratch / "bad.jsonl");
  EXPECT_EQ(RunApr({"tokenize", kChat, "a", "--jsonl", scratch / "in.jsonl"}).code, 2);
  EXPECT_EQ(RunApr({"tokenize", kChat}).code, 2);
  const std::vector<std::string> names = {"back.jsonl", "bad.jsonl", "ids.jsonl", "in.jsonl", "text"};
  EXPECT_EQ(scratch.Names(), names);
}

TEST(Run, RealModelsSayWhatTransformersDoes) {
  const char* folder = std::getenv("APR_REAL_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "APR_REAL_MODELS is not set: no folder with the real models";
  for (const auto& [oracle, file] : {std::pair{"smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"}, std::pair{"gemma3-270m", "gemma-3-270m-q4_k_m.gguf"}}) {
    const std::string model = std::string(folder) + "/" + file;
    const std::string path = std::string(APR_SOURCE_DIR "/../shared/oracle/real/") + oracle + "/expected.json";
    if (!std::filesystem::exists(model) || !std::filesystem::exists(path)) GTEST_SKIP() << model << " or its oracle is absent";
    const Json oracle_file = ParseJson(ReadText(path), path);
    for (const auto& [name, expected] : oracle_file["cases"].items()) {
      const std::string greedy = expected["greedy_text"];
      const std::string answer = greedy.substr(0, greedy.find("<|im_end|>"));
      const bool chat = expected.contains("messages");
      std::vector<std::string> flags = {"run", model, "-n", name == "long" ? "16" : "32", "--precision", "exact", "--json",
                                        "-p", chat ? expected["messages"][0]["content"].get<std::string>() : expected["text"].get<std::string>()};
      if (!chat) flags.emplace_back("--raw");
      const Json got = RunApr(flags).Document();
      EXPECT_EQ(got["text"], answer) << oracle << " " << name;
      EXPECT_EQ(got["prompt_tokens"], expected["tokens"]) << oracle << " " << name;
      EXPECT_EQ(got["stop_reason"], answer.size() < greedy.size() ? "eos" : "length") << oracle << " " << name;
    }
  }
}

TEST(Run, StopStringsEndTheAnswer) {
  const std::string question = "What does rope do?";
  const std::string whole = RunApr({"run", kChat, question, "-n", "60", "--json"}).Document()["text"];
  ASSERT_GT(whole.size(), 20U);
  const std::string stop = whole.substr(9, 4);  // across token borders, whatever they are
  const Json got = RunApr({"run", kChat, question, "-n", "60", "--stop", "never", "--stop", stop, "--json"}).Document();
  EXPECT_EQ(got["text"], whole.substr(0, whole.find(stop)));
  EXPECT_EQ(got["stop_reason"], "stop");
  EXPECT_EQ(RunApr({"run", kChat, question, "-n", "60", "--stop", stop}).out, whole.substr(0, whole.find(stop)) + "\n");
}

TEST(Run, APromptCacheChangesNoToken) {
  const ScratchFolder scratch("prompt_cache");
  const std::string file = scratch / "cache.aprk";
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> flags = {"run", kChat, "--ids", "7,20,31,4,55,60,2,9", "-n", "12", "--ignore-eos", "--json"};
    flags.insert(flags.end(), more.begin(), more.end());
    return RunApr(flags);
  };
  for (const char* type : {"f32", "f16", "q8_0"}) {
    const Json plain = run({"--cache-type", type}).Document();
    EXPECT_EQ(plain["cache_type"], type);
    EXPECT_EQ(plain["cached"], false);
    const Json first = run({"--cache-type", type, "--prompt-cache", file}).Document();
    const Json second = run({"--cache-type", type, "--prompt-cache", file}).Document();
    EXPECT_EQ(first["tokens"], plain["tokens"]);
    EXPECT_EQ(second["tokens"], plain["tokens"]);
    EXPECT_EQ(first["cached_tokens"], 0);
    EXPECT_EQ(second["cached_tokens"], 7);
    EXPECT_EQ(second["cached"], true);
    std::filesystem::remove(file);
  }
  run({"--prompt-cache", file});
  const ProgramResult other = run({"--cache-type", "f16", "--prompt-cache", file});
  EXPECT_EQ(other.code, 5);
  EXPECT_NE(other.err.find("cache type"), std::string::npos) << other.err;
  WriteText(file, "no cache");
  EXPECT_EQ(run({"--prompt-cache", file}).code, 4);
  EXPECT_EQ(ReadText(file), "no cache");
}

TEST(Run, AFullContextStopsOrSlides) {
  const std::vector<std::string> base = {"run", kLlama, "--ids", "1,2,3,4,5,6,7,8", "-n", "30", "--context", "16", "--json"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> flags = base;
    flags.insert(flags.end(), more.begin(), more.end());
    return RunApr(flags);
  };
  const ProgramResult stops = with({});
  EXPECT_EQ(stops.Document()["stop_reason"], "context");
  const ProgramResult slides = with({"--on-full", "slide", "--keep", "2"});
  const Json got = slides.Document();
  EXPECT_EQ(got["tokens"].size(), 30U);
  EXPECT_GT(got["dropped_tokens"].get<int>(), 6);
  EXPECT_NE(slides.err.find("7 tokens behind the first 2 are forgotten"), std::string::npos) << slides.err;
  // After the first slide the text is the first two tokens and the newer half: run by itself it goes on alike.
  std::vector<int> text = {1, 2, 3, 4, 5, 6, 7, 8};
  for (const Json& id : got["tokens"]) text.push_back(id.get<int>());
  std::vector<int> shown(text.begin(), text.begin() + 2);
  shown.insert(shown.end(), text.begin() + 9, text.begin() + 17);
  const Json alone = RunApr({"run", kLlama, "--ids", fmt::format("{}", fmt::join(shown, ",")), "-n", "1", "--json"}).Document();
  EXPECT_EQ(alone["tokens"][0], text[17]);
  EXPECT_EQ(with({"--keep", "2"}).code, 2);
}

TEST(Run, GrammarsAndSchemasHoldTheAnswer) {
  const ScratchFolder scratch("grammar");
  WriteText(scratch / "answer.gbnf", "root ::= (\"yes\" | \"no\") \", \" [a-z]{3} \".\"\n");
  WriteText(scratch / "schema.json", R"({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 40}, "ok": {"type": "boolean"}}, "required": ["n", "ok"]})");
  for (const char* seed : {"1", "2", "3"}) {
    const Json got = RunApr({"run", kChat, "What does rope do?", "-n", "60", "--temperature", "2", "--seed", seed, "--grammar", scratch / "answer.gbnf", "--json"}).Document();
    const std::string text = got["text"];
    EXPECT_EQ(got["stop_reason"], "grammar");
    EXPECT_TRUE(text.starts_with("yes, ") || text.starts_with("no, ")) << text;
    EXPECT_EQ(text.back(), '.');
    const Json json = RunApr({"run", kChat, "What does rope do?", "-n", "200", "--temperature", "2", "--seed", seed, "--json-schema", scratch / "schema.json", "--json"}).Document();
    const Json value = ParseJson(json["text"].get<std::string>(), "answer");
    EXPECT_GE(value["n"].get<int>(), 3);
    EXPECT_LE(value["n"].get<int>(), 40);
    EXPECT_TRUE(value["ok"].is_boolean());
    EXPECT_EQ(value.size(), 2U);
  }
  WriteText(scratch / "bad.gbnf", "root ::= root \"a\"");
  const ProgramResult bad = RunApr({"run", kChat, "a", "--grammar", scratch / "bad.gbnf"});
  EXPECT_EQ(bad.code, 4);
  EXPECT_NE(bad.err.find("bad.gbnf"), std::string::npos) << bad.err;
  EXPECT_EQ(RunApr({"run", kLlama, "--ids", "1", "--grammar", scratch / "answer.gbnf"}).code, 6);
  EXPECT_EQ(RunApr({"run", kChat, "a", "--grammar", scratch / "answer.gbnf", "--json-schema", scratch / "schema.json"}).code, 2);
}

TEST(Run, EveryWayOfSamplingRuns) {
  const auto tokens = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", kChat, "What does rope do?", "-n", "24", "--ignore-eos", "--json"});
    return RunApr(flags).Document()["tokens"];
  };
  const Json greedy = tokens({});
  // This model goes round in circles; with DRY no pair of tokens comes twice.
  const auto circles = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", kLlama, "--ids", "5,6,7,5,6,7,5,6", "-n", "40", "--ignore-eos", "--json"});
    return RunApr(flags).Document()["tokens"].get<std::vector<int>>();
  };
  const auto repeated_pairs = [](const std::vector<int>& ids) {
    std::map<std::pair<int, int>, int> pairs;
    for (size_t i = 1; i < ids.size(); ++i) ++pairs[{ids[i - 1], ids[i]}];
    return std::ranges::count_if(pairs, [](const auto& entry) { return entry.second > 1; });
  };
  EXPECT_GT(repeated_pairs(circles({})), 0);
  EXPECT_EQ(repeated_pairs(circles({"--dry-multiplier", "50", "--dry-allowed-length", "1"})), 0);
  EXPECT_EQ(circles({"--dry-multiplier", "50", "--dry-allowed-length", "1000"}), circles({}));
  EXPECT_NE(tokens({"--temperature", "4", "--seed", "3", "--xtc-probability", "1", "--xtc-threshold", "0.01"}), tokens({"--temperature", "4", "--seed", "3"}));
  EXPECT_EQ(tokens({"--temperature", "1", "--mirostat", "2", "--mirostat-tau", "1e-9"}), greedy);
  EXPECT_EQ(RunApr({"run", kChat, "a", "--mirostat", "1"}).code, 2);
  EXPECT_EQ(RunApr({"run", kChat, "a", "--xtc-probability", "2"}).code, 2);
}

TEST(Run, TextsOfABatchDoNotDependOnEachOther) {
  const ScratchFolder scratch("batch_parallel");
  std::string lines;
  for (int i = 0; i < 7; ++i) lines += DumpJson(Json{{"prompt", std::string(static_cast<size_t>(i) + 1, 'a') + " rope"}, {"task_id", i}}, -1) + "\n";
  WriteText(scratch / "in.jsonl", lines);
  const auto texts = [&](const char* parallel) {
    const Json document = RunApr({"run", kChat, "--batch-jsonl", scratch / "in.jsonl", "-n", "20", "--temperature", "1", "--parallel", parallel, "--json"}).Document();
    Json out = Json::array();
    for (const Json& result : document["results"]) out.push_back({result["task_id"], result["tokens"], result["text"]});
    return out;
  };
  const Json one = texts("1");
  EXPECT_EQ(one.size(), 7U);
  EXPECT_EQ(one[6][0], 6);
  EXPECT_EQ(texts("3"), one);
  EXPECT_EQ(texts("16"), one);
}

TEST(Run, ABatchAnswersEveryLine) {
  const ScratchFolder scratch("batch");
  const Json chats = ExpectedChats();
  std::string lines;
  for (int i : {0, 1}) {
    lines += DumpJson(Json{{"prompt", chats[static_cast<size_t>(i)]["messages"][0]["content"]}, {"task_id", i}}, -1) + "\n\n";
  }
  WriteText(scratch / "good.jsonl", lines);
  const ProgramResult good = RunApr({"run", kChat, "--batch-jsonl", scratch / "good.jsonl", "-n", "100", "--json"});
  EXPECT_EQ(good.code, 0) << good.err;
  const Json document = good.Document();
  ASSERT_EQ(document["results"].size(), 2U);
  for (size_t i : {0U, 1U}) {
    EXPECT_EQ(document["results"][i]["text"], chats[i]["answer"]);
    EXPECT_EQ(document["results"][i]["task_id"], i);
  }
  EXPECT_NE(good.err.find("2 prompts, 2 ok, 0 failed"), std::string::npos) << good.err;

  WriteText(scratch / "bad.jsonl", "\n" R"({"task_id": "x"})" "\n" + lines);
  const ProgramResult bad = RunApr({"run", kChat, "--batch-jsonl", scratch / "bad.jsonl", "-n", "100"});
  EXPECT_EQ(bad.code, 4);
  EXPECT_EQ(std::count(bad.out.begin(), bad.out.end(), '\n'), 3);
  EXPECT_NE(bad.out.find("bad.jsonl:2"), std::string::npos) << bad.out;
  EXPECT_NE(bad.err.find("3 prompts, 2 ok, 1 failed"), std::string::npos) << bad.err;
}

struct LargeModel {
  DType dtype;
  int64_t vocabulary = 32000, hidden = 1024, ffn = 2816, layers = 3, heads = 16;
};

// A llama of zeros with this shape as a GGUF: what matters here is its size.
void WriteLargeModel(const std::string& path, const LargeModel& m) {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& name, DType dtype, Shape shape) {
    const uint64_t bytes = *StorageBytes(dtype, shape);
    const auto zeros = [bytes](const ByteSink& sink) {
      const std::vector<std::byte> block(1 << 20);
      for (uint64_t left = bytes; left > 0; left -= std::min<uint64_t>(left, block.size())) {
        sink(Bytes(block).first(std::min<uint64_t>(left, block.size())));
      }
    };
    tensors.push_back({name, dtype, shape, zeros});
  };
  add("token_embd.weight", m.dtype, Shape{m.vocabulary, m.hidden});
  add("output.weight", m.dtype, Shape{m.vocabulary, m.hidden});
  add("output_norm.weight", DType::kF32, Shape{m.hidden});
  for (int64_t i = 0; i < m.layers; ++i) {
    const std::string block = fmt::format("blk.{}.", i);
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      add(block + name + ".weight", m.dtype, Shape{m.hidden, m.hidden});
    }
    for (const char* name : {"attn_norm", "ffn_norm"}) add(block + name + ".weight", DType::kF32, Shape{m.hidden});
    for (const char* name : {"ffn_gate", "ffn_up"}) add(block + name + ".weight", m.dtype, Shape{m.ffn, m.hidden});
    add(block + "ffn_down.weight", m.dtype, Shape{m.hidden, m.ffn});
  }
  MetaBuilder meta;
  meta.SetString("general.architecture", "llama");
  meta.SetU32("llama.block_count", static_cast<uint32_t>(m.layers));
  meta.SetU32("llama.context_length", 2048);
  meta.SetU32("llama.embedding_length", static_cast<uint32_t>(m.hidden));
  meta.SetU32("llama.feed_forward_length", static_cast<uint32_t>(m.ffn));
  meta.SetU32("llama.attention.head_count", static_cast<uint32_t>(m.heads));
  meta.SetF32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  meta.SetF32("llama.rope.freq_base", 10000);
  WriteGguf(path, tensors, meta.list(), Overwrite::kRefuse);
}

// Resident memory of a run: the mapped file, the cache and 64 MB, whatever the weights' type and however
// the kernels like them laid out.
TEST(Run, MemoryIsTheFileAndTheCache) {
  for (const DType dtype : {DType::kF16, DType::kF32, DType::kQ4_1, DType::kQ8_0, DType::kQ4_K}) {
    LargeModel shape{.dtype = dtype};
    if (dtype == DType::kF32) shape.layers = 1;
    const ScratchFolder scratch("memory");
    WriteLargeModel(scratch / "zeros.gguf", shape);
    const auto file_mb = static_cast<double>(std::filesystem::file_size(scratch / "zeros.gguf")) / 1e6;
    for (const char* precision : {"exact", "fast"}) {
      const Json got = RunApr({"run", scratch / "zeros.gguf", "--ids", "1,2,3,4,5,6,7,8", "-n", "4", "--ignore-eos",
                               "--precision", precision, "--json"})
                           .Document();
      ASSERT_TRUE(got.contains("peak_rss_mb")) << got.dump();
      const double cache_mb = 2.0 * static_cast<double>(shape.layers * shape.hidden) * 64 * 4 / 1e6;
      const double used = got["peak_rss_mb"];
      if (!kSanitized) {
        EXPECT_LE(used, file_mb + cache_mb + 64) << NameOf(dtype) << ' ' << precision << ", file " << file_mb;
      }
      EXPECT_GT(used, file_mb / 2) << "the file was not even read: nothing was measured";
    }
  }
}

}  // namespace
}  // namespace apr
