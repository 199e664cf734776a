// The C++ side of differential.py: reads one JSON object {"template", "variables", "now"} a line
// from standard input and answers each with {"rendered"} or {"error", "error_kind", "line"}.
#include <iostream>
#include <string>

#include "base/json.h"
#include "tokenizer/chat_template.h"

int main() {
  using apr::Json;
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    Json answer;
    try {
      const Json request = apr::ParseJson(line, "standard input");
      const auto parsed = apr::ChatTemplate::Parse(request.at("template").get<std::string>());
      answer["rendered"] = parsed.RenderPlain(request.at("variables"), request.value("now", ""));
    } catch (const apr::TemplateError& error) {
      answer = {{"error", error.message()},
                {"error_kind", apr::TemplateErrorKindName(error.kind())},
                {"limit", error.kind() == apr::TemplateErrorKind::kLimit},
                {"line", error.line()}};
    } catch (const std::exception& error) {
      answer = {{"error", error.what()}, {"error_kind", "request"}};
    }
    std::cout << apr::DumpJson(answer, -1) << '\n' << std::flush;
  }
  return 0;
}
