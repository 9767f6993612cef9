#!/usr/bin/env python3
"""docs/guarantees.md tells the truth about what shows each promise: every file that it names is
there, every function in backticks is defined in the file named last before it, every test file is
built, every name of the API is declared, and each promise has a section that names a test."""
import re
from pathlib import Path

from common import Case, built, main, without_comments

PAGE = "docs/guarantees.md"
PROMISES = 15  # those of the design, transactions, expected versions, event versions, requests, shared logs

# In backticks: a path from the root, `name()` or `test_name`, hark_name. Outside: a link.
TOKEN = re.compile(r"`([^`\n]+)`|\]\(([^)\s]+)\)")
FOLDERS = "src|include|tests|docs|examples|script|bench|fuzz"
PATH = re.compile(rf"(?:{FOLDERS})/[\w./-]*|[A-Z]+\.md")
FUNCTION = re.compile(r"(\w+)\(\)|(test_\w+)")
API = re.compile(r"\b(?:hark|HARK)_\w+")
HEADING = re.compile(r"^## (\d+)\.", re.M)


def defined(path, name):
    """A definition begins its line; a call or a declaration does not, or ends in a semicolon."""
    code = without_comments(path.read_text(encoding="utf-8"))
    return re.search(rf"^(?![\s#])[^\n;]*\b{name}\([^;{{]*\{{", code, re.M)


def check_file(root, name, at, report):
    path = root / name
    if not path.exists():
        report(f"{at}: there is no {name}")
        return None
    if path.name.endswith("_test.c") and not built(path):
        report(f"{at}: {name} is in no meson.build: it never runs")
    return path


def check_function(path, name, at, report):
    if path is None:
        report(f"{at}: {name}: no file that exists is named before it")
    elif not path.is_file() or not defined(path, name):
        report(f"{at}: {path.name} defines no {name}()")


def check_api(headers, text, at, report):
    for name in API.findall(text):
        if not re.search(rf"\b{name}\b", headers):
            report(f"{at}: {name} is not declared in include/hark")


def check_tokens(root, text, report):
    headers = "".join(h.read_text(encoding="utf-8")
                      for h in sorted((root / "include/hark").glob("*.h")))
    looked, path, shown = 0, None, set()
    for match in TOKEN.finditer(text):
        code, link = match.groups()
        at = f"{PAGE}:{text.count(chr(10), 0, match.start()) + 1}"
        if link is not None:
            if "://" not in link and not (root / PAGE).parent.joinpath(link.split("#")[0]).exists():
                report(f"{at}: the link {link} leads nowhere")
            continue
        function = FUNCTION.fullmatch(code)
        if PATH.fullmatch(code):
            path = check_file(root, code, at, report)
        elif function:
            check_function(path, function[1] or function[2], at, report)
        else:
            check_api(headers, code, at, report)
            continue
        looked += 1
        if path and (code.startswith("test_") or path.name.endswith("_test.c")):
            shown.update(int(h[1]) for h in list(HEADING.finditer(text, 0, match.start()))[-1:])
    return looked, shown


def check(root, report):
    page = root / PAGE
    if not page.is_file():
        report(f"there is no {PAGE}")
        return 1
    text = page.read_text(encoding="utf-8")
    looked, shown = check_tokens(root, text, report)
    numbers = [int(n) for n in HEADING.findall(text)]
    if numbers != list(range(1, PROMISES + 1)):
        report(f"{PAGE}: its sections are {numbers}, not those of promises 1 to {PROMISES}")
    for n in sorted(set(numbers) - shown):
        report(f"{PAGE}: promise {n} names no test")
    return looked


def sample(more="", sections=PROMISES, **files):
    text = "".join(f"## {n}. A promise\n`src/a_test.c`: `test_it`\n" for n in range(1, sections + 1))
    return {PAGE: text + more, "include/hark/bus.h": "hark_err hark_publish(void);\n",
            "src/a_test.c": "static void test_it(void **state)\n{\n    call();\n}\n"
                            "void declared(void);\n/* void commented(void) { } */\n",
            "src/meson.build": "test('a', files('a_test.c'))\n", **files}


CASES = [
    Case("all there", sample("`src/a_test.c` `test_it()` `hark_publish` `memory:` [x](../src/a_test.c)"),
         None),
    Case("a foreach names it", sample(**{"src/meson.build": "foreach n : ['a']\n"}), None),
    Case("a foreach leaves out the folder",
         sample("`src/sqlite/sqlite_b_test.c`", **{"src/sqlite/sqlite_b_test.c": "int x;\n",
                                                   "src/sqlite/meson.build": "foreach n : ['b']\n"}), None),
    Case("a file that is not there", sample("`src/b_test.c`"), "there is no src/b_test.c"),
    Case("a folder that is not there", sample("`tests/sim`"), "there is no tests/sim"),
    Case("a test that is not there", sample("`test_other`"), "defines no test_other()"),
    Case("a test of another file", sample("`src/b.c`: `test_it`", **{"src/b.c": "int x;\n"}),
         "b.c defines no test_it()"),
    Case("only called", sample("`call()`"), "defines no call()"),
    Case("only declared", sample("`declared()`"), "defines no declared()"),
    Case("only in a comment", sample("`commented()`"), "defines no commented()"),
    Case("a function before any file", {PAGE: "`test_it`\n"}, "no file that exists is named before"),
    Case("a test that nobody builds", sample(**{"src/meson.build": "\n"}), "it never runs"),
    Case("a name that is not in the API", sample("`hark_publsh`"), "hark_publsh is not declared"),
    Case("a link to nowhere", sample("[x](nowhere.md)"), "leads nowhere"),
    Case("a promise left out", sample(sections=PROMISES - 1), "not those of promises"),
    Case("a promise without a test", sample(f"## {PROMISES + 1}. x\n"), "not those of promises"),
    Case("a promise that nothing shows",
         {**sample(), PAGE: sample(sections=PROMISES - 1)[PAGE] + f"## {PROMISES}. Another\nTrust us.\n"},
         f"promise {PROMISES} names no test"),
    Case("no page", {"README": "\n"}, "there is no docs/guarantees.md"),
]

if __name__ == "__main__":
    main(check, CASES)
