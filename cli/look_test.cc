// The commands that look into files, from outside: lint, debug, tree, hex, flow, explain, inspect.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "base/json.h"
#include "cli/planted_model.h"
#include "cli/program_under_test.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";
const std::string kQ = "model.layers.0.self_attn.q_proj.weight";

Json Document(std::vector<std::string> arguments, int code = 0) {
  arguments.emplace_back("--json");
  const ProgramResult result = RunApr(arguments);
  EXPECT_EQ(result.code, code) << arguments[0] << " " << result.out << result.err;
  return result.Document();
}

std::string Text(std::vector<std::string> arguments) {
  const ProgramResult result = RunApr(std::move(arguments));
  EXPECT_EQ(result.code, 0) << result.err;
  return result.out;
}

bool Contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class LookTest : public testing::Test {
 protected:
  ScratchFolder scratch_{"look", ScratchFolder::Place::kMemory};
  PlantedModel model_{"llama"};
};

// Categories and levels of the issues: "ERROR Layout Contract".
std::vector<std::string> Issues(const Json& document) {
  std::vector<std::string> out;
  for (const Json& issue : document["issues"]) {
    out.push_back(issue["level"].get<std::string>() + " " + issue["category"].get<std::string>());
    for (const char* key : {"message", "suggestion"}) EXPECT_TRUE(issue.contains(key));
  }
  return out;
}

TEST_F(LookTest, LintCountsAndPasses) {
  model_.WriteFolder(scratch_ / "m");
  const Json plain = Document({"lint", scratch_ / "m"});
  EXPECT_EQ(std::ranges::count(Issues(plain), "WARN Metadata"), 3) << "license, card, provenance";
  EXPECT_EQ(plain["passed"], true);
  EXPECT_EQ(plain["warn_count"], 3);
  EXPECT_EQ(plain["error_count"], 0);
  EXPECT_EQ(plain["total_issues"], plain["issues"].size());
  WriteText(scratch_ / "m/LICENSE", "text");
  WriteText(scratch_ / "m/README.md", "text");
  EXPECT_EQ(Document({"lint", scratch_ / "m"})["warn_count"], 1);
  MetaBuilder metadata;
  for (const char* key : {"general.license", "general.description", "general.source.url"}) metadata.SetString(key, "x");
  model_.WriteGguf(scratch_ / "m.gguf", metadata.list());
  EXPECT_FALSE(Contains(Document({"lint", scratch_ / "m.gguf"}).dump(), "\"Metadata\""));
}

TEST_F(LookTest, LintFindsNamesSizesAndShapes) {
  model_.tensors.emplace("layers.0.wq.weight", model_[kQ]);
  model_.tensors.emplace("something.else", model_[kQ]);
  model_.tensors.emplace("model.layers.1.large.weight", PlantedTensor{Shape{512, 1024}, std::vector<float>(512 * 1024, 1.f)});
  model_.WriteFolder(scratch_ / "m");
  const Json names = Document({"lint", scratch_ / "m"});
  const auto issues = Issues(names);
  EXPECT_EQ(std::ranges::count(issues, "INFO Tensor Naming"), 1);
  EXPECT_EQ(std::ranges::count(issues, "WARN Tensor Naming"), 1);
  EXPECT_TRUE(Contains(names.dump(), "2 names that are not canonical"));
  EXPECT_TRUE(Contains(names.dump(), "1 tensors of more than 1 MB are stored raw"));

  model_ = PlantedModel("llama");
  model_["model.layers.0.mlp.down_proj.weight"].shape = Shape{16, 64};
  model_.WriteFolder(scratch_ / "s");
  const Json shape = Document({"lint", scratch_ / "s"}, 5);
  EXPECT_EQ(shape["passed"], false);
  EXPECT_EQ(std::ranges::count(Issues(shape), "ERROR Layout Contract"), 1);
  // More rows than tokens are padding.
  model_ = PlantedModel("llama");
  PlantedTensor& embedding = model_["model.embed_tokens.weight"];
  embedding.shape = Shape{128, 32};
  embedding.values.resize(128 * 32);
  model_.WriteFolder(scratch_ / "p");
  EXPECT_EQ(std::ranges::count(Issues(Document({"lint", scratch_ / "p"})), "WARN Layout Contract"), 1);
}

