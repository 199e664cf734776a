// export, convert, import, quantize, merge, stamp, shard and unshard from outside.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "cli/program_under_test.h"
#include "format/model_file.h"
#include "format/shard.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kChat = APR_SOURCE_DIR "/testdata/model/tiny-chat";
const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";
const std::string kQwen = APR_SOURCE_DIR "/testdata/model/qwen3";

void Ok(std::vector<std::string> arguments) {
  const ProgramResult result = RunApr(std::move(arguments));
  EXPECT_EQ(result.code, 0) << result.err;
}

std::string Logits(const std::string& model, const ScratchFolder& scratch) {
  const std::string out = scratch / "logits.npy";
  Ok({"logits", model, "--ids", "1,87,85,67,20,57,83", "--out", out, "--force"});
  return ReadText(out);
}

TEST(Convert, AnyContainerToAnyOther) {
  const ScratchFolder scratch("convert");
  const std::string expected = Logits(kChat, scratch);
  const std::string text = RunApr({"tokenize", kChat, "The cat sat"}).out;
  Ok({"convert", kChat, "-o", scratch / "a.gguf"});
  Ok({"convert", scratch / "a.gguf", "-o", scratch / "b.apr"});
  Ok({"convert", scratch / "b.apr", "-o", scratch / "c"});
  Ok({"convert", scratch / "c", "-o", scratch / "d.apr"});
  Ok({"convert", scratch / "d.apr", "-o", scratch / "e.gguf"});
  Ok({"convert", scratch / "e.gguf", "-o", scratch / "f"});
  for (const char* name : {"a.gguf", "b.apr", "c", "d.apr", "e.gguf", "f"}) {
    EXPECT_TRUE(Logits(scratch / name, scratch) == expected) << name;
    EXPECT_EQ(RunApr({"tokenize", scratch / name, "The cat sat"}).out, text) << name;
  }
  // Twice the same input gives the same bytes.
  Ok({"convert", scratch / "a.gguf", "-o", scratch / "b2.apr"});
  EXPECT_TRUE(ReadText(scratch / "b.apr") == ReadText(scratch / "b2.apr"));
}

TEST(Convert, TemplateAndSettingsTravel) {
  const ScratchFolder scratch("settings");
  Ok({"convert", kChat, "-o", scratch / "a.gguf"});
  Ok({"convert", scratch / "a.gguf", "-o", scratch / "b"});
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    if (!fs::exists(kChat + "/" + name)) continue;
    EXPECT_TRUE(ReadText(kChat + "/" + name) == ReadText(scratch / (std::string("b/") + name))) << name;
  }
  const std::string messages = scratch / "messages.json";
  WriteText(messages, R"([{"role": "user", "content": "hello"}])");
  const ProgramResult before = RunApr({"template", kChat, "--messages", messages});
  EXPECT_EQ(before.code, 0) << before.err;
  EXPECT_EQ(RunApr({"template", scratch / "a.gguf", "--messages", messages}).out, before.out);
}

TEST(Convert, RefusesWhatExistsAndWhatItCannotSay) {
  const ScratchFolder scratch("refuse");
  WriteText(scratch / "a.gguf", "mine");
  EXPECT_EQ(RunApr({"convert", kLlama, "-o", scratch / "a.gguf"}).code, 5);
  EXPECT_EQ(ReadText(scratch / "a.gguf"), "mine");
  Ok({"convert", kLlama, "-o", scratch / "a.gguf", "--force"});
  EXPECT_EQ(RunApr({"convert", kLlama, "-o", scratch / "a.onnx"}).code, 2);
  EXPECT_EQ(RunApr({"export", kLlama, "--format", "onnx", "-o", scratch / "x"}).code, 2);
  EXPECT_EQ(RunApr({"quantize", kLlama, "-s", "Q9", "-o", scratch / "q.gguf"}).code, 2);
  EXPECT_EQ(RunApr({"quantize", kLlama, "-s", "Q4_0", "--tensor-type", "nothing_like_it=Q8_0", "-o", scratch / "q.gguf"}).code, 2);
  EXPECT_EQ(RunApr({"quantize", kLlama, "-s", "Q4_K_M", "--format", "safetensors", "-o", scratch / "q"}).code, 5);
  EXPECT_EQ(RunApr({"import", kLlama, "-o", scratch / "i.apr", "--enforce-provenance"}).code, 5);
  EXPECT_EQ(scratch.Names(), std::vector<std::string>{"a.gguf"});
}

