// Fuzz target: any bytes as a template, rendered with a fixed conversation under small limits.
// Parsing or rendering may refuse with an Error; anything else is a fault.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/json.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const apr::Json messages = apr::Json::parse(
      R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Grüße <b>\n"},)"
      R"({"role":"assistant","content":"x","tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,true]}}}]}])");
  static const apr::Json tools = apr::Json::parse(
      R"([{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}])");
  static const apr::Json variables = apr::Json::parse(
      R"({"bos_token":"<s>","eos_token":"</s>","n":3,"f":0.5,"s":"a,b c","l":[3,1,2],"d":{"k":"v","a":[]}})");
  apr::TemplateLimits limits;
  limits.steps = 100'000;
  limits.memory_bytes = 4u << 20;
  limits.output_bytes = 1u << 20;
  limits.stack_bytes = 1u << 20;
  try {
    const auto parsed =
        apr::ChatTemplate::Parse({reinterpret_cast<const char*>(data), size}, "fuzz", limits);
    apr::TemplateInput input;
    input.messages = &messages;
    input.tools = &tools;
    input.variables = &variables;
    input.now = "2025-03-04T05:06:07";
    static_cast<void>(parsed.Render(input));
  } catch (const apr::TemplateError&) {
    // The one way to refuse.
  }
  return 0;
}
