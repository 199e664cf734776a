// Tests of src/base.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"
#include "base/computed_bytes.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/float16.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/temp_folder.h"
#include "base/thread_pool.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

ErrorCode CodeOf(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  throw std::logic_error("nothing was thrown");
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Error, NamesFileTensorAndOffset) {
  const Error e(ErrorCode::kInvalidFormat, "bad", {.file = "a.gguf", .tensor = "t", .offset = 12});
  EXPECT_STREQ(e.what(), "a.gguf: bad ('t', offset 12)");
  EXPECT_EQ(ExitCode(e.code()), 4);
  EXPECT_EQ(e.With({.file = "other"}).context().file, "a.gguf");
}

TEST(ComputedBytes, AreThereWhileSomebodyHoldsThem) {
  int computed = 0;
  const auto bytes = ComputedBytes::Reserve("w", 100'000, [&](std::span<std::byte> out) {
    ++computed;
    std::fill(out.begin(), out.end(), std::byte{7});
  });
  const auto resident = [&] {
    unsigned char pages[64];
    return mincore(const_cast<std::byte*>(bytes->bytes().data()), 100'000, pages) == 0 && (pages[0] & 1) != 0;
  };
  EXPECT_EQ(computed, 0);
  EXPECT_FALSE(resident());
  auto first = bytes->Hold(), second = bytes->Hold();
  EXPECT_EQ(computed, 1);
  first.reset();
  EXPECT_EQ(bytes->bytes()[99'999], std::byte{7});
  EXPECT_TRUE(resident());
  second.reset();
  EXPECT_FALSE(resident());
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto held = bytes->Hold();
        wrong += bytes->bytes()[static_cast<size_t>(i) * 1000] != std::byte{7};
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_DEATH(static_cast<void>(*const_cast<const volatile std::byte*>(bytes->bytes().data())), "");
}

TEST(ComputedBytes, WhatFailsIsNotHeld) {
  bool fails = true;
  const auto bytes = ComputedBytes::Reserve("w", 10, [&](std::span<std::byte> out) {
    out[3] = std::byte{1};
    if (fails) throw Error(ErrorCode::kInvalidFormat, "no");
  });
  EXPECT_EQ(CodeOf([&] { bytes->Hold(); }), ErrorCode::kInvalidFormat);
  fails = false;
  const auto held = bytes->Hold();
  EXPECT_EQ(bytes->bytes()[3], std::byte{1});
  EXPECT_EQ(bytes->bytes()[4], std::byte{0});
}

// Of a mapping each there may not be as many as a model of experts has weights: neighbours become one.
TEST(ComputedBytes, ManyCanBeHeld) {
  std::vector<std::shared_ptr<const ComputedBytes>> all;
  std::vector<std::shared_ptr<const void>> held;
  for (int i = 0; i < 70'000; ++i) {
    all.push_back(ComputedBytes::Reserve("w", 4096, [](std::span<std::byte> out) { out[0] = std::byte{1}; }));
  }
  for (const auto& each : all) held.push_back(each->Hold());
  EXPECT_EQ(all.back()->bytes()[0], std::byte{1});
}

TEST(ByteReader, RefusesToReadPastTheEnd) {
  const std::string text = "abcdef";
  ByteReader reader(AsBytes(text), "f", 100);
  EXPECT_EQ(reader.Read<uint32_t>("x"), 0x64636261u);
  try {
    reader.Read<uint32_t>("count");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(*e.context().offset, 104u);
    EXPECT_NE(e.message().find("count"), std::string::npos);
  }
}

TEST(Utf8, AcceptsWellFormedAndRefusesTheRest) {
  EXPECT_TRUE(IsValidUtf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
  for (const char* bad : {"\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\x80", "\xF5\x80\x80\x80"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << bad;
  }
}

TEST(Float16, EveryHalfSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = F16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(F32ToF16(value), bits);
  }
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(F32ToF16(65519.996f), 0x7BFF);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7C00);
  EXPECT_EQ(F32ToF16(0x1p-25f), 0);           // tie between 0 and the smallest subnormal
  EXPECT_EQ(F32ToF16(0x1.8p-24f), 2);         // tie between 1 and 2: even
  EXPECT_EQ(F32ToF16(1.0f + 0x1p-11f), 0x3C00);
  EXPECT_EQ(F32ToBf16(1.0f + 0x1p-8f), 0x3F80);
  EXPECT_EQ(F32ToBf16(1.0f + 0x1.8p-7f), 0x3F82);
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(0x7F800001u)))));
}

TEST(Float8, KnownValues) {
  EXPECT_EQ(F8E4M3ToF32(0x7E), 448.0f);
  EXPECT_TRUE(std::isnan(F8E4M3ToF32(0x7F)));
  EXPECT_EQ(F8E4M3ToF32(0x01), 0x1p-9f);
  EXPECT_EQ(F8E5M2ToF32(0x7B), 57344.0f);
  EXPECT_TRUE(std::isinf(F8E5M2ToF32(0x7C)));
  EXPECT_EQ(E8M0ToF32(127), 1.0f);
}

