#!/usr/bin/env python3
"""What the documents show on a console is what happens: every ```console block of the pages given is
typed in, in order, and what it prints is compared.

Usage: consoles.py PROGRAMS SOURCE PAGE..., the folder of the built programs and the root of the project.

Lines that begin with "$ " are typed ("> " goes on with them); what follows is expected. In it "…" stands for
any text of a line, and a line of nothing but "…" for any lines. The commands of a page share one shell in a
fresh directory. Three things are done differently from what a reader does:

 - `script/run …` of a service starts the built program in the background, on a free port; it has started when it
   says where it listens. Its further output is not compared. Other programs are run as they are built.
 - `git clone …` has been done.
 - "localhost:8080" is that port.
 - `pkill …` and Ctrl-C are of programs of this page only: "$ pkill -9 -x shop" kills all of them with SIGKILL,
   "$ pkill -INT -x shop" ends them as Ctrl-C does.

A `curl` that only reads is repeated until it shows what is expected, since consumers take their time; whatever
still differs after a minute is told."""
import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from shop_kit import group_alive

HUNG = 60 if not os.environ.get("HARK_TEST_BRIEF") else 240  # seconds
FENCE = re.compile(r"^```console[ \t]*\n(.*?)^```[ \t]*$", re.M | re.S)
DONE = "consoles-done-7f3a"
PAUSE = threading.Event()
SERVICES = {"shop", "quickstart", "orders_http"}


def steps(block):
    """(command, expected lines) of a block."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line[2:], [])
        elif found:
            found[-1][1].append(line)
        else:
            raise SystemExit(f"a console block begins with what is no command: {line}")
    return found


def expression(lines):
    """The regular expression of expected lines."""
    out = []
    for line in lines:
        if line.strip() == "…":
            out.append(r"(?:.*\n)*?")
        else:
            out.append(r".*?".join(re.escape(part.rstrip()) for part in line.split("…")) + r"[ \t]*\n")
    return re.compile("".join(out) + r"\Z")


def only_reads(command):
    words = shlex.split(command.split("|")[0])
    return words[:1] == ["curl"] and not any(
        w in ("-X", "-d", "--json", "--data", "-N") or w.startswith("-X") for w in words)


class Page:
    def __init__(self, programs, where):
        self.programs, self.servers, self.port = Path(programs).resolve(), [], 0
        self.where = where
        self.shell = subprocess.Popen(["bash", "--norc"], cwd=where, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.shell.stdout.fileno(), False)

    def close(self):
        self.shell.kill()
        self.shell.wait()
        self.signal(signal.SIGKILL)

    def signal(self, number):
        for server in self.servers:
            try:
                os.killpg(server.pid, number)
            except ProcessLookupError:
                pass
        for server in self.servers:
            server.wait(HUNG)
            deadline = time.monotonic() + HUNG
            while group_alive(server.pid) and time.monotonic() < deadline:
                PAUSE.wait(0.01)
        self.servers = []

    def type(self, command):
        """What a command of the shell prints."""
        text = command.replace("localhost:8080", f"127.0.0.1:{self.port}")
        self.shell.stdin.write(f"{text}\necho; echo {DONE}\n".encode())
        self.shell.stdin.flush()
        got, deadline = "", time.monotonic() + HUNG
        with selectors.DefaultSelector() as wait:
            wait.register(self.shell.stdout, selectors.EVENT_READ)
            while f"{DONE}\n" not in got:
                if not wait.select(max(0, deadline - time.monotonic())):
                    raise SystemExit(f"$ {command}\nhangs; so far it printed:\n{got}")
                piece = self.shell.stdout.read()
                if piece == b"":
                    raise SystemExit(f"$ {command}\nended the shell")
                got += (piece or b"").decode("utf-8", "replace")
        got = got[:got.index(DONE)].rstrip("\n")
        got = got.replace(f"127.0.0.1:{self.port}", "localhost:8080")
        return got + "\n" if got else ""

    def find(self, name):
        for path in (self.programs / name / name, self.programs / name):
            if path.is_file():
                return str(path)
        raise SystemExit(f"there is no program {name} in {self.programs}")

    def start(self, command):
        words = shlex.split(command, comments=True)[1:]
        name = words.pop(0) if words and not words[0].startswith("-") else "shop"
        with open(Path(self.where) / "server.err", "ab") as err:
            server = subprocess.Popen([self.find(name), *words, "--listen", "127.0.0.1:0"], cwd=self.where,
                                      stdout=subprocess.PIPE, stderr=err, start_new_session=True)
        self.servers.append(server)
        for line in server.stdout:
            told = re.search(rb"(?:http://[\d.]+:|listening on port )(\d+)", line)
            if told:
                self.port = int(told[1])
                subprocess.Popen(["cat"], stdin=server.stdout, stdout=subprocess.DEVNULL)
                return
        raise SystemExit(f"$ {command}\nit ended before it listened:\n" +
                         (Path(self.where) / "server.err").read_text())

    def step(self, command, expected):
        if command.startswith("git clone"):
            return None
        if command.startswith("script/run"):
            words = shlex.split(command, comments=True)[1:]
            if not words or words[0].startswith("-") or words[0] in SERVICES:
                return self.start(command)
            command = shlex.join([self.find(words[0]), *words[1:]])
        if command.startswith("pkill -9"):
            return self.signal(signal.SIGKILL)
        if command.startswith("pkill -INT"):
            return self.signal(signal.SIGINT)
        want, deadline = expression(expected), time.monotonic() + HUNG
        while True:
            got = self.type(command)
            if want.match(got):
                return None
            if not only_reads(command) or time.monotonic() > deadline:
                raise SystemExit(f"$ {command}\nexpected:\n" + "\n".join(expected) + f"\ngot:\n{got}")
            PAUSE.wait(0.05)  # between two looks


def run_page(path, programs):
    blocks = FENCE.findall(path.read_text(encoding="utf-8"))
    n = 0
    with tempfile.TemporaryDirectory() as where:
        page = Page(programs, where)
        try:
            for block in blocks:
                for command, expected in steps(block):
                    page.step(command, expected)
                    n += 1
        except SystemExit as e:
            print(f"{path.name}: step {n + 1}: {e}")
            return False
        finally:
            page.close()
    print(f"{path.name}: {n} commands as shown")
    return n > 0


def self_test():
    """What must not match, does not."""
    assert expression(["a…c"]).match("abc\n") and not expression(["a…c"]).match("abd\n")
    assert expression(["a", "…", "b"]).match("a\nx\ny\nb\n") and not expression(["a"]).match("a\nb\n")
    assert not expression(["a"]).match("") and expression([]).match("")
    assert steps("$ a\n> b\nc\n$ d\n") == [("a\nb", ["c"]), ("d", [])]
    assert only_reads("curl -s localhost:8080/x") and not only_reads("curl -X PUT localhost:8080/x")


def main():
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    programs, root = sys.argv[1:3]
    self_test()
    pages = [Path(root) / p for p in sys.argv[3:]]
    good = [run_page(p, programs) for p in pages]
    sys.exit(0 if all(good) else 1)


main()
