// The data quality rules: see validate_parts.h and docs/validation.md.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "model/validate_parts.h"
#include "quant/quant.h"

namespace apr {
namespace {

constexpr uint64_t kPieceBytes = 512 << 10;  // of a processor's own cache
constexpr double kMaxZerosEmbedding = 0.5;
constexpr double kMaxZerosWeight = 0.8;
constexpr double kMinNorm = 1e-6;     // of a whole tensor
constexpr double kMinRange = 1e-10;   // largest less smallest element

bool IsWeight(TensorRole role) { return role == TensorRole::kMatrix || role == TensorRole::kEmbedding || role == TensorRole::kHead; }

std::string At(const Shape& shape, int64_t element) {
  std::string out;
  for (int d = shape.ndim() - 1; d >= 0; --d) {
    out = std::to_string(element % shape[d]) + (out.empty() ? "" : ", ") + out;
    element /= shape[d];
  }
  return "[" + out + "]";
}

std::string Percent(double part, double whole) { return fmt::format("{:.1f} %", 100 * part / whole); }

// What only decoding tells about a tensor; all of it is decoded only when a sample leaves a rule open.
class Figures {
 public:
  Figures(const TensorView& view, const ScanCounts& counts) : view_(view), counts_(counts) {
    if (CanDecode(view.dtype) && view.shape.num_elements() > 0) sample_ = SampledStatistics(view);
  }

  bool known() const { return sample_.count > 0; }

  // The share of zeros. Plain types were counted; of block types the sample decides whether counting is
  // worth the decoding.
  double ZeroShare(double limit) {
    const auto counted = static_cast<double>(counts_.zeros) / static_cast<double>(counts_.elements);
    if (counted > limit || !IsQuantized(view_.dtype) || !known()) return counted;
    const auto sampled = static_cast<double>(sample_.zero_count) / static_cast<double>(sample_.count);
    if (sampled < limit / 2) return std::max(counted, sampled);
    return static_cast<double>(Whole().zero_count) / static_cast<double>(Whole().count);
  }

  // A sample's norm and range are no larger than the tensor's: where they suffice the tensor's do.
  double Norm() { return sample_.l2_norm >= kMinNorm ? sample_.l2_norm : Whole().l2_norm; }
  double Range() { return sample_.max - sample_.min >= kMinRange ? sample_.max - sample_.min : Whole().max - Whole().min; }

 private:
  const Statistics& Whole() {
    if (!whole_) whole_ = DecodedStatistics(view_);
    return *whole_;
  }

  TensorView view_;
  const ScanCounts& counts_;
  Statistics sample_;
  std::optional<Statistics> whole_;
};

class DataChecker {
 public:
  DataChecker(const ModelUnderTest& model, bool strict) : model_(model), strict_(strict) {}

  void Look(const TensorScan& scan) {
    if (scan.counts.elements == 0 || IsDerivedBuffer(scan.info->name)) return;
    NonFinite(scan);
    if (scan.counts.nan + scan.counts.inf < scan.counts.elements) Values(scan);
    if (scan.role == TensorRole::kEmbedding) EmbeddingRows(scan);
    DeadRows(scan);
  }

  void Finish(std::vector<CheckResult>& checks) {
    for (CheckResult* check : {&zeros_, &nonfinite_, &constant_, &embedding_, &scales_, &dead_}) checks.push_back(std::move(*check));
  }

 private:
  void Report(CheckResult& check, const TensorScan& scan, std::string message, int64_t element = 0) {
    check.findings.push_back(AboutTensor(model_.file, *scan.info, std::move(message), element));
  }

  void NonFinite(const TensorScan& scan) {
    const ScanCounts& c = scan.counts;
    if (c.nan + c.inf > 0) {
      Report(nonfinite_, scan,
             fmt::format("{} NaN and {} infinite of {} elements, the first at {}", c.nan, c.inf, c.elements, At(scan.info->shape, c.first_bad)),
             c.first_bad);
    }
    if (c.bad_scales > 0) {
      Report(scales_, scan, fmt::format("{} block scales are NaN or infinite, the first in the block of {}", c.bad_scales,
                                        At(scan.info->shape, c.first_bad)), c.first_bad);
    }
  }

  // Norm weights that multiply as (w + 1) may well be 0.
  bool MayBeZero(TensorRole role) const {
    if (role == TensorRole::kBias || role == TensorRole::kVector) return true;
    return role == TensorRole::kNorm && (!model_.resolved || model_.resolved->config.norm_offset != 0);
  }

