// See header_map.h.
#include "format/header_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "base/error.h"
#include "format/apr_header.h"
#include "format/apr_reader.h"
#include "format/container_checks.h"
#include "format/meta_value.h"
#include "format/safetensors_reader.h"
#include "format/stage_file.h"

namespace apr {
namespace {

constexpr size_t kShownText = 60;
constexpr int kMaxNesting = 64;

class Mapper {
 public:
  Mapper(Bytes bytes, const std::string& file, uint64_t limit) : bytes_(bytes), reader_(bytes, file), limit_(limit) {}

  std::vector<HeaderField> Run() {
    if (AsText(bytes_.subspan(0, std::min<size_t>(bytes_.size(), 4))) == "GGUF") Gguf();
    else if (LooksLikeStageFile(bytes_)) Stage();
    else if (LooksLikeApr(bytes_)) Apr();
    else if (LooksLikeSafetensors(bytes_)) Safetensors();
    else reader_.FailAt(0, "begins like no GGUF, safetensors, APR or APRT file");
    return std::move(out_);
  }

 private:
  bool Full() const { return limit_ > 0 && out_.size() >= limit_; }

  // The field that ends where the reader stands.
  void Add(uint64_t start, std::string name, std::string value) {
    if (!Full()) out_.push_back({start, reader_.offset() - start, std::move(name), std::move(value)});
  }

  template <typename T>
  T Number(const char* name) {
    const uint64_t start = reader_.offset();
    const T value = reader_.Read<T>(name);
    Add(start, name, fmt::format("{}", value));
    return value;
  }

  void Magic() {
    const std::string text = Printable(AsText(reader_.ReadBytes(4, "magic")));
    Add(0, "magic", "\"" + text + "\"");
  }

  static std::string Cut(std::string_view text) {
    const std::string out = Printable(text.substr(0, 2 * kShownText));
    return out.size() > kShownText ? out.substr(0, kShownText) + "..." : out;
  }

  std::string_view Text(const char* what) {
    const auto length = reader_.Read<uint64_t>(what);
    return AsText(reader_.ReadBytes(length, what));
  }

  std::string Value(MetaValue::Type type, int depth) {
    if (type == MetaValue::Type::kString) return fmt::format("\"{}\"", Cut(Text("a string")));
    if (type == MetaValue::Type::kArray) return Array(depth);
    const Bytes raw = reader_.ReadBytes(MetaTypeBytes(type), "a value");
    const MetaValue one = MetaValue::Array(type, 1, raw);
    if (const auto numbers = one.AsDoubles(); !numbers.empty()) return fmt::format("{}", numbers[0]);
    return one.AsInts().empty() ? "" : fmt::format("{}", one.AsInts()[0] != 0);
  }

  std::string Array(int depth) {
    const MetaValue::Type element = Type();
    const auto count = reader_.Read<uint64_t>("an array's length");
    if (depth >= kMaxNesting) reader_.Fail("arrays are nested too deeply");
    if (const uint32_t size = MetaTypeBytes(element); size > 0) {
      const auto bytes = CheckedMul(count, size);
      if (!bytes) reader_.Fail("an array's size overflows");
      reader_.Skip(*bytes, "an array");
    } else {
      for (uint64_t i = 0; i < count; ++i) Value(element, depth + 1);
    }
    return fmt::format("{} x {}", count, MetaTypeName(element));
  }

  MetaValue::Type Type() {
    const auto id = reader_.Read<uint32_t>("a value's type");
    const auto type = MetaTypeFromGgufId(id);
    if (!type) reader_.Fail(fmt::format("unknown value type {}", id));
    return *type;
  }

  void Gguf() {
    Magic();
    Number<uint32_t>("version");
    const auto tensors = Number<uint64_t>("tensor_count");
    const auto keys = Number<uint64_t>("metadata_kv_count");
    for (uint64_t i = 0; i < keys && !Full(); ++i) {
      const uint64_t start = reader_.offset();
      const std::string key = Printable(Text("a key"));
      const MetaValue::Type type = Type();
      const std::string value = Value(type, 0);
      Add(start, "key " + key, fmt::format("{} {}", MetaTypeName(type), value));
    }
    for (uint64_t i = 0; i < tensors && !Full(); ++i) GgufTensor();
  }

