// See apr_reader.h.
#include "format/apr_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "format/apr_header.h"
#include "format/apr_metadata.h"
#include "format/apr_payload.h"
#include "format/container_checks.h"

namespace apr {
namespace {

class AprParser {
 public:
  AprParser(std::shared_ptr<const MappedFile> file, const AprHeader& header, ModelFileParts* parts)
      : file_(std::move(file)), bytes_(file_->bytes()), header_(header), parts_(parts),
        reader_(bytes_, file_->path()), file_index_(static_cast<int>(parts->files.size())) {}

  void Parse() {
    CheckSections();
    const Bytes text = bytes_.subspan(header_.metadata_offset, header_.metadata_size);
    MetaBuilder metadata =
        ParseAprMetadata(AsText(text), file_->path(), header_.metadata_offset);
    std::vector<TensorInfo> tensors = ReadIndex();
    CheckNoOverlap(tensors, file_->path());
    WarnAboutAlignment(tensors);
    // Nothing above has changed `parts`: the caller may try another reading after an error.
    parts_->files.push_back(file_);
    for (TensorInfo& info : tensors) parts_->tensors.push_back(std::move(info));
    parts_->metadata = metadata.list();
    parts_->storage = metadata.storage();
    parts_->format_version = fmt::format("APR {}.{}", header_.version_major, header_.version_minor);
  }

 private:
  void CheckSections() const;
  std::vector<TensorInfo> ReadIndex();
  TensorInfo ReadEntry(ByteReader* index);
  void PlaceTensor(uint64_t entry_at, uint8_t code, TensorInfo* info) const;
  void WarnAboutAlignment(const std::vector<TensorInfo>& tensors) const;

