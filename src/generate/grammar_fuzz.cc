// Fuzz target of grammars: the first byte chooses GBNF or JSON Schema; what can be read then runs over the bytes that
// it allows, and forgets its states now and then.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/error.h"
#include "base/json.h"
#include "generate/gbnf.h"
#include "generate/grammar_matcher.h"
#include "generate/json_schema.h"

namespace {

// Follows the lowest allowed byte at or behind one that the input chooses.
void Walk(const apr::Grammar& grammar, std::string_view choices) {
  apr::GrammarMatcher matcher(std::make_shared<const apr::Grammar>(grammar));
  auto state = matcher.start();
  for (const char c : choices.substr(0, std::min<size_t>(choices.size(), 64))) {
    if (!matcher.Continues(state)) return;
    auto next = apr::GrammarMatcher::kDead;
    for (int i = 0; i < 256 && next == apr::GrammarMatcher::kDead; ++i) {
      next = matcher.Step(state, static_cast<uint8_t>(static_cast<uint8_t>(c) + i));
    }
    if (next == apr::GrammarMatcher::kDead) return;  // nested too deeply
    const bool accepts = matcher.Accepts(next);
    state = static_cast<uint8_t>(c) % 16 == 0 ? matcher.Compact(next) : next;
    APR_CHECK(matcher.Accepts(state) == accepts);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const bool gbnf = data[0] % 2 == 0;
    Walk(gbnf ? apr::ParseGbnf(text, "input") : apr::GrammarOfJsonSchema(apr::ParseJson(text, "input"), "input"), text);
  } catch (const apr::Error&) {
  }
  return 0;
}
