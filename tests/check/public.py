"""Reads include/hark/*.h: the public functions, each with its comment. For headers.py, symbols.py."""
import re
from typing import NamedTuple

from common import line_of, without_comments

ATTRIBUTE = re.compile(r"\b(?:HARK_API|HARK_MUST|HARK_PRINTF\s*\([^)]*\)|__attribute__\s*"
                       r"\(\([^;]*?\)\)|extern)")


class Function(NamedTuple):
    name: str
    returns: str
    api: bool
    must: bool
    comment: str
    where: str


def statements(code):
    """(offset, text) of each top-level declaration; bodies in braces belong to theirs."""
    depth = begin = 0
    for offset, char in enumerate(code):
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            inline = "inline" in code[begin:offset]
            if depth == 0 and inline:
                yield begin, code[begin:offset + 1]
                begin = offset + 1
        elif char == ";" and depth == 0:
            yield begin, code[begin:offset]
            begin = offset + 1


def declarations(text):
    """Code with comments, directives and the extern "C" frame blanked; offsets are kept."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())
    code = without_comments(text)
    code = re.sub(r'#ifdef __cplusplus\n.*?#endif', blank, code, flags=re.S)
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, code, flags=re.M)
    return code


def functions(path):
    """Functions that stand in one run, without a blank line between, share the run's comment."""
    text = path.read_text(encoding="utf-8")
    end, comment = 0, ""
    for begin, statement in statements(declarations(text)):
        body = statement.lstrip()
        offset = begin + len(statement) - len(body)
        if not body or re.match(r"(typedef|static)\b|_Static_assert", body):
            continue
        plain = ATTRIBUTE.sub(" ", body)
        match = re.match(r"\s*([\w\s*]*?)\b(\w+)\s*\(", plain)
        if not match:
            continue
        gap = text[end:offset]
        own = re.search(r"\n[ \t]*(/\*(?:(?!\*/).)*\*/)(?:\s|^#[^\n]*)*\Z", gap, re.S | re.M)
        if own:
            comment = own.group(1)
        elif re.search(r"\n[ \t]*\n", gap):
            comment = ""
        end = begin + len(statement) + 1
        yield Function(match.group(2), " ".join(match.group(1).split()), "HARK_API" in body,
                       "HARK_MUST" in body, comment, f"{path.name}:{line_of(text, offset)}")


def headers(root):
    return sorted((root / "include" / "hark").glob("*.h"))