  std::shared_ptr<const MappedFile> file_;
  Bytes bytes_;
  AprHeader header_;
  ModelFileParts* parts_;
  ByteReader reader_;
  int file_index_;
};

// header | metadata | index | data, in this order, none overlapping, all inside the file.
void AprParser::CheckSections() const {
  const uint64_t size = bytes_.size();
  if (header_.metadata_size == 0 || header_.metadata_size > kAprMaxMetadataBytes) {
    reader_.FailAt(20, fmt::format("metadata of {} bytes; 1 to {} are allowed", header_.metadata_size,
                                   kAprMaxMetadataBytes));
  }
  if (header_.metadata_offset < kAprHeaderBytes || header_.metadata_offset > size ||
      header_.metadata_size > size - header_.metadata_offset) {
    reader_.FailAt(12, fmt::format("truncated: metadata of {} bytes at {} does not lie between the "
                                   "header and the end of the file ({} bytes)", header_.metadata_size,
                                   header_.metadata_offset, size));
  }
  if (header_.index_offset < header_.metadata_offset + header_.metadata_size ||
      header_.index_offset > size) {
    reader_.FailAt(24, fmt::format("the tensor index at {} does not lie between the metadata and the "
                                   "end of the file ({} bytes)", header_.index_offset, size));
  }
  if (header_.data_offset > kAprMaxDataOffset) {
    reader_.FailAt(32, fmt::format("a data offset of {} is above the limit of {}", header_.data_offset,
                                   kAprMaxDataOffset));
  }
  if (header_.data_offset < header_.index_offset || header_.data_offset > size) {
    reader_.FailAt(32, fmt::format("truncated: the data at {} do not lie between the tensor index and "
                                   "the end of the file ({} bytes)", header_.data_offset, size));
  }
}

std::vector<TensorInfo> AprParser::ReadIndex() {
  ByteReader index(bytes_.subspan(header_.index_offset, header_.data_offset - header_.index_offset),
                   file_->path(), header_.index_offset);
  constexpr uint64_t kMinEntryBytes = 2 + 1 + 1 + 1 + 8 + 8;
  if (header_.tensor_count > index.remaining() / kMinEntryBytes) {
    reader_.FailAt(8, fmt::format("{} tensors cannot fit in an index of {} bytes", header_.tensor_count,
                                  index.remaining()));
  }
  std::vector<TensorInfo> tensors;
  for (uint32_t i = 0; i < header_.tensor_count; ++i) {
    const uint64_t at = index.offset();
    TensorInfo info = ReadEntry(&index);
    if (!tensors.empty() && tensors.back().name >= info.name) {
      reader_.FailAt(at, tensors.back().name == info.name ? "the tensor name occurs twice"
                                                          : "the index is not sorted by name",
                     Printable(info.name));
    }
    tensors.push_back(std::move(info));
  }
  const uint64_t end = index.offset();
  const Bytes rest = index.ReadBytes(index.remaining(), "padding");
  if (std::ranges::any_of(rest, [](std::byte b) { return b != std::byte{0}; })) {
    reader_.FailAt(end, fmt::format("the index goes on after its {} entries", header_.tensor_count));
  }
  return tensors;
}

TensorInfo AprParser::ReadEntry(ByteReader* index) {
  const uint64_t at = index->offset();
  TensorInfo info;
  info.file = file_index_;
  const auto length = index->Read<uint16_t>("the length of a tensor name");
  if (length == 0 || length > kAprMaxNameBytes) {
    reader_.FailAt(at, fmt::format("a tensor name of {} bytes; 1 to {} are allowed", length,
                                   kAprMaxNameBytes));
  }
  info.name = AsText(index->ReadBytes(length, "a tensor name"));
  if (const auto problem = NameProblem(info.name)) {
    reader_.FailAt(at, "the tensor name " + *problem, Printable(info.name));
  }
  const auto code = index->Read<uint8_t>("a dtype code");
  const auto ndim = index->Read<uint8_t>("the number of dims");
  if (ndim > Shape::kMaxDims) {
    reader_.FailAt(at, fmt::format("{} dims; at most {} are allowed", ndim, Shape::kMaxDims),
                   Printable(info.name));
  }
  int64_t dims[Shape::kMaxDims];
  for (int i = 0; i < ndim; ++i) dims[i] = index->Read<int64_t>("a dim");
  info.shape = Shape(std::span<const int64_t>(dims, ndim));
  if (!info.shape.NumElementsChecked()) {
    reader_.FailAt(at, "the dims are too large", Printable(info.name));
  }
  info.offset = index->Read<uint64_t>("a tensor offset");
  info.bytes = index->Read<uint64_t>("a tensor size");
  PlaceTensor(at, code, &info);
  return info;
}

void AprParser::PlaceTensor(uint64_t entry_at, uint8_t code, TensorInfo* info) const {
  const std::string name = Printable(info->name);
  if (!IsAprCode(code)) reader_.FailAt(entry_at, fmt::format("unknown dtype code {}", code), name);
  const std::optional<DType> dtype = DTypeFromAprCode(code, info->shape, info->bytes);
  if (!dtype) {
    reader_.FailAt(entry_at, fmt::format("a size of {} bytes does not fit dims {} of dtype code {}",
                                         info->bytes, info->shape.ToString(), code), name);
  }
  info->dtype = *dtype;
  const std::optional<uint64_t> start = CheckedAdd(header_.data_offset, info->offset);
  const std::optional<uint64_t> end = start ? CheckedAdd(*start, info->bytes) : std::nullopt;
  if (!end || *end > bytes_.size()) {
    reader_.FailAt(entry_at, fmt::format("truncated: the tensor's {} bytes at data offset {} end after "
                                         "the end of the file ({} bytes)", info->bytes, info->offset,
                                         bytes_.size()), name);
  }
  info->offset = *start;
}

void AprParser::WarnAboutAlignment(const std::vector<TensorInfo>& tensors) const {
  for (const TensorInfo& info : tensors) {
    if (info.bytes == 0 || info.offset % kAprAlignment == 0) continue;
    parts_->warnings.push_back({file_->path(),
                                fmt::format("the tensor starts at {}, which is no multiple of {}",
                                            info.offset, kAprAlignment),
                                info.name});
  }
}

// Some writers set a compression flag and leave the payload as it is: what parses uncompressed is.
void ReadFlaggedAsCompressed(const std::shared_ptr<const MappedFile>& file, const AprHeader& header,
                             ModelFileParts* parts) {
  if (StartsWithCompressedPayload(file->bytes(), header)) {
    return AprParser(DecompressAprPayload(*file, header), header, parts).Parse();
  }
  AprParser(file, header, parts).Parse();
  parts->warnings.push_back({file->path(), "the flags call the payload compressed; it is not", ""});
}

}  // namespace

bool LooksLikeApr(Bytes bytes) {
  const std::string_view head = AsText(bytes.subspan(0, std::min<size_t>(bytes.size(), 4)));
  return head == std::string_view("APR\0", 4) || head == "APR1" || head == "APR2" || head == "APRN";
}

bool LooksLikeOtherMagic(Bytes bytes) {
  const std::string_view head = AsText(bytes.subspan(0, std::min<size_t>(bytes.size(), 4)));
  return head == "APRT" || head == "FUGG" || head == "GGML";
}

void ReadApr(const std::shared_ptr<const MappedFile>& file, ModelFileParts* parts) {
  parts->container = Container::kApr;
  const AprHeader header = ParseAprHeader(file->bytes(), file->path());
  if (header.flags & (kAprLz4 | kAprZstd)) return ReadFlaggedAsCompressed(file, header, parts);
  AprParser(file, header, parts).Parse();
}

}  // namespace apr
