#!/usr/bin/env python3
"""The include rules of DESIGN section 4: which folder of src/ may include what."""
import re

from common import Case, c_files, line_of, main, without_comments

# Folder -> (front headers of folders it may include, public headers, client libraries).
# The longest matching folder counts. "*" stands for every public header.
RULES = {
    "base": (set(), {"error", "version"}, set()),
    "json": ({"base"}, {"error", "json"}, {"jansson.h"}),
    "event": ({"base", "json"}, {"error", "json", "event", "store"}, set()),  # hark_event_stamp
    "delivery": ({"base", "event"}, {"error", "event", "bus", "store"}, set()),  # for types only
    "store": ({"base", "event", "store/*"}, {"error", "event", "store"}, set()),
    "store/memory": ({"base", "event"}, {"error", "event", "store"}, set()),
    "store/common": ({"base", "event"}, {"error", "event", "store"}, set()),
    "store/sqlite": ({"base", "event", "store/common"}, {"error", "event", "store"}, {"sqlite3.h"}),
    "store/postgres": ({"base", "event", "store/common"}, {"error", "event", "store"},
                       {"libpq-fe.h"}),
    "store/redis": ({"base", "event", "store/common"}, {"error", "event", "store"}, {"hiredis/"}),
    "bus": ({"base", "event", "delivery", "store"},
            {"error", "version", "event", "json", "store", "bus", "operate", "supervise", "tx",
             "versions"}, set()),
    "http": ({"base", "json"},
             {"error", "version", "event", "json", "bus", "http", "middleware", "stream"},
             {"microhttpd.h", "zlib.h"}),
    "hub": ({"base", "event", "bus", "http"}, {"*"}, {"curl/"}),
    "cli": ({"hub"}, {"*"}, set()),
}

# Headers of libc, the kernel and the compiler; anything else in <> is a library that a rule must name.
LIBC = set("""alloca assert ctype dirent dlfcn endian errno execinfo fcntl float getopt grp
inttypes langinfo limits link locale malloc math mntent netdb poll pthread pwd sched search
semaphore setjmp signal spawn stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib
stdnoreturn string strings syslog termios threads time ucontext uchar unistd wchar""".split())
LIBC_FOLDERS = ("sys/", "linux/", "netinet/", "arpa/", "net/", "sanitizer/")

# The delivery core is pure: no threads, I/O or clock, neither from libc nor through base.
PURE = "delivery"
PURE_LIBC = set("""assert errno inttypes limits stdalign stdarg stdbool stddef stdint stdlib
stdnoreturn string""".split())
IMPURE_CALL = re.compile(
    r"\b(hk_(?:wall|mono)_\w+|hk_(?:gate|cond|thread|role|ring)_\w+|hk_random|hk_log|hk_uuid7"
    r"|hark_(?!event_|err_|pattern_|store_consumer_clear)\w+"  # the public API it may see, not call
    r"|pthread_\w+|clock_gettime|time|rand|getenv|printf|fprintf|fopen|open|read|write)\s*\(")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def folder_of(path):
    """The rule's folder of a file below src/, e.g. store/sqlite; None outside every rule."""
    parts = path.parts[:-1]
    for length in range(len(parts), 0, -1):
        if "/".join(parts[:length]) in RULES:
            return "/".join(parts[:length])
    return None


def check_system(folder, header, test):
    fronts, public, libraries = RULES[folder]
    if header.startswith("hark/"):
        name = header[len("hark/"):-len(".h")]
        if "*" in public or name in public:
            return None
        return f"<{header}> is not among the public headers that {folder} may include"
    if header in libraries or any(l.endswith("/") and header.startswith(l) for l in libraries):
        return None
    if header[:-2] in LIBC or header.startswith(LIBC_FOLDERS):
        if folder == PURE and not test and header[:-2] not in PURE_LIBC:
            return f"<{header}> in the pure core: no threads, I/O or clock there"
        return None
    if test and header == "cmocka.h":
        return None
    return f"<{header}> is neither libc nor a library that {folder} may use"


def check_local(src, path, folder, header, test):
    target = (path.parent / header) if (path.parent / header).is_file() else (src / header)
    if not target.is_file():
        return f'"{header}" is not a file of src/'
    if not target.resolve().is_relative_to(src.resolve()):
        data = (src.parent / "tests/data").resolve()
        return None if test and target.resolve().is_relative_to(data) else \
            f'"{header}" is outside of src/'
    owner = folder_of(target.resolve().relative_to(src.resolve()))
    if owner == folder:
        return None
    if target.name.endswith("_i.h"):
        return f'"{header}" is internal to {owner}'
    fronts = RULES[folder][0]
    wild = {front[:-2] for front in fronts if front.endswith("/*")}
    if owner in fronts or any(owner.startswith(w + "/") for w in wild):
        return None
    return f"{folder} may not include {owner} (\"{header}\")"


