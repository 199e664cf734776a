// Key/value memory of the sequences of one executor: one block per sequence and attention node, grown
// by doubling. Capacity never enters a result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "op/attention/attention.h"
#include "op/attention/kv_rows.h"
#include "op/context.h"

namespace apr {

template <typename Real>
class KvStore {
 public:
  // One entry per cache slot, in slot order. `type`: kF16, kQ8_0, or anything else for Real itself.
  KvStore(std::vector<AttentionAttributes> slots, DType type) : type_(type) {
    for (const AttentionAttributes& a : slots) slots_.push_back({a, RowBytes(a.k_dim), RowBytes(a.v_dim)});
  }

  struct Sequence {
    int64_t length = 0;
    int64_t rope_length = 0;  // total_length of the last forward pass
    int64_t capacity = 0;
    std::vector<std::vector<std::byte>> keys;    // per slot [kv_heads, capacity, k_bytes]
    std::vector<std::vector<std::byte>> values;  // per slot [kv_heads, capacity, v_bytes]
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
      s.keys[i] = Grown(s.keys[i], slots_[i].attention.kv_heads, slots_[i].k_bytes, s, capacity);
      s.values[i] = Grown(s.values[i], slots_[i].attention.kv_heads, slots_[i].v_bytes, s, capacity);
    }
    s.capacity = capacity;
  }

  KvCache<Real> View(Sequence& s, int64_t slot) const {
    const auto i = static_cast<size_t>(slot);
    const AttentionAttributes& a = slots_[i].attention;
    if (IsPacked()) {
      return {nullptr, nullptr, s.capacity, a.k_dim, a.v_dim,
              {type_, s.keys[i].data(), s.values[i].data(), slots_[i].k_bytes, slots_[i].v_bytes}};
    }
    return {reinterpret_cast<Real*>(s.keys[i].data()), reinterpret_cast<Real*>(s.values[i].data()), s.capacity, a.k_dim, a.v_dim};
  }

  uint64_t bytes() const {
    uint64_t total = 0;
    for (const auto& [id, s] : sequences_) {
      for (size_t i = 0; i < slots_.size(); ++i) total += s.keys[i].size() + s.values[i].size();
    }
    return total;
  }

  DType type() const { return IsPacked() ? type_ : sizeof(Real) == 8 ? DType::kF64 : DType::kF32; }
  uint64_t BytesPerToken() const {
    int64_t total = 0;
    for (const Slot& slot : slots_) total += slot.attention.kv_heads * (slot.k_bytes + slot.v_bytes);
    return static_cast<uint64_t>(total);
  }

  // visit(bytes): the filled rows of each slot and head, keys then values; every piece contiguous.
  template <typename Visit>
  void VisitRows(Sequence& s, Visit visit) const {
    for (size_t i = 0; i < slots_.size(); ++i) {
      for (const auto& [rows, width] : {std::pair{&s.keys[i], slots_[i].k_bytes}, std::pair{&s.values[i], slots_[i].v_bytes}}) {
        for (int64_t h = 0; h < slots_[i].attention.kv_heads; ++h) {
          visit(std::span(*rows).subspan(static_cast<size_t>(h * s.capacity * width), static_cast<size_t>(s.length * width)));
        }
      }
    }
  }

 private:
  struct Slot {
    AttentionAttributes attention;
    int64_t k_bytes, v_bytes;  // of a row
  };

  bool IsPacked() const { return type_ == DType::kF16 || type_ == DType::kQ8_0; }
  int64_t RowBytes(int64_t width) const {
    return IsPacked() ? CacheRowBytes(type_, width) : width * static_cast<int64_t>(sizeof(Real));
  }

  static std::vector<std::byte> Grown(const std::vector<std::byte>& old, int64_t heads, int64_t width,
                                      const Sequence& s, int64_t capacity) {
    std::vector<std::byte> out(static_cast<size_t>(heads * capacity * width));
    if (old.empty()) return out;
    for (int64_t h = 0; h < heads; ++h) {
      std::copy_n(old.begin() + h * s.capacity * width, s.length * width, out.begin() + h * capacity * width);
    }
    return out;
  }

  DType type_;
  std::vector<Slot> slots_;
  std::map<int, Sequence> sequences_;
  int next_ = 0;
};

}  // namespace apr
