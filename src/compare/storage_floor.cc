// See storage_floor.h.
#include "compare/storage_floor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>

#include "base/check.h"
#include "compare/chunk_kernels.h"
#include "compare/storage_errors.h"
#include "compare/storage_limits.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr int kSub = kPart;                      // elements that are judged together inside a run
constexpr int kSubs = kParts;
constexpr int64_t kPiece = 65536;                // elements that a thread takes at a time
constexpr int64_t kTile = 4096;                  // of them, decoded and compared before the next
constexpr int64_t kTileElements = int64_t{kQuickRuns} * kChunk;
constexpr int64_t kSampleChunks = 96;
constexpr int64_t kMostVerified = 4096;
constexpr int64_t kMostKept = 65536;
constexpr int64_t kLooksPerPiece = 64;           // of 256 runs: where nearly all are suspicious, a few show why

// Chosen with room over what the healthy pairs of weight_search_test.cc need; not fitted.
constexpr double kPeakMargin = 6.0;              // largest single error over the RMS error of its 32
constexpr double kBlockMargin = 3.5;             // RMS error of 32 elements over what storing causes
// A quantiser's errors are nearly orthogonal to the values: what they move the slope of B over A by is of the order of
// their square, and chance, in which large values count.
constexpr double kSlopeBias = 2.0;               // times the squared relative error
constexpr double kSlopeChance = 6.0;             // standard deviations

// Codes that are one too large or small all over come of a wrong zero point; the nearest are at most half a step off.
constexpr double kMostStepsOff = 0.6;

double Squared(double x) { return x * x; }

// One run looked at closely.
struct Closely {
  double actual = 0, expected = 0;  // sums of squares
  double top = 0;                   // largest |a|
  double steps_off = 0;             // sum of b - a in steps of the coarser packed side
  bool bad = false;
  double limit = 0;
};

// A run that has to be looked at.
struct Suspect {
  int64_t chunk = 0;
  ChunkStatistics statistics;
};

class StorageJudge {
 public:
  StorageJudge(const WeightValues& a, const WeightValues& b, ThreadPool& pool)
      : a_(a), b_(b), pool_(pool), limits_(RunLimitsOf(a, b)), both_quantised_(!PlainOf(a) && !PlainOf(b)),
        clip_(ClipOf(a.dtype, true) + ClipOf(b.dtype, false)),
        freedom_(std::max(FreedomOf(a), FreedomOf(b))), typical_(TypicalOf(a) + TypicalOf(b)),
        independent_(0.8 * (Squared(TypicalOf(a)) + Squared(TypicalOf(b)))) {}

  StorageJudgement Run() {
    APR_CHECK(a_.cols == b_.cols && a_.rows == b_.rows);
    out_.kappa = limits_.plain ? limits_.kappa : 0;
    Compare();
    if (out_.diff.count == 0) return std::move(out_);
    if (out_.diff.is_identical()) {
      out_.explained = out_.mean_explained = true;
      return std::move(out_);
    }
    FindBad();
    Ratio();
    if (!limits_.plain) Slope();
    out_.explained = out_.bad_count == 0 && out_.mean_explained;
    return std::move(out_);
  }

 private:
  // What one piece of rows gave.
  struct Piece {
    ElementDiff diff;
    std::vector<Suspect> suspects;
    float max_a = 0;      // of runs without infinities
    double variance = 0;  // of the sum of a * (a - b), if chance alone gave the signs: at most that
  };

