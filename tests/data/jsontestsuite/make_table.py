"""Turns the files of JSONTestSuite's test_parsing into rows of a C table on stdout."""
import os
import sys

UNITS = (b"[", b'[{"":')  # what the large files repeat
PLAIN = set(range(0x20, 0x7F)) - set(b'"\\?')


def literal(data):
    text = "".join(chr(b) if b in PLAIN else "\\%03o" % b for b in data)
    return '"%s"' % text


def row(name, data):
    unit, times, tail = data, 1, b""
    if len(data) > 4000:
        unit = next(u for u in reversed(UNITS) if data.startswith(u * 2))
        times = len(data) // len(unit)
        tail = data[times * len(unit):]
        assert unit * times + tail == data
    return "{%s, %s, %d, %d, %s, %d}," % (literal(name.encode()), literal(unit), len(unit), times,
                                          literal(tail), len(tail))


def main(folder):
    print("/* Made by make_table.py; see README.md. name, unit, its length, times, tail, its length */")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            print(row(name, file.read()))


main(sys.argv[1])
