#!/usr/bin/env python3
"""The public headers: self-contained in C and C++, free of what must not leak, documented."""
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from common import Case, line_of, main, without_comments
from public import declarations, functions, headers

COMPILERS = [
    ["gcc", "-x", "c", "-std=c11"],
    ["clang", "-x", "c", "-std=c11"],
    ["g++", "-x", "c++", "-std=c++17"],
    ["clang++", "-x", "c++", "-std=c++17"],
]
FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-fsyntax-only"]

ALLOWED_INCLUDES = {"stdarg.h", "stdbool.h", "stddef.h", "stdint.h"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', re.M)
ATOMIC = re.compile(r"\b_Atomic\b|\batomic_\w+|\b__atomic_\w+")
BIT_FIELD = re.compile(r"^[^?\n]*\b[A-Za-z_]\w*[ \t]+\w*[ \t]*:[ \t]*\d+[ \t]*[;,]", re.M)
LINES = ["Ownership:", "Threads:", "Blocks:", "Errors:"]

# Functions whose hark_err a caller may leave unread, and why that hides nothing.
KEPT_BY_APP = "the app keeps the fault, and hark_app_listen and hark_app_start refuse with it"
KEPT_BY_REQUEST = "the request keeps the fault, and its reply becomes a problem document"
PASSED_ON = "gives back an error that the handler has or passes on"
MAY_IGNORE = {
    KEPT_BY_APP: """hark_route hark_get hark_post hark_put hark_patch hark_delete hark_any
        hark_app_group hark_app_use hark_group_group hark_group_route hark_group_get
        hark_group_post hark_group_put hark_group_patch hark_group_delete hark_group_use hark_app_feed""",
    KEPT_BY_REQUEST: """hark_ctx_on_reply hark_ctx_on_done hark_ctx_json hark_ctx_json_text
        hark_ctx_text hark_ctx_bytes hark_ctx_no_content hark_ctx_redirect hark_ctx_file
        hark_ctx_problem hark_ctx_problem_of hark_ctx_set_header hark_ctx_add_header
        hark_ctx_set_status hark_ctx_stream""",
    PASSED_ON: "hark_ctx_next hark_ctx_fail hark_ctx_fail_at hark_errinfo_set",
}
IGNORABLE = {name for names in MAY_IGNORE.values() for name in names.split()}


def check_compiles(root, path, report):
    for compiler in COMPILERS:
        if not shutil.which(compiler[0]):
            report(f"{path.name}: {compiler[0]} is not installed, cannot judge")
            continue
        with tempfile.TemporaryDirectory() as tmp:
            unit = Path(tmp, "alone.c")
            unit.write_text(f"#include <hark/{path.name}>\nextern int not_empty;\n")
            done = subprocess.run(compiler + FLAGS + [f"-I{root / 'include'}", str(unit)],
                                  capture_output=True, text=True, check=False)
        if done.returncode:
            report(f"{path.name} does not compile alone with {compiler[0]} {compiler[-1]}:\n"
                   + done.stderr)
            return


def check_content(path, report):
    text = path.read_text(encoding="utf-8")
    code = without_comments(text, strings=False)
    plain = declarations(text)
    for pattern, where, what in (ATOMIC, code, "an atomic"), (BIT_FIELD, plain, "a bit-field"):
        for match in pattern.finditer(where):
            report(f"{path.name}:{line_of(code, match.start())}: {what} in a public header")
    for match in INCLUDE.finditer(without_comments(text)):
        header = match.group(1)
        if not header.startswith("hark/") and header not in ALLOWED_INCLUDES:
            report(f"{path.name}:{line_of(text, match.start())}: <{header}> in a public header")


def comment_fault(comment):
    """What is wrong with a function's comment, or None."""
    if not comment:
        return "has no comment"
    lines = [re.sub(r"^\s*(/\*+|\*/?)?\s*", "", line) for line in comment.splitlines()]
    at = [next((i for i, line in enumerate(lines) if line.startswith(word)), None)
          for word in LINES]
    for word, place in zip(LINES, at):
        if place is None:
            return f"has no '{word}' line in its comment"
    if at != sorted(at):
        return f"has its comment's lines out of order (want {' '.join(LINES)})"
    if not "".join(lines[:at[0]]).strip():
        return "does not say what it does before 'Ownership:'"
    return None


def check_functions(path, report):
    for function in functions(path):
        at = f"{function.where}: {function.name}"
        if not function.api:
            report(f"{at} is not marked HARK_API")
        if function.returns == "hark_err" and not function.must and \
                function.name not in IGNORABLE:
            report(f"{at} returns hark_err and is not marked HARK_MUST")
        fault = comment_fault(function.comment)
        if fault:
            report(f"{at} {fault}")


def check(root, report):
    found = headers(root)
    for path in found:
        check_content(path, report)
        check_functions(path, report)
        check_compiles(root, path, report)
    return len(found)


FRAME = """#ifndef X_H
#define X_H
#include <stdint.h>
#define HARK_API __attribute__((visibility("default")))
#define HARK_MUST __attribute__((warn_unused_result))
#ifdef __cplusplus
extern "C" {
#endif
typedef enum hark_err { HARK_OK = 0 } hark_err;
%s
#ifdef __cplusplus
}
#endif
#endif
"""
COMMENT = """/* Does it.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
"""


def sample(text):
    return {"include/hark/x.h": FRAME % text}


GOOD = COMMENT + "HARK_API HARK_MUST hark_err hark_do(int a);"
CASES = [
    Case("a good header", sample(GOOD), None),
    Case("does not compile alone", sample(COMMENT + "HARK_API void hark_do(size_t a);"),
         "does not compile alone"),
    Case("C only", sample("struct s { int class; };"), "does not compile alone with g++"),
    Case("an atomic", sample("struct s { _Atomic int a; };"), "an atomic"),
    Case("a run shares its comment", sample(GOOD + " /* a */\nHARK_API int hark_b(void);"), None),
    Case("a run ends", sample(GOOD + "\n\nHARK_API int hark_b(void);"), "hark_b has no comment"),
    Case("no comment", sample("HARK_API void hark_do(void);"), "has no comment"),
    Case("a line is missing", sample(GOOD.replace(" * Blocks: no.\n", "")), "no 'Blocks:'"),
    Case("lines out of order",
         sample(GOOD.replace("Threads: any", "T").replace("Blocks: no", "Threads: any")
                .replace(" * T.", " * Blocks: no.")), "out of order"),
    Case("says nothing", sample(GOOD.replace("Does it.", "")), "does not say what"),
    Case("hark_err may be ignored", sample(GOOD.replace(" HARK_MUST", "")), "HARK_MUST"),
    Case("not exported", sample(COMMENT + "void hark_do(void);"), "HARK_API"),
    Case("a third-party include", sample("#include <time.h>"), "<time.h>"),
    Case("a bit-field", sample("struct s { unsigned a : 3; };"), "bit-field"),
    Case("no header at all", {"README": ""}, "looked at nothing"),
]


if __name__ == "__main__":
    main(check, CASES)
