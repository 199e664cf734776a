// See hex_tensor.h.
#include "cli/hex_tensor.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "cli/file_json.h"
#include "cli/hex_text.h"
#include "model/inventory.h"
#include "model/resolve.h"
#include "quant/describe_block.h"
#include "quant/quant.h"
#include "quant/scan.h"

namespace apr {
namespace {

constexpr int kBins = 20;

void RequireDecoder(const ModelFile& file, const TensorInfo& info) {
  if (CanDecode(info.dtype)) return;
  throw Error(ErrorCode::kNotBuilt, fmt::format("no decoder for {}", NameOf(info.dtype)), {.file = file.path(), .tensor = info.name});
}

// Elements [first, first + count): only the rows that hold them are decoded.
std::vector<float> Elements(const ModelFile& file, const TensorInfo& info, int64_t first, int64_t count) {
  RequireDecoder(file, info);
  const TensorView view = file.View(info);
  const int64_t cols = view.cols();
  const bool flat = view.dtype == DType::kAprQ4 || view.dtype == DType::kAprQ8 || cols == 0;
  if (count == 0) return {};
  if (flat) {
    std::vector<float> all(static_cast<size_t>(view.shape.num_elements()));
    DecodeTensor(view, all);
    return {all.begin() + first, all.begin() + first + count};
  }
  if (InfoOf(view.dtype).block_elems == 1) {  // plain elements: any range
    const uint64_t size = InfoOf(view.dtype).block_bytes;
    std::vector<float> out(static_cast<size_t>(count));
    DecodeTensor({view.dtype, Shape{count}, view.bytes.subspan(static_cast<uint64_t>(first) * size, static_cast<uint64_t>(count) * size)}, out);
    return out;
  }
  const int64_t row = first / cols;
  const TensorView rows = view.Rows(row, (first + count - 1) / cols - row + 1);
  std::vector<float> out(static_cast<size_t>(rows.shape.num_elements()));
  DecodeTensor(rows, out);
  const auto begin = out.begin() + (first - row * cols);
  return {begin, begin + count};
}

std::pair<int64_t, int64_t> SliceOf(const ModelFile& file, const TensorInfo& info, const TensorViews& views) {
  const int64_t total = info.shape.num_elements();
  const int64_t end = views.slice_end.value_or(std::min<int64_t>(total, views.slice_first + static_cast<int64_t>(views.limit)));
  if (views.slice_first > end || end > total) {
    throw Error(ErrorCode::kValidationFailed, fmt::format("elements {} to {} are not in a tensor of {}", views.slice_first, end, total),
                {.file = file.path(), .tensor = info.name});
  }
  return {views.slice_first, end - views.slice_first};
}

// How the shape in the file relates to the matrix of the model.
Json Contract(const ModelFile& file, const TensorInfo& info) {
  const auto dims = info.shape.dims();
  std::vector<int64_t> stored(dims.begin(), dims.end());
  Json out = {{"canonical_order", "[out, in], row-major"}, {"shape", stored}};
  if (file.container() == Container::kGguf) std::ranges::reverse(stored);
  out["dims_as_stored"] = stored;
  out["row_bytes"] = file.View(info).row_bytes();
  try {
    const ResolvedConfig resolved = ResolveConfig(file);
    for (const TensorRule& rule : RulesFor(*resolved.architecture, file.container())) {
      const auto match = MatchName(rule.name, info.name);
      if (!match) continue;
      Json slots = Json::array();
      for (const Slot slot : rule.slots) slots.push_back(ToString(SlotKey{slot, match->layer, match->expert}));
      const Shape expected = StoredShape(resolved.config, rule, match->layer, match->expert);
      out["slots"] = std::move(slots);
      out["transform"] = TransformName(rule.transform);
      out["expected_shape"] = std::vector<int64_t>(expected.dims().begin(), expected.dims().end());
      out["agrees"] = expected.num_elements() == info.shape.num_elements();
      return out;
    }
    out["slots"] = nullptr;
    out["problem"] = fmt::format("no rule of {} names it", resolved.architecture->name);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kModelLoad && e.code() != ErrorCode::kInvalidFormat) throw;
    out["problem"] = e.message();
  }
  return out;
}

Json BlocksJson(const ModelFile& file, const TensorInfo& info, uint64_t limit) {
  Json out = Json::array();
  for (const BlockDescription& block : DescribeBlocks(file.View(info), 0, static_cast<int64_t>(std::min<uint64_t>(limit, 1 << 20)))) {
    Json fields = Json::object();
    for (const auto& [name, values] : block.fields) {
      Json numbers = Json::array();
      for (const double v : values) numbers.push_back(JsonNumber(v));
      fields[name] = numbers.size() == 1 ? numbers[0] : numbers;
    }
    Json values = Json::array();
    for (const float v : block.values) values.push_back(JsonNumber(v));
    out.push_back({{"block", block.index}, {"first_element", block.first_element}, {"offset", info.offset + block.offset},
                   {"hex", HexDigits(block.bytes)}, {"fields", std::move(fields)}, {"values", std::move(values)}});
  }
  return out;
}

Json NumbersJson(const std::vector<float>& values) {
  Json out = Json::array();
  for (const float v : values) out.push_back(JsonNumber(v));
  return out;
}

Bytes FirstBytes(const ModelFile& file, const TensorInfo& info, uint64_t limit) {
  const Bytes bytes = file.View(info).bytes;
  return bytes.subspan(0, std::min<uint64_t>(bytes.size(), limit));
}

Json DistributionJson(const Distribution& d) {
  return {{"min", JsonNumber(d.min)}, {"max", JsonNumber(d.max)}, {"mean", JsonNumber(d.mean)}, {"std", JsonNumber(d.std)},
          {"skewness", JsonNumber(d.skewness)}, {"kurtosis", JsonNumber(d.kurtosis)}, {"finite", d.finite}, {"bins", d.bins}};
}

std::string Values(const std::vector<float>& values) {
  std::string out;
  for (size_t i = 0; i < values.size(); ++i) out += fmt::format("{}{:>12.6g}", i % 8 == 0 ? (i > 0 ? "\n   " : "   ") : " ", values[i]);
  return out + "\n";
}

std::string DistributionText(const Distribution& d) {
  std::string out = fmt::format("  mean {:.6g}, std {:.6g}, skewness {:.4g}, kurtosis {:.4g} (Gaussian: 3), {} finite\n", d.mean, d.std, d.skewness,
                                d.kurtosis, d.finite);
  const uint64_t most = std::max<uint64_t>(1, *std::ranges::max_element(d.bins));
  const double width = (d.max - d.min) / static_cast<double>(d.bins.size());
  for (size_t b = 0; b < d.bins.size(); ++b) {
    const auto bar = static_cast<size_t>(50 * static_cast<double>(d.bins[b]) / static_cast<double>(most));
    out += fmt::format("  {:>12.5g}  {:<50}  {}\n", d.min + static_cast<double>(b) * width, std::string(bar, '#'), d.bins[b]);
  }
  return out;
}

std::string BlocksText(const ModelFile& file, const TensorInfo& info, uint64_t limit) {
  const auto blocks = DescribeBlocks(file.View(info), 0, static_cast<int64_t>(std::min<uint64_t>(limit, 1 << 20)));
  if (blocks.empty()) return fmt::format("  {} has no blocks\n", NameOf(info.dtype));
  std::string out;
  for (const BlockDescription& block : blocks) {
    out += fmt::format("  block {} (element {}, offset 0x{:x})\n", block.index, block.first_element, info.offset + block.offset);
    for (const auto& [name, values] : block.fields) {
      out += "    " + name + ":";
      for (const double v : values) out += fmt::format(" {:.6g}", v);
      out += "\n";
    }
    out += "    bytes: " + HexDigits(block.bytes) + "\n" + Values(block.values);
  }
  return out;
}

}  // namespace

