#!/usr/bin/env python3
"""The pages on formats name what the stores keep: every table of src/store/postgres/tables.c with every column, every
index, and every key of the scripts in src/store/redis."""
import re

from common import Case, main

PG_CODE, PG_PAGE = "src/store/postgres/tables.c", "docs/format-postgresql.md"
REDIS_CODE, REDIS_PAGE = "src/store/redis", "docs/format-redis.md"
LITERALS = re.compile(r'"((?:\\.|[^"\\\n])*)"')
TABLE = re.compile(r"CREATE TABLE @(\w+)\((.*?)\)(?: WITH \([^)]*\))?;", re.S)
INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+)")
CODE = re.compile(r"/\*.*?\*/", re.S)
KEY = re.compile(r"(?:P \.\. |\b(?:get|get_number|get_all|set|add|wipe)\()'([a-z]+:?)'")
NO_COLUMN = {"PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}


def columns_of(body):
    """Without what stands in parentheses, each part between commas begins with a name."""
    while "(" in body:
        body = re.sub(r"\([^()]*\)", "", body)
    for part in body.split(","):
        name = part.split()[0] if part.split() else ""
        if name and name not in NO_COLUMN:
            yield name


def check_postgres(root, report):
    if not (root / PG_CODE).is_file():
        return 0
    page = (root / PG_PAGE).read_text(encoding="utf-8") if (root / PG_PAGE).is_file() else ""
    sql = "".join(LITERALS.findall(CODE.sub("", (root / PG_CODE).read_text(encoding="utf-8"))))
    looked = 0
    for table, body in TABLE.findall(sql):
        looked += 1
        if not re.search(rf"\*\*(?:\w+\*\*, \*\*)*{table}\b", page):
            report(f"{PG_PAGE}: the table {table} is not described")
        for column in columns_of(body):
            if not re.search(rf"\b{column}\b", page) and f"`{column}" not in sqlite_page(root):
                report(f"{PG_PAGE}: the column {column} of {table} is not described")
    for index in INDEX.findall(sql):
        if f"`{index}`" not in page and not index.startswith("kept_"):
            report(f"{PG_PAGE}: the index {index} is not described")
    return looked


def sqlite_page(root):
    page = root / "docs/format-sqlite.md"
    return page.read_text(encoding="utf-8") if page.is_file() else ""


def check_redis(root, report):
    page = (root / REDIS_PAGE).read_text(encoding="utf-8") if (root / REDIS_PAGE).is_file() else ""
    looked = 0
    for path in sorted((root / REDIS_CODE).glob("*.lua")):
        for key in sorted(set(KEY.findall(path.read_text(encoding="utf-8")))):
            looked += 1
            named = f"`{key}[A-Z]" if key.endswith(":") else f"`{key}`"
            if not re.search(named, page):
                report(f"{REDIS_PAGE}: the key {key} of {path.name} is not described")
    return looked


def check(root, report):
    return check_postgres(root, report) + check_redis(root, report)


def sample(sql='"CREATE TABLE @log(one int, last int8);"', pg="**log**: `one`, `last`", lua="get('log', 'x')",
           redis="`log`"):
    return {PG_CODE: f"const char t[] = {sql};\n", PG_PAGE: pg, REDIS_CODE + "/a.lua": lua, REDIS_PAGE: redis}


CASES = [
    Case("all is there", sample(), None),
    Case("a key with a parameter", sample(lua="get('c:' .. id, 'x')", redis="`c:CONSUMER`"), None),
    Case("a table", sample(pg="`one`, `last`"), "the table log is not described"),
    Case("a column", sample(pg="**log**: `one`"), "the column last of log is not described"),
    Case("an index", sample(sql='"CREATE TABLE @log(one int);CREATE INDEX by_one ON @log(one);"', pg="**log**: `one`"),
         "the index by_one is not described"),
    Case("a key", sample(lua="call('HGET', P .. 'q', x)"), "the key q of a.lua is not described"),
    Case("nothing to look at", {"README.md": "\n"}, "looked at nothing"),
]

if __name__ == "__main__":
    main(check, CASES)
