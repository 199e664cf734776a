// The token ids that a bisection runs: the user's, those that a captured run declares, and a fixed set for
// two models, so that a difference that the user's ids cannot show is still found.
#include <algorithm>

#include "base/json.h"
#include "compare/bisect/bisection.h"
#include "generate/chat_prompt.h"

namespace apr::bisect {
namespace {

constexpr size_t kShort = 12;
constexpr int64_t kLongest = 640;  // tokens of the long probe at most

// Ids spread over the vocabulary, the same on every machine: a linear congruential generator (Knuth,
// The Art of Computer Programming 2, 3.3.4).
std::vector<int32_t> SpreadIds(int64_t vocabulary, size_t count) {
  std::vector<int32_t> out;
  uint64_t state = 88172645463325252ULL;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    out.push_back(static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(std::max<int64_t>(vocabulary, 1))));
  }
  return out;
}

// One token beyond every window and beyond the context that a rope scaling starts from.
int64_t LongLength(const ModelConfig& config) {
  int64_t length = 64;
  for (const LayerSpec& layer : config.layers) length = std::max(length, layer.window + 2);
  for (const RopeSpec& rope : config.ropes) {
    if (rope.table.scaling != "none") length = std::max(length, static_cast<int64_t>(rope.table.original_context) + 2);
  }
  if (config.learned_positions) length = std::min(length, config.max_positions);
  return std::min(length, kLongest);
}

std::vector<int32_t> IdsOf(const StageManifest& manifest) { return {manifest.ids.begin(), manifest.ids.end()}; }

}  // namespace

std::vector<Probe> ChooseProbes(Bisection& b) {
  std::vector<Probe> out;
  const Options& o = b.options;
  std::vector<int32_t> given = o.ids;
  const Side& with_tokenizer = b.a.tokenizer != nullptr ? b.a : b.b;
  if (given.empty() && with_tokenizer.tokenizer != nullptr && !o.text.empty()) {
    given = PlainPrompt(*with_tokenizer.tokenizer, o.text).ids;
  }
  if (given.empty() && with_tokenizer.tokenizer != nullptr && with_tokenizer.is_model() && !o.messages.empty()) {
    const auto file = MappedFile::Open(o.messages);
    const std::string_view text(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
    given = ChatPrompt(*with_tokenizer.file, *with_tokenizer.tokenizer, ParseJson(text, o.messages)).ids;
  }
  if (!given.empty()) out.push_back({"given", given});
  for (const Side* side : {&b.a, &b.b}) {
    if (!side->stages) continue;
    if (out.empty() && !side->stages->manifest().ids.empty()) out.push_back({"captured", IdsOf(side->stages->manifest())});
    if (side == &b.b || !out.empty()) return out;
  }
  if (b.a.architecture == nullptr) return out;
  const int64_t vocabulary = b.b.architecture != nullptr ? std::min(b.a.config.vocab_size, b.b.config.vocab_size) : b.a.config.vocab_size;
  const int64_t length = std::max(LongLength(b.a.config), b.b.architecture != nullptr ? LongLength(b.b.config) : 0);
  const std::vector<int32_t> ids = SpreadIds(vocabulary, static_cast<size_t>(length));
  out.push_back({"single", {ids[0]}});
  out.push_back({"short", {ids.begin(), ids.begin() + std::min<int64_t>(kShort, length)}});
  out.push_back({"long", ids});
  return out;
}

}  // namespace apr::bisect