TEST(Quantize, PlanAndResultAgree) {
  const ScratchFolder scratch("quantize");
  const Json plan = RunApr({"--json", "quantize", kQwen, "-s", "Q5_K_M", "--tensor-type", "attn_k=Q8_0", "--plan"}).Document();
  Ok({"quantize", kQwen, "-s", "Q5_K_M", "--tensor-type", "attn_k=Q8_0", "-o", scratch / "q.gguf"});
  const auto file = ModelFile::Open(scratch / "q.gguf");
  ASSERT_EQ(plan["tensors"].size(), file->tensors().size());
  for (const Json& each : plan["tensors"]) {
    const TensorInfo* info = file->Find(each["name"].get<std::string>());
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(each["to"], NameOf(info->dtype)) << info->name;
    EXPECT_EQ(each["size_bytes"], info->bytes) << info->name;
  }
  EXPECT_EQ(file->Meta("general.file_type")->AsInt(), 17);
  // One thread or several: the same bytes.
  Ok({"quantize", kQwen, "-s", "Q5_K_M", "--tensor-type", "attn_k=Q8_0", "-o", scratch / "one.gguf", "--threads", "1"});
  EXPECT_TRUE(ReadText(scratch / "q.gguf") == ReadText(scratch / "one.gguf"));
  // From a GGUF, tensor by tensor.
  Ok({"convert", kQwen, "-o", scratch / "f.gguf"});
  Ok({"quantize", scratch / "f.gguf", "-s", "Q5_K_M", "--tensor-type", "attn_k=Q8_0", "-o", scratch / "g.gguf"});
  const auto direct = ModelFile::Open(scratch / "g.gguf");
  for (const TensorInfo& info : file->tensors()) {
    const TensorInfo* other = direct->Find(info.name);
    ASSERT_NE(other, nullptr);
    const Bytes a = file->View(info).bytes, b = direct->View(*other).bytes;
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << info.name;
  }
}

TEST(Stamp, ChangesWhatIsSaidAndNothingElse) {
  const ScratchFolder scratch("stamp");
  Ok({"convert", kChat, "-o", scratch / "a.apr"});
  Ok({"stamp", scratch / "a.apr", "--license", "apache-2.0", "--data-source", "made up", "-o", scratch / "b.apr"});
  Ok({"stamp", scratch / "b.apr", "--license", "apache-2.0", "--data-source", "made up", "-o", scratch / "c.apr"});
  EXPECT_TRUE(ReadText(scratch / "b.apr") == ReadText(scratch / "c.apr"));
  EXPECT_EQ(ModelFile::Open(scratch / "b.apr")->Meta("license")->AsString(), "apache-2.0");
  EXPECT_TRUE(Logits(scratch / "b.apr", scratch) == Logits(kChat, scratch));
  EXPECT_EQ(RunApr({"stamp", scratch / "a.apr", "-o", scratch / "d.apr"}).code, 2) << "an empty patch";
}

TEST(Shard, PartsAndBackAreTheSameBytes) {
  const ScratchFolder scratch("shard");
  Ok({"quantize", kChat, "-s", "F16", "-o", scratch / "m.gguf"});
  Ok({"convert", kChat, "-o", scratch / "m.apr"});
  // A megabyte is the smallest limit; the tiny model gets no second part from it, so parts are counted below.
  for (const char* name : {"m.gguf", "m.apr"}) {
    const std::string parts = scratch / (std::string("parts-") + name);
    const ProgramResult made = RunApr({"--json", "shard", scratch / name, "--max-shard-size", "1", "-o", parts});
    ASSERT_EQ(made.code, 0) << made.err;
    const Json files = made.Document()["files"];
    const std::string whole = name == std::string("m.apr") ? files.back() : files.front();
    Ok({"unshard", whole, "-o", scratch / (std::string("whole-") + name)});
    EXPECT_TRUE(ReadText(scratch / (std::string("whole-") + name)) == ReadText(scratch / name)) << name;
  }
}

TEST(Convert, CompressedFilesAreTheSameModel) {
  const ScratchFolder scratch("compress");
  const std::string expected = Logits(kChat, scratch);
  Ok({"convert", kChat, "-o", scratch / "plain.apr"});
  Ok({"convert", scratch / "plain.apr", "-o", scratch / "again.apr"});
  for (const char* how : {"zstd", "zstd-max", "lz4", "none"}) {
    const std::string out = scratch / (std::string(how) + ".apr");
    Ok({"convert", kChat, "-o", out, "--compress", how});
    EXPECT_TRUE(Logits(out, scratch) == expected) << how;
    EXPECT_EQ(RunApr({"validate", out}).code, 0) << how;
    const bool smaller = fs::file_size(out) < fs::file_size(scratch / "plain.apr");
    EXPECT_EQ(smaller, how != std::string("none")) << how;
    Ok({"convert", out, "-o", out, "--force"});
    EXPECT_TRUE(ReadText(out) == ReadText(scratch / "again.apr")) << how << ": unpacked again";
  }
  EXPECT_EQ(RunApr({"convert", kChat, "-o", scratch / "x.gguf", "--compress", "lz4"}).code, 2);
}

