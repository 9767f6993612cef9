#!/usr/bin/env python3
"""HARK_ERR_MAP is sound, and docs/errors.md says the same.

Usage: errors.py ROOT | --self-test; errors.py ROOT --write makes docs/errors.md anew.
"""
import re
import sys
from pathlib import Path
from typing import NamedTuple

from common import Case, main

CLASSES = {
    "OK": "no error",
    "REFUSED": "nothing stored; repeating the same call is useless",
    "TRANSIENT": "nothing stored; repeat later",
    "UNKNOWN": "may be stored; repeat with the same source and id",
    "FATAL": "the bus is read-only from now on",
}
# What a name does not say. On a log that several processes share: see docs/stores.md.
NOTES = {
    "EUNKNOWN": "`sqlite:`: the store takes no more writes until it is opened again. On a server the reply to a commit "
                "was lost and could not be found out within 5 s; writing goes on.",
    "ELOCKED": "`sqlite:`: another process has the log open to write. On a shared log another process may be publishing "
               "the schedule that is to be cancelled: ask again.",
    "ESTALE": "the attempt has timed out, the consumer was reset, or, on a shared log, its share is another process's "
              "by now: stop working on it, it comes again.",
}
ROW = re.compile(r'X\(\s*(\w+)\s*,\s*(\d+)\s*,\s*(\w+)\s*,\s*(\d+)\s*,\s*((?:"[^"]*"[\s\\]*)+)\)')


class Row(NamedTuple):
    name: str
    value: int
    cls: str
    http: int
    text: str


def rows(root):
    header = (root / "include/hark/error.h").read_text(encoding="utf-8")
    table = re.search(r"#define HARK_ERR_MAP\(X\)(?:[^\n]*\\\n)*[^\n]*", header)
    if not table:
        return []
    return [Row(n, int(v), c, int(h), "".join(re.findall(r'"([^"]*)"', t)))
            for n, v, c, h, t in ROW.findall(table.group())]


def document(table):
    lines = ["# Error codes", "",
             "Made from `HARK_ERR_MAP` in `include/hark/error.h` by "
             "`tests/check/errors.py . --write`; do not edit.", "",
             "| code | value | class | HTTP | meaning |", "|---|---:|---|---:|---|"]
    lines += [f"| `HARK_{r.name}` | {r.value} | {r.cls.lower()} | {r.http} | {r.text} |"
              for r in table]
    lines += ["", "What a caller may conclude from the class:", "",
              "| class | meaning |", "|---|---|"]
    lines += [f"| {name.lower()} | {text} |" for name, text in CLASSES.items()]
    notes = [f"- `HARK_{r.name}`: {NOTES[r.name]}" for r in table if r.name in NOTES]
    lines += ["", "Some in more words:", "", *notes] if notes else []
    return "\n".join(lines) + "\n"


def check(root, report):
    table = rows(root)
    for what in "name", "value":
        seen = [getattr(r, what) for r in table]
        for twice in sorted({v for v in seen if seen.count(v) > 1}):
            report(f"error.h: {what} {twice} stands twice in HARK_ERR_MAP")
    for r in table:
        if r.cls not in CLASSES:
            report(f"error.h: HARK_{r.name} has the unknown class {r.cls}")
        if r.name != "OK" and not 400 <= r.http <= 599:
            report(f"error.h: HARK_{r.name} maps to {r.http}, which is no HTTP error")
    for r in table[:1]:
        if (r.name, r.value) != ("OK", 0):
            report("error.h: HARK_OK with value 0 must come first")
    page = root / "docs/errors.md"
    if table and (not page.is_file() or page.read_text(encoding="utf-8") != document(table)):
        report("docs/errors.md is not what HARK_ERR_MAP says; run tests/check/errors.py . --write")
    return len(table)


def sample(*lines, page=None):
    body = "".join(f" \\\n    {line}" for line in lines)
    header = f"#define HARK_ERR_MAP(X){body}\n"
    table = [Row("OK", 0, "OK", 200, "success"), Row("EINVAL", 1, "REFUSED", 400, "invalid")]
    return {"include/hark/error.h": header,
            "docs/errors.md": document(table) if page is None else page}


OK = 'X(OK, 0, OK, 200, "success")'
EINVAL = 'X(EINVAL, 1, REFUSED, 400, "invalid")'
CASES = [
    Case("all well", sample(OK, EINVAL), None),
    Case("a value twice", sample(OK, EINVAL, 'X(E2, 1, REFUSED, 400, "b")'), "value 1 stands twice"),
    Case("unknown class", sample(OK, 'X(EINVAL, 1, MAYBE, 400, "invalid")'), "unknown class"),
    Case("no HTTP error", sample(OK, 'X(EINVAL, 1, REFUSED, 200, "invalid")'), "no HTTP error"),
    Case("a stale page", sample(OK, EINVAL, page="# Error codes\n"), "docs/errors.md is not"),
    Case("no table", {"include/hark/error.h": "\n"}, "looked at nothing"),
]

if __name__ == "__main__":
    if sys.argv[2:] == ["--write"]:
        top = Path(sys.argv[1])
        (top / "docs").mkdir(exist_ok=True)
        (top / "docs/errors.md").write_text(document(rows(top)), encoding="utf-8")
        sys.exit(0)
    main(check, CASES)
