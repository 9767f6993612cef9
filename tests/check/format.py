#!/usr/bin/env python3
"""clang-format has nothing to change in any C file."""
import shutil
import subprocess
import sys

from common import SKIPPED, Case, c_files, main

FOLDERS = ["include", "src", "examples", "tests", "bench", "fuzz"]


AT_ONCE = 50  # starting the program takes longer than looking at a file


def look(files):
    return subprocess.run(["clang-format", "--dry-run", "-Werror", "--ferror-limit=3",
                           "--style=file", *map(str, files)],
                          capture_output=True, text=True, check=False)


def check(root, report):
    files = list(c_files(root, FOLDERS))
    for at in range(0, len(files), AT_ONCE):
        some = files[at:at + AT_ONCE]
        for path in some if look(some).returncode else []:
            done = look([path])
            if done.returncode:
                report(done.stderr.strip() or f"{path}: clang-format failed")
    return len(files)


STYLE = {".clang-format": "BasedOnStyle: LLVM\nIndentWidth: 4\n"}
CASES = [
    Case("well laid out", {**STYLE, "src/a.c": "int f(void) { return 1; }\n"}, None),
    Case("badly laid out", {**STYLE, "src/a.c": "int f( void ){\n  return 1 ;}\n"},
         "clang-format-violations"),
    Case("no C file", STYLE, "looked at nothing"),
]

if __name__ == "__main__":
    if not shutil.which("clang-format"):
        print("clang-format is not installed")
        sys.exit(SKIPPED)
    main(check, CASES)
