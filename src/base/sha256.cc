// See sha256.h.
#include "base/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/mapped_file.h"

namespace apr {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  APR_CHECK(state_->context != nullptr && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}
Sha256::~Sha256() = default;

void Sha256::Add(Bytes bytes) { APR_CHECK(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1); }

std::string Sha256::Hex() {
  std::array<unsigned char, 32> digest{};
  APR_CHECK(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr) == 1);
  std::string out;
  for (const unsigned char byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

std::string Sha256OfFile(const std::string& path) {
  constexpr size_t kPiece = 4 << 20;
  const auto file = MappedFile::Open(path);
  Sha256 sum;
  for (size_t at = 0; at < file->size(); at += kPiece) {
    sum.Add(file->bytes().subspan(at, std::min<size_t>(kPiece, file->size() - at)));
    file->DontNeed(0, at);  // what was read need not stay
  }
  return sum.Hex();
}

}  // namespace apr
