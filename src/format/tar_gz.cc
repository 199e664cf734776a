// See tar_gz.h.
#include "format/tar_gz.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBlock = 512;
constexpr size_t kPiece = size_t{1} << 16;
constexpr uint64_t kMaxFile = (uint64_t{1} << 33) - 1;  // eleven octal digits

using Header = std::array<char, kBlock>;

void PutOctal(char* field, size_t width, uint64_t value) {
  for (size_t i = width - 1; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7));
  field[width - 1] = '\0';
}

// nullopt: not octal digits.
std::optional<uint64_t> Octal(const char* field, size_t width) {
  uint64_t value = 0;
  bool any = false;
  for (size_t i = 0; i < width && field[i] != '\0' && field[i] != ' '; ++i) {
    if (field[i] < '0' || field[i] > '7') return std::nullopt;
    value = value * 8 + static_cast<uint64_t>(field[i] - '0');
    any = true;
  }
  return any ? std::optional(value) : std::nullopt;
}

uint64_t Checksum(const Header& header) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? uint64_t{' '} : static_cast<unsigned char>(header[i]);
  return sum;
}

Header MakeHeader(const std::string& name, uint64_t size) {
  Header header{};
  std::string prefix, rest = name;
  if (rest.size() > 100) {
    const size_t slash = name.rfind('/', 155);
    if (slash == std::string::npos || name.size() - slash - 1 > 100) throw Error(ErrorCode::kValidationFailed, "a name too long for tar", {.file = name});
    prefix = name.substr(0, slash);
    rest = name.substr(slash + 1);
  }
  if (size > kMaxFile) throw Error(ErrorCode::kValidationFailed, "a file of 8 GiB or more does not fit tar", {.file = name});
  std::ranges::copy(rest, header.begin());
  PutOctal(&header[100], 8, 0644);
  PutOctal(&header[108], 8, 0);
  PutOctal(&header[116], 8, 0);
  PutOctal(&header[124], 12, size);
  PutOctal(&header[136], 12, 0);  // no times: the same files give the same archive
  header[156] = '0';
  std::memcpy(&header[257], "ustar\00000", 8);
  std::ranges::copy(prefix, header.begin() + 345);
  PutOctal(&header[148], 7, Checksum(header));
  header[155] = ' ';
  return header;
}

bool SafeName(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.back() == '/' || name.find('\0') != std::string::npos) return false;
  for (size_t from = 0; from <= name.size();) {
    const size_t slash = std::min(name.find('/', from), name.size());
    const std::string part = name.substr(from, slash - from);
    if (part.empty() || part == "." || part == "..") return false;
    from = slash + 1;
  }
  return true;
}

class Inflater {
 public:
  explicit Inflater(const std::string& path) : file_(MappedFile::Open(path)), path_(path) {
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw Error(ErrorCode::kInternal, "zlib cannot start");
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(file_->bytes().data()));
    left_ = file_->bytes().size();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  uint64_t offset() const { return offset_; }
  [[noreturn]] void Fail(const std::string& what) const { throw Error(ErrorCode::kInvalidFormat, what, {.file = path_, .offset = offset_}); }

  // All of `out`, or an error.
  void Read(std::span<char> out) {
    size_t done = 0;
    while (done < out.size()) {
      if (ended_) Fail("the archive ends in the middle");
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + done);
      stream_.avail_out = static_cast<uInt>(std::min<size_t>(out.size() - done, kPiece));
      const uInt room = stream_.avail_out;
      if (stream_.avail_in == 0) {
        stream_.avail_in = static_cast<uInt>(std::min<uint64_t>(left_, kPiece));
        left_ -= stream_.avail_in;
      }
      const int result = inflate(&stream_, Z_NO_FLUSH);
      done += room - stream_.avail_out;
      offset_ += room - stream_.avail_out;
      if (result == Z_STREAM_END) ended_ = true;
      else if (result != Z_OK) Fail("the compressed data are damaged or cut off");
    }
  }

  // The rest must be zeros, so that the checksum at the end is seen.
  void ReadToEnd() {
    std::vector<char> piece(kBlock);
    while (!ended_) {
      stream_.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream_.avail_out = static_cast<uInt>(piece.size());
      if (stream_.avail_in == 0) {
        stream_.avail_in = static_cast<uInt>(std::min<uint64_t>(left_, kPiece));
        left_ -= stream_.avail_in;
      }
      const int result = inflate(&stream_, Z_NO_FLUSH);
      const size_t got = piece.size() - stream_.avail_out;
      if (std::any_of(piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(got), [](char c) { return c != 0; })) Fail("bytes after the end of the archive");
      offset_ += got;
      if (result == Z_STREAM_END) return;
      if (result != Z_OK) Fail("the compressed data are damaged or cut off");
    }
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::string path_;
  z_stream stream_{};
  uint64_t left_ = 0, offset_ = 0;
  bool ended_ = false;
};

