// The template language case by case: expected texts are jinja2's in transformers' environment.
#include <gtest/gtest.h>

#include <string>

#include "base/json.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja_time.h"

namespace apr {
namespace {

const char* const kVariables =
    R"({"s":"a b,c","n":3,"f":0.5,"l":[3,1,2],"d":{"k":"v","items":1},"x":"given",)"
    R"("ms":[{"role":"user","n":1},{"role":"bot","n":2},{"role":"user","n":3}],"big":18446744073709551615})";

std::string Render(const std::string& source) {
  try {
    return ChatTemplate::Parse(source).RenderPlain(ParseJson(kVariables, "test"),
                                                   "2025-03-04T05:06:07");
  } catch (const TemplateError& error) {
    return "error: " + error.message();
  }
}

struct Case {
  const char* source;
  const char* expected;
};

void Check(std::initializer_list<Case> cases) {
  for (const Case& c : cases) EXPECT_EQ(Render(c.source), c.expected) << c.source;
}

TEST(JinjaLanguage, WhiteSpaceControl) {
  Check({{"a\n", "a"},
         {"a\n\n", "a\n"},
         {"  {% if true %}\n  x\n  {% endif %}\ny", "  x\ny"},
         {"a  {%- if true -%}  b  {%- endif +%}\n c", "ab\n c"},
         {"  {%+ if true %}x{% endif %}", "  x"},
         {"a {{- 1 -}} b", "a1b"},
         {"  {{ 1 }}\n", "  1"},
         {"a {#- c -#} b", "ab"},
         {"{# c #}\nb", "b"},
         {"{% raw %} {{ x }} {% endraw %}", " {{ x }} "},
         {"a\r\nb\rc", "a\nb\nc"},
         {"{{ '%}' }}{% set y = '}}' %}{{ y }}", "%}}}"}});
}

TEST(JinjaLanguage, LengthsAreInCodePoints) {
  Check({{"{{ ('a\u00e9\u20ac\U0001f600' * 3000)|length }}", "12000"},  // 30000 bytes: every lane runs full
         {"{{ ('\U0001f600' * 511)|length }} {{ 'x\u20ac'|length }} {{ ''|length }}", "511 2 0"}});
}

TEST(JinjaLanguage, Scopes) {
  Check({{"{% set y = 1 %}{% for i in l %}{{ y }}{% set y = i %}{{ y }} {% endfor %}{{ y }}",
          "13 11 12 1"},
         {"{% if true %}{% set y = 2 %}{% endif %}{{ y }}", "2"},
         {"{% for i in [1] %}{{ x }}{% endfor %}{% set x = 5 %}{{ x }}", "5"},
         {"{{ x }}{% set x = 5 %}{{ x }}", "given5"},
         {"{% macro m() %}{{ y }}{% endmacro %}{% set y = 1 %}{{ m() }}{% set y = 2 %}{{ m() }}",
          "12"},
         {"{% set ns = namespace(i=0) %}{% for j in l %}{% set ns.i = ns.i + j %}{% endfor %}{{ "
          "ns.i }}",
          "6"},
         {"{% with y = 1, z = y %}{{ y }}{{ z }}{% endwith %}{{ y }}", "1"},
         {"{% set d.k = 1 %}", "error: cannot assign attribute on non-namespace object"},
         {"{% set ns = namespace() %}{% set ns._a = 1 %}",
          "error: Chat templates cannot store underscore-prefixed attributes on a namespace, but "
          "got '_a'"}});
}

TEST(JinjaLanguage, Loops) {
  Check(
      {{"{% for a, b in [(1, 2), (3, 4)] %}{{ loop.index }}:{{ a }}{{ b }}{{ ',' if not loop.last "
        "}}{% endfor %}",
        "1:12,2:34"},
       {"{% for i in l if i > 1 %}{{ loop.length }}{{ i }}{% else %}none{% endfor %}", "2322"},
       {"{% for i in [] %}x{% else %}none{% endfor %}", "none"},
       {"{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "3"},
       {"{% for i in l %}{% continue %}{% else %}e{% endfor %}", "e"},
       {"{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is not number else x }}{% endfor %}",
        "123"},
       {"{% for i in l %}{{ loop.previtem|default('-') }}{{ loop.nextitem|default('-') }}{% endfor "
        "%}",
        "-1321-"},
       {"{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "TrueaFalsebTruea"},
       {"{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "k=v;items=1;"},
       {"{% break %}", "error: 'break' outside loop"}});
}

TEST(JinjaLanguage, MacrosAndCallBlocks) {
  Check({{"{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 3, 4, "
          "c=5) }}",
          "13(4,){'c': 5}"},
         {"{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}", "False"},
         {"{% macro m() %}[{{ caller(1) }}]{% endmacro %}{% call(x) m() %}{{ x }}{% endcall %}",
          "[1]"},
         {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
          "error: TypeError: macro 'm' takes not more than 1 argument(s)"},
         {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
          "error: TypeError: macro 'm' takes no keyword argument 'b'"},
         {"{% filter upper %}a{{ s }}{% endfilter %}", "AA B,C"},
         {"{% set y %}a{{ n }}{% endset %}{{ y }}", "a3"},
         {"{% set y | upper %}a{% endset %}{{ y }}", "A"},
         {"{% generation %}a{{ n }}{% endgeneration %}", "a3"}});
}

TEST(JinjaLanguage, ValuesPrintAsInPython) {
  Check(
      {{"{{ [1, 'a', none, true, 1.0, {'k': (1,)}] }}", "[1, 'a', None, True, 1.0, {'k': (1,)}]"},
       {"{{ 'it\\'s' }} {{ ['it\\'s', '\\n\\x00\\u200b'] }}", "it's [\"it's\", '\\n\\x00\\u200b']"},
       {"{{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 1e15 }} {{ -0.0 }}",
        "1e+16 1e-05 0.30000000000000004 1000000000000000.0 -0.0"},
       {"{{ big }} {{ big + 1 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** -1 }}",
        "18446744073709551615 18446744073709551616 -4 2 3.5 0.5"},
       {"{{ 2 ** 200 }}", "error: OverflowError: integer beyond 128 bits"},
       {"{{ 1 / 0 }}", "error: ZeroDivisionError: division by zero"},
       {"{{ nope }}|{{ nope|default('d') }}|{{ nope is defined }}", "|d|False"},
       {"{{ d.items() }} {{ range(3) }} {{ l|map('string') is iterable }}",
        "dict_items([('k', 'v'), ('items', 1)]) range(0, 3) True"},
       {"{{ 1 == 1.0 == true }} {{ 'a' < 'b' <= 'b' }} {{ 1 in l }} {{ 'k' in d }}",
        "True True True True"}});
}

TEST(JinjaLanguage, TextOperations) {
  Check(
      {{"{{ 'Straße ǆ'.upper() }} {{ 'ΑΣ Σ'.lower() }} {{ 'ß'.casefold() }}", "STRASSE Ǆ ας σ ss"},
       {"{{ ' a  b '.split() }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split() }}",
        "['a', 'b'] ['a,b', 'c'] []"},
       {"{{ 'äöü'[1] }}{{ 'äöü'[::-1] }}{{ 'abc'[-2:] }} {{ 'äöü'|length }}", "öüöäbc 3"},
       {"{{ '%s-%05.1f-%x' % ('a', 2.25, 255) }} {{ '%(k)s' % d }}", "a-002.2-ff v"},
       {"{{ '%d%%' % 5 }} {{ '%%%(k)s%%' % d }}", "5% %v%"},
       {"{% for x, y in [[1, 2], [3, 4]] if y %}{{ loop.previtem }}{{ x }}{% endfor %}", "1(1, 2)3"},
       {"{{ '{:>5}|{!r}|{k:,}'.format('a', 'b', k=12345) }}", "    a|'b'|12,345"},
       {"{{ '<b>'|e }} {{ '<b>'|safe + '<i>' }}", "&lt;b&gt; <b>&lt;i&gt;"},
       {"{{ 'a\nb'|indent(2) }}", "a\n  b"},
       {"{{ 'x' * 3 ~ 1 }}", "xxx1"}});
}

TEST(JinjaLanguage, Filters) {
  Check(
      {{"{{ l|sort }} {{ l|sort(reverse=true)|join('-') }} {{ l|sum }} {{ l|min }} {{ l|max }}",
        "[1, 2, 3] 3-2-1 6 1 3"},
       {"{{ ms|map(attribute='n')|list }} {{ ms|selectattr('role', 'equalto', "
        "'bot')|map(attribute='n')|first }}",
        "[1, 2, 3] 2"},
       {"{% for g in ms|groupby('role') %}{{ g.grouper }}{{ g.list|length }} {% endfor %}",
        "bot1 user2 "},
       {"{{ l|select('odd')|list }} {{ l|reject('gt', 1)|list }} {{ [1, 1, 'A', 'a']|unique|list "
        "}}",
        "[3, 1] [1] [1, 'A']"},
       {"{{ l|batch(2, 0)|list }} {{ l|slice(2)|list }}", "[[3, 1], [2, 0]] [[3, 1], [2]]"},
       {"{{ d|dictsort }} {{ d|items|list }}",
        "[('items', 1), ('k', 'v')] [('k', 'v'), ('items', 1)]"},
       {"{{ 2.5|round }} {{ 2.675|round(2) }} {{ 1234|round(-2) }} {{ 1.1|round(0, 'ceil') }}",
        "2.0 2.67 1200 2.0"},
       {"{{ '12'|int + 1 }} {{ '1.9'|int }} {{ 'x'|int(7) }} {{ '0x1F'|int(base=16) }} {{ "
        "'1.5'|float }}",
        "13 1 7 31 1.5"},
       {"{{ {'b': [1, {}], 'a': 'é\"'}|tojson }}", "{\"b\": [1, {}], \"a\": \"é\\\"\"}"},
       {"{{ {'b': [1, []]}|tojson(indent=1) }}", "{\n \"b\": [\n  1,\n  []\n ]\n}"},
       {"{{ {'b': 'é', 'a': 1}|tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}",
        "{\"a\":1,\"b\":\"\\u00e9\"}"},
       {"{{ l|pprint }}", "error: the filter 'pprint' is not supported"}});
}

TEST(JinjaLanguage, ASandbox) {
  Check({{"{{ l.append(1) }}", "error: access to attribute 'append' of 'list' object is unsafe."},
         {"{{ d.pop('k') }}", "error: access to attribute 'pop' of 'dict' object is unsafe."},
         {"{{ l.append is defined }} {{ ''.__class__ }}", "False "},
         {"{{ ''.__class__.x }}",
          "error: access to attribute '__class__' of 'str' object is unsafe."},
         {"{{ range(100001) }}",
          "error: OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE "
          "(100000)."}});
}

TEST(JinjaLanguage, Time) {
  Check({{"{{ strftime_now('%Y-%m-%d %H:%M:%S %A %d %b %j %-d %e %I%p %%') }}",
          "2025-03-04 05:06:07 Tuesday 04 Mar 063 4  4 05AM %"},
         {"{{ strftime_now('%U %W %V %G %u %w %y %q') }}", "09 09 10 2025 2 2 25 %q"}});
  EXPECT_EQ(jinja::FormatTime(jinja::ParseLocalTime("2024-12-30"), "%G-W%V-%u %c"),
            "2025-W01-1 Mon Dec 30 00:00:00 2024");
  EXPECT_EQ(jinja::ParseLocalTime("2024-02-29 01:02:03.25").microsecond, 250000);
  for (const char* bad :
       {"", "2025", "2025-02-30", "2025-01-01T24:00", "2025-01-01Tx", "2025-1-1"}) {
    EXPECT_THROW(jinja::ParseLocalTime(bad), Error) << bad;
  }
}

TEST(JinjaLanguage, LoneSurrogatesAreRefusedInTheRendering) {
  Check({{"{{ '\\ud800'|length }}", "1"},
         {"{{ '\\ud800' }}", "error: UnicodeEncodeError: the rendering holds a lone surrogate"}});
}

}  // namespace
}  // namespace apr
