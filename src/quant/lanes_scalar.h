// Sixteen floats side by side, in plain C++: the definition of the lane operations. lanes_avx2.h and
// lanes_avx512.h hold the same names with the same results, bit for bit. Include inside a namespace of
// its own; every function is one IEEE operation per lane unless it says otherwise.

struct F {
  float v[16];
};
struct Mask {
  bool v[16];
};

#define APR_LANEWISE(type, expression) \
  type r;                              \
  for (int i = 0; i < 16; ++i) r.v[i] = (expression); \
  return r

inline F Set(float x) { APR_LANEWISE(F, x); }
inline F Load(const float* p) { APR_LANEWISE(F, p[i]); }
inline void Store(const F& a, float* p) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
inline F operator+(const F& a, const F& b) { APR_LANEWISE(F, a.v[i] + b.v[i]); }
inline F operator-(const F& a, const F& b) { APR_LANEWISE(F, a.v[i] - b.v[i]); }
inline F operator*(const F& a, const F& b) { APR_LANEWISE(F, a.v[i] * b.v[i]); }
inline F operator/(const F& a, const F& b) { APR_LANEWISE(F, a.v[i] / b.v[i]); }
// As MINPS and MAXPS: the second operand where the comparison is false.
inline F Min(const F& a, const F& b) { APR_LANEWISE(F, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
inline F Max(const F& a, const F& b) { APR_LANEWISE(F, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
inline F Abs(const F& a) { APR_LANEWISE(F, std::fabs(a.v[i])); }
inline Mask Less(const F& a, const F& b) { APR_LANEWISE(Mask, a.v[i] < b.v[i]); }
inline Mask operator&(const Mask& a, const Mask& b) { APR_LANEWISE(Mask, a.v[i] && b.v[i]); }
// a where the mask is set, else b.
inline F Select(const Mask& m, const F& a, const F& b) { APR_LANEWISE(F, m.v[i] ? a.v[i] : b.v[i]); }
// Lane i of the result is lane i ^ distance (distance 1, 2, 4, 8).
template <int distance>
inline F Swap(const F& a) {
  APR_LANEWISE(F, a.v[i ^ distance]);
}
// Lanes that hold whole numbers 0..255, as bytes.
inline void StoreBytes(const F& a, uint8_t* p) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint8_t>(static_cast<int32_t>(a.v[i]));
}
// The largest lane; none is NaN.
inline float LargestLane(const F& a) {
  float out = a.v[0];
  for (int i = 1; i < 16; ++i) out = a.v[i] > out ? a.v[i] : out;
  return out;
}
// To f16, nearest even.
inline void StoreHalves(const F& a, uint16_t* p) {
  for (int i = 0; i < 16; ++i) p[i] = F32ToF16(a.v[i]);
}
// Lanes within -127.5 and 127.5, to the nearest whole number, halves away from zero: by adding the number before 0.5.
inline void StoreNearest(const F& low, const F& high, int8_t* p) {
  for (int i = 0; i < 16; ++i) {
    p[i] = static_cast<int8_t>(low.v[i] + std::copysign(0.49999997f, low.v[i]));
    p[16 + i] = static_cast<int8_t>(high.v[i] + std::copysign(0.49999997f, high.v[i]));
  }
}
// out[i] lane l = p[stride * l + i], i in 0..15.
inline void LoadTransposed(const float* p, int stride, F* out) {
  for (int i = 0; i < 16; ++i) {
    for (int l = 0; l < 16; ++l) out[i].v[l] = p[stride * l + i];
  }
}

// The nearest IQ4 level of each lane, the lower one on a tie: table[b] of the bin b = floor(a / 8 + 16)
// of a, clamped to 0..31.
inline F NearestIq4Level(const F& a) {
  F r;
  for (int i = 0; i < 16; ++i) {
    const float bin = a.v[i] * 0.125f + 16.0f;
    const auto b = static_cast<int32_t>(bin < 0.0f ? 0.0f : (bin > 31.0f ? 31.0f : bin));
    r.v[i] = a.v[i] > kIq4Bins.threshold[b] ? kIq4Bins.above[b] : kIq4Bins.below[b];
  }
  return r;
}

#undef APR_LANEWISE
