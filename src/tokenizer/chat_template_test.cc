// Published chat templates against what transformers renders, and hostile ones against the clock.
#include "tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/json.h"

namespace apr {
namespace {

namespace fs = std::filesystem;

const std::string kOracle = APR_SOURCE_DIR "/../shared/oracle/chat-template";
const std::string kTemplates = APR_SOURCE_DIR "/../shared/chat-templates";

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string TemplatePath(const std::string& stem) {
  const std::string beside = kOracle + "/" + stem + ".jinja";
  return fs::exists(beside) ? beside : kTemplates + "/" + stem + ".jinja";
}

std::vector<std::string> Stems() {
  std::vector<std::string> stems;
  if (!fs::exists(kOracle)) return stems;
  for (const auto& entry : fs::directory_iterator(kOracle)) {
    if (entry.path().extension() == ".json") stems.push_back(entry.path().stem());
  }
  std::sort(stems.begin(), stems.end());
  return stems;
}

// Empty when `got` is what `expected` asks for.
std::string Difference(const Json& expected, const Json& got) {
  if (expected.contains("rendered")) {
    if (!got.contains("rendered")) return "error instead of text: " + got.dump();
    if (got["rendered"] != expected["rendered"]) {
      return "expected " + expected["rendered"].dump() + "\ngot      " + got["rendered"].dump();
    }
    return {};
  }
  if (!got.contains("error")) return "text instead of error " + expected["error"].dump();
  if (expected["error_kind"] != got["error_kind"]) return "error kind: " + got.dump();
  if (expected["error_kind"] == "raise_exception" && expected["error"] != got["error"]) {
    return "message: " + got.dump() + " instead of " + expected["error"].dump();
  }
  return {};
}

TEST(ChatTemplate, RendersEveryOracleCase) {
  const std::vector<std::string> stems = Stems();
  if (stems.empty()) GTEST_SKIP() << "no " << kOracle;
  size_t rendered = 0;
  size_t refused = 0;
  size_t raw = 0;
  for (const std::string& stem : stems) {
    const ChatTemplate parsed = ChatTemplate::Parse(ReadText(TemplatePath(stem)), stem);
    Json cases = ParseJson(ReadText(kOracle + "/" + stem + ".json"), stem);
    const Json results = RenderCases(parsed, cases);
    ASSERT_EQ(results.size(), cases.size());
    for (size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(Difference(cases[i], results[i]), "") << stem << ": " << cases[i]["name"];
      (cases[i].contains("rendered") ? rendered : refused) += 1;
      if (!cases[i].contains("raw")) continue;
      ++raw;
      Json unprepared = cases[i];
      unprepared["prepare"] = false;
      EXPECT_EQ(Difference(cases[i]["raw"], RenderCases(parsed, Json::array({unprepared}))[0]), "")
          << stem << ", raw: " << cases[i]["name"];
    }
  }
  RecordProperty("rendered", static_cast<int>(rendered));
  RecordProperty("refused", static_cast<int>(refused));
  RecordProperty("raw", static_cast<int>(raw));
  EXPECT_GT(rendered, 0U);
  EXPECT_GT(refused, 0U);
}

TEST(ChatTemplate, TheComparisonSeesAPlantedFault) {
  const Json text{{"rendered", "a"}};
  const Json raised{{"error", "no"}, {"error_kind", "raise_exception"}};
  EXPECT_EQ(Difference(text, text), "");
  EXPECT_NE(Difference(text, Json{{"rendered", "a "}}), "");
  EXPECT_NE(Difference(text, raised), "");
  EXPECT_NE(Difference(raised, text), "");
  EXPECT_NE(Difference(raised, Json{{"error", "no"}, {"error_kind", "runtime"}}), "");
  EXPECT_NE(Difference(raised, Json{{"error", "No"}, {"error_kind", "raise_exception"}}), "");
}

TEST(ChatTemplate, PreparesMessagesAsTransformersDoes) {
  const auto prepare = [](const char* text) {
    return PrepareMessages(ParseJson(text, "test")).dump();
  };
  EXPECT_EQ(prepare(R"([{"role":"a","content":null,"x":[null]}])"), R"([{"role":"a","x":[null]}])");
  EXPECT_EQ(prepare(R"([{"role":"a","reasoning":"r"}])"),
            R"([{"thinking":"r","role":"a","reasoning":"r","reasoning_content":"r"}])");
  EXPECT_EQ(prepare(R"([{"thinking":"t","reasoning_content":"r"}])"),
            R"([{"thinking":"t","reasoning_content":"r"}])");
  EXPECT_EQ(prepare(R"([{"reasoning_content":null,"thinking":"t"}])"),
            R"([{"thinking":"t","reasoning_content":"t"}])");
  EXPECT_THROW(PrepareMessages(Json::array()), TemplateError);
  EXPECT_THROW(PrepareMessages(Json::array({1})), TemplateError);
  EXPECT_THROW(PrepareMessages(Json::object()), TemplateError);
}

TEST(ChatTemplate, ErrorsSayWhatAndWhere) {
  const auto fails = [](const char* source, TemplateErrorKind kind, const std::string& message,
                        uint32_t line) {
    try {
      ChatTemplate::Parse(source, "m.jinja").RenderPlain(Json::object());
      ADD_FAILURE() << "no error: " << source;
    } catch (const TemplateError& error) {
      EXPECT_EQ(error.kind(), kind) << source;
      EXPECT_EQ(error.message(), message) << source;
      EXPECT_EQ(error.line(), line) << source;
      EXPECT_EQ(error.context().file, "m.jinja:" + std::to_string(line)) << source;
    }
  };
  fails("a\n{{ raise_exception('Roles \"must\" alternate') }}", TemplateErrorKind::kRaised,
        "Roles \"must\" alternate", 2);
  fails("a\n\n{{ x.y }}", TemplateErrorKind::kRuntime, "'x' is undefined", 3);
  fails("{{ {}.a.b }}", TemplateErrorKind::kRuntime, "'dict object' has no attribute 'a'", 1);
  fails("{{ 'a' + [] }}", TemplateErrorKind::kRuntime,
        "TypeError: can only concatenate str (not \"list\") to str", 1);
  fails("\n{% if %}", TemplateErrorKind::kSyntax,
        "Expected an expression, got 'end of statement block'", 2);
  fails("{{ x | nosuch }}", TemplateErrorKind::kSyntax, "No filter named 'nosuch'.", 1);
  fails("{% if true %}\n{{ x | nosuch }}{% endif %}", TemplateErrorKind::kRuntime,
        "No filter named 'nosuch' found.", 2);
  fails("{% include 'x' %}", TemplateErrorKind::kSyntax,
        "the tag 'include' is not supported in chat templates", 1);
  fails("{% if false %}\n{{ {'a': 1, []: 1} }}{% endif %}", TemplateErrorKind::kSyntax, "TypeError: a key of a dict cannot be hashed", 2);
  fails("{% filter list %}a{% endfilter %}\n{{ 1 }}", TemplateErrorKind::kRuntime, "TypeError: expected str instance, list found", 2);
  fails("{% filter list %}a{% endfilter %}{{ raise_exception('b') }}", TemplateErrorKind::kRaised, "b", 1);
  fails("{{ [].append(1) }}", TemplateErrorKind::kRuntime,
        "access to attribute 'append' of 'list' object is unsafe.", 1);
}

// Every one of these must end with an error, soon.
const char* const kHostile[] = {
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor "
    "%}",
    "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor "
    "%}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor "
    "%}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor "
    "%}{{ ns.s }}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor "
    "%}{{ ns.s|tojson }}",
    "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    "{% set ns = namespace(a=(1,)) %}{% for i in range(99) %}{% set ns.a = (ns.a, ns.a) %}{% "
    "endfor %}{{ {ns.a: 1} }}",
    "{% set ns = namespace(s=[]) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}",
    "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
    "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
    "{% for x in [1, 2] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "{{ 'x' * 10**12 }}",
    "{{ [1] * 10**12 }}",
    "{{ 'x'.center(10**12) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:.1000000000f}'.format(1.5) }}",
    "{{ 1.5|round(10**18) ~ ('x'|indent(10**12)) }}",
    "{{ 'a\tb'.expandtabs(10**12) }}",
    "{{ 'a'.zfill(10**12) }}",
    "{{ [1]|tojson(indent=10**12) }}",
    "{{ 2 ** (10 ** 9) }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ [1]|batch(10**12, 0)|list }}",
    "{{ [1]|slice(10**12)|list }}",
    "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "{{ ('b' * 100000).join('a' * 100000) }}",
    "{% set ns = namespace(g=[1]) %}{% for i in range(99999) %}{% set ns.g = ns.g|map('string') "
    "%}{% endfor %}{{ ns.g|list }}",
    "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, "
    "**{i|string: 1}) %}{% endfor %}",
    "{{ {}.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ range.__globals__.os }}",
    "{{ dict.__init__.__globals__.os }}",
};

// Processor time of this process, so that a busy machine does not fail the test.
double Seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kAllowed = 30;  // seconds
#else
constexpr double kAllowed = 1;
#endif

TEST(ChatTemplate, HostileTemplatesEndInAnErrorWithinASecond) {
  for (const char* source : kHostile) {
    const double start = Seconds();
    EXPECT_THROW(ChatTemplate::Parse(source).RenderPlain(Json::object()), TemplateError) << source;
    EXPECT_LT(Seconds() - start, kAllowed) << source;
  }
}

std::string Repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(ChatTemplate, DeeplyNestedTextsAreRefusedNotFollowed) {
  constexpr size_t kDeep = 100000;
  const std::string sources[] = {
      "{{ " + Repeat("(", kDeep) + "1" + Repeat(")", kDeep) + " }}",
      "{{ " + Repeat("[", kDeep) + Repeat("]", kDeep) + " }}",
      "{{ " + Repeat("{1:", kDeep) + "1" + Repeat("}", kDeep) + " }}",
      "{{ " + Repeat("not ", kDeep) + "1 }}",
      "{{ " + Repeat("-", kDeep) + "1 }}",
      "{{ 1" + Repeat(" + 1", kDeep) + " }}",
      "{{ 1" + Repeat(" if 1 else 1", kDeep) + " }}",
      "{{ x" + Repeat(".x", kDeep) + " }}",
      "{{ x" + Repeat("[x", kDeep) + Repeat("]", kDeep) + " }}",
      "{{ x" + Repeat("|list", kDeep) + " }}",
      "{{ x" + Repeat("(x", kDeep) + Repeat(")", kDeep) + " }}",
      Repeat("{% if 1 %}", kDeep) + Repeat("{% endif %}", kDeep),
      Repeat("{% for x in [1] %}", kDeep) + Repeat("{% endfor %}", kDeep),
      Repeat("{% macro m() %}", kDeep) + Repeat("{% endmacro %}", kDeep),
      "{% set " + Repeat("(", kDeep) + "a" + Repeat(")", kDeep) + " = 1 %}",
  };
  for (const std::string& source : sources) {
    const double start = Seconds();
    EXPECT_THROW(ChatTemplate::Parse(source), TemplateError) << source.substr(0, 40);
    EXPECT_LT(Seconds() - start, 5 * kAllowed) << source.substr(0, 40);
  }
}

TEST(ChatTemplate, OneTemplateRendersOnSeveralThreads) {
  const ChatTemplate parsed =
      ChatTemplate::Parse("{% for i in range(200) %}{{ 'text' ~ i|string|upper }}{% endfor %}");
  const std::string expected = parsed.RenderPlain(Json::object());
  std::vector<std::string> got(4);
  std::vector<std::thread> threads;
  for (std::string& text : got) {
    threads.emplace_back([&parsed, &text] {
      for (int i = 0; i < 20; ++i) text = parsed.RenderPlain(Json::object());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : got) EXPECT_EQ(text, expected);
}

TEST(ChatTemplate, AChatOfFiftyMessagesTakesLittleTime) {
  const std::vector<std::string> stems = Stems();
  if (stems.empty()) GTEST_SKIP() << "no " << kOracle;
  Json messages = Json::array({{{"role", "system"}, {"content", "You are a helpful assistant."}}});
  while (messages.size() < 49) {
    messages.push_back(
        {{"role", "user"}, {"content", "How do I sort a list in Python? " + Repeat("word ", 40)}});
    messages.push_back(
        {{"role", "assistant"}, {"content", "Use sorted(). " + Repeat("text ", 60)}});
  }
  messages.push_back({{"role", "user"}, {"content", "Thank you."}});
  const Json extra{{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  TemplateInput input;
  input.messages = &messages;
  input.variables = &extra;
  double slowest = 0;
  for (const std::string& stem : stems) {
    const ChatTemplate parsed = ChatTemplate::Parse(ReadText(TemplatePath(stem)), stem);
    double best = 1e9;
    for (int i = 0; i < 10; ++i) {
      const auto start = std::chrono::steady_clock::now();  // best of many: also on a busy machine
      try {
        parsed.Render(input);
      } catch (const TemplateError&) {
        best = 0;  // a template that wants a date or refuses a system message
      }
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - start;
      best = std::min(best, took.count());
    }
    if (best > slowest) {
      slowest = best;
      RecordProperty("slowest", stem + " " + std::to_string(best) + " ms");
    }
  }
  EXPECT_GT(slowest, 0.0);
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(slowest, 1.0);
#endif
}

}  // namespace
}  // namespace apr