def check_header_name(src, path, folder):
    if path.suffix != ".h" or path.name.endswith("_i.h"):
        return None
    front = src / folder / (folder.split("/")[-1] + ".h")
    if path == front:
        return None
    return f"is neither {front.name}, the front header of {folder}, nor named *_i.h"


def check_src(root, report):
    src, looked = root / "src", 0
    for path in c_files(root, ["src"]):
        looked += 1
        relative = path.relative_to(src)
        folder = folder_of(relative)
        if folder is None:
            report(f"src/{relative}: its folder has no rule in tests/check/layers.py")
            continue
        test = path.stem.endswith(("_test", "_test_i"))
        code = without_comments(path.read_text(encoding="utf-8"))
        wrong = check_header_name(src, path, folder)
        if wrong:
            report(f"src/{relative}: {wrong}")
        for match in INCLUDE.finditer(code):
            kind, header = match.groups()
            wrong = (check_system(folder, header, test) if kind == "<"
                     else check_local(src, path, folder, header, test))
            if wrong:
                report(f"src/{relative}:{line_of(code, match.start())}: {wrong}")
        if folder == PURE and not test:
            for match in IMPURE_CALL.finditer(without_comments(code, strings=False)):
                report(f"src/{relative}:{line_of(code, match.start())}: "
                       f"{match.group(1)}() in the pure core")
    return looked


def check_examples(root, report):
    """Examples are what users read: public headers, libc and their own only."""
    looked = 0
    for path in c_files(root, ["examples"]):
        looked += 1
        code = without_comments(path.read_text(encoding="utf-8"))
        for match in INCLUDE.finditer(code):
            kind, header = match.groups()
            own = kind == '"' and (path.parent / header).is_file()
            public = header.startswith("hark/") or header == "hark.h"
            libc = header[:-2] in LIBC or header.startswith(LIBC_FOLDERS)
            if not (own or (kind == "<" and (public or libc))):
                report(f"{path.relative_to(root)}:{line_of(code, match.start())}: "
                       f"examples may not include {header}")
    return looked


def check(root, report):
    looked = check_src(root, report)
    return looked and looked + check_examples(root, report)


BASE = {"src/base/base.h": "#include <hark/error.h>\n#include <pthread.h>\n"}
CASES = [
    Case("a clean tree", {**BASE, "src/json/json.h": '#include "base/base.h"\n',
                          "src/json/field.c": '#include "json/json.h"\n#include <jansson.h>\n',
                          "src/json/field_test.c": "#include <cmocka.h>\n"}, None),
    Case("commented out", {**BASE, "src/base/a.c": '/* #include <jansson.h> */\n'}, None),
    Case("a library that is not the folder's", {"src/base/a.c": "#include <jansson.h>\n"},
         "neither libc nor"),
    Case("cmocka outside a test", {"src/base/a.c": "#include <cmocka.h>\n"}, "neither libc nor"),
    Case("upwards", {"src/bus/bus.h": "\n", "src/event/a.c": '#include "bus/bus.h"\n'},
         "event may not include bus"),
    Case("another folder's inside", {"src/json/field_i.h": "\n",
                                     "src/event/a.c": '#include "json/field_i.h"\n'},
         "internal to json"),
    Case("one backend includes another", {"src/store/memory/memory.h": "\n",
                                          "src/store/sqlite/a.c": '#include "store/memory/memory.h"\n'},
         "store/sqlite may not include store/memory"),
    Case("bus reaches past the front of store", {"src/store/sqlite/sqlite.h": "\n",
                                                 "src/bus/a.c": '#include "store/sqlite/sqlite.h"\n'},
         "bus may not include store/sqlite"),
    Case("a second front header", {"src/base/other.h": "\n"}, "front header of base"),
    Case("a clock header in the core", {"src/delivery/a.c": "#include <time.h>\n"}, "pure core"),
    Case("a clock call in the core", {"src/delivery/a.c": "int64_t t = hk_mono_ns();\n"},
         "hk_mono_ns() in the pure core"),
    Case("the core calls the bus", {"src/delivery/a.c": "int x = hark_publish(b, s, r);\n"},
         "hark_publish() in the pure core"),
    Case("a test's data", {"tests/data/a.inc": "", "src/base/a_test.c":
                           '#include "../../tests/data/a.inc"\n'}, None),
    Case("out of the house", {"bench/a.h": "", "src/base/a.c": '#include "../../bench/a.h"\n'},
         "outside of src/"),
    Case("public header out of reach", {"src/base/a.c": "#include <hark/bus.h>\n"},
         "not among the public headers"),
    Case("a folder without a rule", {"src/util/a.c": "\n"}, "has no rule"),
    Case("an example that looks inside", {**BASE, "examples/a.c": '#include "base/base.h"\n'},
         "examples may not include"),
    Case("nothing to look at", {"README": "\n"}, "looked at nothing"),
]

if __name__ == "__main__":
    main(check, CASES)
