// The tokens phase: every cause name by a planted fault, and healthy pairs that give no finding.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "compare/bisect/bisection.h"
#include "format/model_writer.h"
#include "tokenizer/export_json.h"

namespace apr::bisect {
namespace {

namespace fs = std::filesystem;

const std::string kData = APR_SOURCE_DIR "/testdata";
const std::string kVocabularies = APR_SOURCE_DIR "/../shared/tokenizers/ggml-vocab/ggml-vocab-";

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}
void WriteAll(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

// A folder that is gone after the test.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / fs::path("apr-tokens-" + std::to_string(getpid()) + "-" + std::to_string(++count_))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  static inline int count_ = 0;
  fs::path path_;
};

// A model folder: the weights of tiny-chat with a tokenizer of testdata/tokenizer.
std::unique_ptr<Folder> ModelWith(const std::string& tokenizer) {
  auto folder = std::make_unique<Folder>();
  for (const char* name : {"config.json", "generation_config.json", "model.safetensors"})
    fs::copy_file(kData + "/model/tiny-chat/" + name, folder->path() / name);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(kData + "/tokenizer/" + tokenizer + "/" + name, folder->path() / name);
  return folder;
}

using Edit = std::function<void(Json&)>;
void EditJson(const Folder& folder, const char* name, const Edit& edit) {
  Json json = ParseJson(ReadAll(folder.path() / name), name);
  edit(json);
  WriteAll(folder.path() / name, DumpJson(json));
}

void Open(const std::string& path, Side& side) {
  side.path = path;
  side.file = ModelFile::Open(path);
  try {
    side.tokenizer = Tokenizer::FromModelFile(*side.file);
  } catch (const Error& error) {
    side.tokenizer_problem = error;
  }
}

Report Phase1(const std::string& a, const std::string& b, const Options& options = {}) {
  Bisection bisection;
  bisection.options = options;
  Open(a, bisection.a);
  Open(b, bisection.b);
  RunTokensPhase(bisection);
  return bisection.report;
}

std::string Names(const Report& report) {
  std::string out;
  for (const Finding& finding : report.findings) {
    out += out.empty() ? "" : " ";
    out += finding.no_effect ? "(" + finding.first.key + ")" : finding.cause ? finding.cause->name : "?";
  }
  return out;
}

// What the phase says of a model folder and an edited copy.
Report Planted(const std::string& tokenizer, const char* file, const Edit& edit) {
  const auto a = ModelWith(tokenizer), b = ModelWith(tokenizer);
  EditJson(*b, file, edit);
  return Phase1(a->path(), b->path());
}

TEST(TokensPhase, EqualTokenizersGiveNoFinding) {
  for (const char* tokenizer : {"byte-bpe", "spm-bpe"}) {
    const Report report = Planted(tokenizer, "tokenizer.json", [](Json&) {});
    EXPECT_EQ(Names(report), "") << tokenizer;
    EXPECT_GT(report.coverage.texts, 100);
    ASSERT_EQ(report.coverage.phases.size(), 1u);
  }
}

TEST(TokensPhase, EditsWithoutEffectGiveNoDifference) {
  // Spelled otherwise, same ids: added tokens in another order and looked for in normalised text.
  EXPECT_EQ(Names(Planted("byte-bpe", "tokenizer.json", [](Json& j) {
              std::swap(j["added_tokens"][0], j["added_tokens"][2]);
              for (Json& token : j["added_tokens"]) token["normalized"] = true;
            })), "");
  // White space inside a template's markup.
  EXPECT_EQ(Names(Planted("byte-bpe", "tokenizer_config.json", [](Json& j) {
              std::string text = j["chat_template"];
              j["chat_template"] = "{%  for message in messages  %}" + text.substr(text.find("{{"));
            })), "");
  // Padding of the vocabulary.
  EXPECT_EQ(Names(Planted("byte-bpe", "tokenizer.json", [](Json& j) {
              for (int id = 384; id < 400; ++id) j["model"]["vocab"]["[PAD" + std::to_string(id) + "]"] = id;
            })), "");
}

struct Fault {
  const char* name;
  const char* tokenizer;
  const char* file;
  Edit edit;
};

void SwapPieces(Json& json, const std::string& one, const std::string& other) {
  std::swap(json["model"]["vocab"][one], json["model"]["vocab"][other]);
}

const std::vector<Fault>& Faults() {
  static const std::vector<Fault> kFaults = {
      {"bos_missing", "spm-bpe", "tokenizer.json", [](Json& j) { j["post_processor"] = nullptr; }},
      {"bos_missing", "spm-bpe", "tokenizer_config.json", [](Json& j) { j["add_bos_token"] = false; }},
      {"bos_added", "byte-bpe", "tokenizer.json", [](Json& j) {
         j["post_processor"] = {{"type", "TemplateProcessing"},
                                {"single", Json::array({{{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
                                {"special_tokens", {{"<|endoftext|>", {{"id", "<|endoftext|>"}, {"ids", {0}}, {"tokens", {"<|endoftext|>"}}}}}}};
       }},
      {"double_bos", "spm-bpe", "tokenizer.json", [](Json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"] = {1, 1}; }},
      {"special_tokens", "spm-bpe", "tokenizer.json", [](Json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"] = {2}; }},
      {"eos_id", "byte-bpe", "generation_config.json", [](Json& j) { j["eos_token_id"] = 0; }},
      {"eos_id", "byte-bpe", "generation_config.json", [](Json& j) { j["eos_token_id"] = {0, 2}; }},
      {"eos_id", "byte-bpe", "tokenizer_config.json", [](Json& j) { j["eos_token"] = "<|endoftext|>"; }},
      {"vocabulary", "byte-bpe", "tokenizer.json", [](Json& j) { SwapPieces(j, "t", "e"); }},
      {"vocabulary", "spm-bpe", "tokenizer.json", [](Json& j) { SwapPieces(j, "t", "e"); }},
      {"merges", "byte-bpe", "tokenizer.json", [](Json& j) { std::swap(j["model"]["merges"][0], j["model"]["merges"][40]); }},
      {"merges", "byte-bpe", "tokenizer.json", [](Json& j) { j["model"]["merges"].erase(60); }},
      {"merges", "spm-bpe", "tokenizer.json", [](Json& j) { j["model"]["merges"].erase(10); }},
      // A piece under another name takes the merge that makes it with it: one fault.
      {"vocabulary", "byte-bpe", "tokenizer.json", [](Json& j) {
         const Json merge = j["model"]["merges"].back();
         const std::string piece = merge[0].get<std::string>() + merge[1].get<std::string>();
         j["model"]["merges"].erase(j["model"]["merges"].size() - 1);
         Json vocabulary = Json::object();
         for (const auto& [name, id] : j["model"]["vocab"].items()) vocabulary[name == piece ? piece + "xq" : name] = id;
         j["model"]["vocab"] = vocabulary;
       }},
      {"merges", "byte-bpe", "tokenizer.json", [](Json& j) {
         // Words that are pieces stay whole: only words of several pieces show it.
         j["model"]["ignore_merges"] = true;
         std::swap(j["model"]["merges"][3], j["model"]["merges"][90]);
       }},
      {"pretokenizer", "byte-bpe", "tokenizer.json", [](Json& j) {
         j["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
       }},
      {"pretokenizer", "byte-bpe", "tokenizer.json", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\p{L}+|\\p{N}{1,3}|\\s+|[^\\s\\p{L}\\p{N}]+"; }},
      {"pretokenizer", "byte-bpe", "tokenizer.json", [](Json& j) { j["normalizer"] = nullptr; }},
      {"special_tokens", "byte-bpe", "tokenizer.json", [](Json& j) { j["added_tokens"].erase(1); }},
      {"special_tokens", "byte-bpe", "tokenizer.json", [](Json& j) { j["added_tokens"][1]["lstrip"] = true; }},
      {"special_tokens", "byte-bpe", "tokenizer.json", [](Json& j) { j["added_tokens"][1]["special"] = false; }},
      {"space_prefix", "spm-bpe", "tokenizer.json", [](Json& j) { j["normalizer"]["normalizers"].erase(0); }},
      {"space_prefix", "byte-bpe", "tokenizer.json", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }},
      {"chat_template", "byte-bpe", "tokenizer_config.json", [](Json& j) {
         std::string text = j["chat_template"];
         j["chat_template"] = text.substr(0, text.find("{% if add_generation_prompt"));
       }},
      {"chat_template", "byte-bpe", "tokenizer_config.json", [](Json& j) { j["chat_template"] = "{{ messages[0].no.such.thing }}"; }},
      {"chat_template", "byte-bpe", "tokenizer_config.json", [](Json& j) { j["chat_template"] = "{% for"; }},
      {"chat_template", "byte-bpe", "tokenizer_config.json", [](Json& j) { j.erase("chat_template"); }},
  };
  return kFaults;
}

TEST(TokensPhase, NamesEveryPlantedFault) {
  for (size_t i = 0; i < Faults().size(); ++i) {
    const Fault& fault = Faults()[i];
    const Report report = Planted(fault.tokenizer, fault.file, fault.edit);
    EXPECT_EQ(Names(report), fault.name) << "fault " << i << " in " << fault.tokenizer << "/" << fault.file;
    if (report.findings.empty()) continue;
    const Finding& finding = report.findings[0];
    EXPECT_EQ(finding.first.phase, Phase::kTokens);
    EXPECT_NE(finding.first.key, "");
    EXPECT_NE(finding.first.note, "");
    if (finding.cause) {
      EXPECT_EQ(finding.cause->error_after, 0.0);
      EXPECT_GT(finding.cause->error_before.value_or(0), 0.0);
      EXPECT_NE(finding.cause->fix, "");
    }
  }
}

TEST(TokensPhase, SeveralFaultsAreAllFound) {
  const auto a = ModelWith("byte-bpe"), b = ModelWith("byte-bpe");
  EditJson(*b, "tokenizer.json", [](Json& j) {
    SwapPieces(j, "t", "e");
    j["model"]["merges"].erase(60);
    j["added_tokens"].erase(1);
  });
  EditJson(*b, "generation_config.json", [](Json& j) { j["eos_token_id"] = 7; });
  EXPECT_EQ(Names(Phase1(a->path(), b->path())), "special_tokens vocabulary merges eos_id");
  Options options;
  options.causes = false;
  EXPECT_EQ(Names(Phase1(a->path(), b->path(), options)), "? ?") << "located, not named";
}

TEST(TokensPhase, TheUsersTextIsAsked) {
  const auto a = ModelWith("byte-bpe"), b = ModelWith("byte-bpe");
  EditJson(*b, "tokenizer.json", [](Json& j) { SwapPieces(j, "t", "e"); });
  Options options;
  options.text = "t";
  const Report report = Phase1(a->path(), b->path(), options);
  ASSERT_EQ(Names(report), "vocabulary");
  EXPECT_NE(report.findings[0].first.note.find("Of the text \"t\""), std::string::npos) << report.findings[0].first.note;
  EXPECT_EQ(report.findings[0].first.position, 0);
}

TEST(TokensPhase, ASideWithoutTokenizerIsANote) {
  const auto a = ModelWith("byte-bpe"), b = ModelWith("byte-bpe");
  fs::remove(b->path() / "tokenizer.json");
  const Report report = Phase1(a->path(), b->path());
  EXPECT_EQ(Names(report), "");
  EXPECT_TRUE(report.coverage.phases.empty());
  ASSERT_EQ(report.coverage.notes.size(), 1u);
  EXPECT_NE(report.coverage.notes[0].find("B carries no tokenizer"), std::string::npos);
  // One that cannot be read is a difference.
  WriteAll(b->path() / "tokenizer.json", "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}");
  EXPECT_EQ(Names(Phase1(a->path(), b->path())), "?");
}

// --- GGUF -----------------------------------------------------------------------------------------------

bool Absent(const std::string& path) { return !fs::exists(path); }

// A copy of a vocabulary file with changed metadata.
std::string Rewrite(const std::string& source, const fs::path& out, const std::function<void(MetaBuilder&)>& edit) {
  const auto file = ModelFile::Open(source);
  MetaBuilder metadata;
  for (const auto& [key, value] : file->metadata()) metadata.Set(key, value);
  edit(metadata);
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo& info : file->tensors()) tensors.push_back(CopyOf(file, info, info.name));
  WriteGguf(out, tensors, metadata.list(), Overwrite::kAllow);
  return out;
}

// Our own export as a folder with some weights.
std::unique_ptr<Folder> Exported(const std::string& gguf) {
  auto folder = ModelWith("byte-bpe");
  fs::remove(folder->path() / "tokenizer.json");
  const auto files = TokenizerFilesFromGguf(*ModelFile::Open(gguf));
  for (const auto& [name, text] : files->files) WriteAll(folder->path() / name, text);
  return folder;
}

TEST(TokensPhase, AVocabularyAgreesWithItsExport) {
  for (const char* name : {"gpt-2", "llama-spm", "phi-3", "refact", "starcoder", "deepseek-coder", "gpt-neox"}) {
    const std::string gguf = kVocabularies + name + ".gguf";
    if (Absent(gguf)) GTEST_SKIP() << "../shared/tokenizers is absent";
    const auto folder = Exported(gguf);
    EXPECT_EQ(Names(Phase1(folder->path(), gguf)), "") << name;
    EXPECT_EQ(Names(Phase1(gguf, folder->path())), "") << name;
  }
}

using MetaEdit = std::function<void(MetaBuilder&, const ModelFile&)>;
Report PlantedGguf(const std::string& source, const MetaEdit& edit, bool against_export) {
  const Folder folder;
  const auto file = ModelFile::Open(source);
  const std::string b = Rewrite(source, folder.path() / "b.gguf", [&](MetaBuilder& m) { edit(m, *file); });
  if (!against_export) return Phase1(source, b);
  const auto a = Exported(source);
  return Phase1(a->path(), b);
}

void EditStrings(MetaBuilder& m, const ModelFile& file, const char* key, const std::function<void(std::vector<std::string_view>&)>& edit) {
  auto values = file.Meta(key)->AsStrings();
  edit(values);
  m.SetStrings(key, values);
}

TEST(TokensPhase, NamesFaultsOfGguf) {
  struct Case {
    const char* name;
    const char* vocabulary;
    MetaEdit edit;
  };
  const char* kTokens = "tokenizer.ggml.tokens";
  const std::vector<Case> cases = {
      {"pretokenizer", "gpt-2", [](MetaBuilder& m, const ModelFile&) { m.SetString("tokenizer.ggml.pre", "llama-bpe"); }},
      {"pretokenizer", "refact", [](MetaBuilder& m, const ModelFile&) { m.SetString("tokenizer.ggml.pre", "qwen2"); }},
      {"pretokenizer", "starcoder", [](MetaBuilder& m, const ModelFile&) { m.SetString("tokenizer.ggml.pre", "gpt-2"); }},
      {"merges", "gpt-2", [](MetaBuilder& m, const ModelFile& f) {
         EditStrings(m, f, "tokenizer.ggml.merges", [](auto& v) { std::swap(v[5], v[300]); });
       }},
      {"merges", "gpt-2", [](MetaBuilder& m, const ModelFile& f) {
         EditStrings(m, f, "tokenizer.ggml.merges", [](auto& v) { v.resize(v.size() / 2); });
       }},
      {"vocabulary", "gpt-2", [&](MetaBuilder& m, const ModelFile& f) {
         EditStrings(m, f, kTokens, [](auto& v) { std::swap(v[1000], v[2000]); });
       }},
      {"vocabulary", "gpt-2", [&](MetaBuilder& m, const ModelFile& f) {
         EditStrings(m, f, kTokens, [](auto& v) { std::rotate(v.begin() + 5000, v.begin() + 5001, v.begin() + 6000); });
       }},
      {"vocabulary", "llama-spm", [&](MetaBuilder& m, const ModelFile& f) {
         EditStrings(m, f, kTokens, [](auto& v) { std::swap(v[1000], v[2000]); });
       }},
      {"space_prefix", "llama-spm", [](MetaBuilder& m, const ModelFile&) { m.SetBool("tokenizer.ggml.add_space_prefix", false); }},
      {"bos_missing", "llama-spm", [](MetaBuilder& m, const ModelFile&) { m.SetBool("tokenizer.ggml.add_bos_token", false); }},
      {"bos_added", "gpt-2", [](MetaBuilder& m, const ModelFile&) { m.SetBool("tokenizer.ggml.add_bos_token", true); }},
      {"special_tokens", "llama-spm", [](MetaBuilder& m, const ModelFile&) { m.SetU32("tokenizer.ggml.bos_token_id", 5); }},
      {"eos_id", "llama-spm", [](MetaBuilder& m, const ModelFile&) { m.SetU32("tokenizer.ggml.eos_token_id", 5); }},
      {"special_tokens", "phi-3", [](MetaBuilder& m, const ModelFile& f) {
         auto types = f.Meta("tokenizer.ggml.token_type")->AsInts();
         std::vector<int32_t> out(types.begin(), types.end());
         out[32000] = out[32007] = 1;
         m.SetI32s("tokenizer.ggml.token_type", out);
       }},
      {"special_tokens", "phi-3", [&](MetaBuilder& m, const ModelFile& f) {
         EditStrings(m, f, kTokens, [](auto& v) { v[32007] = "<|ende|>"; });
       }},
  };
  if (Absent(kVocabularies + "gpt-2.gguf")) GTEST_SKIP() << "../shared/tokenizers is absent";
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::string source = kVocabularies + cases[i].vocabulary + ".gguf";
    for (const bool against_export : {false, true}) {
      if (against_export && i % 3 != 0) continue;  // a third of them is enough
      EXPECT_EQ(Names(PlantedGguf(source, cases[i].edit, against_export)), cases[i].name)
          << "fault " << i << " in " << cases[i].vocabulary << (against_export ? " against a folder" : "");
    }
  }
}

TEST(TokensPhase, AnUnknownPreTokenizerNameIsTheCause) {
  const std::string source = kVocabularies + "gpt-2.gguf";
  if (Absent(source)) GTEST_SKIP() << "../shared/tokenizers is absent";
  const Report report = PlantedGguf(source, [](MetaBuilder& m, const ModelFile&) { m.SetString("tokenizer.ggml.pre", "nonsense"); }, false);
  EXPECT_EQ(Names(report), "pretokenizer");
}

}  // namespace
}  // namespace apr::bisect
