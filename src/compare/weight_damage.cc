// TryDamage of weight_hypotheses.h: some places of B are broken, the rest is sound.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "compare/weight_hypotheses.h"

namespace apr::search {
namespace {

constexpr int64_t kDamageRun = 256;

struct Broken {
  int64_t index;
  float a, b;
};

struct Damage {
  std::vector<Broken> places;          // ascending
  int64_t count = 0;                   // of all elements
  int64_t nan = 0, inf = 0, zero = 0, clipped = 0;
  double rest = 0;                     // root NMSE once they are mended
  int64_t rows_hit = 0, rows_whole = 0;
};

bool IsBroken(double a, double b, double limit) {
  if (!std::isfinite(b) || !std::isfinite(a)) return !(a == b);
  return std::abs(a - b) > limit;
}

Damage Collect(const Subject& s) {
  const StorageJudgement& j = *s.judged;
  const WeightValues a = ValuesOf(s.it().a), b = ValuesOf(s.it().b);
  Damage out;
  out.count = a.elements();
  for (const BadChunk& chunk : j.bad) {
    const int64_t first = chunk.index * kDamageRun;
    const int64_t count = std::min(kDamageRun, out.count - first);
    const std::vector<float> x = a.Range(first, count), y = b.Range(first, count);
    for (size_t i = 0; i < x.size(); ++i) {
      if (IsBroken(x[i], y[i], chunk.limit + j.kappa * std::abs(x[i]))) out.places.push_back({first + static_cast<int64_t>(i), x[i], y[i]});
    }
  }
  const std::optional<PlainError> plain = PlainErrorOf(s.it().b.view.dtype);
  float top = 0;
  for (const Broken& p : out.places) top = std::isfinite(p.b) ? std::max(top, std::abs(p.b)) : top;
  int64_t last_row = -1, in_row = 0;
  for (const Broken& p : out.places) {
    out.nan += std::isnan(p.b);
    out.inf += std::isinf(p.b);
    out.zero += p.b == 0;
    const bool at_largest = std::abs(p.b) >= 0.99 * (plain ? plain->largest : 65504.0) || std::abs(p.b) == 65504.0f || std::abs(p.b) == 448.0f || std::abs(p.b) == 57344.0f;
    out.clipped += std::isfinite(p.b) && std::abs(p.a) > std::abs(p.b) && (at_largest || (std::abs(p.b) == top && top >= 1));
    const int64_t row = p.index / s.cols();
    if (row != last_row) in_row = 0, ++out.rows_hit;
    last_row = row;
    if (++in_row == s.cols()) ++out.rows_whole;
  }
  return out;
}

// The comparison once B's broken places hold A's elements; whole runs of 256 if that is not enough.
StorageJudgement Mended(const Subject& s, const Damage& d) {
  const WeightValues a = ValuesOf(s.it().a);
  const auto mended = Load(s.it().b);
  for (const Broken& p : d.places) (*mended)[static_cast<size_t>(p.index)] = p.a;
  WeightValues b = Changed(mended, s.it().b.rows(), s.it().b.cols(), s.it().b);
  StorageJudgement out = JudgeStorage(a, b, s.pool);
  if (out.explained) return out;
  for (const BadChunk& chunk : s.judged->bad) {
    const int64_t first = chunk.index * kDamageRun;
    const std::vector<float> x = a.Range(first, std::min(kDamageRun, d.count - first));
    std::copy(x.begin(), x.end(), mended->begin() + first);
  }
  return JudgeStorage(a, b, s.pool);
}

std::string Coordinates(const Subject& s, const Damage& d) {
  std::string out;
  const int64_t cols = s.it().a.cols();
  for (size_t i = 0; i < d.places.size() && i < 8; ++i) {
    const Broken& p = d.places[i];
    out += i == 0 ? "" : "; ";
    out += s.is_vector() ? fmt::format("[{}]", p.index) : fmt::format("[{}, {}]", p.index / cols, p.index % cols);
    out += fmt::format(" {:.6g} against {:.6g}", p.a, p.b);
  }
  if (d.places.size() > 8) out += fmt::format("; {} more", d.places.size() - 8);
  return out;
}

Candidate Named(const Subject& s, const Damage& d, std::string cause, std::string detail) {
  Candidate c;
  c.group = cause + " " + GroupOf(s.it());
  c.cause = std::move(cause);
  c.detail = std::move(detail);
  c.evidence = fmt::format("{} of {} elements: {}", d.places.size(), d.count, Coordinates(s, d));
  c.fix = "write the tensor again from its source; check where the file was stored and copied";
  // The worst: not finite before large.
  double worst = -1;
  for (const Broken& p : d.places) {
    const double size = std::isfinite(p.b) ? std::abs(static_cast<double>(p.a) - p.b) : std::numeric_limits<double>::infinity();
    if (!(size > worst)) continue;
    worst = size;
    c.index = p.index;
  }
  c.rank = 2;
  return c;
}

// Non-finite values: scales of blocks, a narrower type's range, or single values.
bool TryNonFinite(const Subject& s, const Damage& d, Trials& trials) {
  if (d.nan + d.inf == 0) return false;
  const DType type = s.it().b.view.dtype;
  if (IsQuantized(type)) {
    trials.Accept(Named(s, d, "nan_block_scale", fmt::format("{} NaN and {} infinite elements, in blocks of {}", d.nan, d.inf, InfoOf(type).block_elems)), d.rest);
  } else if (d.nan > 0) {
    trials.Accept(Named(s, d, "nan_values", fmt::format("{} NaN and {} infinite elements", d.nan, d.inf)), d.rest);
  } else {
    Candidate c = Named(s, d, "overflow", fmt::format("{} infinite elements", d.inf));
    c.fix = "keep the tensor in a type with a wider range (bf16, f32), or scale it";
    trials.Accept(std::move(c), d.rest);
  }
  return true;
}

bool IsRun(const Damage& d) { return !d.places.empty() && d.places.back().index - d.places.front().index + 1 == static_cast<int64_t>(d.places.size()); }

// Rows that are another row's, or a multiple of their own.
struct RowMatch {
  int64_t other = 0, scaled = 0, total = 0;
  double least = 0, most = 0;
  std::vector<std::pair<int64_t, int64_t>> moved;
};

double RowError(const float* a, const float* b, int64_t cols, double scale) {
  double square = 0, size = 0;
  for (int64_t c = 0; c < cols; ++c) {
    const double d = a[c] * scale - b[c];
    square += d * d;
    size += static_cast<double>(b[c]) * b[c];
  }
  return size > 0 ? std::sqrt(square / size) : (square > 0 ? 1 : 0);
}

RowMatch MatchRows(const Subject& s, const std::vector<int64_t>& rows, const std::vector<float>& a, const WeightValues& b) {
  const int64_t cols = s.cols(), all = s.rows();
  const double enough = 3 * s.judged->floor() + 1e-5;
  RowMatch out;
  for (const int64_t r : rows) {
    const std::vector<float> row = b.Range(r * cols, cols);
    ++out.total;
    double aa = 0, ab = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const float x = a[static_cast<size_t>(r * cols + c)];
      aa += static_cast<double>(x) * x;
      ab += static_cast<double>(x) * row[static_cast<size_t>(c)];
    }
    const double scale = aa > 0 ? ab / aa : 0;
    if (scale != 0 && RowError(&a[static_cast<size_t>(r * cols)], row.data(), cols, scale) <= enough) {
      if (out.scaled++ == 0) out.least = out.most = scale;
      out.least = std::min(out.least, scale);
      out.most = std::max(out.most, scale);
      continue;
    }
    for (int64_t o = 0; o < all; ++o) {
      // The first elements decide about nearly all rows.
      const float* candidate = &a[static_cast<size_t>(o * cols)];
      if (RowError(candidate, row.data(), std::min<int64_t>(cols, 8), 1) > enough * 4 + 1e-3) continue;
      if (o == r || RowError(candidate, row.data(), cols, 1) > enough) continue;
      ++out.other;
      out.moved.push_back({r, o});
      break;
    }
  }
  return out;
}

// True if whole rows are what is broken.
bool TryWholeRows(const Subject& s, const Damage& d, Trials& trials) {
  if (s.is_vector() || s.cols() < 6) return false;
  std::map<int64_t, int64_t> hit;
  for (const Broken& p : d.places) ++hit[p.index / s.cols()];
  std::vector<int64_t> rows;
  for (const auto& [row, count] : hit) {
    if (count * 2 < s.cols()) return false;
    rows.push_back(row);
  }
  if (rows.size() > 256) return false;
  const auto a = Load(s.it().a);
  const RowMatch match = MatchRows(s, rows, *a, ValuesOf(s.it().b));
  if (match.other == match.total) {
    std::string moves;
    for (size_t i = 0; i < match.moved.size() && i < 8; ++i) moves += fmt::format("{}row {} is A's row {}", i == 0 ? "" : ", ", match.moved[i].first, match.moved[i].second);
    Candidate c = Named(s, d, "shifted_rows", fmt::format("{} rows hold other rows: {}", match.other, moves));
    c.evidence = c.detail;
    c.fix = "put the rows in A's order";
    trials.Accept(std::move(c), d.rest);
    return true;
  }
  if (match.scaled == match.total) {
    Candidate c = Named(s, d, "scaled_tensor", fmt::format("{} rows times {:.6g} .. {:.6g}", match.total, match.least, match.most));
    c.a = 1;
    c.b = Json::array({match.least, match.most});
    c.evidence = fmt::format("rows {} .. {} of B are {:.6g} .. {:.6g} x those of A (solved), the others agree", rows.front(), rows.back(), match.least, match.most);
    c.fix = "multiply the rows by the scale that was lost";
    trials.Accept(std::move(c), d.rest);
    return true;
  }
  return false;
}

}  // namespace

