// apr pull, list and rm against a server on this machine, and model arguments that name what was fetched.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/json.h"
#include "base/sha256.h"
#include "cli/planted_model.h"
#include "cli/program_under_test.h"
#include "cli/test_http_server.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kCommit(40, 'a');
const std::string kRepo = "org/tiny";

std::string SumOf(const std::string& text) {
  Sha256 sum;
  sum.Add(AsBytes(text));
  return sum.Hex();
}

class HubTest : public testing::Test {
 protected:
  HubTest() {
    PlantedModel("llama").WriteFolder(scratch_ / "source");
    files_["model.safetensors"] = ReadText(scratch_ / "source/model.safetensors");
    files_["config.json"] = ReadText(scratch_ / "source/config.json");
    files_["tokenizer.json"] = "{}";
    files_["pytorch_model.bin"] = "not wanted";
    files_["onnx/model.onnx"] = "not wanted";
    Publish();
  }

  static std::string FilePath(const std::string& name) { return "/" + kRepo + "/resolve/" + kCommit + "/" + name; }

  // The listing and every file, as the hub has them.
  void Publish(const std::string& revision = "main") {
    Json siblings = Json::array();
    for (const auto& [name, body] : files_) {
      Json entry = {{"rfilename", name}, {"size", body.size()}};
      if (name.ends_with(".safetensors") || name.ends_with(".gguf")) entry["lfs"] = {{"sha256", SumOf(body)}, {"size", body.size()}};
      siblings.push_back(entry);
      server_.Serve(FilePath(name), {.body = body});
    }
    server_.Serve("/api/models/" + kRepo + "/revision/" + revision + "?blobs=true", {.body = Json{{"sha", kCommit}, {"siblings", siblings}}.dump()});
  }

  ProgramResult Run(std::vector<std::string> arguments, std::vector<std::pair<std::string, std::string>> more = {}) {
    std::vector<std::pair<std::string, std::string>> environment = {
        {"HOME", scratch_.path()}, {"HF_ENDPOINT", server_.url()}, {"HF_HOME", scratch_ / "hf"}, {"HF_HUB_CACHE", ""}, {"APR_OFFLINE", ""}, {"HF_HUB_OFFLINE", ""},
        {"http_proxy", ""}, {"HTTP_PROXY", ""}, {"no_proxy", "127.0.0.1"}};
    environment.insert(environment.end(), more.begin(), more.end());
    return RunApr({.arguments = std::move(arguments), .environment = std::move(environment)});
  }

  Json Document(std::vector<std::string> arguments, int code = 0) {
    arguments.emplace_back("--json");
    const ProgramResult result = Run(std::move(arguments));
    EXPECT_EQ(result.code, code) << result.out << result.err;
    return result.Document();
  }

  ScratchFolder scratch_{"hub", ScratchFolder::Place::kMemory};
  TestHttpServer server_;
  std::map<std::string, std::string> files_;
  const std::string folder_ = scratch_ / ".apr/cache/hf/org/tiny";
};

TEST_F(HubTest, FetchesWhatAModelNeeds) {
  const Json pulled = Document({"pull", kRepo});
  EXPECT_EQ(pulled["mode"], "fetched");
  EXPECT_EQ(pulled["resolved"], "hf://" + kRepo);
  EXPECT_EQ(pulled["revision"], "main");
  EXPECT_EQ(pulled["commit"], kCommit);
  EXPECT_EQ(pulled["fetched_files"], 3);
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json"}) {
    EXPECT_TRUE(ReadText(folder_ + "/" + name) == files_[name]) << name;
    EXPECT_EQ(pulled["files"][name]["sha256"], SumOf(files_[name])) << name;
  }
  EXPECT_FALSE(fs::exists(folder_ + "/pytorch_model.bin"));
  // A second time only the listing is asked for.
  server_.Forget();
  EXPECT_EQ(Document({"pull", "hf://" + kRepo})["kept_files"], 3);
  EXPECT_EQ(server_.Requests().size(), 1u);
  EXPECT_EQ(Document({"pull", kRepo, "--force"})["fetched_files"], 3);
}

