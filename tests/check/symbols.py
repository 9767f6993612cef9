#!/usr/bin/env python3
"""Headers, version script and shared library agree: every HARK_API function is exported, and
nothing else is.

Usage: symbols.py ROOT LIBRARY | --self-test
"""
import fnmatch
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from common import without_comments
from public import functions, headers


def declared(root):
    return {f.name for path in headers(root) for f in functions(path) if f.api}


def script_patterns(path):
    """Patterns that the version script's nodes make global."""
    text = without_comments(re.sub(r"#[^\n]*", "", path.read_text(encoding="utf-8")))
    patterns = []
    for body in re.findall(r"\w+\s*\{(.*?)\}", text, re.S):
        section = "global"
        for item in re.findall(r"(global|local)\s*:|([\w*?\[\]-]+)\s*;", body):
            section = item[0] or section
            if item[1] and section == "global":
                patterns.append(item[1])
    return patterns


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True,
                         check=True).stdout
    names = set()
    for line in out.splitlines():
        *_, kind, name = line.split()
        if kind != "A":  # the version nodes themselves
            names.add(name.split("@")[0])
    return names


def check(root, library):
    found = []
    names, patterns, symbols = declared(root), script_patterns(root / "src/hark.map"), \
        exported(library)
    if not names:
        found.append("no HARK_API function found in include/hark")
    for name in sorted(names - symbols):
        found.append(f"{name}: in the headers, not exported by the library")
    for name in sorted(symbols - names):
        found.append(f"{name}: exported by the library, not in the headers")
    for name in sorted(names):
        if not any(fnmatch.fnmatchcase(name, p) for p in patterns):
            found.append(f"{name}: in the headers, not in src/hark.map")
    for pattern in patterns:
        if not pattern.startswith("hark_"):
            found.append(f"src/hark.map: '{pattern}' is not of the hark_ prefix")
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            found.append(f"src/hark.map: '{pattern}' matches no public function")
    return len(names), found


HEADER = ('#define HARK_API __attribute__((visibility("default")))\n'
          "HARK_API int hark_one(void);\nHARK_API int hark_two(void);\n")
SOURCE = "int hark_one(void) { return 1; }\nint hark_two(void) { return 2; }\n"
MAP = "HARK_0 { global: hark_*; local: *; };\n"
CASES = [  # name, header, source, map, what must be found
    ("all agree", HEADER, SOURCE, MAP, None),
    ("declared, not defined", HEADER + "HARK_API int hark_three(void);\n", SOURCE, MAP,
     "hark_three: in the headers, not exported"),
    ("defined, not declared", HEADER, SOURCE + "int hark_extra(void) { return 3; }\n", MAP,
     "hark_extra: exported by the library, not"),
    ("a foreign name leaks", HEADER, SOURCE + "int hk_x(void) { return 3; }\n",
     MAP.replace("hark_*;", "hark_*; hk_*;"), "hk_x: exported"),
    ("missing in the script", HEADER, SOURCE, MAP.replace("hark_*", "hark_one"),
     "hark_two: in the headers, not in src/hark.map"),
]


def self_test():
    bad = 0
    for name, header, source, script, expect in CASES:
        with tempfile.TemporaryDirectory() as tmp:
            root = Path(tmp)
            (root / "include/hark").mkdir(parents=True)
            (root / "src").mkdir()
            (root / "include/hark/x.h").write_text(header)
            (root / "src/hark.map").write_text(script)
            (root / "x.c").write_text(source)
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", f"{tmp}/libx.so", f"{tmp}/x.c",
                            f"-Wl,--version-script={tmp}/src/hark.map"], check=True)
            _, found = check(root, f"{tmp}/libx.so")
        good = not found if expect is None else any(expect in text for text in found)
        if not good:
            bad += 1
            print(f"self-test: {name}: expected {expect!r}, got {found}")
    print(f"self-test: {len(CASES)} cases, {bad} wrong")
    return 1 if bad else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    looked, found = check(Path(sys.argv[1]), sys.argv[2])
    for text in found:
        print(text)
    print(f"looked at {looked} public functions, {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