TEST_F(LookTest, LintSeesAlignment) {
  model_.tensors.clear();
  model_.tensors.emplace("a", PlantedTensor{Shape{3}, {1, 2, 3}});
  model_.tensors.emplace("b", PlantedTensor{Shape{3}, {1, 2, 3}});
  model_.WriteGguf(scratch_ / "m.gguf");  // whose tensors begin at multiples of 32
  EXPECT_TRUE(Contains(Document({"lint", scratch_ / "m.gguf"}).dump(), "do not begin at a multiple of 64"));
}

TEST_F(LookTest, DebugSaysWhatItChecked) {
  const Json sound = Document({"debug", kLlama});
  EXPECT_EQ(sound["health"], "ok");
  EXPECT_EQ(sound["format"], "safetensors");
  EXPECT_EQ(sound["architecture"], "llama");
  EXPECT_GT(sound["parameters"], 10000);
  EXPECT_FALSE(sound.contains("hex") || sound.contains("strings") || sound.contains("drama"));
  model_.tensors.erase(kQ);
  model_.WriteFolder(scratch_ / "m");
  const Json broken = Document({"debug", scratch_ / "m", "--drama"});
  EXPECT_EQ(broken["health"], "damaged");
  EXPECT_TRUE(Contains(broken["problems"].dump(), kQ));
  EXPECT_TRUE(Contains(broken["drama"], kQ));
}

TEST_F(LookTest, DebugShowsBytesAndTexts) {
  model_.WriteGguf(scratch_ / "m.gguf");
  const Json hex = Document({"debug", scratch_ / "m.gguf", "--hex", "--limit", "32"});
  ASSERT_EQ(hex["hex"].size(), 2u);
  EXPECT_EQ(hex["hex"][0]["hex"].get<std::string>().substr(0, 11), "47 47 55 46");
  EXPECT_EQ(Document({"debug", scratch_ / "m.gguf", "--hex", "--limit", "100000"})["hex"].size(), 256u) << "at most 4096 bytes";
  const Json strings = Document({"debug", scratch_ / "m.gguf", "--strings", "--limit", "3"})["strings"];
  ASSERT_EQ(strings.size(), 3u);
  EXPECT_EQ(strings[0]["text"], "GGUF");
  EXPECT_EQ(strings[0]["offset"], 0);
}

TEST_F(LookTest, TreeInEveryForm) {
  const Json tree = Document({"tree", kLlama});
  EXPECT_EQ(tree["type"], "group");
  const ProgramResult tensors = RunApr({"tensors", kLlama, "--json"});
  EXPECT_EQ(tree["tensor_count"], tensors.Document()["tensor_count"]);
  EXPECT_EQ(tree["total_size"], tensors.Document()["total_size_bytes"]);
  // Every leaf stands at its path.
  std::vector<std::string> paths;
  const std::function<void(const Json&)> walk = [&](const Json& node) {
    if (node["type"] == "tensor") {
      paths.push_back(node["path"]);
      for (const char* key : {"name", "shape", "size_bytes"}) EXPECT_TRUE(node.contains(key));
    } else {
      for (const Json& child : node["children"]) walk(child);
    }
  };
  walk(tree);
  EXPECT_EQ(paths.size(), tree["tensor_count"]);
  EXPECT_NE(std::ranges::find(paths, kQ), paths.end());
  const std::string ascii = Text({"tree", kLlama, "--sizes"});
  EXPECT_TRUE(Contains(ascii, "└── ")) << ascii;
  EXPECT_TRUE(Contains(ascii, "weight BF16 [48, 32] 3072 bytes")) << ascii;
  EXPECT_EQ(Text({"tree", kLlama, "--depth", "1"}).find("layers"), std::string::npos);
  EXPECT_EQ(Document({"tree", kLlama, "--depth", "2"})["children"][0]["children"][0]["children"].size(), 0u);
  EXPECT_EQ(Document({"tree", kLlama, "--filter", "layers.1."})["tensor_count"], 9);
  EXPECT_EQ(RunApr({"tree", kLlama, "--filter", "nonsense"}).code, 5);
  EXPECT_TRUE(Contains(Text({"tree", kLlama, "--format", "dot"}), "digraph model {"));
  EXPECT_TRUE(Contains(Text({"tree", kLlama, "--format", "mermaid"}), "graph LR\n"));
  EXPECT_EQ(Json::parse(Text({"tree", kLlama, "--format", "json"})), tree);
}

