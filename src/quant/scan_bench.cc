// The scan beside the plain reading of the same memory, on all threads: the target is 70 % of the latter.
#include <benchmark/benchmark.h>

#include <atomic>
#include <vector>

#include "base/thread_pool.h"
#include "quant/scan.h"

namespace apr {
namespace {

constexpr int64_t kRows = 8192;

std::vector<std::byte> Filled(DType dtype, const Shape& shape) {
  std::vector<std::byte> bytes(*StorageBytes(dtype, shape));
  uint32_t state = 1;
  for (std::byte& b : bytes) {
    state = state * 1664525 + 1013904223;
    b = static_cast<std::byte>((state >> 24) & 0x3B);  // no exponent of all ones in any type
  }
  return bytes;
}

Shape ShapeOf(DType dtype) { return {kRows, dtype == DType::kF32 ? 8192 : dtype == DType::kF16 || dtype == DType::kBF16 ? 16384 : 32768}; }

// The fastest reading there is: an exclusive or of all words.
void BM_Read(benchmark::State& state) {
  const std::vector<std::byte> bytes(256 << 20, std::byte{1});
  ThreadPool pool(ThreadPool::HardwareThreads());
  constexpr int64_t kPiece = 512 << 10;
  for (auto _ : state) {
    std::atomic<uint64_t> sum{0};
    pool.ParallelFor(static_cast<int64_t>(bytes.size()) / kPiece, 1, [&](int64_t begin, int64_t end, int) {
      uint64_t a[8] = {};
      for (int64_t i = begin * kPiece; i < end * kPiece; i += 64) {
        for (int k = 0; k < 8; ++k) a[k] ^= LoadLe<uint64_t>(bytes.data() + i + 8 * k);
      }
      for (const uint64_t x : a) sum ^= x;
    });
    benchmark::DoNotOptimize(sum.load());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(BM_Read)->UseRealTime();

void BM_Scan(benchmark::State& state) {
  const auto dtype = static_cast<DType>(state.range(0));
  const Shape shape = ShapeOf(dtype);
  const std::vector<std::byte> bytes = Filled(dtype, shape);
  ThreadPool pool(ThreadPool::HardwareThreads());
  const std::vector<ScanPiece> pieces = ScanPieces({dtype, shape, bytes}, 512 << 10);
  for (auto _ : state) {
    std::atomic<uint64_t> zeros{0};
    pool.ParallelFor(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) zeros += Scan(pieces[static_cast<size_t>(i)]).zeros;
    });
    benchmark::DoNotOptimize(zeros.load());
  }
  state.SetLabel(NameOf(dtype));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(bytes.size()));
}
BENCHMARK(BM_Scan)->UseRealTime()->Apply([](benchmark::internal::Benchmark* b) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) b->Arg(static_cast<int>(dtype));
});

}  // namespace
}  // namespace apr

BENCHMARK_MAIN();
