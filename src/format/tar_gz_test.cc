// tar.gz: what is written is read back, by tar(1) too; damage and hostile archives are refused.
#include "format/tar_gz.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

class TarGz : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string Read(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }
  static void Write(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
  void WriteGzip(const std::string& path, const std::string& bytes) const {
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
  }
  // The code of what UnpackTarGz throws; kInternal if it does not.
  ErrorCode Refusal(const std::string& path, const TarLimits& limits = {}) {
    const std::string out = Path("out-" + std::to_string(++unpacked_));
    try {
      UnpackTarGz(path, out, limits);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  }
  std::string Sample() {
    const std::string path = Path("sample.tar.gz");
    TarGzWriter writer(path, Overwrite::kAllow);
    writer.Add("a.txt", "hello\n");
    writer.Add("deep/er/b.bin", std::string(100000, 'x') + std::string(1, '\0') + "end");
    writer.Add("empty", "");
    writer.Add(std::string(120, 'p') + "/" + std::string(90, 'n'), "long name");
    writer.Finish();
    return path;
  }
  fs::path folder_ = fs::temp_directory_path() / ("apr-tar-" + std::to_string(getpid()));
  int unpacked_ = 0;
};

TEST_F(TarGz, ReadsBackWhatItWrote) {
  const std::string archive = Sample();
  EXPECT_TRUE(LooksLikeGzip(archive));
  UnpackTarGz(archive, Path("out"));
  EXPECT_EQ(Read(Path("out/a.txt")), "hello\n");
  EXPECT_EQ(Read(Path("out/deep/er/b.bin")).size(), 100004u);
  EXPECT_EQ(Read(Path("out/empty")), "");
  EXPECT_EQ(Read(Path("out/" + std::string(120, 'p') + "/" + std::string(90, 'n'))), "long name");
  const std::string first = Read(archive);
  EXPECT_EQ(Read(Sample()), first) << "the same files give the same bytes";
  fs::create_directories(Path("tar"));
  if (std::system(("tar --version > /dev/null 2>&1")) == 0) {
    EXPECT_EQ(std::system(("tar xzf " + archive + " -C " + Path("tar")).c_str()), 0);
    EXPECT_EQ(Read(Path("tar/deep/er/b.bin")), Read(Path("out/deep/er/b.bin")));
  }
}

TEST_F(TarGz, DamageIsRefused) {
  const std::string good = Read(Sample());
  const std::string path = Path("damaged.tar.gz");
  for (size_t size = 0; size + 1 < good.size(); size += 1 + good.size() / 97) {
    Write(path, good.substr(0, size));
    EXPECT_EQ(Refusal(path), ErrorCode::kInvalidFormat) << "cut off at " << size;
  }
  Write(path, good.substr(0, good.size() - 1));
  EXPECT_EQ(Refusal(path), ErrorCode::kInvalidFormat) << "without its last byte";
  std::string flipped = good;
  flipped[flipped.size() - 6] ^= 1;  // in the CRC
  Write(path, flipped);
  EXPECT_EQ(Refusal(path), ErrorCode::kInvalidFormat) << "a wrong checksum at the end";
  EXPECT_EQ(Refusal(Path("absent.tar.gz")), ErrorCode::kNotFound);
}

// A header with any name and type, its checksum right.
std::string Entry(const std::string& name, char type, const std::string& size_field, const std::string& data) {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  header.replace(124, size_field.size(), size_field);
  header[156] = type;
  header.replace(257, 5, "ustar");
  header.replace(148, 8, "        ");
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  char digits[16];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  header.replace(148, 7, std::string(digits) + '\0');
  std::string padded = data;
  padded.resize((data.size() + 511) / 512 * 512, '\0');
  return header + padded;
}
const std::string kEnd(1024, '\0');

TEST_F(TarGz, HostileArchivesAreRefused) {
  const std::string path = Path("hostile.tar.gz");
  const auto refused = [&](const std::string& bytes, const TarLimits& limits = {}) {
    WriteGzip(path, bytes);
    return Refusal(path, limits) == ErrorCode::kInvalidFormat;
  };
  EXPECT_FALSE(refused(Entry("fine", '0', "00000000004", "data") + kEnd));
  for (const char* name : {"/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/", ""}) EXPECT_TRUE(refused(Entry(name, '0', "00000000004", "data") + kEnd)) << name;
  for (const char type : {'1', '2', '3', '5', 'x', 'L'}) EXPECT_TRUE(refused(Entry("link", type, "00000000000", "") + kEnd)) << type;
  EXPECT_TRUE(refused(Entry("twice", '0', "00000000000", "") + Entry("twice", '0', "00000000000", "") + kEnd));
  EXPECT_TRUE(refused(Entry("big", '0', "77777777777", "") + kEnd)) << "more than there is";
  EXPECT_TRUE(refused(Entry("size", '0', "0000000000x", "") + kEnd));
  EXPECT_TRUE(refused(Entry("size", '0', "", "") + kEnd));
  EXPECT_TRUE(refused(Entry("a", '0', "00000000004", "data") + kEnd, {.total_bytes = 3}));
  EXPECT_TRUE(refused(Entry("a", '0', "00000000000", "") + Entry("b", '0', "00000000000", "") + kEnd, {.files = 1}));
  EXPECT_TRUE(refused(Entry("a", '0', "00000000000", "") + kEnd + "more")) << "bytes after the end";
  EXPECT_TRUE(refused(Entry("a", '0', "00000000000", "")));
  std::string wrong = Entry("a", '0', "00000000000", "") + kEnd;
  wrong[0] = 'b';
  EXPECT_TRUE(refused(wrong)) << "a checksum of another header";
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) EXPECT_NE(entry.path().filename(), "up");
}

TEST_F(TarGz, NamesThatTarCannotHold) {
  TarGzWriter writer(Path("names.tar.gz"), Overwrite::kAllow);
  for (const std::string& name : {std::string(300, 'x'), std::string(101, 'x'), std::string("../a"), std::string()}) EXPECT_THROW(writer.Add(name, ""), Error) << name;
}

}  // namespace
}  // namespace apr