TEST_F(LookTest, TreeOfHostileNames) {
  std::string deep = "a";
  for (int i = 0; i < 20000; ++i) deep += ".a";
  model_.tensors.clear();
  model_.tensors.emplace(deep, PlantedTensor{Shape{1}, {1}});
  model_.tensors.emplace("x\"y\\z", PlantedTensor{Shape{1}, {1}});
  model_.WriteFolder(scratch_ / "m");
  EXPECT_EQ(Document({"tree", scratch_ / "m"})["tensor_count"], 2);
  EXPECT_TRUE(Contains(Text({"tree", scratch_ / "m", "--format", "dot"}), "x\\\"y\\\\z"));
}

TEST_F(LookTest, HexHeaderOfEveryContainer) {
  model_.WriteGguf(scratch_ / "m.gguf");
  model_.WriteApr(scratch_ / "m.apr");
  model_.WriteFolder(scratch_ / "m");
  const auto names = [&](const std::string& path) {
    const Json document = Document({"hex", path, "--header"});
    EXPECT_EQ(document, Document({"hex", path})) << "the header is what is shown first";
    std::vector<std::string> out;
    uint64_t end = 0;
    for (const Json& field : document["header"]) {
      out.push_back(field["name"]);
      EXPECT_GE(field["offset"], end) << field;  // fields follow each other
      end = field["offset"].get<uint64_t>() + field["size"].get<uint64_t>();
    }
    EXPECT_LE(end, document["size_bytes"]);
    return out;
  };
  const auto gguf = names(scratch_ / "m.gguf");
  EXPECT_EQ(std::vector<std::string>(gguf.begin(), gguf.begin() + 4), (std::vector<std::string>{"magic", "version", "tensor_count", "metadata_kv_count"}));
  EXPECT_NE(std::ranges::find(gguf, "tensor " + kQ), gguf.end());
  const auto apr = names(scratch_ / "m.apr");
  for (const char* name : {"flags", "tensor_count", "metadata_offset", "header_checksum", "tensor index", "footer_checksum"}) {
    EXPECT_NE(std::ranges::find(apr, name), apr.end()) << name;
  }
  EXPECT_EQ(names(scratch_ / "m"), (std::vector<std::string>{"header_length", "header", "tensor data"}));
}

TEST_F(LookTest, HexOfTensors) {
  model_[kQ].dtype = DType::kAprQ4;
  model_.WriteApr(scratch_ / "m.apr");
  const std::string path = scratch_ / "m.apr";
  const Json first = Document({"hex", path, "--tensor", kQ, "--limit", "8"})["tensors"][0];
  EXPECT_EQ(first["values"].size(), 8u);
  EXPECT_EQ(first["hex"][0]["offset"], OffsetOf(path, kQ));
  const Json slice = Document({"hex", path, "--tensor", kQ, "--slice", "4:8"})["tensors"][0]["slice"]["values"];
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(slice[i], first["values"][4 + i]);
  const Json block = Document({"hex", path, "--tensor", kQ, "--blocks", "--limit", "2"})["tensors"][0]["blocks"][1];
  EXPECT_EQ(block["first_element"], 32);
  EXPECT_EQ(block["values"].size(), 32u);
  const double scale = block["fields"]["d"];
  EXPECT_GT(scale, 0);
  double largest = 0;
  for (const Json& v : block["values"]) largest = std::max(largest, std::abs(v.get<double>()));
  EXPECT_NEAR(largest, 7 * scale, 1e-6);
  const Json all = Document({"hex", path, "--tensor", kQ, "--stats", "--distribution", "--entropy", "--contract"})["tensors"][0];
  uint64_t counted = 0;
  for (const Json& bin : all["distribution"]["bins"]) counted += bin.get<uint64_t>();
  EXPECT_EQ(counted, 48u * 32u);
  EXPECT_EQ(all["stats"]["count"], 48 * 32);
  EXPECT_GT(all["entropy_bits_per_byte"], 3);
  EXPECT_EQ(all["contract"]["expected_shape"], Json({48, 32}));
  EXPECT_EQ(all["contract"]["agrees"], true);
  EXPECT_EQ(RunApr({"hex", path, "--tensor", kQ, "--slice", "0:99999"}).code, 5);
  EXPECT_EQ(RunApr({"hex", path, "--tensor", kQ, "--slice", "x"}).code, 2);
  EXPECT_EQ(RunApr({"hex", path, "--tensor", "nonsense"}).code, 5);
  EXPECT_EQ(RunApr({"hex", path, "--list", "--stats"}).code, 2);
}