TEST_F(HubTest, ModelArgumentsFindTheCache) {
  ASSERT_EQ(Run({"pull", kRepo}).code, 0);
  server_.Forget();
  for (const std::string& name : {kRepo, "hf://" + kRepo, "hf://" + kRepo + "/model.safetensors"}) {
    const ProgramResult result = Run({"inspect", name, "--json"});
    EXPECT_EQ(result.code, 0) << name << result.err;
    EXPECT_EQ(result.Document()["architecture"], "llama") << name;
  }
  EXPECT_EQ(Run({"graph", kRepo, "--offline"}).code, 0);
  // What is not there is not fetched, whatever it looks like.
  EXPECT_EQ(Run({"inspect", "org/other"}).code, 3);
  EXPECT_EQ(Run({"inspect", "some/path/model.gguf"}).code, 3);
  const ProgramResult absent = Run({"inspect", "hf://org/other"});
  EXPECT_EQ(absent.code, 3);
  EXPECT_NE(absent.err.find("apr pull org/other"), std::string::npos) << absent.err;
  EXPECT_TRUE(server_.Requests().empty());
}

TEST_F(HubTest, AnExistingPathIsNeverARepository) {
  ASSERT_EQ(Run({"pull", kRepo}).code, 0);
  const fs::path before = fs::current_path();
  fs::create_directories(scratch_ / "here/org/tiny");
  fs::current_path(scratch_ / "here");
  const ProgramResult result = Run({"inspect", kRepo});
  fs::current_path(before);
  EXPECT_EQ(result.code, 3) << "the empty folder, not the cached model";
  EXPECT_NE(result.err.find("the folder holds no"), std::string::npos) << result.err;
}

TEST_F(HubTest, HuggingFacesOwnCacheIsRead) {
  const std::string snapshot = scratch_ / ("hf/hub/models--org--theirs/snapshots/" + kCommit);
  fs::create_directories(snapshot);
  fs::create_directories(scratch_ / "hf/hub/models--org--theirs/refs");
  WriteText(scratch_ / "hf/hub/models--org--theirs/refs/main", kCommit);
  for (const char* name : {"model.safetensors", "config.json"}) WriteText(snapshot + "/" + name, files_[name]);
  EXPECT_EQ(Document({"inspect", "org/theirs"})["architecture"], "llama");
  const Json list = Document({"list"});
  ASSERT_EQ(list["count"], 1);
  EXPECT_EQ(list["models"][0]["cache"], "huggingface");
  EXPECT_EQ(Run({"rm", "org/theirs"}).code, 3) << "other tools' caches are not ours to remove";
  EXPECT_TRUE(fs::exists(snapshot));
}

TEST_F(HubTest, ListAndRemove) {
  EXPECT_EQ(Document({"list"})["count"], 0);
  ASSERT_EQ(Run({"pull", kRepo}).code, 0);
  const Json list = Document({"list"});
  ASSERT_EQ(list["count"], 1);
  EXPECT_EQ(list["models"][0]["repo"], kRepo);
  EXPECT_EQ(list["models"][0]["files"], 3);
  EXPECT_EQ(list["models"][0]["complete"], true);
  EXPECT_EQ(Run({"ls"}).out, Run({"list"}).out);
  fs::remove(folder_ + "/config.json");
  EXPECT_EQ(Document({"list"})["models"][0]["complete"], false);
  EXPECT_EQ(Run({"rm", "../.."}).code, 2);
  EXPECT_EQ(Document({"rm", kRepo})["removed"]["repo"], kRepo);
  EXPECT_FALSE(fs::exists(folder_));
  EXPECT_EQ(Run({"rm", kRepo}).code, 3);
}

TEST_F(HubTest, OfflineMeansOffline) {
  const auto offline = [&](std::vector<std::string> arguments, std::vector<std::pair<std::string, std::string>> environment) {
    server_.Forget();
    const ProgramResult result = Run(std::move(arguments), std::move(environment));
    EXPECT_TRUE(server_.Requests().empty());
    return result.code;
  };
  EXPECT_EQ(offline({"pull", kRepo, "--offline"}, {}), 10);
  EXPECT_EQ(offline({"--offline", "pull", kRepo, "--force"}, {}), 10);
  EXPECT_EQ(offline({"pull", kRepo}, {{"APR_OFFLINE", "1"}}), 10);
  EXPECT_EQ(offline({"pull", kRepo}, {{"HF_HUB_OFFLINE", "1"}}), 10);
  EXPECT_EQ(offline({"pull", server_.url() + "/file.gguf"}, {{"HF_HUB_OFFLINE", "true"}}), 10);
  ASSERT_EQ(Run({"pull", kRepo}, {{"APR_OFFLINE", "0"}}).code, 0);
  EXPECT_EQ(offline({"pull", kRepo, "--offline"}, {}), 0) << "all of it is there";
  EXPECT_EQ(offline({"pull", kRepo, "--offline", "--revision", "v2"}, {}), 10);
  fs::remove(folder_ + "/tokenizer.json");
  EXPECT_EQ(offline({"pull", kRepo, "--offline"}, {}), 10);
}