Json TensorHeadJson(const ModelFile& file, const TensorInfo& info) {
  const auto dims = info.shape.dims();
  return {{"name", info.name},
          {"dtype", NameOf(info.dtype)},
          {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
          {"offset", info.offset},
          {"size_bytes", info.bytes},
          {"file", file.files()[static_cast<size_t>(info.file)]->path()}};
}

Json TensorJson(const ModelFile& file, const TensorInfo& info, const TensorViews& views) {
  Json out = TensorHeadJson(file, info);
  const TensorView view = file.View(info);
  if (views.none()) {
    out["hex"] = HexRowsJson(FirstBytes(file, info, views.limit), info.offset, views.width);
    const int64_t count = std::min<int64_t>(info.shape.num_elements(), static_cast<int64_t>(views.limit));
    out["values"] = CanDecode(info.dtype) ? NumbersJson(Elements(file, info, 0, count)) : Json(nullptr);
  }
  if (views.slice) {
    const auto [first, count] = SliceOf(file, info, views);
    out["slice"] = {{"first", first}, {"values", NumbersJson(Elements(file, info, first, count))}};
  }
  if (views.stats) {
    RequireDecoder(file, info);
    out["stats"] = StatisticsToJson(DecodedStatistics(view));
  }
  if (views.distribution) {
    RequireDecoder(file, info);
    out["distribution"] = DistributionJson(DistributionOf(view, kBins));
  }
  if (views.entropy) out["entropy_bits_per_byte"] = ByteEntropy(view.bytes);
  if (views.contract) out["contract"] = Contract(file, info);
  if (views.blocks) out["blocks"] = BlocksJson(file, info, views.limit);
  return out;
}

std::string TensorText(const ModelFile& file, const TensorInfo& info, const TensorViews& views) {
  std::string out = fmt::format("{}  {} {}  {} bytes at 0x{:x}\n", OneLineText(info.name, 200), NameOf(info.dtype), info.shape.ToString(), info.bytes, info.offset);
  const TensorView view = file.View(info);
  if (views.none()) {
    out += HexRows(FirstBytes(file, info, views.limit), info.offset, views.width);
    const int64_t count = std::min<int64_t>(info.shape.num_elements(), static_cast<int64_t>(views.limit));
    if (CanDecode(info.dtype) && count > 0) out += Values(Elements(file, info, 0, count));
  }
  if (views.slice) {
    const auto [first, count] = SliceOf(file, info, views);
    out += fmt::format("  elements {} to {}\n", first, first + count) + Values(Elements(file, info, first, count));
  }
  if (views.stats) {
    RequireDecoder(file, info);
    const Statistics s = DecodedStatistics(view);
    out += fmt::format("  mean {:.6g}, std {:.6g}, min {:.6g}, max {:.6g}, L2 {:.6g}, zeros {}, NaN {}, infinite {}\n", s.mean, s.std, s.min, s.max,
                       s.l2_norm, s.zero_count, s.nan_count, s.inf_count);
  }
  if (views.distribution) {
    RequireDecoder(file, info);
    out += DistributionText(DistributionOf(view, kBins));
  }
  if (views.entropy) out += fmt::format("  entropy {:.4f} bits per byte\n", ByteEntropy(view.bytes));
  if (views.contract) {
    const Json contract = Contract(file, info);
    for (const auto& [key, value] : contract.items()) out += fmt::format("  {}: {}\n", key, value.is_string() ? value.get<std::string>() : DumpJson(value, -1));
  }
  if (views.blocks) out += BlocksText(file, info, views.limit);
  return out;
}

}  // namespace apr
