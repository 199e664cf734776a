// Fuzz target of packed weights: a length of two bytes, a config.json of that length, and a safetensors file. Every weight that
// is found is decoded at both ends.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "format/fuzz_support.h"
#include "format/model_file.h"
#include "format/packed_weights.h"

namespace apr {
namespace {

constexpr size_t kHead = 2;

size_t ConfigBytes(const uint8_t* data, size_t size) { return size < kHead ? 0 : std::min<size_t>(LoadLe<uint16_t>(data), size - kHead); }

void DecodeEnds(const PackedWeight& weight) {
  const int64_t rows = weight.shape.rows(), cols = weight.shape.cols();
  if (rows < 1 || cols < 1) return;
  std::vector<float> row(static_cast<size_t>(cols));
  for (const int64_t at : {int64_t{0}, rows - 1}) {
    weight.DecodeRows(at, 1, row);
    if (weight.dtype() == DType::kF32) weight.DecodeRows(at, 1, row, PackedRead::kSteps);
  }
}

void Unpack(Bytes config, Bytes weights) {
  const auto json = std::make_shared<const Json>(ParseJson(AsText(config), "config.json"));
  const auto plain = ModelFile::FromMapped(MappedFile::Borrowed("fuzz.safetensors", weights));
  ModelFileParts parts{.container = plain->container(), .path = plain->path(), .format_version = plain->format_version(), .files = plain->files(),
                       .tensors = {plain->tensors().begin(), plain->tensors().end()}, .metadata = {}, .config = json};
  const auto file = std::make_shared<const ModelFile>(std::move(parts));
  for (const PackedWeight& weight : FindPackedWeights(*file)) DecodeEnds(weight);
  UnpackWeights(file);
}

}  // namespace
}  // namespace apr

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const size_t config = apr::ConfigBytes(data, size);
  if (size < apr::kHead) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  try {
    apr::Unpack({bytes + apr::kHead, config}, {bytes + apr::kHead + config, size - apr::kHead - config});
  } catch (const apr::Error& error) {
    if (error.code() == apr::ErrorCode::kInternal || error.context().file.empty()) std::abort();
  }
  return 0;
}

#ifdef APR_LIBFUZZER
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  apr::FuzzRandom random(seed);
  if (size < 64 || max_size < 512 || random.Below(8) == 0) return LLVMFuzzerMutate(data, size, max_size);
  const size_t config = apr::ConfigBytes(data, size), begin = apr::kHead + config;
  if (random.Below(4) != 0) return begin + apr::MutateSafetensors(data + begin, size - begin, max_size - begin, seed);
  std::string text(reinterpret_cast<char*>(data) + apr::kHead, config);
  const std::string rest(reinterpret_cast<char*>(data) + begin, size - begin);
  const size_t room = std::min<size_t>({config + 64, 65535, max_size - apr::kHead - rest.size()});
  text.resize(room);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), std::min(config, room), room));
  apr::StoreLe<uint16_t>(data, static_cast<uint16_t>(text.size()));
  std::memcpy(data + apr::kHead, text.data(), text.size());
  std::memcpy(data + apr::kHead + text.size(), rest.data(), rest.size());
  return apr::kHead + text.size() + rest.size();
}
#endif