TEST_F(LookTest, HexListsAndRaw) {
  model_.WriteGguf(scratch_ / "m.gguf");
  const std::string path = scratch_ / "m.gguf";
  EXPECT_EQ(Document({"hex", path, "--list"})["tensors"].size(), model_.tensors.size());
  const std::string bytes = ReadText(path);
  const Json raw = Document({"hex", path, "--raw", "--offset", "0x8", "--limit", "24", "--width", "8"});
  ASSERT_EQ(raw["raw"].size(), 3u);
  EXPECT_EQ(raw["raw"][0]["offset"], 8);
  EXPECT_EQ(raw["raw"][0]["hex"].get<std::string>().substr(0, 2), fmt::format("{:02x}", static_cast<unsigned char>(bytes[8])));
  EXPECT_EQ(RunApr({"hex", path, "--raw", "--offset", "0xzz"}).code, 2);
  EXPECT_EQ(RunApr({"hex", path, "--raw", "--offset", "99999999"}).code, 5);
  WriteText(scratch_ / "any", "no model");
  EXPECT_EQ(Text({"hex", scratch_ / "any", "--raw"}), "00000000  6e 6f 20 6d 6f 64 65 6c                          no model\n");
}

TEST_F(LookTest, FlowFollowsTheGraph) {
  const Json full = Document({"flow", kLlama});
  EXPECT_EQ(full["architecture"], "llama");
  EXPECT_EQ(full["decoder_layers"], 2);
  EXPECT_EQ(full["encoder_layers"], 0);
  const Json& groups = full["tensor_groups"];
  EXPECT_EQ(groups["embedding"], 1);
  EXPECT_EQ(groups["decoder"], 18);
  EXPECT_EQ(groups["other"], 1);
  EXPECT_EQ(groups["encoder"], 0);
  const auto steps = [&](const std::string& component) {
    std::string out;
    const Json flow = Document({"flow", kLlama, "--component", component, "--layer", "1"});
    for (const Json& step : flow["steps"]) out += step["name"].get<std::string>() + " ";
    return out;
  };
  EXPECT_TRUE(Contains(steps("self_attn"), "layer-1/q")) << steps("self_attn");
  EXPECT_FALSE(Contains(steps("self_attn"), "gate"));
  EXPECT_TRUE(Contains(steps("ffn"), "down"));
  EXPECT_FALSE(Contains(steps("ffn"), "layer-0"));
  EXPECT_EQ(RunApr({"flow", kLlama, "--component", "encoder"}).code, 5);
  EXPECT_EQ(RunApr({"flow", kLlama, "--layer", "2"}).code, 5);
  EXPECT_EQ(RunApr({"flow", kLlama, "--component", "wheel"}).code, 2);
  EXPECT_TRUE(Contains(Text({"flow", kLlama}), "layer 0 stands for layers 0 to 1"));
}

TEST_F(LookTest, FlowOfEncodersByName) {
  model_.tensors.clear();
  for (const char* name : {"encoder.layers.0.self_attn.q_proj.weight", "encoder.layers.1.fc1.weight", "decoder.layers.0.encoder_attn.q_proj.weight",
                           "decoder.embed_tokens.weight"}) {
    model_.tensors.emplace(name, PlantedTensor{Shape{2}, {1, 2}});
  }
  model_.WriteGguf(scratch_ / "m.gguf");
  const Json flow = Document({"flow", scratch_ / "m.gguf"});
  EXPECT_TRUE(flow["architecture"].is_null());
  EXPECT_TRUE(flow["problem"].is_string());
  EXPECT_EQ(flow["encoder_layers"], 2);
  EXPECT_EQ(flow["decoder_layers"], 1);
  EXPECT_EQ(Document({"flow", scratch_ / "m.gguf", "--component", "cross_attn"})["tensors"].size(), 1u);
}

