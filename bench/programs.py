"""bench/run's own: how programs and servers are found, run, and measured from outside."""
import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-bench"
LIMIT = 600  # seconds for any one program


class Skip(Exception):
    """A peer cannot run here; the text says why."""


class Failure(Exception):
    """A program ran and failed."""


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


LIBRARIES = {"zmq_inproc": "libzmq", "redis_xadd": "hiredis"}  # what may not be installed


def program(name, folder="bench"):
    path = BUILD / folder / name
    if path.exists():
        return path
    if name in LIBRARIES:
        raise Skip(f"{LIBRARIES[name]} is not installed")
    raise Failure(f"{name} was not built")


def text_of(command, **more):
    """Runs a program and gives what it prints."""
    name = Path(str(command[0])).name
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                              timeout=LIMIT, check=False, **more)
    except subprocess.TimeoutExpired:
        raise Failure(f"{name} did not end within {LIMIT} s") from None
    if done.returncode:
        raise Failure(f"{name}: exit {done.returncode}: {last_line(done.stderr)}")
    return done.stdout


def run(command, **options):
    """Runs a program and gives its line of JSON; options become --name value."""
    line = list(command)
    for name, value in options.items():
        line += [f"--{name}", value]
    return json.loads(last_line(text_of(line)))


def hello(line):
    """A server's first line: JSON with its port, or the shop's, which people read."""
    shop = re.match(r"shop: http://[^/]*:(\d+)/", line)
    return {"name": "hark shop", "port": int(shop[1])} if shop else json.loads(line)


@contextlib.contextmanager
def server(command):
    """A server that prints its port first; ended by SIGTERM."""
    with tempfile.TemporaryFile("w+") as errors, \
            subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=errors,
                             text=True) as child:
        try:
            first = child.stdout.readline()
            if not first:
                child.wait()
                errors.seek(0)
                raise Failure(f"{Path(str(command[0])).name}: {last_line(errors.read())}")
            yield child.pid, hello(first)
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()


# ---- CPU time ------------------------------------------------------------------------------------

def stat_of(pid):
    """Its parent, and the ticks it has used without and with those of children that have ended."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    own = int(text[11]) + int(text[12])
    return int(text[1]), own, own + int(text[13]) + int(text[14])


def cpu_of(pid):
    return stat_of(pid)[1] / os.sysconf("SC_CLK_TCK")


def cpu_below(top):
    """Seconds that all processes below this one have used, those that have ended included."""
    known = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            known[int(path.name)] = stat_of(path.name)
    wanted, found = {top}, 0
    while wanted:
        wanted = {pid for pid, stat in known.items() if stat[0] in wanted}
        found += sum(known[pid][2] for pid in wanted)
    return found / os.sysconf("SC_CLK_TCK")
