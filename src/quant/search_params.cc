// See search_params.h.
#include "quant/search_params.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/iq.h"

namespace apr {
namespace {

// Q2_K: four codes, so both ends matter.
constexpr Ends kEnds2[] = {{0.0f, 0.0f},  {0.0f, -0.1f},  {0.0f, -0.2f},  {-0.1f, 0.0f}, {-0.1f, -0.1f},
                           {-0.1f, -0.2f}, {-0.2f, 0.0f}, {-0.2f, -0.1f}, {-0.2f, -0.2f}};

// With the low end on the lowest value and a little inside, the high end from well inside to well
// beyond: 15 / 14 and 15 / 13 of the range are among them, so that values which were 4-bit codes
// before, not all of them used, are found again exactly.
constexpr Ends kEnds4[] = {{0.0f, -0.12f},   {0.0f, -0.09f},   {0.0f, -0.06f},   {0.0f, -0.03f},
                           {0.0f, 0.0f},     {0.0f, 0.03f},    {0.0f, 0.06f},    {0.0f, 0.09f},
                           {0.0f, 0.12f},    {-0.03f, -0.12f}, {-0.03f, -0.09f}, {-0.03f, -0.06f},
                           {-0.03f, -0.03f}, {-0.03f, 0.0f},   {-0.03f, 0.03f},  {-0.03f, 0.06f},
                           {-0.03f, 0.09f},  {-0.03f, 0.12f}};
constexpr Ends kEnds5[] = {{0.0f, -0.06f},     {0.0f, -0.045f},    {0.0f, -0.03f},     {0.0f, -0.015f},
                           {0.0f, 0.0f},       {0.0f, 0.015f},     {0.0f, 0.03f},      {0.0f, 0.045f},
                           {0.0f, 0.06f},      {-0.015f, -0.06f},  {-0.015f, -0.045f}, {-0.015f, -0.03f},
                           {-0.015f, -0.015f}, {-0.015f, 0.0f},    {-0.015f, 0.015f},  {-0.015f, 0.03f},
                           {-0.015f, 0.045f},  {-0.015f, 0.06f}};

// The whole number that the largest scale becomes, over the largest there is. Every number that the
// search itself can end at stands here, so that values which it has quantised before are found again.
constexpr float kTops15[] = {1.0f, 14.0f / 15, 13.0f / 15, 12.0f / 15, 11.0f / 15, 1.05f};
constexpr float kTops63[] = {1.0f,       62.0f / 63, 61.0f / 63, 60.0f / 63,
                             59.0f / 63, 58.0f / 63, 57.0f / 63, 1.03f};
constexpr float kTops32[] = {1.0f, 31.0f / 32, 30.0f / 32, 29.0f / 32, 28.0f / 32, 1.03f};
constexpr float kTops128[] = {1.0f,        127.0f / 128, 126.0f / 128, 125.0f / 128,
                              124.0f / 128, 123.0f / 128, 122.0f / 128, 121.0f / 128};

constexpr float kStarts3[] = {-5.0f, -4.6f, -4.3f, -4.0f, -3.7f, -3.4f, -3.1f, -2.8f,
                              4.6f,  4.3f,  4.0f,  3.7f,  3.4f,  3.1f,  2.8f,  2.5f};
constexpr float kStarts4[] = {-9.0f, -8.6f, -8.3f, -8.0f, -7.7f, -7.4f, -7.1f, -6.8f, -6.4f,
                              8.4f,  8.1f,  7.8f,  7.5f,  7.2f,  6.9f,  6.6f,  6.2f};
constexpr float kStarts5[] = {-17.0f, -16.5f, -16.0f, -15.5f, -15.0f, -14.5f, -14.0f, -13.5f,
                              16.5f,  16.0f,  15.5f,  15.0f,  14.5f,  14.0f,  13.5f,  13.0f};
constexpr float kStarts6[] = {-32.0f, -31.0f, 31.0f, 30.0f, -33.0f};
constexpr float kStartsIq4[] = {-134.0f, -130.0f, -127.0f, -124.0f, -120.0f, -116.0f, -112.0f,
                                124.0f,  120.0f,  116.0f,  113.0f,  109.0f,  105.0f,  100.0f};

constexpr std::array<uint8_t, 256> MakeCodes() {
  std::array<uint8_t, 256> codes{};
  for (int i = 0; i < 16; ++i) codes[static_cast<size_t>(kIq4Levels[i] + 128)] = static_cast<uint8_t>(i);
  return codes;
}

constexpr float Iq4Midpoint(int i) { return 0.5f * static_cast<float>(kIq4Levels[i] + kIq4Levels[i + 1]); }

// Midpoints are more than 8 apart, so a bin holds at most one.
constexpr Iq4Bins MakeIq4Bins() {
  Iq4Bins bins{};
  for (int b = 0; b < 32; ++b) {
    int i = 0;
    while (i < 14 && Iq4Midpoint(i) < static_cast<float>(8 * b - 128)) ++i;
    bins.threshold[b] = Iq4Midpoint(i);
    bins.below[b] = static_cast<float>(kIq4Levels[i]);
    bins.above[b] = static_cast<float>(kIq4Levels[i + 1]);
  }
  return bins;
}

}  // namespace

const OffsetSearch kSearchQ2_K{.starts = kEnds2, .refinements = 2, .tops = kTops15, .rounds = 2, .reach = 1};
const OffsetSearch kSearchQ4_K{.starts = kEnds4, .refinements = 2, .tops = kTops63, .rounds = 2, .reach = 1};
const OffsetSearch kSearchQ5_K{.starts = kEnds5, .refinements = 2, .tops = kTops63, .rounds = 2, .reach = 1};

const ScaleSearch kSearchQ4_0{
    .starts = kStarts4, .refinements = 2, .tops = {}, .rounds = 0, .reach = 0, .mirror = false};
const ScaleSearch kSearchQ5_0{
    .starts = kStarts5, .refinements = 2, .tops = {}, .rounds = 0, .reach = 0, .mirror = false};
const ScaleSearch kSearchQ3_K{
    .starts = kStarts3, .refinements = 3, .tops = kTops32, .rounds = 2, .reach = 2, .mirror = true};
const ScaleSearch kSearchQ6_K{
    .starts = kStarts6, .refinements = 1, .tops = kTops128, .rounds = 2, .reach = 2, .mirror = true};
const ScaleSearch kSearchIQ4_NL{
    .starts = kStartsIq4, .refinements = 2, .tops = {}, .rounds = 0, .reach = 0, .mirror = false};
const ScaleSearch kSearchIQ4_XS{
    .starts = kStartsIq4, .refinements = 2, .tops = kTops32, .rounds = 2, .reach = 1, .mirror = false};

const Iq4Bins kIq4Bins = MakeIq4Bins();
const std::array<uint8_t, 256> kIq4CodeOfLevel = MakeCodes();

int NormalisingExponent(float largest) {
  return largest > 0.0f ? std::clamp(std::ilogb(largest), -100, 100) : 0;
}

void SmoothImportance(const float* importance, int64_t cols, std::vector<float>* weights) {
  weights->assign(importance, importance + cols);
  double sum = 0.0;
  for (const float v : *weights) {
    if (!(v >= 0.0f) || std::isinf(v)) {
      throw Error(ErrorCode::kValidationFailed, "an importance is negative or not finite");
    }
    sum += static_cast<double>(v);
  }
  const double mean = sum / static_cast<double>(cols);
  if (mean == 0.0) {
    weights->clear();
    return;
  }
  const auto middle = weights->begin() + cols / 2;
  std::nth_element(weights->begin(), middle, weights->end());
  const double floor = 0.45 * std::sqrt(static_cast<double>(*middle) / mean) + 1e-4;
  for (int64_t i = 0; i < cols; ++i) {
    (*weights)[static_cast<size_t>(i)] = static_cast<float>(static_cast<double>(importance[i]) / mean + floor);
  }
}

}  // namespace apr
