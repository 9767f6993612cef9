#!/usr/bin/env python3
"""embed.py OUT NAME IN...: the Lua files, one after another, as a C file that defines hk_rs_script_NAME
(stream_i.h). An array: a string literal of that length is more than C promises."""
import sys


def main():
    out, name, *parts = sys.argv[1:]
    text = ""
    for part in parts:
        with open(part, encoding="utf-8") as f:
            for line in f.read().splitlines():
                line = line.strip()
                if line and not line.startswith("--"):  # the server need not read comments
                    text += line + "\n"
    data = [str(b) for b in text.encode("ascii")]
    with open(out, "w", encoding="ascii") as f:
        f.write('#include "store/redis/stream_i.h"\n\nstatic const char text[] = {\n')
        for i in range(0, len(data), 24):
            f.write(", ".join(data[i:i + 24]) + ",\n")
        f.write("};\nconst hk_rs_script hk_rs_script_%s = {text, sizeof text};\n" % name)


if __name__ == "__main__":
    main()
