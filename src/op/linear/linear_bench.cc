// Speed of linear by weight type, shape and tokens beside the machine's limits: memory reading, f32 and
// int8 arithmetic, measured in the same run.
//   linear_bench --benchmark_filter=Q4_1 [--threads=2] [--isa=avx2] [--cached]
// GB/s counts bytes of weights read; GOP/s counts two operations per weight and token.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu_features.h"
#include "op/linear/linear.h"
#include "op/linear/linear_cpu.h"
#include "op/test_node.h"

namespace apr {
namespace {

int g_threads = 2;
bool g_cached = false;

struct Case {
  DType dtype;
  Precision precision;
  int64_t rows;
  int64_t cols;
  int64_t tokens;
};

// One token at a time reads other matrices each time, as a model does: enough copies to leave the
// caches, unless --cached.
void RunCase(benchmark::State& timing, const Case& c) {
  ThreadPool pool(g_threads);
  const WeightRef weight = RandomWeight(c.dtype, c.rows, c.cols, 1);
  const auto copies = static_cast<size_t>(c.tokens > 1 || g_cached ? 1 : 1 + (256 << 20) / weight.view.bytes.size());
  std::vector<TestNode> nodes;
  std::vector<std::unique_ptr<CpuState>> states;
  nodes.reserve(copies);
  for (size_t i = 0; i < copies; ++i) {
    auto bytes = std::make_shared<Tensor>(c.dtype, weight.view.shape);
    std::memcpy(bytes->mutable_bytes().data(), weight.view.bytes.data(), weight.view.bytes.size());
    WeightRef copy{.view = bytes->view(), .owned = bytes, .source = "bench"};
    nodes.emplace_back(LinearOp(), LinearAttributes{}, c.tokens, std::vector<int64_t>{c.cols},
                       std::vector<WeightRef>{std::move(copy)});
    states.push_back(nodes.back().Prepare(c.precision));
  }
  std::vector<float> out(static_cast<size_t>(c.rows * c.tokens));
  size_t i = 0;
  for (auto _ : timing) {
    nodes[i].RunCpu(states[i].get(), pool, c.precision, out);
    i = (i + 1) % copies;
  }
  const auto runs = static_cast<double>(timing.iterations());
  timing.counters["GB/s"] = benchmark::Counter(runs * static_cast<double>(weight.view.bytes.size()) / 1e9,
                                               benchmark::Counter::kIsRate);
  timing.counters["GOP/s"] = benchmark::Counter(
      runs * 2e-9 * static_cast<double>(c.rows * c.cols * c.tokens), benchmark::Counter::kIsRate);
  timing.SetLabel(LinearKernelName(*states[0]));
}

// Sum over a buffer larger than the caches.
void ReadMemory(benchmark::State& timing) {
  ThreadPool pool(g_threads);
  std::vector<uint64_t> buffer(size_t{64} << 17, 1);
  for (auto _ : timing) {
    pool.ParallelFor(64, 4, [&](int64_t begin, int64_t end, int) {
      uint64_t sums[16] = {};
      const uint64_t* p = buffer.data() + (begin << 17);
      for (int64_t n = (end - begin) << 17; n > 0; n -= 16, p += 16) {
        for (int j = 0; j < 16; ++j) sums[j] += p[j];
      }
      for (const uint64_t sum : sums) benchmark::DoNotOptimize(sum);
    });
  }
  timing.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(timing.iterations()) * static_cast<double>(buffer.size()) * 8e-9, benchmark::Counter::kIsRate);
}

void RegisterAll() {
  benchmark::RegisterBenchmark("read_memory", ReadMemory);
  constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                              DType::kQ5_1, DType::kQ8_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
  constexpr int64_t kShapes[][2] = {{576, 576}, {1536, 576}, {2048, 640}, {640, 2048}, {4096, 2048}};
  for (const DType dtype : kTypes) {
    for (const Precision precision : {Precision::kFast, Precision::kExact}) {
      if (precision == Precision::kFast && !IsQuantized(dtype)) continue;
      for (const auto& shape : kShapes) {
        if (shape[1] % InfoOf(dtype).block_elems != 0) continue;
        for (const int64_t tokens : {1, 4, 512}) {
          const Case c{dtype, precision, shape[0], shape[1], tokens};
          const std::string name = std::string(NameOf(dtype)) + (precision == Precision::kFast ? "/fast/" : "/exact/") +
                                   std::to_string(shape[0]) + "x" + std::to_string(shape[1]) + "/T" +
                                   std::to_string(tokens);
          auto* registered =
              benchmark::RegisterBenchmark(name.c_str(), [c](benchmark::State& timing) { RunCase(timing, c); });
          registered->Unit(benchmark::kMicrosecond);
          // One thread is timed by its own clock, which other processes disturb less.
          if (g_threads > 1) registered->UseRealTime();
        }
      }
    }
  }
}

}  // namespace
}  // namespace apr

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--threads=")) apr::g_threads = std::max(1, std::atoi(argv[i] + 10));
    if (argument == "--cached") apr::g_cached = true;
    if (argument.starts_with("--isa=")) apr::ForceIsa(argument.substr(6));
  }
  apr::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
}
