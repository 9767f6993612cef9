#!/usr/bin/env python3
"""Every relative link of a document leads to a file or folder of the project, and to a heading that is there."""
import re

from common import Case, main

PAGES = ["*.md", "docs/*.md", "docs/*/*.md", "bench/*.md", "examples/*/*.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
HEADING = re.compile(r"^#+ +(.*)$", re.M)


def anchors(path):
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in HEADING.findall(text)}


def check(root, report):
    looked = 0
    for pattern in PAGES:
        for page in sorted(root.glob(pattern)):
            name = page.relative_to(root).as_posix()
            for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
                if re.match(r"[a-z]+:", link):
                    continue
                looked += 1
                path, _, anchor = link.partition("#")
                target = (page.parent / path) if path else page
                if not target.exists():
                    report(f"{name}: there is no {link}")
                elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                    report(f"{name}: {link}: no such heading")
    return looked


CASES = [
    Case("a file", {"README.md": "[a](docs/a.md)\n", "docs/a.md": "x\n"}, None),
    Case("a folder", {"docs/a.md": "[b](../src/)\n", "src/x.c": "\n"}, None),
    Case("a heading", {"README.md": "[a](#two-words)\n\n## Two words\n"}, None),
    Case("elsewhere", {"README.md": "[a](https://example.org/x) [b](b.md)\n", "b.md": ""}, None),
    Case("nothing there", {"README.md": "[a](docs/a.md)\n"}, "README.md: there is no docs/a.md"),
    Case("a heading that is not there", {"README.md": "[a](#three)\n\n## Two\n"}, "no such heading"),
    Case("in a code block only", {"README.md": "```\n[a](x.md)\n```\n[b](b.md)\n", "b.md": ""}, None),
    Case("nothing to look at", {"README.md": "\n"}, "looked at nothing"),
]

if __name__ == "__main__":
    main(check, CASES)