void TryDamage(const Subject& s, Trials& trials) {
  if (s.judged->bad_count == 0 || s.judged->bad_count > static_cast<int64_t>(s.judged->bad.size())) return;
  Damage d = Collect(s);
  const auto broken = static_cast<int64_t>(d.places.size());
  const bool sampled = s.judged->bad_count < s.judged->chunks;
  if (broken == 0 || (sampled && !s.judged->mean_explained)) return;
  const StorageJudgement mended = Mended(s, d);
  if (!mended.explained) {
    trials.Reject("corrupt_values", fmt::format("{} of {} elements", broken, d.count), mended.error());
    return;
  }
  d.rest = mended.error();
  if (TryNonFinite(s, d, trials)) return;
  const double part = static_cast<double>(broken) / static_cast<double>(d.count);
  if (d.zero * 10 >= broken * 9 && (broken >= 16 || d.rows_whole > 0 || IsRun(d)) && broken >= 4) {
    Candidate c = Named(s, d, "zeroed_tensor", fmt::format("{} elements are 0", d.zero));
    c.evidence = fmt::format("{} of {} elements of B are 0 and not in A, from element {} to {}, in {} rows", d.zero, d.count, d.places.front().index,
                             d.places.back().index, d.rows_hit);
    trials.Accept(std::move(c), d.rest);
    return;
  }
  if (d.clipped == broken) {
    Candidate c = Named(s, d, "overflow", fmt::format("{} elements stop at {:.6g}", d.clipped, std::abs(d.places.front().b)));
    c.fix = "keep the tensor in a type with a wider range (bf16, f32), or scale it";
    trials.Accept(std::move(c), d.rest);
    return;
  }
  if (TryWholeRows(s, d, trials)) return;
  if (part > 0.34 && broken > 8) {
    trials.Reject("corrupt_values", fmt::format("{} of {} elements are far from A", broken, d.count), d.rest);
    return;
  }
  trials.Accept(Named(s, d, "corrupt_values", fmt::format("{} of {} elements", broken, d.count)), d.rest);
}

}  // namespace apr::search