TEST(Import, TakesAnotherTokenizerAndArchitecture) {
  const ScratchFolder scratch("import");
  fs::create_directory(scratch / "bare");
  for (const char* name : {"config.json", "model.safetensors"}) fs::copy_file(kChat + "/" + name, scratch / (std::string("bare/") + name));
  EXPECT_NE(RunApr({"tokenize", scratch / "bare", "The cat"}).code, 0);
  for (const char* out : {"with.gguf", "with.apr", "with"}) {
    Ok({"import", scratch / "bare", "-o", scratch / out, "--tokenizer", kChat + "/tokenizer.json"});
    EXPECT_EQ(RunApr({"tokenize", scratch / out, "The cat"}).out, RunApr({"tokenize", kChat, "The cat"}).out) << out;
  }
  EXPECT_EQ(RunApr({"import", scratch / "bare", "-o", scratch / "x.apr", "--tokenizer", kChat + "/nothing/tokenizer.json"}).code, 3);
  // A model whose config.json names an architecture that nobody knows.
  WriteText(scratch / "bare/config.json", std::string(ReadText(kLlama + "/config.json")).replace(ReadText(kLlama + "/config.json").find("\"model_type\": \"llama\""), 21, "\"model_type\": \"novel\""));
  fs::copy_file(kLlama + "/model.safetensors", scratch / "bare/model.safetensors", fs::copy_options::overwrite_existing);
  EXPECT_EQ(RunApr({"import", scratch / "bare", "-o", scratch / "y.apr"}).code, 6);
  EXPECT_EQ(RunApr({"import", scratch / "bare", "-o", scratch / "y.apr", "--arch", "nothing"}).code, 2);
  Ok({"import", scratch / "bare", "-o", scratch / "y.apr", "--arch", "llama"});
  EXPECT_TRUE(Logits(scratch / "y.apr", scratch) == Logits(kLlama, scratch));
  // No config.json at all.
  fs::remove(scratch / "bare/config.json");
  EXPECT_NE(RunApr({"import", scratch / "bare", "-o", scratch / "z.apr"}).code, 0);
  Ok({"import", scratch / "bare", "-o", scratch / "z.apr", "--allow-no-config"});
  Ok({"diff", scratch / "bare", scratch / "z.apr", "--values"});
  EXPECT_EQ(RunApr({"import", scratch / "bare", "-o", scratch / "w.apr", "--allow-no-config", "--quantize", "Q8_0"}).code, 2);
}

TEST(Import, BlocksOfQ4KStayAsTheyAre) {
  const ScratchFolder scratch("preserve");
  Ok({"quantize", kChat, "-s", "Q4_K_M", "-o", scratch / "q.apr"});
  Ok({"import", scratch / "q.apr", "-o", scratch / "kept.apr", "--preserve-q4k"});
  EXPECT_EQ(RunApr({"diff", scratch / "q.apr", scratch / "kept.apr", "--values"}).code, 0);
  EXPECT_TRUE(Logits(scratch / "kept.apr", scratch) == Logits(scratch / "q.apr", scratch));
  EXPECT_EQ(RunApr({"import", scratch / "q.apr", "-o", scratch / "x.apr", "--preserve-q4k", "--quantize", "Q8_0"}).code, 2);
  EXPECT_EQ(RunApr({"import", scratch / "q.apr", "-o", scratch / "x", "--preserve-q4k"}).code, 2);
}

