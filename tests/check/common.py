"""What the checkers share: a runner with a self-test, and reading C without its comments.

A checker is a function check(root, report) that calls report(text) for each violation and returns
how many things it looked at; looking at nothing is a failure, so a pattern that has gone stale
cannot pass. Its self-test is a list of Case: a small tree and the text its violation must contain,
or None for a tree that must pass.
"""
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, Optional

SKIPPED = 77  # meson's exit status for a test that could not run


def built(path):
    """Does the meson.build beside it, or above it, know this test? A loop over names may leave out
    `_test`, and the folder's name at the beginning."""
    short = path.stem.removesuffix("_test")
    names = {path.name, path.stem, short, short.removeprefix(path.parent.name + "_")}
    known = re.compile("|".join(f"'{re.escape(name)}'" for name in names))
    return any(build.is_file() and known.search(build.read_text(encoding="utf-8"))
               for build in (path.parent / "meson.build", path.parent.parent / "meson.build"))


class Case(NamedTuple):
    name: str
    files: dict
    expect: Optional[str]


def verdict(check, root):
    found = []
    looked = check(Path(root), found.append)
    if not looked:
        found.append("looked at nothing: the checker's file pattern matches no file")
    return looked, found


def self_test(check, cases):
    bad = 0
    if not any(case.expect for case in cases):
        print("self-test: no case that must fail")
        return 1
    for case in cases:
        with tempfile.TemporaryDirectory() as tmp:
            for path, text in case.files.items():
                target = Path(tmp, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
            _, found = verdict(check, tmp)
        if case.expect is None:
            good = not found
        else:
            good = any(case.expect in text for text in found)
        if not good:
            bad += 1
            print(f"self-test: {case.name}: expected {case.expect!r}, got {found}")
    print(f"self-test: {len(cases)} cases, {bad} wrong")
    return 1 if bad else 0


def main(check, cases):
    if len(sys.argv) == 2 and sys.argv[1] == "--self-test":
        sys.exit(self_test(check, cases))
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} ROOT | --self-test")
    looked, found = verdict(check, sys.argv[1])
    for text in found:
        print(text)
    print(f"looked at {looked}, {len(found)} violations")
    sys.exit(1 if found else 0)


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def without_comments(text, strings=True):
    """C source with comments (and the inside of strings, if asked) blanked, line numbers kept."""
    def blank(match):
        token = match.group()
        if token[0] in "\"'":
            return token if strings else token[0] * 2
        return re.sub(r"[^\n]", " ", token)
    return TOKEN.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def c_files(root, folders, suffixes=(".c", ".h")):
    for folder in folders:
        for path in sorted(Path(root, folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path