TEST_F(HubTest, DryRunTouchesNothing) {
  const Json plan = Document({"pull", kRepo, "--dry-run", "--revision", kCommit});
  for (const char* key : {"model", "resolved", "revision", "revision_kind", "offline", "mode"}) EXPECT_TRUE(plan.contains(key)) << key;
  EXPECT_EQ(plan["mode"], "dry_run");
  EXPECT_EQ(plan["revision_kind"], "commit");
  EXPECT_EQ(Document({"pull", "smollm2", "--dry-run"})["resolved"], "hf://HuggingFaceTB/SmolLM2-135M-Instruct");
  EXPECT_TRUE(server_.Requests().empty());
  EXPECT_FALSE(fs::exists(scratch_ / ".apr"));
  const ProgramResult unknown = Run({"pull", "smolm2"});
  EXPECT_EQ(unknown.code, 5);
  EXPECT_NE(unknown.err.find("smollm2"), std::string::npos) << unknown.err;
}

TEST_F(HubTest, BrokenDownloadsAreResumed) {
  const std::string& weights = files_["model.safetensors"];
  server_.Serve(FilePath("model.safetensors"), {.body = weights, .break_after = 1000});
  const ProgramResult broken = Run({"pull", kRepo, "--json"});
  EXPECT_EQ(broken.code, 10) << broken.err;
  EXPECT_EQ(ReadText(folder_ + "/model.safetensors.part").size(), 1000u);
  EXPECT_FALSE(fs::exists(folder_ + "/model.safetensors"));
  server_.Forget();
  EXPECT_EQ(Document({"pull", kRepo})["resumed_bytes"], 1000);
  const auto requests = server_.Requests();
  EXPECT_NE(std::ranges::find(requests, "GET " + FilePath("model.safetensors") + " bytes=1000-"), requests.end());
  EXPECT_TRUE(ReadText(folder_ + "/model.safetensors") == weights);
  EXPECT_FALSE(fs::exists(folder_ + "/model.safetensors.part"));
  // A server that ignores the range sends all of it: then nothing of the part is kept.
  fs::remove(folder_ + "/model.safetensors");
  WriteText(folder_ + "/model.safetensors.part", "garbage");
  server_.Serve(FilePath("model.safetensors"), {.body = weights, .ranges = false});
  EXPECT_EQ(Document({"pull", kRepo})["resumed_bytes"], 0);
  EXPECT_TRUE(ReadText(folder_ + "/model.safetensors") == weights);
}

TEST_F(HubTest, WhatIsDamagedIsRefused) {
  std::string damaged = files_["model.safetensors"];
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
  server_.Serve(FilePath("model.safetensors"), {.body = damaged});
  const ProgramResult result = Run({"pull", kRepo});
  EXPECT_EQ(result.code, 10);
  EXPECT_NE(result.err.find("SHA-256"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder_ + "/model.safetensors"));
  EXPECT_FALSE(fs::exists(folder_ + "/model.safetensors.part"));
  // The same for a part that was changed while it lay there.
  Publish();
  WriteText(folder_ + "/model.safetensors.part", damaged.substr(0, damaged.size() - 1));
  EXPECT_EQ(Run({"pull", kRepo}).code, 10);
  EXPECT_EQ(Run({"pull", kRepo}).code, 0) << "the next try begins anew";
}

TEST_F(HubTest, VerifyReadsEverythingAgain) {
  EXPECT_EQ(Run({"pull", kRepo, "--verify"}).code, 3) << "nothing is there";
  ASSERT_EQ(Run({"pull", kRepo}).code, 0);
  server_.Forget();
  EXPECT_EQ(Document({"pull", kRepo, "--verify"})["passed"], true);
  PatchFile(folder_ + "/model.safetensors", files_["model.safetensors"].size() - 5, std::string(1, '\x7E'));
  const Json damaged = Document({"pull", kRepo, "--verify"}, 5);
  EXPECT_EQ(damaged["passed"], false);
  EXPECT_EQ(damaged["problems"][0]["file"], "model.safetensors") << "of the same size, but other bytes";
  fs::remove(folder_ + "/config.json");
  EXPECT_EQ(Document({"pull", kRepo, "--verify"}, 5)["problems"].size(), 2u);
  EXPECT_TRUE(server_.Requests().empty());
}

