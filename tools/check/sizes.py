"""Functions, files and test data stay small; the longest ones are shown.

Limits: function 60 lines (150 in kernel files), file 600 lines, testdata/ 3 MB. Table files are listed in
tools/check/size_tables.txt. A function counts from the first line of its signature to its brace.
"""

import ast
import re

from tree import Fault, Report, Tree

FUNCTION_LIMIT = 60
KERNEL_LIMIT = 150
FILE_LIMIT = 600
TESTDATA_LIMIT_BYTES = 3_000_000
TABLES = "tools/check/size_tables.txt"
KERNEL_FILE = re.compile(r"(kernel|_avx2|_avx512|_neon|_vnni|-inl\.h$|\.cuh?$)")
TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL
)
CONTAINER = re.compile(r"^\s*(inline\s+)?(namespace|class|struct|union|enum|extern)\b|\b(class|struct|union|enum)\s+\w+[^()]*$")
CONTROL = re.compile(r"\b(if|for|while|switch|catch)\s*(constexpr)?\s*$")
INIT_LIST = re.compile(r"\)\s*(noexcept\s*)?:(?!:)")


def blank_text(source: str) -> str:
    """The source with comments, strings and preprocessor lines blanked, every line kept."""

    def blank(match: re.Match) -> str:
        text = match.group(0)
        return "\n" * text.count("\n") or ("0" if text[0] in "\"'R" else " ")

    plain = TOKEN.sub(blank, re.sub(r"(?<=\d)'(?=\d)", "", source))
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: "\n" * m.group(0).count("\n"), plain, flags=re.M)


def opens_function(statement: str) -> bool:
    """Whether `{` after this text, at namespace or class scope, starts a function body."""
    head = statement.strip()
    if re.search(r"\bnamespace\b[\w\s:]*$", head):  # also after a macro such as BEGIN_TARGET("avx2")
        return False
    if "(" not in head or CONTAINER.match(re.sub(r"template\s*<[^{]*?>\s*(?=class|struct)", "", head).split("(")[0]):
        return False
    before_parenthesis = head.split("(", 1)[0]
    return "=" not in before_parenthesis.replace("operator==", "").replace("operator=", "").replace("==", "")


def is_member_brace(statement: str) -> bool:
    """Whether `{` after this text initialises a member in a constructor's list: `: a_{1}`."""
    return bool(INIT_LIST.search(statement)) and bool(re.search(r"[\w>]\s*$", statement)) and not re.search(
        r"\b(const|noexcept|override|final)\s*$", statement
    )


def matching_brace(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return len(text) - 1


def cpp_functions(source: str) -> list[tuple[str, int, int]]:
    """(name, first line, number of lines) of every function with a body."""
    text = blank_text(source)
    found = []
    begin = i = 0
    while i < len(text):
        c = text[i]
        if c in ";}":
            begin = i + 1
        elif c == "{":
            statement = text[begin:i]
            if opens_function(statement) and not is_member_brace(statement):
                end = matching_brace(text, i)
                first = begin + len(statement) - len(statement.lstrip())
                line = text.count("\n", 0, first) + 1
                name = re.search(r"([\w~:]+|operator\W+)\s*\(", statement)
                found.append((name.group(1) if name else "?", line, text.count("\n", first, end) + 1))
                i, begin = end, end + 1
            elif is_member_brace(statement) or ("(" not in statement and "=" in statement):
                i = matching_brace(text, i)
            else:
                begin = i + 1
        i += 1
    return found


def python_functions(source: str) -> list[tuple[str, int, int]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, kinds)]
    return [(n.name, n.lineno, n.end_lineno - n.lineno + 1) for n in nodes]


def check(tree: Tree) -> Report:
    report = Report()
    tables = {line.split()[0] for _, line in tree.lines(TABLES) if line.strip() and not line.startswith("#")}
    for path in sorted(tables - set(tree.files())):
        report.findings.append(f"{TABLES}: {path} does not exist")
    functions, files = [], []
    for path in tree.files(".cc", ".h", ".cu", ".cuh", ".py", under=("src/", "cli/", "bench/", "tools/")):
        source = tree.text(path)
        found = python_functions(source) if path.endswith(".py") else cpp_functions(source)
        limit = KERNEL_LIMIT if KERNEL_FILE.search(path) else FUNCTION_LIMIT
        functions += [(length, f"{path}:{line} {name}", limit) for name, line, length in found]
        if path not in tables:
            files.append((source.count("\n"), path))
    for length, where, limit in functions:
        if length > limit:
            report.findings.append(f"{where}: {length} lines, limit {limit}")
    for length, path in files:
        if length > FILE_LIMIT:
            report.findings.append(f"{path}: {length} lines, limit {FILE_LIMIT}")
    testdata_bytes = sum((tree.root / p).stat().st_size for p in tree.files(under=("testdata/",)))
    if testdata_bytes > TESTDATA_LIMIT_BYTES:
        report.findings.append(f"testdata/: {testdata_bytes} bytes, limit {TESTDATA_LIMIT_BYTES}")
    longest = ", ".join(f"{n} {w}" for n, w, _ in sorted(functions, reverse=True)[:4])
    largest = ", ".join(f"{n} {w}" for n, w in sorted(files, reverse=True)[:4])
    report.looked_at = f"{len(functions)} functions, {len(files)} files; longest: {longest}; largest: {largest}"
    return report


def _body(lines: int) -> str:
    return "".join(f"  Do({i});\n" for i in range(lines))


_SAMPLE = (
    "// Sample.\nBEGIN_TARGET(\"avx2\")\nnamespace apr {\nnamespace {\n}\nclass A {\n public:\n  explicit A(int x) : x_{x}, y_(\"}{\") {}\n"
    "  int Get() const { return x_; }\n  int x_ = 0;\n};\n"
    + "\n" * 60 + "constexpr int kTable[] = {\n" + "    1,\n" * 100 + "};\n"
    "template <class T>\nint Free(T t) {\n" + _body(50) + "}\n}  // namespace apr\n"
)
CLEAN = {TABLES: "# none\n", "src/a.cc": _SAMPLE, "src/a_avx2.cc": "// K.\nvoid Dot(int n) {\n" + _body(120) + "}\n"}
FAULTS = [
    Fault("long-function", {"src/b.cc": "void F(int a,\n       int b) {\n" + _body(60) + "}\n"}, "src/b.cc:1 F: 63 lines, limit 60"),
    Fault("long-method", {"src/b.h": "struct S {\n  S() : a{1} {\n" + _body(60) + "  }\n};\n"}, "src/b.h:2 S: 62 lines"),
    Fault("long-kernel", {"src/b_avx2.cc": "void F() {\n" + _body(150) + "}\n"}, "limit 150"),
    Fault("long-file", {"src/b.h": "// x\n" * 601}, "src/b.h: 601 lines, limit 600"),
    Fault("long-python", {"tools/b.py": "def f():\n" + "    g()\n" * 60}, "tools/b.py:1 f: 61 lines"),
    Fault("much-testdata", {"testdata/a.txt": "x" * 3_000_001}, "testdata/: 3000001 bytes"),
    Fault("stale-table", {TABLES: "src/gone.cc\n"}, "src/gone.cc does not exist"),
]
