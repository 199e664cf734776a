// See thread_pool.h.
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/signals_held.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace apr {
namespace {

// Rounds of polling before a waiting thread sleeps: about 20 microseconds. Longer polling wins
// nothing measurable in decoding and costs dearly when another process wants the core.
constexpr int kSpinRounds = 400;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

template <typename T>
void WaitWhileEqual(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpinRounds; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  APR_CHECK(threads >= 1);
  workers_.reserve(static_cast<size_t>(threads - 1));
  const SignalsHeld held;
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

int ThreadPool::HardwareThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

bool ThreadPool::Enter() {
  uint32_t gate = gate_.load(std::memory_order_relaxed);
  while (!(gate & kClosed)) {
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire, std::memory_order_relaxed)) return true;
  }
  return false;
}

void ThreadPool::WorkerLoop(int thread) {
  uint32_t seen = 0;
  while (true) {
    WaitWhileEqual(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (!Enter()) continue;
    Work(thread);
    if (gate_.fetch_sub(1, std::memory_order_acq_rel) == (kClosed | 1)) gate_.notify_one();
  }
}

void ThreadPool::Work(int thread) {
  try {
    while (true) {
      const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      (*function_)(begin, std::min(begin + grain_, count_), thread);
    }
  } catch (...) {
    next_.store(count_, std::memory_order_relaxed);
    const std::lock_guard<std::mutex> lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void ThreadPool::Run(int64_t count, int64_t grain, RangeFunction f) {
  APR_CHECK(grain >= 1);
  if (count <= 0) return;
  if (workers_.empty() || count <= grain) {
    for (int64_t begin = 0; begin < count; begin += grain) f(begin, std::min(begin + grain, count), 0);
    return;
  }
  count_ = count;
  grain_ = grain;
  function_ = &f;
  next_.store(0, std::memory_order_relaxed);
  gate_.store(0, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  Work(0);
  for (uint32_t gate = gate_.fetch_or(kClosed, std::memory_order_acq_rel) | kClosed; gate != kClosed;
       gate = gate_.load(std::memory_order_acquire)) {
    WaitWhileEqual(gate_, gate);
  }
  function_ = nullptr;
  if (error_) {
    const std::exception_ptr error = std::exchange(error_, nullptr);
    std::rethrow_exception(error);
  }
}

}  // namespace apr
