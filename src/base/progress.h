// A progress line on standard error for work that takes longer than a moment. Shown only on a
// terminal, only after half a second, and removed at the end. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace apr {

class Progress {
 public:
  // `total` in any unit; `label` e.g. "quantising". Off when standard error is no terminal or
  // SetEnabled(false) was called (--quiet).
  Progress(std::string label, uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Add(uint64_t amount);
  static void SetEnabled(bool enabled);

 private:
  void Draw(uint64_t done);

  std::string label_;
  uint64_t total_;
  std::atomic<uint64_t> done_{0};
  std::chrono::steady_clock::time_point start_;
  std::atomic<int64_t> next_draw_ms_{500};
  std::mutex mutex_;
  bool shown_ = false;
};

}  // namespace apr