  void Compare() {
    const int64_t size = RowsPerPiece(a_.cols, kPiece);
    const int64_t count = a_.rows == 0 ? 0 : (a_.rows + size - 1) / size;
    out_.chunks = (a_.elements() + kChunk - 1) / kChunk;
    std::vector<Piece> pieces(static_cast<size_t>(count));
    std::vector<Buffers> buffers(static_cast<size_t>(pool_.threads()));
    pool_.ParallelFor(count, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t p = begin; p < end; ++p) {
        ComparePiece(p * size, std::min((p + 1) * size, a_.rows), buffers[static_cast<size_t>(thread)], pieces[static_cast<size_t>(p)]);
      }
    });
    float top = 0;
    for (const Piece& piece : pieces) {
      MergeDiff(out_.diff, piece.diff);
      suspects_.insert(suspects_.end(), piece.suspects.begin(), piece.suspects.end());
      top = std::max(top, piece.max_a);
      variance_ += piece.variance;
    }
    if (!limits_.plain) tensor_level_ = TensorLevel(top);
  }

  struct Buffers {
    std::vector<float> a, b;
    std::vector<ChunkStatistics> statistics;
    float located = 0;  // see QuickComparison
  };

  // Whether the run has to be looked at.
  bool Note(int64_t count, const ChunkStatistics& s, Piece& out) const {
    if (std::isfinite(s.max_a)) out.max_a = std::max(out.max_a, s.max_a);
    out.variance += static_cast<double>(s.sq) * s.max_a * s.max_a;
    return IsSuspicious(s, count);
  }
  // A bit for each run of `count` elements, the last of which may be short, that has to be looked at.
  uint32_t NoteTile(const QuickStatistics& tile, int64_t count, Piece& out) const {
    float top = out.max_a;
    double variance = out.variance;
    uint32_t suspicious = 0;
    for (int r = 0; r * kChunk < count; ++r) {
      const ChunkStatistics s = tile.Of(r);
      top = s.max_a < INFINITY && s.max_a > top ? s.max_a : top;
      variance += static_cast<double>(s.sq) * s.max_a * s.max_a;
      suspicious |= static_cast<uint32_t>(IsSuspicious(s, std::min<int64_t>(kChunk, count - r * kChunk))) << r;
    }
    out.max_a = top;
    out.variance = variance;
    return suspicious;
  }

  // Rows [begin, end), so few at a time that both sides' elements stay in the caches next to the processor.
  void ComparePiece(int64_t begin, int64_t end, Buffers& buffers, Piece& out) const {
    if (!limits_.plain && a_.runs && b_.runs) return CompareRuns(begin * a_.cols, end * a_.cols, buffers.located, out);
    QuickComparison quick(out.diff, RunType::kF32, RunType::kF32, buffers.located);
    const int64_t step = RowsPerPiece(a_.cols, kTile);
    for (int64_t row = begin; row < end; row += step) {
      const int64_t rows = std::min(step, end - row), first = row * a_.cols;
      const std::span<const float> x = Rows(a_, row, rows, buffers.a), y = Rows(b_, row, rows, buffers.b);
      const auto count = static_cast<int64_t>(x.size()), chunks = (count + kChunk - 1) / kChunk;
      buffers.statistics.resize(static_cast<size_t>(chunks));
      if (!limits_.plain) {
        AddTiles(quick, x.data(), y.data(), count, first, out);
        continue;
      }
      AccumulateChunks(out.diff, x, y, first, static_cast<float>(limits_.kappa), buffers.statistics.data());
      for (int64_t c = 0; c < chunks; ++c) {
        const ChunkStatistics& s = buffers.statistics[static_cast<size_t>(c)];
        if (Note(std::min<int64_t>(kChunk, count - c * kChunk), s, out)) out.suspects.push_back({first / kChunk + c, s});
      }
    }
  }

  void AddTiles(QuickComparison& quick, const float* x, const float* y, int64_t count, int64_t first, Piece& out) const {
    const void* left[kQuickRuns];
    const void* right[kQuickRuns];
    QuickStatistics statistics;
    for (int64_t at = 0; at < count; at += kTileElements) {
      for (int64_t r = 0; r < kQuickRuns; ++r) {
        left[r] = x + at + r * kChunk;
        right[r] = y + at + r * kChunk;
      }
      const int64_t n = std::min(kTileElements, count - at);
      quick.Add(left, right, n, first + at, statistics);
      for (uint32_t suspicious = NoteTile(statistics, n, out); suspicious != 0; suspicious &= suspicious - 1) {
        const int r = std::countr_zero(suspicious);
        out.suspects.push_back({(first + at) / kChunk + r, statistics.Of(r)});
      }
    }
  }

  // Elements [begin, end) in tiles that go from storage through decoding to sums without leaving the first cache.
  void CompareRuns(int64_t begin, int64_t end, float& located, Piece& out) const {
    alignas(64) float x[kQuickRuns][kChunk], y[kQuickRuns][kChunk];
    const void* left[kQuickRuns];
    const void* right[kQuickRuns];
    QuickStatistics statistics;
    const RunType type_a = a_.runs->plain.value_or(RunType::kF32);
    const RunType type_b = type_a == RunType::kF32 ? b_.runs->plain.value_or(RunType::kF32) : RunType::kF32;
    QuickComparison quick(out.diff, type_a, type_b, located);
    int64_t looks = kLooksPerPiece;
    for (int64_t first = begin; first < end; first += kTileElements) {
      const int64_t count = std::min(kTileElements, end - first), chunk = first / kChunk;
      ReadRuns(*a_.runs, type_a, chunk, count, x, left);
      ReadRuns(*b_.runs, type_b, chunk, count, y, right);
      quick.Add(left, right, count, first, statistics);
      for (uint32_t suspicious = NoteTile(statistics, count, out); suspicious != 0; suspicious &= suspicious - 1) {
        const int r = std::countr_zero(suspicious);
        const int64_t n = std::min<int64_t>(kChunk, count - r * kChunk);
        if (--looks >= 0 && IsHarmless(AsFloats(*a_.runs, type_a, left[r], n, x[r]), AsFloats(*b_.runs, type_b, right[r], n, y[r]))) continue;
        out.suspects.push_back({chunk + r, statistics.Of(r)});
      }
    }
  }

  // What ReadRuns gave, as f32.
  static std::span<const float> AsFloats(const PackedRuns& runs, RunType type, const void* run, int64_t count, float* buffer) {
    if (type == RunType::kF32) return {static_cast<const float*>(run), static_cast<size_t>(count)};
    runs.decode(static_cast<const std::byte*>(run), count, buffer);
    return {buffer, static_cast<size_t>(count)};
  }

  // Runs from `chunk` on as elements of `type`. Where nothing permutes rows they lie one behind the other.
  static void ReadRuns(const PackedRuns& runs, RunType type, int64_t chunk, int64_t count, float (&buffer)[kQuickRuns][kChunk], const void* (&out)[kQuickRuns]) {
    const bool decoded = runs.plain != type;
    const std::byte* at = runs.At(chunk);
    if (runs.row_order == nullptr) {
      if (decoded) runs.decode(at, count, buffer[0]);
      for (int64_t r = 0; r * kChunk < count; ++r) out[r] = decoded ? static_cast<const void*>(buffer[r]) : at + r * runs.run_bytes;
      return;
    }
    for (int64_t r = 0; r * kChunk < count; ++r) {
      out[r] = at = runs.At(chunk + r);
      if (!decoded) continue;
      runs.decode(at, std::min<int64_t>(kChunk, count - r * kChunk), buffer[r]);
      out[r] = buffer[r];
    }
  }

  static std::span<const float> Rows(const WeightValues& side, int64_t first, int64_t rows, std::vector<float>& buffer) {
    const auto count = static_cast<size_t>(rows * side.cols);
    if (side.plain != nullptr) return {side.plain + first * side.cols, count};
    if (buffer.size() < count) buffer.resize(count);
    side.read(first, rows, buffer.data());
    return {buffer.data(), count};
  }

  // Types with one scale for the whole tensor: an error that every element may have.
  double TensorLevel(float top) const {
    double out = 0;
    for (const WeightValues* side : {&a_, &b_}) {
      if (side->dtype == DType::kAprQ8) out += top / 127.0 * 0.51;
    }
    return out;
  }

  // Without branches where a side is quantised: nothing tells beforehand which way they go.
  bool IsSuspicious(const ChunkStatistics& s, int64_t count) const {
    const double a = s.max_a, d = s.max_d, sq = s.sq;
    const bool above_floor = d > limits_.absolute + tensor_level_ + kF32Rounding * a;
    if (limits_.plain) return !std::isfinite(sq) || (above_floor && s.excess > limits_.absolute + kF32Rounding * a);
    const bool far = (d > limits_.peak * a) | (sq > limits_.rms * limits_.rms * (a * a) * static_cast<double>(count));
    return (above_floor & far) | !(sq < INFINITY);
  }

  int64_t CountOf(int64_t chunk) const { return std::min<int64_t>(kChunk, a_.elements() - chunk * kChunk); }

  // Of 32 elements: A's largest, the error that both types must cause at the least, the actual sum of squared
  // errors and the largest error.
  struct Part {
    double n = 0, top = 0, typical = 0, actual = 0, worst = 0;
    double reach = 0;  // how far one code of a grid may be off, whatever its neighbours cost

    // `freedom`: rms includes it once; single elements may be freer than the whole.
    bool Beyond(double rms, double floor, double clip, double freedom) const {
      return worst > std::max({kPeakMargin * freedom * freedom * rms, clip * top, reach}) + floor || std::sqrt(actual / n) > kBlockMargin * freedom * rms + floor;
    }
  };
  using Parts = std::array<Part, kSubs>;
  // Of a run of x.size() elements.
  Parts PartsOf(std::span<const float> x, std::span<const float> y) const {
    PartSums sums[kSubs];
    SumParts(ActiveIsa(), x.data(), y.data(), static_cast<int>(x.size()), sums);
    Parts out;
    for (size_t first = 0; first < x.size(); first += kSub) {
      const PartSums& sum = sums[first / kSub];
      const bool finite = std::isfinite(sum.sq);
      // A lucky block is not the measure of another encoder's; neither is one without its neighbours.
      out[first / kSub] = {.n = static_cast<double>(std::min<size_t>(kSub, x.size() - first)), .top = sum.max_a, .typical = 0.35 * typical_ * sum.max_a,
                           .actual = finite ? sum.sq : INFINITY, .worst = finite ? sum.max_d : INFINITY};
    }
    return out;
  }
  double FloorOf(const Part& part) const { return limits_.absolute + tensor_level_ + kF32Rounding * part.top; }

  // A run that Look would pass whatever its types cost there: nothing has to be encoded to see it.
  bool IsHarmless(std::span<const float> x, std::span<const float> y) const {
    const Parts parts = PartsOf(x, y);
    return std::none_of(parts.begin(), parts.end(), [&](const Part& part) {
      return part.n > 0 && part.Beyond(part.typical, FloorOf(part), clip_, freedom_);
    });
  }

  static void ReadChunk(const WeightValues& side, int64_t chunk, int64_t count, float* out) {
    if (side.plain != nullptr) {
      std::copy_n(side.plain + chunk * kChunk, count, out);
    } else if (side.runs) {
      side.runs->decode(side.runs->At(chunk), count, out);
    } else {
      const std::vector<float> values = side.Range(chunk * kChunk, count);
      std::copy(values.begin(), values.end(), out);
    }
  }

  // One run of both sides. NaN and infinities have no storage error: in `sound_a` and `sound_b` they are equal numbers.
  struct Sample {
    int64_t chunk = 0, count = 0;
    std::array<float, kChunk> a, b, sound_a, sound_b;
    Errors of_a, of_b;  // of storing the other side's values as this side does

    std::span<const float> Part(const std::array<float, kChunk>& values) const { return {values.data(), static_cast<size_t>(count)}; }
  };

  void ReadChunks(int64_t chunk, Sample& out) const {
    out.chunk = chunk;
    out.count = CountOf(chunk);
    ReadChunk(a_, chunk, out.count, out.a.data());
    ReadChunk(b_, chunk, out.count, out.b.data());
  }
  static void MakeSound(Sample& run) {
    std::ranges::copy(run.Part(run.a), run.sound_a.begin());
    std::ranges::copy(run.Part(run.b), run.sound_b.begin());
    if (AllFinite(run.Part(run.a)) && AllFinite(run.Part(run.b))) return;
    for (size_t i = 0; i < static_cast<size_t>(run.count); ++i) {
      const bool sound_a = std::isfinite(run.a[i]), sound = sound_a && std::isfinite(run.b[i]);
      run.sound_a[i] = sound_a ? run.a[i] : 0.0f;
      run.sound_b[i] = sound ? run.b[i] : run.sound_a[i];
    }
  }

  // A grid says how far apart its values lie.
  void GridErrors(const WeightValues& side, const Sample& run, Errors& out) const {
    const int64_t first = run.chunk * kChunk, top = first / side.cols, end = (first + run.count + side.cols - 1) / side.cols;
    std::vector<float> steps(static_cast<size_t>((end - top) * side.cols));
    side.grid->steps(top, end - top, steps.data());
    for (int64_t i = 0; i < run.count; ++i) {
      out[static_cast<size_t>(i)] = Squared(side.grid->freedom * static_cast<double>(steps[static_cast<size_t>(first - top * side.cols + i)])) / 12;
    }
  }

  void FillErrors(std::span<Sample> runs) const {
    std::vector<std::span<const float>> values(runs.size());
    std::vector<Errors*> errors(runs.size());
    for (const bool of_a : {true, false}) {
      const WeightValues& side = of_a ? a_ : b_;
      for (size_t i = 0; i < runs.size(); ++i) {
        values[i] = runs[i].Part(of_a ? runs[i].sound_b : runs[i].sound_a);
        errors[i] = &(of_a ? runs[i].of_a : runs[i].of_b);
        if (side.grid) GridErrors(side, runs[i], *errors[i]);
      }
      if (!side.grid) StorageErrors(side.dtype, values, errors);
    }
  }

  // The runs of the chunks, a few at a time: encoders are faster with many blocks. `only_bad`: of one that is harmless, nothing.
  std::vector<Closely> LookAt(const std::vector<int64_t>& chunks, bool only_bad) const {
    constexpr int64_t kTogether = 16;
    std::vector<Closely> out(chunks.size());
    pool_.ParallelFor(static_cast<int64_t>(chunks.size()), kTogether, [&](int64_t begin, int64_t end, int) {
      const auto together = static_cast<size_t>(std::min(kTogether, end - begin));
      const auto runs = std::make_unique_for_overwrite<Sample[]>(together);
      std::vector<size_t> places;
      const auto look = [&] {
        const std::span<Sample> read(runs.get(), places.size());
        FillErrors(read);
        for (size_t i = 0; i < read.size(); ++i) out[places[i]] = Look(read[i]);
        places.clear();
      };
      for (int64_t i = begin; i < end; ++i) {
        Sample& run = runs[places.size()];
        ReadChunks(chunks[static_cast<size_t>(i)], run);
        if (only_bad && IsHarmless(run.Part(run.a), run.Part(run.b))) continue;
        MakeSound(run);
        places.push_back(static_cast<size_t>(i));
        if (places.size() == together) look();
      }
      look();
    });
    return out;
  }

  // Actual against expected, in parts of 32 elements.
  Closely Look(const Sample& run) const {
    const int64_t count = run.count;
    const Errors& of_a = run.of_a;
    const Errors& of_b = run.of_b;
    Closely out;
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      out.expected += of_a[at] + of_b[at];
      const double grid = std::max(a_.grid ? of_a[at] : 0.0f, b_.grid ? of_b[at] : 0.0f);  // the coarser one
      if (grid > 0) out.steps_off += (static_cast<double>(run.sound_b[at]) - run.sound_a[at]) * freedom_ / std::sqrt(12 * grid);
    }
    double floor_sum = 0;
    Parts parts = PartsOf(run.Part(run.a), run.Part(run.b));
    const double whole = out.expected / static_cast<double>(count);
    for (int sub = 0; sub < kSubs && sub * kSub < count; ++sub) {
      const int64_t end = std::min<int64_t>(count, (sub + 1) * kSub);
      Part& part = parts[static_cast<size_t>(sub)];
      double expected = 0, square = 0;
      for (int64_t i = sub * kSub; i < end; ++i) {
        const auto at = static_cast<size_t>(i);
        expected += of_a[at] + of_b[at];
        if (a_.grid || b_.grid) part.reach = std::max(part.reach, 0.51 * freedom_ * std::sqrt(12 * (of_a[at] + of_b[at])));
        square += static_cast<double>(run.sound_a[at]) * run.sound_a[at];
      }
      // The grids of two quantised types may coincide where neither holds the original.
      if (both_quantised_) expected = std::max(expected, independent_ * square);
      floor_sum += expected;
      const double rms = std::sqrt(std::max({expected / part.n, 0.25 * whole, part.typical * part.typical}));
      const double floor = FloorOf(part);
      if (part.Beyond(rms, floor, clip_, freedom_)) {
        out.bad = true;
        out.limit = std::max(out.limit, kPeakMargin * freedom_ * freedom_ * 0.5 * rms + floor);
      }
      out.actual += part.actual;
      out.top = std::max(out.top, part.top);
    }
    out.expected = floor_sum;
    return out;
  }

  void FindBad() {
    if (tensor_level_ > 0) {  // not known yet when the runs were looked at
      std::erase_if(suspects_, [&](const Suspect& suspect) { return !IsSuspicious(suspect.statistics, CountOf(suspect.chunk)); });
    }
    if (limits_.plain) {
      for (const auto& [chunk, s] : suspects_) AddBad({chunk, std::isfinite(s.max_a) ? limits_.absolute + kF32Rounding * s.max_a : limits_.absolute});
      return;
    }
    // Where nearly everything is suspicious, a part of it shows why.
    const auto step = static_cast<int64_t>(suspects_.size()) / kMostVerified + 1;
    const int64_t verified = (static_cast<int64_t>(suspects_.size()) + step - 1) / step;
    std::vector<int64_t> chunks;
    for (int64_t i = 0; i < verified; ++i) chunks.push_back(suspects_[static_cast<size_t>(i * step)].chunk);
    const std::vector<Closely> looked = LookAt(chunks, true);
    for (int64_t i = 0; i < verified; ++i) {
      if (!looked[static_cast<size_t>(i)].bad) continue;
      for (int64_t j = i * step; j < std::min<int64_t>((i + 1) * step, static_cast<int64_t>(suspects_.size())); ++j) {
        AddBad({suspects_[static_cast<size_t>(j)].chunk, looked[static_cast<size_t>(i)].limit});
      }
    }
  }

  void AddBad(BadChunk chunk) {
    ++out_.bad_count;
    if (out_.bad_count <= kMostKept) out_.bad.push_back(chunk);
  }

  // The mean over runs that are not bad, or over all where all are, spread over the tensor.
  void Ratio() {
    out_.ratio_limit = RatioLimit(a_, b_);
    std::vector<int64_t> sample;
    const int64_t step = std::max<int64_t>(1, out_.chunks / kSampleChunks);
    for (int64_t c = 0; c < out_.chunks; c += step) {
      if (!std::binary_search(out_.bad.begin(), out_.bad.end(), BadChunk{c, 0}, [](const BadChunk& x, const BadChunk& y) { return x.index < y.index; })) sample.push_back(c);
    }
    const bool all_bad = sample.empty();
    for (int64_t c = 0; all_bad && c < out_.chunks; c += step) sample.push_back(c);
    const std::vector<Closely> looked = LookAt(sample, false);
    double actual = 0, expected = 0, rounding = 0, steps_off = 0;
    for (size_t i = 0; i < sample.size(); ++i) {
      steps_off += looked[i].steps_off;
      actual += looked[i].actual;
      expected += looked[i].expected;
      const double each = limits_.absolute + tensor_level_ + kF32Rounding * looked[i].top;
      rounding += each * each * static_cast<double>(CountOf(sample[i]));
    }
    const double share = static_cast<double>(out_.diff.count) / std::max(1.0, static_cast<double>(sample.size()) * kChunk);
    out_.expected_rmse = std::sqrt(std::max(expected, 1e-2 * rounding) * std::max(share, 1.0) / static_cast<double>(out_.diff.count));
    const double basis = std::max(expected, 1e-2 * rounding);
    out_.ratio = actual == 0 ? 0 : basis > 0 ? std::sqrt(actual / basis) : INFINITY;
    out_.mean_explained = !all_bad && (actual <= out_.ratio_limit * out_.ratio_limit * expected || actual <= rounding);
    if (std::abs(steps_off) > kMostStepsOff * std::max(1.0, static_cast<double>(sample.size()) * kChunk)) out_.mean_explained = false;
  }

  // What storing the values of each side as the other's type with this project's encoder moves the slope, over a sample:
  // equal values all err alike.
  double OwnSlopes(int64_t every) const {
    double out = 0;
    for (const auto& [from, to] : {std::pair{&a_, &b_}, std::pair{&b_, &a_}}) {
      if (!IsQuantized(to->dtype)) continue;
      double dot = 0, square = 0;
      for (int64_t c = 0; c < out_.chunks; c += every) {
        const std::vector<float> x = from->Range(c * kChunk, CountOf(c));
        const auto y = StoredAs(to->dtype, x);
        for (size_t i = 0; y && i < x.size(); ++i) {
          dot += (static_cast<double>((*y)[i]) - x[i]) * x[i];
          square += static_cast<double>(x[i]) * x[i];
        }
      }
      out += square > 0 ? std::abs(dot) / square : TypicalRelativeError(to->dtype);
    }
    return out;
  }

  // A factor of the whole tensor that is too small to show in the size of the errors.
  void Slope() {
    const ElementDiff& d = out_.diff;
    if (d.sum_aa <= 0) return;
    out_.slope = d.sum_ab / d.sum_aa;
    const double chance = std::sqrt(variance_) / d.sum_aa;
    const double off = std::abs(out_.slope - 1);
    const double apart = std::max(d.nmse() - off * off, 0.0);  // what no factor removes
    const double limit = kSlopeBias * apart + kSlopeChance * chance + limits_.kappa + kF32Rounding;
    // Values that lie on another type's grid err alike in all of a row: a sample of rows may not show it.
    const int64_t sample = std::max<int64_t>(1, out_.chunks / kSampleChunks);
    out_.slope_explained = d.has_nonfinite_difference() || off <= limit || off <= limit + kSlopeBias * OwnSlopes(sample) || off <= limit + kSlopeBias * OwnSlopes(1);
    out_.mean_explained = out_.mean_explained && out_.slope_explained;
  }

  const WeightValues& a_;
  const WeightValues& b_;
  ThreadPool& pool_;
  const RunLimits limits_;
  const bool both_quantised_;
  const double clip_;
  const double freedom_;
  const double typical_;
  const double independent_;   // squared relative error of two quantisations made apart
  double tensor_level_ = 0;
  double variance_ = 0;
  std::vector<Suspect> suspects_;  // ascending
  StorageJudgement out_;
};

}  // namespace

double StorageJudgement::floor() const {
  const double rms = diff.rms_a();
  return rms > 0 ? expected_rmse / rms : 0;
}

StorageJudgement JudgeStorage(const WeightValues& a, const WeightValues& b, ThreadPool& pool) { return StorageJudge(a, b, pool).Run(); }

}  // namespace apr