  void Values(const TensorScan& scan) {
    const ScanCounts& c = scan.counts;
    if (strict_ && c.zeros == c.elements) return Report(zeros_, scan, "nothing but zeros");
    if (!IsWeight(scan.role)) {
      if (c.zeros == c.elements && !MayBeZero(scan.role)) Report(zeros_, scan, "nothing but zeros");
      return;
    }
    Figures figures(model_.file.View(*scan.info), c);
    const double limit = scan.role == TensorRole::kEmbedding ? kMaxZerosEmbedding : kMaxZerosWeight;
    const double share = figures.ZeroShare(limit);
    if (share > limit) Report(zeros_, scan, fmt::format("{} of the elements are zero, at most {:.0f} % may be", Percent(share, 1), 100 * limit));
    if (!figures.known()) return;
    if (figures.Norm() < kMinNorm) {
      Report(constant_, scan, fmt::format("the L2 norm {:.3g} is below {:.0e}", figures.Norm(), kMinNorm));
    } else if (c.elements > 1 && figures.Range() < kMinRange) {
      Report(constant_, scan, fmt::format("all elements lie within {:.3g}: the tensor is constant", figures.Range()));
    }
  }

  void EmbeddingRows(const TensorScan& scan) {
    const TensorView view = model_.file.View(*scan.info);
    if (view.shape.ndim() != 2 || !CanDecode(view.dtype)) return;
    std::vector<float> row(static_cast<size_t>(view.cols()));
    for (const int percent : {10, 50, 90}) {
      const int64_t index = view.rows() * percent / 100;
      DecodeRowOf(view, index, row);
      if (std::ranges::any_of(row, [](float x) { return x != 0; })) continue;
      Report(embedding_, scan, fmt::format("row {}, at {} % of the vocabulary, is all zero", index, percent), index * view.cols());
    }
  }

  static void DecodeRowOf(const TensorView& view, int64_t index, std::vector<float>& row) {
    if (view.dtype != DType::kAprQ8 && view.dtype != DType::kAprQ4) return DecodeTensor(view.Rows(index, 1), row);
    std::vector<float> all(static_cast<size_t>(view.shape.num_elements()));
    DecodeTensor(view, all);
    std::copy_n(all.begin() + index * view.cols(), view.cols(), row.begin());
  }

  // Rows of embedding and head that stand for no token are often left at zero.
  void DeadRows(const TensorScan& scan) {
    const ScanCounts& c = scan.counts;
    if (scan.role != TensorRole::kMatrix || c.zero_rows == 0) return;
    Report(dead_, scan, fmt::format("{} of {} rows are all zero, the first is row {}", c.zero_rows, scan.info->shape.rows(), c.first_zero_row),
           c.first_zero_row * scan.info->shape.cols());
  }

  const ModelUnderTest& model_;
  bool strict_;
  CheckResult zeros_{"F-DATA-QUALITY-001", "zeros: at most 50 % of an embedding, 80 % of a weight", "", {}};
  CheckResult nonfinite_{"F-DATA-QUALITY-002", "no NaN, no infinity", "", {}};
  CheckResult constant_{"F-DATA-QUALITY-003", "weights have an L2 norm of at least 1e-6 and are not constant", "", {}};
  CheckResult embedding_{"F-DATA-QUALITY-004", "embedding rows at 10, 50 and 90 % of the vocabulary are not zero", "", {}};
  CheckResult scales_{"F-DATA-QUALITY-006", "block scales are finite", "", {}};
  CheckResult dead_{"F-DATA-QUALITY-007", "no row of a weight is all zero", "", {}};
};

}  // namespace

DataScan ScanAll(const ModelUnderTest& model, ThreadPool& pool) {
  struct Item {
    size_t tensor;
    ScanPiece piece;
    ScanCounts counts;
    KnownCrc checksum;
  };
  DataScan out;
  std::vector<Item> items;
  const bool checksums = model.file.container() == Container::kApr;
  uint64_t bytes = 0;
  for (const TensorInfo& info : model.file.tensors()) {
    if (!CanScan(info.dtype) || !InfoOf(info.dtype).is_float) {
      out.unscanned.push_back(&info);
      continue;
    }
    const Bytes whole = model.file.files()[static_cast<size_t>(info.file)]->bytes();
    for (const ScanPiece& piece : ScanPieces(model.file.View(info), kPieceBytes)) {
      const auto offset = static_cast<uint64_t>(piece.bytes.data() - whole.data());
      items.push_back({out.tensors.size(), piece, {}, {offset, piece.bytes.size(), 0}});
    }
    out.tensors.push_back({&info, model.RoleOf(info), {}});
    bytes += info.bytes;
  }
  Progress progress("validating", bytes);
  pool.ParallelFor(static_cast<int64_t>(items.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      Item& item = items[static_cast<size_t>(i)];
      // What the checksum has read is still in the processor's cache when the scan comes.
      if (checksums) item.checksum.crc = Crc32(item.piece.bytes);
      item.counts = Scan(item.piece);
      progress.Add(item.piece.bytes.size());
    }
  });
  for (const Item& item : items) {
    out.tensors[item.tensor].counts.Merge(item.counts);
    if (checksums) out.checksums.push_back(item.checksum);
  }
  std::ranges::sort(out.checksums, {}, &KnownCrc::offset);
  return out;
}

void CheckData(const ModelUnderTest& model, const std::vector<TensorScan>& scans, bool strict, std::vector<CheckResult>& checks) {
  DataChecker checker(model, strict);
  for (const TensorScan& scan : scans) checker.Look(scan);
  checker.Finish(checks);
}

}  // namespace apr
