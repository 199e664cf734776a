"""Random templates and values for differential.py. Grown from the grammar; errors are part of the game."""

NAMES = ["a", "b", "s", "t", "n", "f", "l", "d", "u", "ms", "ns", "x", "y", "k", "v", "q", "loop", "nope"]
TEXTS = ["", "a", "Hello World", "  pad ded \n", "ab,cd,,e", "line1\nline2\r\nline3\n", "Äöü ß straße", "日本語 text",
         "<b>&\"'</b>", "🙂 emoji", "{{ x }}", "12", " 3.5 ", "-7", "0x1F", "ΑΣ σας", "tab\tbed", "a\\b", "ǅ ﬁ ŉ",
         "UPPER lower", "x" * 30, "%d %s", "{} {0}", "1_000", "nan", "e\u0301\u00a0\u2028z", "it's", 'say "hi"']
TRIMS = ["", "", "", "-", "+"]
FILTERS0 = ["upper", "lower", "capitalize", "title", "trim", "length", "count", "first", "last", "list", "string", "int",
            "float", "abs", "round", "reverse", "sort", "unique", "min", "max", "sum", "join", "tojson", "items",
            "dictsort", "safe", "escape", "e", "forceescape", "wordcount", "indent", "default", "d", "urlencode",
            "filesizeformat", "map", "select", "reject", "center", "xmlattr", "truncate"]
TESTS0 = ["defined", "undefined", "none", "true", "false", "boolean", "integer", "float", "number", "string", "mapping",
          "sequence", "iterable", "callable", "odd", "even", "lower", "upper", "escaped", "filter", "test"]
METHODS0 = ["upper", "lower", "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "title", "capitalize",
            "swapcase", "casefold", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "istitle",
            "isdecimal", "isnumeric", "isidentifier", "isprintable", "isascii", "items", "keys", "values", "copy",
            "expandtabs", "pop", "append", "clear", "update", "bit_length", "is_integer"]
SPECS = ["", ">8", "<8", "^9", "*^9", "08", "+", ",", "_", ".2", ".2f", "e", ".3e", "g", "x", "#x", "b", "o", "c", "%",
         "d", "10.3f", "=+8", "s", ".1", "X", "n", "G", "+.1f", "012,", "é>5", "1000", ".0f"]
PERCENTS = ["%s", "%r", "%d", "%5d", "%-5d|", "%05d", "%+d", "%x", "%X", "%#x", "%o", "%f", "%.2f", "%8.3f", "%e",
            "%g", "%c", "%%", "%5s", "%-5s|", "%.2s", "%a", "%(a)s", "%(k)d", "%i", "%*d", "%.*f", "% d", "%G", "%q"]
TIMES = ["%Y-%m-%d", "%d %b %Y", "%H:%M:%S", "%A %B %j", "%I %p", "%y %U %w %W", "%c %x %X", "%-d %e %%", "%q", "%f",
         "%G-%V-%u", "%Z%z|", "%"]


