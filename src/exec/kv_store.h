// Key/value memory of the sequences of one executor: one block per sequence and attention node, grown
// by doubling. Capacity never enters a result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "op/attention/attention.h"
#include "op/context.h"

namespace apr {

template <typename Real>
class KvStore {
 public:
  // One entry per cache slot, in slot order.
  explicit KvStore(std::vector<AttentionAttributes> slots) : slots_(std::move(slots)) {}

  struct Sequence {
    int64_t length = 0;
    int64_t rope_length = 0;  // total_length of the last forward pass
    int64_t capacity = 0;
    std::vector<std::vector<Real>> keys;    // per slot [kv_heads, capacity, k_dim]
    std::vector<std::vector<Real>> values;  // per slot [kv_heads, capacity, v_dim]
  };

  int New() {
    const int id = next_++;
    Sequence& s = sequences_[id];
    s.keys.resize(slots_.size());
    s.values.resize(slots_.size());
    return id;
  }
  void Free(int id) { sequences_.erase(id); }
  Sequence* Find(int id) {
    const auto it = sequences_.find(id);
    return it == sequences_.end() ? nullptr : &it->second;
  }
  const Sequence* Find(int id) const {
    const auto it = sequences_.find(id);
    return it == sequences_.end() ? nullptr : &it->second;
  }

  // Makes room for `tokens` tokens; what is stored stays.
  void Reserve(Sequence& s, int64_t tokens) {
    if (tokens <= s.capacity) return;
    const int64_t capacity = std::max({tokens, 2 * s.capacity, int64_t{64}});
    for (size_t i = 0; i < slots_.size(); ++i) {
      s.keys[i] = Grown(s.keys[i], slots_[i].kv_heads, slots_[i].k_dim, s, capacity);
      s.values[i] = Grown(s.values[i], slots_[i].kv_heads, slots_[i].v_dim, s, capacity);
    }
    s.capacity = capacity;
  }

  KvCache<Real> View(Sequence& s, int64_t slot) const {
    const auto i = static_cast<size_t>(slot);
    return {s.keys[i].data(), s.values[i].data(), s.capacity, slots_[i].k_dim, slots_[i].v_dim};
  }

  uint64_t bytes() const {
    uint64_t total = 0;
    for (const auto& [id, s] : sequences_) {
      for (size_t i = 0; i < slots_.size(); ++i) total += (s.keys[i].size() + s.values[i].size()) * sizeof(Real);
    }
    return total;
  }

 private:
  static std::vector<Real> Grown(const std::vector<Real>& old, int64_t heads, int64_t width,
                                 const Sequence& s, int64_t capacity) {
    std::vector<Real> out(static_cast<size_t>(heads * capacity * width));
    if (old.empty()) return out;
    for (int64_t h = 0; h < heads; ++h) {
      std::copy_n(old.begin() + h * s.capacity * width, s.length * width, out.begin() + h * capacity * width);
    }
    return out;
  }

  std::vector<AttentionAttributes> slots_;
  std::map<int, Sequence> sequences_;
  int next_ = 0;
};

}  // namespace apr
