// A fixed set of threads that share out numbered tasks. One ParallelFor at a time per pool.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace apr {

// Non-owning reference to a callable void(int64_t begin, int64_t end, int thread): ParallelFor runs
// thousands of times per second, and std::function would allocate each time.
class RangeFunction {
 public:
  template <typename F>
  RangeFunction(F& callable)  // NOLINT(google-explicit-constructor): a view of the caller's lambda
      : object_(&callable), call_([](const void* object, int64_t begin, int64_t end, int thread) {
          (*static_cast<F*>(const_cast<void*>(object)))(begin, end, thread);
        }) {}
  void operator()(int64_t begin, int64_t end, int thread) const { call_(object_, begin, end, thread); }

 private:
  const void* object_;
  void (*call_)(const void*, int64_t, int64_t, int);
};

class ThreadPool {
 public:
  // `threads` >= 1 counts the calling thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls f(begin, end, thread) on disjoint ranges of at most `grain` items that cover
  // [0, count); `thread` in [0, threads()). Which thread gets which range varies, so results must not
  // depend on it. The first exception thrown by f is rethrown here after all ranges ended.
  template <typename F>
  void ParallelFor(int64_t count, int64_t grain, F&& f) {
    auto& callable = f;
    Run(count, grain, RangeFunction(callable));
  }

  // Number of processors this process may use.
  static int HardwareThreads();

 private:
  void Run(int64_t count, int64_t grain, RangeFunction f);
  void WorkerLoop(int thread);
  bool Enter();
  void Work(int thread);

  std::vector<std::thread> workers_;
  std::atomic<uint32_t> epoch_{0};   // counts jobs; workers wait for it to move
  // Workers inside the current job, and kClosed once all of it is given out: who comes later does not enter, so a job
  // never waits for a worker that another process keeps from running.
  static constexpr uint32_t kClosed = uint32_t{1} << 31;
  std::atomic<uint32_t> gate_{kClosed};
  std::atomic<int64_t> next_{0};     // first item not yet taken
  std::atomic<bool> stop_{false};
  int64_t count_ = 0;
  int64_t grain_ = 1;
  const RangeFunction* function_ = nullptr;
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace apr