  void GgufTensor() {
    const uint64_t start = reader_.offset();
    const std::string name = Printable(Text("a tensor's name"));
    const auto dims = reader_.Read<uint32_t>("the number of dimensions");
    std::string shape;
    for (uint32_t d = 0; d < dims; ++d) shape += fmt::format("{}{}", d > 0 ? ", " : "", reader_.Read<uint64_t>("a dimension"));
    const auto id = reader_.Read<uint32_t>("a tensor's type");
    const auto offset = reader_.Read<uint64_t>("a tensor's offset");
    const auto dtype = DTypeFromGgml(id);
    Add(start, "tensor " + name, fmt::format("ne [{}], type {} ({}), data + {}", shape, id, dtype ? NameOf(*dtype) : "unknown", offset));
  }

  void Stage() {
    Magic();
    const uint64_t start = reader_.offset();
    const auto layer = reader_.Read<uint32_t>("layer");
    Add(start, "layer", layer == kWholeModel ? "whole model" : fmt::format("{}", layer));
    const auto count = Number<uint32_t>("count");
    const uint64_t data = reader_.offset();
    reader_.Skip(uint64_t{4} * count, "the values");
    Add(data, "values", fmt::format("{} x f32", count));
  }

  static std::string Flags(uint16_t flags) {
    static constexpr std::pair<uint16_t, const char*> kNames[] = {
        {kAprLz4, "lz4"}, {kAprZstd, "zstd"}, {kAprEncrypted, "encrypted"}, {kAprSigned, "signed"}, {kAprSharded, "sharded"},
        {kAprQuantized, "quantized"}, {kAprFilterbank, "filterbank"}, {kAprModelCard, "model card"}, {kAprStreaming, "streaming"},
        {kAprHasVocab, "has vocab"}, {kAprRowMajor, "row major"}, {kAprColumnMajor, "column major"}};
    std::string out = fmt::format("0x{:04x}", flags);
    for (const auto& [bit, name] : kNames) {
      if ((flags & bit) != 0) out += fmt::format(" {}", name);
    }
    return out;
  }

  void Apr() {
    const AprHeader header = ParseAprHeader(bytes_, reader_.file());
    Magic();
    Number<uint8_t>("version_major");
    Number<uint8_t>("version_minor");
    const uint64_t start = reader_.offset();
    reader_.Skip(2, "flags");
    Add(start, "flags", Flags(header.flags));
    Number<uint32_t>("tensor_count");
    Number<uint64_t>("metadata_offset");
    Number<uint32_t>("metadata_size");
    Number<uint64_t>("tensor_index_offset");
    Number<uint64_t>("data_offset");
    const uint64_t at = reader_.offset();
    const auto checksum = reader_.Read<uint32_t>("checksum");
    Add(at, "header_checksum", fmt::format("{:08x}, as computed", checksum));
    const uint64_t reserved = reader_.offset();
    reader_.Skip(20, "reserved");
    Add(reserved, "reserved", "");
    const bool compressed = (header.flags & (kAprLz4 | kAprZstd)) != 0;
    if (compressed) return AddSection(64, bytes_.size() - 64, "payload", "compressed");
    AddSection(header.metadata_offset, header.metadata_size, "metadata", "JSON");
    AddSection(header.index_offset, header.data_offset - header.index_offset, "tensor index", fmt::format("{} entries", header.tensor_count));
    AddSection(header.data_offset, bytes_.size() - std::min<uint64_t>(bytes_.size(), header.data_offset + 4), "tensor data", "");
    if (bytes_.size() >= header.data_offset + 4) {
      AddSection(bytes_.size() - 4, 4, "footer_checksum", fmt::format("{:08x}", LoadLe<uint32_t>(bytes_.data() + bytes_.size() - 4)));
    }
  }

  void AddSection(uint64_t offset, uint64_t size, std::string name, std::string value) {
    if (!Full()) out_.push_back({offset, size, std::move(name), std::move(value)});
  }

  void Safetensors() {
    const auto length = Number<uint64_t>("header_length");
    const uint64_t start = reader_.offset();
    const Bytes json = reader_.ReadBytes(length, "the header");
    Add(start, "header", Cut(AsText(json)));
    AddSection(reader_.offset(), reader_.remaining(), "tensor data", "");
  }

  Bytes bytes_;
  ByteReader reader_;
  uint64_t limit_;
  std::vector<HeaderField> out_;
};

}  // namespace

std::vector<HeaderField> MapHeader(Bytes bytes, const std::string& file, uint64_t limit) { return Mapper(bytes, file, limit).Run(); }

}  // namespace apr
