// APR v2: writer. See model_writer.h; byte table: docs/formats/apr.md.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "format/apr_header.h"
#include "format/apr_metadata.h"
#include "format/apr_output.h"
#include "format/model_writer.h"
#include "format/tensor_writer.h"

namespace apr {
namespace {

// Where each tensor of args.tensors goes.
struct Layout {
  std::vector<size_t> data_order, index_order;  // positions in args.tensors
  std::vector<uint64_t> sizes, offsets;         // offsets relative to the data section
  uint64_t total_bytes = 0;                     // unpadded
  uint64_t param_count = 0;
};

Layout PlanLayout(const AprWriteArgs& args) {
  Layout layout;
  for (const TensorToWrite& tensor : args.tensors) {
    layout.sizes.push_back(TensorWriteBytes(Container::kApr, tensor));
    layout.total_bytes += layout.sizes.back();
    layout.param_count += static_cast<uint64_t>(tensor.shape.num_elements());
  }
  layout.data_order.resize(args.tensors.size());
  std::iota(layout.data_order.begin(), layout.data_order.end(), size_t{0});
  layout.index_order = layout.data_order;
  std::ranges::sort(layout.index_order, {},
                    [&](size_t i) -> const std::string& { return args.tensors[i].name; });
  if (args.order == AprOrder::kByName) layout.data_order = layout.index_order;
  layout.offsets.resize(args.tensors.size());
  uint64_t at = 0;
  for (const size_t i : layout.data_order) {
    layout.offsets[i] = at;
    at += AlignUp(layout.sizes[i], kAprAlignment);
  }
  return layout;
}

std::string FormatIndex(const AprWriteArgs& args, const Layout& layout) {
  std::string out;
  for (const size_t i : layout.index_order) {
    const TensorToWrite& tensor = args.tensors[i];
    AppendLe(&out, static_cast<uint16_t>(tensor.name.size()));
    out += tensor.name;
    AppendLe(&out, *AprCodeOf(tensor.dtype));
    AppendLe(&out, static_cast<uint8_t>(tensor.shape.ndim()));
    for (const int64_t dim : tensor.shape.dims()) AppendLe(&out, dim);
    AppendLe(&out, layout.offsets[i]);
    AppendLe(&out, layout.sizes[i]);
  }
  return out;
}

AprHeader PlanHeader(const AprWriteArgs& args, size_t metadata_bytes, size_t index_bytes) {
  if (metadata_bytes > kAprMaxMetadataBytes) {
    RefuseToWrite(args.path, "", fmt::format("{} bytes of metadata; an .apr file holds at most {}",
                                             metadata_bytes, kAprMaxMetadataBytes));
  }
  if (args.tensors.size() > std::numeric_limits<uint32_t>::max()) {
    RefuseToWrite(args.path, "", "too many tensors");
  }
  AprHeader header;
  header.flags = static_cast<uint16_t>(
      (args.flags & ~(kAprLz4 | kAprZstd | kAprEncrypted | kAprColumnMajor)) | kAprRowMajor |
      (args.compression == AprCompression::kNone ? 0 : args.compression == AprCompression::kLz4 ? kAprLz4 : kAprZstd));
  header.tensor_count = static_cast<uint32_t>(args.tensors.size());
  header.metadata_size = static_cast<uint32_t>(metadata_bytes);
  header.index_offset = kAprHeaderBytes + AlignUp(metadata_bytes, kAprAlignment);
  header.data_offset = header.index_offset + AlignUp(index_bytes, kAprAlignment);
  if (header.data_offset > kAprMaxDataOffset) {
    RefuseToWrite(args.path, "", "metadata and index would exceed 256 MiB");
  }
  return header;
}

}  // namespace

void WriteApr(const AprWriteArgs& args) {
  CheckNamesToWrite(args.tensors, args.path, kAprMaxNameBytes);
  const Layout layout = PlanLayout(args);
  const std::string metadata = FormatAprMetadata(
      args.metadata, {.file = args.path, .total_size = layout.total_bytes,
                      .param_count = layout.param_count});
  const std::string index = FormatIndex(args, layout);
  const AprHeader header = PlanHeader(args, metadata.size(), index.size());
  uint64_t data = 0;
  for (const uint64_t size : layout.sizes) data += AlignUp(size, kAprAlignment);
  AprOutput out(args.path, args.overwrite, args.compression, header.data_offset + data + 4);
  out.Write(EncodeAprHeader(header));
  out.Write(AsBytes(metadata));
  out.Pad();
  out.Write(AsBytes(index));
  out.Pad();
  for (const size_t i : layout.data_order) {
    StreamTensor(args.tensors[i], layout.sizes[i], [&](Bytes bytes) { out.Write(bytes); });
    out.Pad();
  }
  out.Finish();
}

}  // namespace apr