TEST_F(HubTest, ServersThatFail) {
  EXPECT_EQ(Run({"pull", "org/absent"}).code, 11);
  EXPECT_EQ(Run({"pull", kRepo, "--revision", "v9"}).code, 11);
  server_.Serve(FilePath("config.json"), {.body = files_["config.json"], .failures = 2});
  EXPECT_EQ(Run({"pull", kRepo}).code, 0) << "two answers of 503 are waited out";
  server_.Serve(FilePath("config.json"), {.body = files_["config.json"], .failures = 100});
  EXPECT_EQ(Run({"pull", kRepo, "--force"}).code, 10);
  server_.Serve("/api/models/" + kRepo + "/revision/main?blobs=true", {.body = "<html>"});
  EXPECT_EQ(Run({"pull", kRepo}).code, 4);
  EXPECT_EQ(Run({"pull", kRepo}, {{"HF_ENDPOINT", "http://127.0.0.1:1"}}).code, 10) << "nobody listens";
}

TEST_F(HubTest, NamesThatLeadOutAreRefused) {
  for (const char* name : {"../../evil", "/etc/evil", "a/../../evil"}) {
    server_.Serve("/api/models/" + kRepo + "/revision/main?blobs=true", {.body = Json{{"sha", kCommit}, {"siblings", {{{"rfilename", name}}}}}.dump()});
    EXPECT_EQ(Run({"pull", kRepo, "--include", "*"}).code, 4) << name;
  }
  server_.Serve("/api/models/" + kRepo + "/revision/main?blobs=true", {.body = Json{{"sha", "../../x"}, {"siblings", Json::array()}}.dump()});
  EXPECT_EQ(Run({"pull", kRepo, "--include", "*"}).code, 4);
}

TEST_F(HubTest, RedirectsAndRevisions) {
  server_.Serve("/elsewhere/weights", {.body = files_["model.safetensors"]});
  server_.Serve(FilePath("model.safetensors"), {.redirect = "/elsewhere/weights"});
  EXPECT_EQ(Document({"pull", kRepo})["fetched_files"], 3);
  Publish("v1.0");
  EXPECT_EQ(Document({"pull", kRepo, "--revision", "v1.0"})["revision"], "v1.0");
  server_.Serve(FilePath("model.safetensors"), {.redirect = "file:///etc/hostname"});
  EXPECT_EQ(Run({"pull", kRepo, "--force"}).code, 10) << "only http and https are followed";
}

TEST_F(HubTest, SelectionOfFiles) {
  files_ = {{"a-Q4_K_M.gguf", "GGUF-a"}, {"a-Q8_0.gguf", "GGUF-b"}, {"README.md", "card"}};
  Publish();
  EXPECT_EQ(Document({"pull", kRepo})["files"].size(), 2u);
  EXPECT_TRUE(fs::exists(folder_ + "/a-Q4_K_M.gguf"));
  EXPECT_EQ(Document({"pull", kRepo, "--include", "*Q8_0.gguf"})["fetched_files"], 1);
  EXPECT_EQ(Document({"pull", "hf://" + kRepo + "/README.md"})["kept_files"], 1);
  EXPECT_EQ(Run({"pull", kRepo, "--include", "*.nonsense"}).code, 5);
  files_ = {{"a-Q5_0.gguf", "GGUF-a"}, {"a-Q8_0.gguf", "GGUF-b"}};
  Publish();
  EXPECT_EQ(Run({"pull", kRepo}).code, 5) << "which of them?";
  files_ = {{"model.safetensors", "x"}, {"tokenizer.json", "{}"}};
  Publish();
  EXPECT_EQ(Run({"pull", kRepo}).code, 5) << "no config.json";
  files_ = {{"model.safetensors", "x"}, {"config.json", "{}"}};
  Publish();
  EXPECT_EQ(Run({"pull", kRepo}).code, 5) << "no tokenizer";
  files_ = {{"README.md", "x"}};
  Publish();
  EXPECT_EQ(Run({"pull", kRepo}).code, 5) << "no weights";
}

TEST_F(HubTest, UrlsAndOtherFolders) {
  server_.Serve("/some/model.gguf", {.body = "GGUF-bytes"});
  const Json pulled = Document({"pull", server_.url() + "/some/model.gguf"});
  EXPECT_EQ(ReadText(pulled["path"].get<std::string>() + "/model.gguf"), "GGUF-bytes");
  EXPECT_EQ(Document({"list"})["models"][0]["cache"], "urls");
  EXPECT_EQ(Document({"pull", kRepo, "-o", scratch_ / "mine"})["path"], scratch_ / "mine");
  EXPECT_EQ(ReadText(scratch_ / "mine/config.json"), files_["config.json"]);
  EXPECT_EQ(Document({"pull", kRepo, "-o", scratch_ / "mine", "--verify"})["passed"], true);
}

}  // namespace
}  // namespace apr
