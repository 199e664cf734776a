// SHA-256 (FIPS 180-4), fed in pieces.
#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"

namespace apr {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Add(Bytes bytes);
  // 64 hexadecimal digits, lower case. Ends the sum.
  std::string Hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Of a whole file. Throws as MappedFile::Open does.
std::string Sha256OfFile(const std::string& path);

}  // namespace apr
