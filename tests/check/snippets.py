#!/usr/bin/env python3
"""Code that the documents show is code that is compiled: every ```c block of the pages below is
found in one program of examples/, where only the white space may differ and what a blank line parts
may be further apart. The names of the API beside it are checked too."""
import re

from common import Case, main

PAGES = ["README.md", "docs/from-echo.md", "docs/how-to/*.md", "docs/tutorial/*.md",
         "examples/*/README.md"]
FENCE = re.compile(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.M | re.S)
API = re.compile(r"`((?:hark|HARK)_\w+)(?:\(\))?`")


def flat(text):
    return " ".join(text.split())


def parts_of(block):
    return [flat(part) for part in re.split(r"\n[ \t]*\n", block) if part.strip()]


def occurs(parts, program):
    """All parts, in order."""
    at = 0
    for part in parts:
        at = program.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def first_missing(parts, programs):
    return next((p for p in parts if not any(p in text for text in programs)), None)


def hunks_of(block):
    """(file, lines) of each hunk of a diff."""
    found = []
    for line in block.splitlines():
        if line.startswith("+++"):
            found.append((line[3:].strip(), []))
        elif line.startswith("@@") and found:
            found.append((found[-1][0], []))
        elif found:
            found[-1][1].append(line)
    return [(name, lines) for name, lines in found if lines]


def check_diff(block, place, folder, report):
    """Each file of a diff is as it is after the diff."""
    hunks = hunks_of(block)
    if not hunks:
        report(f"{place}: a diff without a file: write '+++ its name', seen from the page")
    for name, lines in hunks:
        now, before = (flat("\n".join(l[1:] for l in lines if not l.startswith(c))) for c in "-+")
        if not (folder / name).is_file():
            report(f"{place}: the diff is of {name}, which is not there")
            continue
        program = flat((folder / name).read_text(encoding="utf-8"))
        if now not in program:
            report(f"{place}: {name} is not as after the diff: '{now[:60]}'")
        elif before and before in program and any(l.startswith("-") for l in lines):
            report(f"{place}: {name} is as before the diff: '{before[:60]}'")


def check_page(path, name, programs, report):
    text, looked = path.read_text(encoding="utf-8"), 0
    for match in FENCE.finditer(text):
        if match[1].lower() == "diff":
            looked += 1
            check_diff(match[2], f"{name}:{text.count(chr(10), 0, match.start()) + 1}", path.parent, report)
        if match[1].lower() not in ("c", "h"):
            continue
        looked += 1
        parts = parts_of(match[2])
        line = text.count("\n", 0, match.start()) + 1
        if not parts:
            report(f"{name}:{line}: an empty block")
        elif not any(occurs(parts, program) for program in programs):
            missing = first_missing(parts, programs)
            report(f"{name}:{line}: in no program of examples/: " +
                   (f"'{missing[:60]}'" if missing else "its parts, in this order"))
    return looked


def check_names(path, name, headers, report):
    text = path.read_text(encoding="utf-8")
    for match in API.finditer(FENCE.sub("", text)):
        if not re.search(rf"\b{match[1]}\b", headers):
            report(f"{name}: {match[1]} is not declared in include/hark")


def check(root, report):
    programs = [flat(p.read_text(encoding="utf-8")) for p in sorted((root / "examples").rglob("*.[ch]"))]
    headers = "".join(h.read_text(encoding="utf-8")
                      for h in sorted((root / "include/hark").glob("*.h")))
    looked = 0
    for pattern in PAGES:
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            check_names(path, name, headers, report)
            looked += check_page(path, name, programs, report)
    return looked


def sample(block, prose="", fence="c"):
    return {"README.md": f"{prose}\n```{fence}\n{block}\n```\n",
            "include/hark/bus.h": "hark_err hark_publish(void);\n",
            "examples/a.c": "int main(void)\n{\n    int a = 1;\n    use(a);\n\n    more();\n"
                            "    return 0;\n}\n"}


def diff(lines):
    return {**sample("use(a);"), "examples/shop/README.md": f"```diff\n{lines}\n```\n"}


CASES = [
    Case("a part of a program", sample("int a = 1;\nuse(a);"), None),
    Case("laid out otherwise", sample("  int a =\n1; use(a);"), None),
    Case("parts of one program", sample("int main(void)\n{\n\nreturn 0;"), None),
    Case("another language", {**sample("int a = 1;"), "docs/how-to/a.md": "```\nmake\n```\n"}, None),
    Case("a name of the API", sample("more();", "`hark_publish` and `hark_publish()`"), None),
    Case("other code", sample("int a = 2;"), "in no program of examples/: 'int a = 2;'"),
    Case("one part that is nowhere", sample("int a = 1;\n\nless();"), "'less();'"),
    Case("another order", sample("return 0;\n\nuse(a);"), "in this order"),
    Case("parts of two programs", {**sample("int a = 1;\n\nint b = 1;"),
                                   "examples/b/b.c": "int b = 1;\n"}, "in this order"),
    Case("a header of the examples", {**sample("int b;"), "examples/b.h": "int b;\n"}, None),
    Case("a how-to page", {**sample("int a = 1;"), "docs/how-to/a.md": "```c\nint b;\n```\n"},
         "docs/how-to/a.md:1"),
    Case("written in capitals", sample("int b;", fence="C"), "in no program"),
    Case("a diff", diff("+++ ../a.c\n int a = 1;\n-    old();\n+    use(a);\n@@\n+more();"), None),
    Case("a diff of what is not there", diff("+++ ../a.c\n+    use(b);"), "'use(b);'"),
    Case("its second hunk", diff("+++ ../a.c\n+use(a);\n@@\n+    use(b);"), "'use(b);'"),
    Case("lines that are further apart", diff("+++ ../a.c\n+use(a);\n+return 0;"), "is not as after"),
    Case("a diff that was undone", diff("+++ ../a.c\n-use(a);\n-more();\n+more();"), "is as before"),
    Case("a diff of another file", diff("+++ b.c\n+    use(a);"), "b.c, which is not there"),
    Case("a diff of no file", diff("+    use(a);"), "a diff without a file"),
    Case("an empty block", sample(""), "an empty block"),
    Case("a name that is not in the API", sample("more();", "`hark_publsh`"), "hark_publsh is not"),
    Case("nothing to look at", {"README.md": "\n"}, "looked at nothing"),
]

if __name__ == "__main__":
    main(check, CASES)
