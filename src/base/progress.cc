// See progress.h.
#include "base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace apr {
namespace {
std::atomic<bool> g_enabled{true};
}  // namespace

void Progress::SetEnabled(bool enabled) { g_enabled = enabled; }

Progress::Progress(std::string label, uint64_t total)
    : label_(std::move(label)), total_(total), start_(std::chrono::steady_clock::now()) {
  if (!g_enabled || isatty(STDERR_FILENO) == 0) next_draw_ms_ = INT64_MAX;
}

Progress::~Progress() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

void Progress::Add(uint64_t amount) {
  const uint64_t done = done_.fetch_add(amount, std::memory_order_relaxed) + amount;
  const int64_t due = next_draw_ms_.load(std::memory_order_relaxed);
  if (due == INT64_MAX) return;
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  if (std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count() >= due) Draw(done);
}

void Progress::Draw(uint64_t done) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  next_draw_ms_ = static_cast<int64_t>(seconds * 1000) + 100;
  const double part = total_ == 0 ? 0.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  const double left = part > 0 ? seconds * (1 - part) / part : 0;
  constexpr int kWidth = 30;
  const int filled = static_cast<int>(part * kWidth);
  std::string bar(static_cast<size_t>(filled), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r%s [%s] %3.0f %%  %.0f s left\x1b[K", label_.c_str(), bar.c_str(), part * 100, left);
  std::fflush(stderr);
  shown_ = true;
}

}  // namespace apr