class Generator:
    def __init__(self, random):
        self.r = random
        self.budget = 60
        self.loops = 0

    def pick(self, options):
        return self.r.choice(options)

    # Values.

    def value(self, depth=0):
        kind = self.r.randrange(12 if depth < 3 else 8)
        if kind == 0:
            return None
        if kind == 1:
            return self.pick([True, False])
        if kind in (2, 3):
            return self.pick([0, 1, 2, 3, -1, 7, 10, 255, 1000, -12, 123456789, 2**31, 2**63, 10**18])
        if kind == 4:
            return self.pick([0.0, 1.5, -2.5, 0.1, 1e16, 1e-7, 3.0, 123456.789, 2.675, 1e300, -0.5])
        if kind < 8:
            return self.pick(TEXTS)
        if kind < 10:
            return [self.value(depth + 1) for _ in range(self.r.randrange(5))]
        return {self.pick(["a", "b", "k", "items", "get", "role", "content", "x y", "é", "0", "name", "B"]):
                self.value(depth + 1) for _ in range(self.r.randrange(5))}

    def variables(self):
        r = self.r
        values = {"a": self.value(), "b": self.value(), "s": self.pick(TEXTS), "t": self.pick(TEXTS),
                  "n": self.pick([0, 1, 2, 3, 5, -3, 100]), "f": self.pick([0.5, 2.0, -1.25, 1e20]),
                  "l": [self.value(1) for _ in range(r.randrange(5))],
                  "d": {k: self.value(1) for k in r.sample(["a", "b", "k", "c", "A", "items"], r.randrange(5))}}
        values["ms"] = [{"role": self.pick(["user", "assistant", "system"]), "content": self.pick(TEXTS),
                         "n": r.randrange(4)} for _ in range(r.randrange(5))]
        if r.random() < 0.5:
            values["q"] = [[1, 2], [3, 4]]
        return values

    # Expressions.

    def literal(self):
        kind = self.r.randrange(9)
        if kind < 3:
            return self.string()
        if kind < 5:
            return self.pick(["0", "1", "2", "3", "-1", "10", "1_000", "0x1f", "0b101", "0o17", "00", "7"])
        if kind == 5:
            return self.pick(["1.5", "0.1", "2.0", "1e3", "1.5e-7", "1_0.5", "1e22", "3.14159"])
        return self.pick(["true", "false", "none", "True", "False", "None"])

    def string(self):
        text = self.pick(TEXTS)
        quoted = json_like(text)
        if self.r.random() < 0.1:
            quoted = self.pick(["'\\x41\\u00e9\\n'", "'\\q\\'\\\"'", '"\\101\\t"', "'a' 'b'", "'\\\n'", "'\\é'"])
        return quoted

    def name(self):
        return self.pick(NAMES)

    def expr(self, depth=0):
        self.budget -= 1
        if depth > 4 or self.budget < 0:
            return self.literal() if self.r.random() < 0.4 else self.name()
        kinds = ("literal name name filter filter method method attr item slice binary compare compare logic logic unary cond "
                 "cond concat concat test test test call list dict tuple paren percent format chain_filter safe safe safe").split()
        return getattr(self, "e_" + self.pick(kinds))(depth + 1)

    def e_literal(self, _):
        return self.literal()

    def e_name(self, _):
        return self.name()

    def e_safe(self, d):
        """What seldom fails, so that whole templates do render."""
        return self.pick([
            f"s|replace({self.string()}, {self.string()})", "ms|map(attribute='role')|join(',')", "s.split(',')|join('-')",
            "ms|selectattr('role', 'equalto', 'user')|list|length", "d|dictsort|length", "s[:3] ~ t[-2:]", "l|tojson",
            "d|tojson(indent=2)", "ms[0].content|default('-')", "d.get('a', 'none')", "s|trim|upper", "n + 1", "n * 2 - 3",
            "a|string", "b is string", "l|length > 1", "s in t", "(a, b)", "[a, n, s]", "d.items()|list", "f / 4", "n // 2",
            "d.keys()|list", "s|indent(2, true)", "'%s-%s' % (n, s)", "'{}:{!r:>5}'.format(n, 'x')", "m(n)", "m2(1, 2, k=3)",
            "ms|groupby('role')|map('first')|list", "t.title()", "s.splitlines()", "t.strip().lower()", "ms|map('length')|list",
            "loop.index if loop is defined else '-'", "x|default(y|default('q'))", "ns.a if ns is defined", "a == b", "f|round(1)",
            "l|map('string')|sort|list", "l|reject('none')|map('tojson')|join(' ')", "s|safe + t", "s|e ~ t", "dict(a=n).a"])

    def e_paren(self, d):
        return f"({self.expr(d)})"

    def args(self, d, low=0, high=2):
        parts = [self.expr(d) for _ in range(self.r.randint(low, high))]
        if self.r.random() < 0.1:
            parts.append(f"{self.pick(['a', 'sep', 'default', 'width', 'reverse'])}={self.expr(d)}")
        if self.r.random() < 0.04:
            parts.append(f"*{self.pick(['l', 's', 'q'])}")
        if self.r.random() < 0.04:
            parts.append(f"**{self.pick(['d', 'a'])}")
        return ", ".join(parts)

    def attribute(self):
        return self.pick(["'role'", "'n'", "'a'", "'content'", "0", "'a.b'", "'nope'", "'k'", "'role,n'", "1"])

    def filter_call(self, d):
        r = self.r
        kind = r.randrange(24)
        if kind < 8:
            return self.pick(FILTERS0)
        flag = self.pick(["true", "false"])
        options = [
            f"join({self.string()})", f"join({self.string()}, attribute={self.attribute()})",
            f"replace({self.string()}, {self.string()})", f"replace({self.string()}, {self.string()}, {r.randrange(3)})",
            f"default({self.expr(d)})", f"default({self.expr(d)}, {flag})", f"map({self.pick(FILTERS0)!r})",
            f"map({self.pick(FILTERS0)!r})|list", f"map(attribute={self.attribute()})|list",
            f"map(attribute={self.attribute()}, default={self.literal()})|list",
            f"select({self.pick(TESTS0)!r})|list", f"reject({self.pick(TESTS0)!r})|list",
            f"selectattr({self.attribute()})|list", f"selectattr({self.attribute()}, 'equalto', {self.literal()})|list",
            f"rejectattr({self.attribute()}, {self.pick(TESTS0)!r})|list", f"select('gt', {self.literal()})|list",
            f"sort(reverse={flag})", f"sort(attribute={self.attribute()})", f"sort(case_sensitive={flag})",
            f"groupby({self.attribute()})", f"groupby({self.attribute()}, default={self.literal()})|list",
            f"batch({r.randrange(1, 4)})|list", f"batch({r.randrange(1, 4)}, {self.literal()})|list",
            f"slice({r.randrange(1, 4)})|list", f"slice({r.randrange(1, 4)}, {self.literal()})|list",
            f"unique|list", f"unique(attribute={self.attribute()})|list", f"min(attribute={self.attribute()})",
            f"max(case_sensitive={flag})", f"sum(attribute={self.attribute()})", f"sum(start={self.literal()})",
            f"dictsort({flag}, {self.pick(['key', 'value'])!r}, {flag})", f"round({r.randrange(-3, 5)})",
            f"round({r.randrange(0, 4)}, {self.pick(['common', 'ceil', 'floor'])!r})", f"int({self.literal()})",
            f"int(base={self.pick([2, 8, 10, 16, 0])})", f"float({self.literal()})", f"tojson(indent={r.randrange(4)})",
            f"tojson(ensure_ascii={flag}, sort_keys={flag})", "tojson(separators=(',', ':'))", "tojson(indent='\\t')",
            f"indent({r.randrange(6)}, {flag}, {flag})", "indent('> ')", f"truncate({r.randrange(3, 20)}, {flag})",
            f"truncate({r.randrange(3, 20)}, {flag}, '..', 0)", f"center({r.randrange(20)})", f"trim({self.string()})",
            f"format({self.args(d)})", f"attr({self.pick(['upper', 'items', 'role', '__class__', 'append'])!r})",
            f"filesizeformat({flag})", f"list", f"items|list", f"select|list", f"reverse|list", f"first", f"last",
            f"xmlattr({flag})",
        ]
        return self.pick(options)

    def e_filter(self, d):
        return f"{self.expr(d)}|{self.filter_call(d)}"

    def e_chain_filter(self, d):
        return f"{self.pick(['ms', 'l', 's', 'd', 'q'])}|{self.filter_call(d)}|{self.filter_call(d)}"

    def e_method(self, d):
        r = self.r
        target = self.pick([self.name(), self.string(), f"({self.expr(d)})", "s", "t", "d", "l"])
        if r.random() < 0.45:
            return f"{target}.{self.pick(METHODS0)}()"
        text = self.string
        n = r.randrange(-3, 8)
        options = [
            f"split({text()})", f"split({text()}, {n})", f"rsplit({text()}, {n})", f"split(none, {n})",
            f"split(maxsplit={n})", f"strip({text()})", f"lstrip({text()})", f"rstrip({text()})",
            f"replace({text()}, {text()})", f"replace({text()}, {text()}, {n})", f"startswith({text()})",
            f"endswith({text()})", f"startswith(({text()}, {text()}))", f"startswith({text()}, {n})",
            f"find({text()})", f"rfind({text()}, {n})", f"index({text()})", f"count({text()})", f"count({text()}, {n}, 5)",
            f"join({self.expr(d)})", f"partition({text()})", f"rpartition({text()})", f"center({n + 8}, '*')",
            f"ljust({n + 8})", f"rjust({n + 8}, '.')", f"zfill({n + 6})", f"splitlines(true)", f"removeprefix({text()})",
            f"removesuffix({text()})", f"get({text()})", f"get({self.pick(['a', 'k', 'items'])!r}, {self.literal()})",
            f"index({self.literal()})", f"count({self.literal()})", f"expandtabs({n})", f"format({self.args(d)})",
            f"format_map(d)", f"get({self.expr(d)})", f"get()", f"upper({self.literal()})", f"rindex({text()})",
        ]
        return f"{target}.{self.pick(options)}"

    def e_attr(self, d):
        attribute = self.pick(["a", "b", "k", "items", "role", "content", "0", "index", "first", "last", "length",
                               "__class__", "_x", "real", "start", "name", "1"])
        return f"{self.pick([self.name(), 'd', 'ms[0]', 'loop', 'ns'])}.{attribute}"

    def e_item(self, d):
        return f"{self.pick([self.name(), 'l', 'd', 's', 'ms'])}[{self.expr(d)}]"

    def e_slice(self, d):
        def bound():
            return self.pick(["", "", "0", "1", "2", "-1", "-2", "5", "none", "n"])
        step = self.pick(["", "", ":", ":2", ":-1", ":-2", ":none"])
        return f"{self.pick(['s', 't', 'l', 'ms', self.name(), self.string(), 'range(9)'])}[{bound()}:{bound()}{step}]"

    def e_binary(self, d):
        return f"{self.expr(d)} {self.pick(['+', '+', '-', '*', '/', '//', '%', '**'])} {self.small(d)}"

    def small(self, d):
        # Right operands stay small, so that powers and repetitions do.
        return self.expr(d) if self.r.random() < 0.5 else self.pick(["0", "1", "2", "3", "-2", "2.5", "'a'", "[1]", "n"])

    def e_compare(self, d):
        op = self.pick(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "==", "in"])
        tail = f" {self.pick(['<', '==', 'in'])} {self.expr(d)}" if self.r.random() < 0.1 else ""
        return f"{self.expr(d)} {op} {self.expr(d)}{tail}"

    def e_logic(self, d):
        return f"{self.expr(d)} {self.pick(['and', 'or'])} {self.expr(d)}"

    def e_unary(self, d):
        return f"{self.pick(['not ', '-', '+', 'not not '])}{self.expr(d)}"

    def e_cond(self, d):
        tail = f" else {self.expr(d)}" if self.r.random() < 0.8 else ""
        return f"{self.expr(d)} if {self.expr(d)}{tail}"

    def e_concat(self, d):
        return " ~ ".join(self.expr(d) for _ in range(self.r.randint(2, 3)))

    def e_test(self, d):
        r = self.r
        if r.random() < 0.6:
            test = self.pick(TESTS0)
        else:
            test = self.pick([f"divisibleby({r.randrange(4)})", f"divisibleby {r.randrange(1, 4)}", "sameas(none)",
                              f"eq({self.expr(d)})", f"in({self.expr(d)})", f"ne {self.literal()}", f"gt({self.literal()})",
                              f"lessthan({self.literal()})", f"equalto {self.literal()}", "sameas true", "ge 1"])
        return f"{self.expr(d)} is {self.pick(['', '', 'not '])}{test}"

    def e_call(self, d):
        r = self.r
        options = [f"range({r.randrange(-2, 6)})", f"range({r.randrange(4)}, {r.randrange(9)})",
                   f"range({r.randrange(9)}, {r.randrange(4)}, {self.pick([-1, -2, 2, 0])})", f"dict(a={self.expr(d)})",
                   "dict(d, k=1)", "dict([('a', 1)])", f"m({self.args(d)})", f"m2({self.args(d)})",
                   f"strftime_now({self.pick(TIMES)!r})", f"namespace(a={self.expr(d)})", "caller()", "loop.cycle('a', 'b')",
                   f"loop.changed({self.expr(d)})", f"{self.name()}({self.args(d)})", "cycler('a', 'b').next()",
                   f"range({r.randrange(6)})|list", "loop([1])", f"caller({self.args(d)})"]
        if r.random() < 0.02:
            return f"raise_exception({self.string()})"
        return self.pick(options)

    def e_list(self, d):
        return f"[{self.args_plain(d)}]"

    def e_tuple(self, d):
        return f"({self.args_plain(d)},)" if self.r.random() < 0.8 else "()"

    def args_plain(self, d):
        return ", ".join(self.expr(d) for _ in range(self.r.randint(1, 3)))

    def e_dict(self, d):
        pairs = ", ".join(f"{self.expr(d) if self.r.random() < 0.2 else self.string()}: {self.expr(d)}"
                          for _ in range(self.r.randrange(3)))
        return "{" + pairs + "}"

    def e_percent(self, d):
        text = " ".join(self.pick(PERCENTS) for _ in range(self.r.randint(1, 2)))
        return f"{text!r} % {self.pick([self.expr(d), f'({self.expr(d)}, {self.expr(d)})', 'd', 'n', 'f', 's'])}"

    def e_format(self, d):
        spec = self.pick(SPECS)
        field = self.pick(["", "0", "1", "a", "0.a", "0[a]", "a.role", "0[0]"])
        conversion = self.pick(["", "", "", "!r", "!s", "!a", "!x"])
        text = f"{{{field}{conversion}{':' + spec if spec else ''}}}" + self.pick(["", " {{}} ", "{}", "}", "|"])
        return f"{text!r}.format({self.args(d, 1, 2)})"

    # Statements.

    def tag(self, body):
        return "{%" + self.pick(TRIMS) + f" {body} " + self.pick(["", "", "-", "+"]) + "%}"

    def target(self):
        return self.pick(["x", "y", "k", "x, y", "k, v", "s", "n", "(x, y)", "k", "v", "x"])

    def data(self):
        if self.r.random() < 0.005:
            return "  {"  # joins the next tag: mostly a syntax error
        return self.pick(["", " ", "\n", "text", " text \n", "\n\n  ", "{ ", "}} ", "\t", "a\nb", "\u00a0\n", "# ", "%}"])

    def output(self):
        return "{{" + self.pick(["", "", "", "-", "+"]) + f" {self.expr()} " + self.pick(["", "", "", "-"]) + "}}"

    def block(self, depth):
        parts = []
        for _ in range(self.r.randint(1, 3)):
            parts.append(self.data())
            parts.append(self.statement(depth))
        parts.append(self.data())
        return "".join(parts)

    def statement(self, depth=0):
        if depth > 3 or self.budget < 0:
            return self.output()
        kinds = ("out out out out if if for for set set setblock nsset macro call filter with raw comment generation loopctl "
                 "print recursive").split()
        return getattr(self, "s_" + self.pick(kinds))(depth + 1)

    def s_out(self, _):
        return self.output()

    def s_print(self, _):
        return self.tag(f"print {self.expr()}")

    def s_if(self, d):
        text = self.tag(f"if {self.expr()}") + self.block(d)
        while self.r.random() < 0.25:
            text += self.tag(f"elif {self.expr()}") + self.block(d)
        if self.r.random() < 0.5:
            text += self.tag("else") + self.block(d)
        return text + self.tag("endif")

    def iterable(self):
        return self.pick(["l", "ms", "d", "s", "range(3)", "d.items()", "d|dictsort", "q", "[1, 2, 3]", "ms|reverse", "range(n)",
                          "[(1, 2), (3, 4)]", self.expr(2), "l|select('string')", "{'a': 1, 'b': 2}|items"])

    def s_for(self, d):
        test = f" if {self.expr(2)}" if self.r.random() < 0.25 else ""
        self.loops += 1
        text = self.tag(f"for {self.target()} in {self.iterable()}{test}") + self.block(d)
        if self.r.random() < 0.5:
            text += "{{ loop." + self.pick(["index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem",
                                            "nextitem", "depth", "depth0"]) + " }}"
        self.loops -= 1
        if self.r.random() < 0.25:
            text += self.tag("else") + self.block(d)
        return text + self.tag("endfor")

    def s_recursive(self, d):
        return ("{% for x in [[1], [2, [3]], []] recursive %}{{ loop.depth }}{{ loop(x) if x is iterable and x is not string }}"
                + self.statement(d) + "{% endfor %}")

    def s_loopctl(self, d):
        if self.loops == 0 and self.r.random() < 0.9:
            return self.output()
        return self.tag(f"if {self.expr()}") + self.tag(self.pick(["break", "continue"])) + self.tag("endif")

    def s_set(self, _):
        target = self.pick(["x", "y", "s", "k", "a", "x, y", "n", "loop" if self.r.random() < 0.1 else "b"])
        return self.tag(f"set {target} = {self.expr()}")

    def s_nsset(self, _):
        return self.tag(self.pick(["set ns = namespace(a=1, k='v')", f"set ns.a = {self.expr()}", f"set ns.k = {self.expr()}",
                                   "set ns = namespace(d)", f"set ns.a, x = {self.expr()}, {self.expr()}",
                                   "set d.a = 1" if self.r.random() < 0.1 else "set ns.b = ns.a",
                                   "set ns._a = 1" if self.r.random() < 0.1 else "set ns.b = ns"]))

    def s_setblock(self, d):
        filters = f"|{self.filter_call(2)}" if self.r.random() < 0.3 else ""
        return self.tag(f"set {self.pick(['x', 'y', 's'])}{filters}") + self.block(d) + self.tag("endset")

    def s_macro(self, d):
        signature = self.pick(["", "x", "x, y=2", "x='d'", "x, y=x", "a, caller=none", "n=n", "x=[], k={}"])
        extra = self.pick(["", "", "{{ varargs }}", "{{ kwargs }}", "{{ caller() }}", "{{ caller is defined }}", "{{ m2.name }}"])
        name = self.pick(["m", "m2"])
        call = "{{ " + f"{name}({self.args(3)})" + " }}" if self.r.random() < 0.6 else ""
        loops, self.loops = self.loops, 0
        text = self.tag(f"macro {name}({signature})") + self.block(d) + extra + self.tag("endmacro") + call
        self.loops = loops
        return text

    def s_call(self, d):
        signature = self.pick(["", "", "(x)", "(x, y=1)"])
        loops, self.loops = self.loops, 0
        text = self.tag(f"call{signature} {self.pick(['m', 'm2', 'm2', 'range'])}({self.args(3)})") + self.block(d)
        self.loops = loops
        return text + self.tag("endcall")

    def s_filter(self, d):
        return self.tag(f"filter {self.filter_call(2)}") + self.block(d) + self.tag("endfilter")

    def s_with(self, d):
        return self.tag(self.pick([f"with x = {self.expr()}", f"with x = 1, y = x", "with", f"with x, y = (1, 2)"])) \
            + self.block(d) + self.tag("endwith")

    def s_raw(self, _):
        begin = "{%" + self.pick(TRIMS) + " raw " + self.pick(["", "-"]) + "%}"
        return begin + self.pick(["{{ x }}", " {% if %} \n", "text", "\n  "]) + self.tag("endraw")

    def s_comment(self, _):
        return "{#" + self.pick(TRIMS) + self.pick([" note ", "{{ x }}", "\n", " - "]) + self.pick(TRIMS) + "#}"

    def s_generation(self, d):
        loops, self.loops = self.loops, 0
        text = self.tag("generation") + self.block(d) + self.tag("endgeneration")
        self.loops = loops
        return text

    def template(self):
        start = ""
        if self.r.random() < 0.8:
            start = "{% set ns = namespace(a=1, k='v') %}"
        if self.r.random() < 0.8:
            start += "{% macro m(x=1, y='z') %}{{ x }}{% endmacro %}{% macro m2() %}{{ varargs }}{{ kwargs }}{% endmacro %}"
        return start + "".join(self.block(0) for _ in range(self.r.randint(1, 2))) + self.pick(["", "\n", "\n\n"])


def json_like(text):
    """A string literal of the template language."""
    out = []
    for c in text:
        if c in "\\'":
            out.append("\\" + c)
        elif c == "\n":
            out.append("\\n")
        elif c == "\r":
            out.append("\\r")
        else:
            out.append(c)
    return "'" + "".join(out) + "'"