TEST(Json, RefusesDepthDuplicatesAndNonsense) {
  EXPECT_EQ(ParseJson("{\"a\":[1,2]}", "f")["a"][1], 2);
  EXPECT_EQ(CodeOf([] { ParseJson("{\"a\":1,}", "f"); }), ErrorCode::kInvalidFormat);
  EXPECT_EQ(CodeOf([] { ParseJson("[NaN]", "f"); }), ErrorCode::kInvalidFormat);
  EXPECT_EQ(CodeOf([] { ParseJson(std::string(100000, '['), "f"); }), ErrorCode::kInvalidFormat);
  EXPECT_EQ(CodeOf([] { ParseJson("{\"a\":1,\"a\":2}", "f", {.refuse_duplicate_keys = true}); }),
            ErrorCode::kInvalidFormat);
  EXPECT_EQ(ParseJson("{\"a\":1,\"a\":2}", "f")["a"], 2);
  EXPECT_EQ(DumpJson(JsonNumber(std::nan("")), -1), "\"nan\"");
}

TEST(MappedFile, OpensAndRefuses) {
  const TempFolder folder("base-test");
  std::ofstream((folder / "x")) << "hello";
  EXPECT_EQ(AsText(MappedFile::Open((folder / "x"))->bytes()), "hello");
  EXPECT_EQ(CodeOf([&] { MappedFile::Open((folder / "absent")); }), ErrorCode::kNotFound);
  EXPECT_EQ(CodeOf([&] { MappedFile::Open((folder / "")); }), ErrorCode::kNotFound);
  std::ofstream((folder / "empty"));
  EXPECT_EQ(MappedFile::Open((folder / "empty"))->size(), 0u);
}

TEST(OutputFile, LeavesTheOldFileUntilCommit) {
  const TempFolder folder("base-test");
  const std::string path = (folder / "out");
  WriteTextFile(path, "old", Overwrite::kRefuse);
  EXPECT_EQ(CodeOf([&] { OutputFile file(path, Overwrite::kRefuse); }), ErrorCode::kValidationFailed);
  {
    OutputFile file(path, Overwrite::kAllow);
    file.Write("new");
    EXPECT_EQ(ReadAll(path), "old");
  }
  EXPECT_EQ(ReadAll(path), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1) << "the temporary file is gone";
  WriteTextFile(path, "new", Overwrite::kAllow);
  EXPECT_EQ(ReadAll(path), "new");
}

TEST(OutputFile, WritesAtAnOffset) {
  const TempFolder folder("base-test");
  OutputFile file((folder / "x"), Overwrite::kRefuse);
  file.Write("hello");
  file.WriteZeros(2);
  file.WriteAt(1, AsBytes("E"));
  file.Commit();
  EXPECT_EQ(ReadAll((folder / "x")), std::string("hEllo\0\0", 7));
}

TEST(ThreadPool, CoversEveryItemOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> seen(101);
      pool.ParallelFor(101, 3, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)]++;
      });
      for (const auto& count : seen) ASSERT_EQ(count, 1);
    }
  }
}

// Jobs behind one another, so short that threads come too late for many of them; under ThreadSanitizer a job that does
// not wait for a thread at work, or lets one in after its end, is a race.
TEST(ThreadPool, WhatAJobWroteIsThereWhenItEnds) {
  ThreadPool pool(6);
  for (int round = 0; round < 2000; ++round) {
    const int64_t count = 2 + round % 7;
    std::vector<int64_t> written(static_cast<size_t>(count));
    pool.ParallelFor(count, 1, [&](int64_t begin, int64_t, int) { written[static_cast<size_t>(begin)] = begin + round; });
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(written[static_cast<size_t>(i)], i + round);
  }
}

TEST(ThreadPool, PassesOnAnException) {
  ThreadPool pool(3);
  const auto thrower = [](int64_t begin, int64_t, int) {
    if (begin == 7) throw std::runtime_error("seven");
  };
  EXPECT_THROW(pool.ParallelFor(50, 1, thrower), std::runtime_error);
  std::atomic<int> count{0};
  pool.ParallelFor(50, 1, [&](int64_t, int64_t, int) { count++; });
  EXPECT_EQ(count, 50);
}

TEST(CpuFeatures, ScalarIsAlwaysThereAndUnknownNamesAreRefused) {
  EXPECT_TRUE(AllIsas()[0].available);
  EXPECT_EQ(CodeOf([] { ForceIsa("sse9"); }), ErrorCode::kUsage);
}

}  // namespace
}  // namespace apr
