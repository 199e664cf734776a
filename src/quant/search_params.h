// How far the searching encoders search, per type. Changing a number here changes the bytes that are
// written, not their validity.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace apr {

// Where the ends of the code range start, as parts of the range of the values: beyond the lowest and
// beyond the highest value (negative: inside).
struct Ends {
  float low, high;
};

struct OffsetSearch {
  std::span<const Ends> starts;
  int refinements;              // of the best start: round the codes anew, fit again
  std::span<const float> tops;  // the largest scale of a super-block becomes tops * (largest code)
  int rounds;                   // of: fit d and dmin, choose whole scales, try their neighbours
  int reach;                    // neighbours on each side
};

extern const OffsetSearch kSearchQ2_K;
extern const OffsetSearch kSearchQ4_K;
extern const OffsetSearch kSearchQ5_K;

// Types with a scale alone.
struct ScaleSearch {
  std::span<const float> starts;  // code that the value of largest magnitude starts at (signed)
  int refinements;
  std::span<const float> tops;
  int rounds;
  int reach;
  bool mirror;  // try the neighbours of the negated scale too: the code range is not symmetric
};

extern const ScaleSearch kSearchQ4_0;
extern const ScaleSearch kSearchQ5_0;
extern const ScaleSearch kSearchQ3_K;
extern const ScaleSearch kSearchQ6_K;
extern const ScaleSearch kSearchIQ4_NL;
extern const ScaleSearch kSearchIQ4_XS;

// For values in [8 b - 128, 8 b - 120): the only midpoint between IQ4 levels in there (or one beyond it)
// and the nearest level below and above that.
struct Iq4Bins {
  float threshold[32], below[32], above[32];
};
extern const Iq4Bins kIq4Bins;
// Code of each IQ4 level, by level + 128.
extern const std::array<uint8_t, 256> kIq4CodeOfLevel;

// Exponent e with 2^e <= largest < 2^(e + 1), within +-100; 0 for 0.
int NormalisingExponent(float largest);

// The weights that the search uses for an importance row: relative to their mean, plus a floor of 0.45
// times the root of median / mean. An importance matrix is an estimate from a few thousand tokens;
// without the floor, elements it saw little of would be given up altogether. Empty when all are zero.
// Throws Error(kValidationFailed) on negative or non-finite ones.
void SmoothImportance(const float* importance, int64_t cols, std::vector<float>* weights);

}  // namespace apr