TEST(Shard, AModelInPartsIsTheModel) {
  const ScratchFolder scratch("shards");
  Ok({"convert", kChat, "-o", scratch / "m.apr", "--dtype", "f32"});
  const auto file = ModelFile::Open(scratch / "m.apr");
  const std::vector<std::string> written = ShardFile(file, {.folder = scratch / "parts", .max_bytes = 100'000});
  ASSERT_GT(written.size(), 3u);
  const std::string expected = Logits(scratch / "m.apr", scratch);
  for (const std::string& way : {written[0], written[1], written.back(), scratch / "parts"}) {
    EXPECT_TRUE(Logits(way, scratch) == expected) << way;
    EXPECT_EQ(RunApr({"validate", way}).code, 0) << way;
  }
  Ok({"unshard", written[1], "-o", scratch / "again.apr"});
  EXPECT_TRUE(ReadText(scratch / "again.apr") == ReadText(scratch / "m.apr"));
  // A byte of the second shard's data: told by its own checksum.
  std::string bytes = ReadText(written[1]);
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  WriteText(written[1], bytes);
  EXPECT_EQ(RunApr({"validate", written[0]}).code, 5);
  std::filesystem::remove(written[1]);
  EXPECT_EQ(RunApr({"inspect", written[0]}).code, 3) << "a shard is missing";
}

TEST(Merge, OfAModelWithItselfIsTheModel) {
  const ScratchFolder scratch("merge");
  const std::string expected = Logits(kLlama, scratch);
  for (const char* strategy : {"average", "slerp"}) {
    Ok({"merge", kLlama, kLlama, "--strategy", strategy, "-o", scratch / strategy});
    EXPECT_TRUE(Logits(scratch / strategy, scratch) == expected) << strategy;
  }
  EXPECT_EQ(RunApr({"merge", kLlama, kChat, "-o", scratch / "x"}).code, 6) << "models of different sizes";
  EXPECT_EQ(RunApr({"merge", kLlama, kLlama, "--strategy", "ties", "-o", scratch / "x"}).code, 2) << "no base model";
  Ok({"merge", kLlama, kLlama, "--strategy", "weighted", "--weights", "1,3", "--plan"});
}

// Files of at most 8 KB: write() fails in the middle as on a full disk.
class FullDisk : public testing::Test {
 protected:
  void SetUp() override {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit small{8192, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  void TearDown() override { setrlimit(RLIMIT_FSIZE, &before_); }

  static void ExpectRefused(const std::vector<std::string>& arguments) {
    const ProgramResult result = RunApr(arguments);
    EXPECT_EQ(result.code, 7) << arguments[0] << ": " << result.err;
    EXPECT_NE(result.err.find("File too large"), std::string::npos) << arguments[0] << ": " << result.err;
  }

  rlimit before_{};
};

TEST_F(FullDisk, LeavesTheOldFileOrNone) {
  const ScratchFolder scratch("full");
  const std::string file = scratch / "out.gguf";
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{"convert", kLlama, "-o", file},
                                                                                       {"convert", kLlama, "--format", "apr", "-o", file},
                                                                                       {"quantize", kLlama, "-s", "Q8_0", "-o", file},
                                                                                       {"export", kLlama, "--format", "gguf", "--quantize", "Q8_0", "-o", file},
                                                                                       {"tensors", kLlama, "--extract", "all", "--out", file},
                                                                                       {"diff", kLlama, kQwen, "--values", "--html", file}}) {
    ExpectRefused(command);
    EXPECT_TRUE(fs::is_empty(scratch.path())) << command[0];
    WriteText(file, "the old file");
    std::vector<std::string> again = command;
    again.push_back("--force");
    ExpectRefused(again);
    EXPECT_EQ(ReadText(file), "the old file") << command[0];
    EXPECT_EQ(scratch.Names().size(), 1u) << command[0];
    fs::remove(file);
  }
}

TEST_F(FullDisk, LeavesNoFolder) {
  const ScratchFolder scratch("full");
  const std::string folder = scratch / "made/for/it";
  std::string ids = "1";
  for (int i = 0; i < 99; ++i) ids += ",2";
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{"convert", kLlama, "-o", folder},
                                                                                       {"export", kLlama, "--format", "safetensors", "-o", folder},
                                                                                       {"shard", kLlama, "-o", folder},
                                                                                       {"trace", kLlama, "--ids", ids, "--save-tensor", "all", "--save-tensor-dir", folder}}) {
    ExpectRefused(command);
    EXPECT_EQ(scratch.Names(), std::vector<std::string>{}) << command[0];
    EXPECT_FALSE(fs::exists(folder)) << command[0];
  }
}

TEST(Quantize, RowsThatDoNotFitAreSaidOnce) {
  const ScratchFolder scratch("fallback");
  const ProgramResult brief = RunApr({"export", kLlama, "--format", "gguf", "--quantize", "Q8_0", "-o", scratch / "a.gguf"});
  EXPECT_EQ(brief.code, 0);
  EXPECT_NE(brief.err.find("2 written as F16"), std::string::npos) << brief.err;
  EXPECT_EQ(brief.err.find("blk.0.attn_output.weight"), std::string::npos) << brief.err;
  const ProgramResult full = RunApr({"quantize", kLlama, "-s", "Q8_0", "-o", scratch / "b.gguf", "--verbose", "--json"});
  EXPECT_NE(full.err.find("blk.0.attn_output.weight: rows of 48"), std::string::npos) << full.err;
  EXPECT_NE(DumpJson(full.Document().at("warnings")).find("2 written as F16"), std::string::npos);
}

}  // namespace
}  // namespace apr
