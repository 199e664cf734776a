// Prompt caches: what is restored, what is refused by name, and that no broken file does harm.
#include "generate/prompt_cache.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kLlama = APR_SOURCE_DIR "/testdata/model/llama";

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class PromptCache : public testing::Test {
 protected:
  PromptCache() : path_(testing::TempDir() + "apr_prompt_cache.aprk"), session_(Make(kLlama)), digest_(CacheDigest(*session_)) {
    const int sequence = session_->NewSequence();
    session_->Append(sequence, ids_);
    SavePromptCache(*session_, sequence, digest_, path_, Overwrite::kAllow);
  }
  ~PromptCache() override { fs::remove(path_); }

  static std::unique_ptr<Session> Make(const std::string& model, Precision precision = Precision::kExact, DType cache = DType::kF32) {
    return std::make_unique<Session>(Model::Load(model), SessionOptions{.compute = {.threads = 1, .precision = precision, .cache_type = cache}});
  }
  int64_t Restore(std::span<const int32_t> prompt) {
    const auto session = Make(kLlama);
    const int sequence = session->NewSequence();
    const int64_t held = RestorePromptCache(*session, sequence, digest_, path_, prompt);
    EXPECT_EQ(static_cast<int64_t>(session->ids(sequence).size()), held);
    return held;
  }
  void Write(const std::string& bytes) {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out << bytes;
  }
  // With both checksums put right, as somebody who means harm would.
  void WriteSealed(std::string bytes) {
    const auto crc = [&](size_t begin, size_t end) {
      return static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()) + begin, end - begin));
    };
    StoreLe(bytes.data() + 96, crc(104, bytes.size()));
    StoreLe(bytes.data() + 100, crc(0, 100));
    Write(bytes);
  }
  ErrorCode CodeOfRestore() {
    try {
      Restore(ids_);
    } catch (const Error& error) {
      EXPECT_EQ(error.context().file, path_);
      return error.code();
    }
    return ErrorCode::kInternal;
  }

  std::vector<int32_t> ids_ = {1, 2, 3, 4, 5, 6, 7};
  std::string path_;
  std::unique_ptr<Session> session_;
  uint64_t digest_;
};

TEST_F(PromptCache, RestoresTheCommonBeginning) {
  EXPECT_EQ(Restore(ids_), 6);  // the last token runs, for its logits
  EXPECT_EQ(Restore(std::vector<int32_t>{1, 2, 3, 9, 9, 9}), 3);
  EXPECT_EQ(Restore(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9}), 7);
  EXPECT_EQ(Restore(std::vector<int32_t>{9, 2, 3}), 0);
  EXPECT_EQ(Restore(std::vector<int32_t>{1}), 0);
}

TEST_F(PromptCache, WhatWouldGiveOtherBitsIsRefused) {
  const auto refused = [&](Session& session, uint64_t digest, const std::string& what) {
    try {
      RestorePromptCache(session, session.NewSequence(), digest, path_, ids_);
      ADD_FAILURE() << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kValidationFailed);
      EXPECT_NE(error.message().find(what), std::string::npos) << error.message();
    }
  };
  const auto fast = Make(kLlama, Precision::kFast);
  refused(*fast, CacheDigest(*fast), "precision 'exact'");
  const auto narrow = Make(kLlama, Precision::kExact, DType::kQ8_0);
  refused(*narrow, CacheDigest(*narrow), "cache type 'f32'");
  const auto other = Make(APR_SOURCE_DIR "/testdata/model/mistral");
  refused(*other, CacheDigest(*other), "another model");
}

TEST_F(PromptCache, TheDigestSeesEveryWeightAndAttribute) {
  EXPECT_EQ(CacheDigest(*Make(kLlama)), digest_);
  const auto model = Model::Load(kLlama);
  auto graph = std::make_shared<BoundGraph>(*model->bound());
  WeightRef& weight = graph->weights.back();
  auto copy = std::make_shared<Tensor>(weight.view.dtype, weight.view.shape);
  std::ranges::copy(weight.view.bytes, copy->mutable_bytes().begin());
  copy->mutable_bytes().back() ^= std::byte{1};
  weight.owned = copy;
  weight.view = copy->view();
  const SessionOptions options{.compute = {.threads = 1, .precision = Precision::kExact}};
  EXPECT_NE(CacheDigest(Session(model, options, graph)), digest_);
  auto changed = std::make_shared<BoundGraph>(*model->bound());
  for (Node& node : changed->graph.nodes) {
    if (std::string_view(node.op->name()) != "rope_table") continue;
    const auto attributes = node.attributes->Clone();
    attributes->SetReal("theta", 12345);
    node.attributes = std::shared_ptr<const Attributes>(attributes->Clone());
  }
  EXPECT_NE(CacheDigest(Session(model, options, changed)), digest_);
}

TEST_F(PromptCache, BrokenFilesEndWithAnError) {
  const std::string good = Read(path_);
  for (size_t size = 0; size < good.size(); size += size < 110 ? 1 : 97) {
    Write(good.substr(0, size));
    EXPECT_EQ(CodeOfRestore(), ErrorCode::kInvalidFormat) << size;
  }
  for (size_t at = 0; at < good.size(); at += at < 140 ? 1 : 101) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x41);
    Write(bad);
    EXPECT_EQ(CodeOfRestore(), ErrorCode::kInvalidFormat) << at;
  }
  Write(good + "x");
  EXPECT_EQ(CodeOfRestore(), ErrorCode::kInvalidFormat);
  fs::remove(path_);
  EXPECT_EQ(CodeOfRestore(), ErrorCode::kNotFound);
}

// Lies under right checksums: an error or other numbers, never harm (the sanitizers watch).
TEST_F(PromptCache, SealedLiesDoNoHarm) {
  const std::string good = Read(path_);
  uint32_t seed = 5;
  int errors = 0;
  for (int round = 0; round < 400; ++round) {
    std::string bad = good;
    for (int flips = 0; flips <= round % 3; ++flips) {
      seed = seed * 1664525U + 1013904223U;
      const size_t at = 4 + (seed >> 8) % (round % 2 == 0 ? 150 : bad.size() - 4);
      bad[at] = static_cast<char>(seed >> 24);
    }
    WriteSealed(bad);
    try {
      Restore(ids_);
    } catch (const Error& error) {
      ++errors;
    }
  }
  EXPECT_GT(errors, 50);
  std::string far = good;
  StoreLe(far.data() + 80, uint32_t{0xFFFFFFFF});
  StoreLe(far.data() + 92, uint32_t{0xFFFFFFFF});
  WriteSealed(far);
  EXPECT_EQ(CodeOfRestore(), ErrorCode::kInvalidFormat);
  std::string id = good;
  StoreLe(id.data() + 104, int32_t{-5});
  WriteSealed(id);
  EXPECT_EQ(CodeOfRestore(), ErrorCode::kInvalidFormat);
}

}  // namespace
}  // namespace apr
