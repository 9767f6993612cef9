#!/usr/bin/env python3
"""Rules of STYLE.md that a pattern can see: no sleep in tests, no strcpy family, atomics only in
base, no function-local static state, no VLA, files that stay readable."""
import re

from common import Case, built, c_files, line_of, main, without_comments

LONG, TOO_LONG = 400, 600

# Violations that stay, each with its reason: (path, rule) -> why.
ALLOWED = {}

STRCPY = re.compile(r"\b(strcpy|strncpy|strcat|strncat|stpcpy|stpncpy|sprintf|vsprintf|gets"
                    r"|strtok)\s*\(")
ATOMIC = re.compile(r"\b(_Atomic|atomic_\w+|memory_order_\w+|__atomic_\w+|__sync_\w+)\b"
                    r"|<(stdatomic\.h)>")
SLEEP = re.compile(r"\b(sleep|usleep|nanosleep|clock_nanosleep|thrd_sleep)\s*\(|\bpoll\s*\(\s*NULL")
SCRIPT_SLEEP = re.compile(r"^\s*sleep\s+[\d$]|\btime\.sleep\s*\(", re.M)
LOCAL_STATIC = re.compile(r"^[ \t]+static\s+(?!const\b|inline\b|_Thread_local\b|_Noreturn\b)[^;(]*[;=]",
                          re.M)

EVERYWHERE = ["include", "src", "examples", "tests", "bench", "fuzz"]


def in_base(path):
    return path.startswith("src/base/")


def in_product(path):
    return path.startswith(("src/", "include/", "examples/")) and not path.endswith("_test.c")


def in_tests(path):
    return path.startswith("tests/") or path.endswith("_test.c")


RULES = [  # name, pattern, which files, why
    ("strcpy", STRCPY, lambda p: True, "use a buffer that knows its size"),
    ("atomics", ATOMIC, lambda p: in_product(p) and not in_base(p), "atomics live in src/base"),
    ("sleep", SLEEP, in_tests, "wait for the condition, never sleep"),
    ("static", LOCAL_STATIC, lambda p: p.startswith("src/") and not in_tests(p),
     "no function-local static state"),
]


def check_c(root, report):
    looked = 0
    for path in c_files(root, EVERYWHERE):
        looked += 1
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        code = without_comments(text, strings=False)
        for rule, pattern, applies, why in RULES:
            if not applies(name) or (name, rule) in ALLOWED:
                continue
            for match in pattern.finditer(code):
                report(f"{name}:{line_of(code, match.start())}: {rule}: "
                       f"'{match.group().strip()}': {why}")
        lines = text.count("\n")
        if name.startswith("src/") and lines > TOO_LONG and (name, "length") not in ALLOWED:
            report(f"{name}: length: {lines} lines, over {TOO_LONG}: make it two")
        elif name.startswith("src/") and lines > LONG:
            print(f"note: {name}: {lines} lines, over {LONG}")
    return looked


def check_tests_run(root, report):
    for path in sorted(root.rglob("*_test.c")):
        if not built(path):
            report(f"{path.relative_to(root).as_posix()}: tests: in no meson.build, so it never runs")


def check_scripts(root, report):
    for path in sorted((root / "tests").rglob("*")):
        if path.suffix not in (".py", ".sh") or not path.is_file():
            continue
        name = path.relative_to(root).as_posix()
        if (name, "sleep") in ALLOWED:
            continue
        for match in SCRIPT_SLEEP.finditer(path.read_text(encoding="utf-8")):
            report(f"{name}: sleep: '{match.group().strip()}': wait for the condition, never sleep")


def check(root, report):
    build = root / "meson.build"
    if build.is_file() and "-Wvla" not in build.read_text(encoding="utf-8"):
        report("meson.build: vla: the compiler is not asked to refuse VLAs (-Wvla)")
    check_scripts(root, report)
    check_tests_run(root, report)
    return check_c(root, report)


CASES = [
    Case("clean", {"src/bus/a.c": 'int f(void)\n{\n    static const int t = 1;\n    return t;\n}\n',
                   "tests/a.py": "wait()\n"}, None),
    Case("named in a comment or a text", {"src/bus/a.c": '/* strcpy(a, b) */\nchar *s = "sleep(1)";\n'},
         None),
    Case("atomics in base and its users' tests", {"src/base/base.h": "atomic_uint n;\n",
                                                  "src/bus/a_test.c": "atomic_uint n;\n",
                                                  "src/bus/meson.build": "'a_test.c'\n"}, None),
    Case("a test that nobody builds", {"src/bus/a_test.c": "int x;\n", "src/bus/meson.build": "\n"}, "tests:"),
    Case("strcpy", {"src/bus/a.c": "void f(void) { strcpy(a, b); }\n"}, "strcpy:"),
    Case("an atomic outside base", {"src/bus/a.c": "static _Atomic int n;\n"}, "atomics:"),
    Case("a builtin atomic", {"examples/a.c": "int f(void) { return __atomic_load_n(p, 0); }\n"},
         "atomics:"),
    Case("a sleeping test", {"src/bus/a_test.c": "void f(void) { usleep(10); }\n"}, "sleep:"),
    Case("a sleeping script", {"src/a.c": "\n", "tests/a.py": "time" + ".sleep(1)\n"}, "sleep:"),
    Case("a static buffer", {"src/bus/a.c": "char *f(void)\n{\n    static char b[9];\n    return b;\n}\n"},
         "static:"),
    Case("too long", {"src/bus/a.c": "\n" * (TOO_LONG + 1)}, "length:"),
    Case("VLAs not refused", {"meson.build": "project('x', 'c')\n", "src/a.c": "\n"}, "vla:"),
    Case("nothing to look at", {"README": "\n"}, "looked at nothing"),
]

if __name__ == "__main__":
    main(check, CASES)