TEST_F(LookTest, ExplainCodes) {
  for (const char* code : {"E001", "E002", "E003", "E004", "E005", "E006", "invalid_format", "F-DATA-QUALITY-006", "e002"}) {
    const Json document = Document({"explain", code});
    for (const char* key : {"code", "title", "meaning", "remedy", "exit_code"}) EXPECT_TRUE(document.contains(key)) << code;
  }
  EXPECT_EQ(Document({"explain", "5"})["code"], "validation_failed");
  EXPECT_GT(Document({"explain"})["codes"].size(), 20u);
  const ProgramResult unknown = RunApr({"explain", "E0001"});
  EXPECT_EQ(unknown.code, 3);
  EXPECT_TRUE(Contains(unknown.err, "did you mean 'E001'?")) << unknown.err;
}

TEST_F(LookTest, ExplainTensorsAndFamilies) {
  const Json tensor = Document({"explain", "--tensor", "blk.3.ffn_down.weight"});
  ASSERT_FALSE(tensor["meanings"].empty());
  EXPECT_EQ(tensor["meanings"][0]["layer"], 3);
  EXPECT_EQ(tensor["meanings"][0]["other_name"], "model.layers.3.mlp.down_proj.weight");
  EXPECT_TRUE(Contains(tensor["meanings"][0]["role"], "down projection"));
  const Json in_file = Document({"explain", kLlama, "--tensor", kQ})["in_file"];
  EXPECT_EQ(in_file["shape"], Json({48, 32}));
  EXPECT_EQ(RunApr({"explain", kLlama, "--tensor", "nonsense"}).code, 5);
  EXPECT_EQ(RunApr({"explain", "--tensor", "nonsense"}).code, 5);
  const Json gemma = Document({"explain", "--kernel", "gemma2"});
  EXPECT_EQ(gemma["family"], "gemma2");
  EXPECT_TRUE(Contains(gemma["kernel_class"]["norm"], "w + 1"));
  EXPECT_GT(Document({"explain", "--kernel"})["families"].size(), 20u);
  EXPECT_EQ(Document({"explain", kLlama, "--kernel"})["family"], "llama");
  EXPECT_EQ(RunApr({"explain", "--kernel", "gemmma2"}).code, 5);
  EXPECT_TRUE(Contains(Document({"explain", kLlama})["about"], "2 layers"));
  EXPECT_EQ(RunApr({"explain", "--proof-status"}).code, 2) << "what is not there is refused";
}

TEST_F(LookTest, CompareHf) {
  model_.WriteFolder(scratch_ / "hf");
  model_.WriteApr(scratch_ / "m.apr");
  const std::vector<std::string> same = {"compare-hf", scratch_ / "m.apr", "--hf", scratch_ / "hf"};
  const Json equal = Document(same);
  EXPECT_EQ(equal["total_compared"], model_.tensors.size());
  EXPECT_EQ(equal["total_passed"], model_.tensors.size());
  EXPECT_EQ(equal["all_passed"], true);
  EXPECT_EQ(equal["worst_diff"], 0);
  for (const char* key : {"name", "shape_match", "passes_threshold", "max_diff", "l2_distance", "cosine_similarity"}) {
    EXPECT_TRUE(equal["comparisons"][0].contains(key)) << key;
  }
  model_[kQ].values[77] += 0.01f;
  model_.WriteApr(scratch_ / "m.apr");
  const Json changed = Document(same, 5);
  EXPECT_EQ(changed["worst_tensor"], kQ);
  EXPECT_NEAR(changed["worst_diff"].get<double>(), 0.01, 1e-6);
  EXPECT_EQ(changed["all_passed"], false);
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), same.begin(), same.end());
    return more;
  };
  EXPECT_EQ(Document(with({"--threshold", "0.02"}))["all_passed"], true);
  EXPECT_EQ(Document(with({"--tensor", "k_proj"}))["total_compared"], 2);
  EXPECT_EQ(Document(with({"--tensor", "nonsense"}), 5)["total_compared"], 0) << "nothing compared is no agreement";
  model_[kQ].values[77] = NAN;
  model_.WriteApr(scratch_ / "m.apr");
  EXPECT_EQ(Document(with({"--threshold", "1e30"}), 5)["all_passed"], false) << "NaN is no agreement";
  model_.tensors.erase(kQ);
  model_.WriteApr(scratch_ / "m.apr");
  EXPECT_EQ(Document(same, 5)["missing"].size(), 1u);
}

}  // namespace
}  // namespace apr