std::string FieldText(const char* field, size_t width) { return std::string(field, strnlen(field, width)); }

void UnpackOne(Inflater& in, const Header& header, const std::string& folder, std::set<std::string>& seen, uint64_t& left) {
  const auto sum = Octal(&header[148], 8);
  if (!sum || *sum != Checksum(header)) in.Fail("a header with a wrong checksum");
  if (header[156] != '0' && header[156] != '\0') in.Fail("an entry that is no regular file");
  const std::string prefix = std::memcmp(&header[257], "ustar", 5) == 0 ? FieldText(&header[345], 155) : "";
  const std::string name = (prefix.empty() ? "" : prefix + "/") + FieldText(&header[0], 100);
  if (!SafeName(name)) in.Fail(fmt::format("a name that leaves the folder: '{}'", name));
  if (!seen.insert(name).second) in.Fail(fmt::format("the name '{}' comes twice", name));
  const auto size = Octal(&header[124], 12);
  if (!size || *size > left) in.Fail(fmt::format("'{}' is larger than an archive may be", name));
  left -= *size;
  const fs::path target = fs::path(folder) / name;
  std::error_code failed;
  fs::create_directories(target.parent_path(), failed);
  if (failed) throw Error(ErrorCode::kIo, failed.message(), {.file = target.string()});
  OutputFile out(target.string(), Overwrite::kRefuse);
  std::vector<char> piece(kPiece);
  for (uint64_t done = 0; done < *size;) {
    const auto take = static_cast<size_t>(std::min<uint64_t>(*size - done, piece.size()));
    in.Read({piece.data(), take});
    out.Write(std::string_view(piece.data(), take));
    done += take;
  }
  if (*size % kBlock != 0) in.Read({piece.data(), kBlock - static_cast<size_t>(*size % kBlock)});
  out.Commit();
}

}  // namespace

struct TarGzWriter::Impl {
  OutputFile file;
  z_stream stream{};
  std::vector<unsigned char> packed = std::vector<unsigned char>(kPiece);

  Impl(const std::string& path, Overwrite overwrite) : file(path, overwrite) {
    if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) throw Error(ErrorCode::kInternal, "zlib cannot start");
  }
  ~Impl() { deflateEnd(&stream); }

  void Write(Bytes bytes, int flush = Z_NO_FLUSH) {
    do {
      const size_t take = std::min(bytes.size(), kPiece);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
      stream.avail_in = static_cast<uInt>(take);
      bytes = bytes.subspan(take);
      do {
        stream.next_out = packed.data();
        stream.avail_out = static_cast<uInt>(packed.size());
        deflate(&stream, bytes.empty() ? flush : Z_NO_FLUSH);
        file.Write(std::string_view(reinterpret_cast<const char*>(packed.data()), packed.size() - stream.avail_out));
      } while (stream.avail_out == 0);
    } while (!bytes.empty());
  }

  void Entry(const std::string& name, Bytes bytes) {
    if (!SafeName(name)) throw Error(ErrorCode::kValidationFailed, "a name that an archive may not hold", {.file = name});
    const Header header = MakeHeader(name, bytes.size());
    Write(AsBytes(std::string_view(header.data(), header.size())));
    Write(bytes);
    static constexpr std::byte kZeros[kBlock] = {};
    if (bytes.size() % kBlock != 0) Write(Bytes(kZeros, kBlock - bytes.size() % kBlock));
  }
};

TarGzWriter::TarGzWriter(const std::string& path, Overwrite overwrite) : impl_(std::make_unique<Impl>(path, overwrite)) {}
TarGzWriter::~TarGzWriter() = default;

void TarGzWriter::Add(const std::string& name, std::string_view text) { impl_->Entry(name, AsBytes(text)); }

void TarGzWriter::AddFile(const std::string& name, const std::string& path) { impl_->Entry(name, MappedFile::Open(path)->bytes()); }

void TarGzWriter::Finish() {
  static constexpr std::byte kEnd[2 * kBlock] = {};
  impl_->Write(Bytes(kEnd, sizeof kEnd), Z_FINISH);
  impl_->file.Commit();
}

bool LooksLikeGzip(const std::string& path) {
  std::error_code failed;
  if (!fs::is_regular_file(path, failed) || fs::file_size(path, failed) < 2) return false;
  const auto file = MappedFile::Open(path);
  const Bytes bytes = file->bytes().first(2);
  return bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
}

void UnpackTarGz(const std::string& path, const std::string& folder, const TarLimits& limits) {
  Inflater in(path);
  std::set<std::string> seen;
  uint64_t left = limits.total_bytes;
  while (true) {
    Header header;
    in.Read(header);
    if (std::ranges::all_of(header, [](char c) { return c == 0; })) break;
    if (seen.size() >= limits.files) in.Fail("more files than an archive may hold");
    UnpackOne(in, header, folder, seen, left);
  }
  in.ReadToEnd();
}

}  // namespace apr
