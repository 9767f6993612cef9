"""bench/run's own: the rows of the stores that are servers, and their peers. Each server is started
once, with files in the scratch directory, and is the same for ours and for the peer."""
import re
import resource
import shutil
import socket
from pathlib import Path

from programs import Failure, Skip, cpu_below, program, run, server, text_of

PAGE = 512  # events that a consumer of hark's reads at a time (src/bus/consume.c)
SPAN = 240  # rows of one statement; pgbench takes 255 values
FIRST = 10**11  # numbers of 12 digits, as the end of an id

SETTINGS = {
    # Neither a checkpoint nor a vacuum in the middle of one of the two, room for the log in memory.
    "postgresql": ["shared_buffers=512MB", "max_wal_size=16GB", "checkpoint_timeout=1h",
                   "autovacuum=off", "fsync=on", "synchronous_commit=on", "full_page_writes=on"],
    "redis": ["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"],
    "redis everysec": ["--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"],
}


# ---- servers -------------------------------------------------------------------------------------

def postgres_program(name):
    """Debian keeps each version's programs in a directory of its own; None when there is none."""
    found = [p for p in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
             if p.parent.parent.name.isdigit()]
    newest = max(found, key=lambda p: int(p.parent.parent.name), default=None)
    return str(newest) if newest else shutil.which(name)


def needed(kind, *programs):
    """The programs' paths, or Skip."""
    find = postgres_program if kind == "postgresql" else shutil.which
    paths = [find(name) for name in programs]
    if None in paths:
        raise Skip(f"{programs[paths.index(None)]} is not installed")
    return paths


class StoreServer:
    """One that runs: its URL and port, and the CPU time it uses while something else is done."""

    def __init__(self, pid, hello):
        self.pid, self.url, self.port = pid, hello["url"], hello["port"]

    def measured(self, work):
        """The result of `work`, a function, with what the server used for it."""
        before = cpu_below(self.pid)
        result = work()
        used = cpu_below(self.pid) - before
        return {**result, "server_cpu_us_per_event": used * 1e6 / result["events"]}


def started(c, kind):
    """The server of this kind (see SETTINGS), started when it is first wanted."""
    if kind not in c.servers:
        scheme = kind.split()[0]
        needed(scheme, "postgres" if scheme == "postgresql" else "redis-server")
        command = ["env", "-C", c.dir, "HARK_SERVER_DIR=.", program("store_server"), scheme]
        c.servers[kind] = StoreServer(*c.cleanup.enter_context(
            server([*command, *SETTINGS[kind]])))
    return c.servers[kind]


def psql(s, sql):
    (tool,) = needed("postgresql", "psql")
    return text_of([tool, "-qAt", "-v", "ON_ERROR_STOP=1", s.url, "-c",
                    f"SET client_min_messages=warning; {sql}"]).rstrip("\n")


def flush_redis(s):
    with socket.create_connection(("127.0.0.1", s.port), 60) as link:
        link.sendall(b"FLUSHALL\r\n")
        if link.recv(64) != b"+OK\r\n":
            raise Failure("redis does not flush")


def fresh(s, kind):
    """No log and no peer's data; what a checkpoint has to do is done."""
    if kind == "postgresql":
        psql(s, "DROP SCHEMA IF EXISTS hark CASCADE; DROP SCHEMA IF EXISTS peer CASCADE")
        psql(s, "CHECKPOINT")
    else:
        flush_redis(s)


# ---- ours ----------------------------------------------------------------------------------------

def durability(kind):
    return "memory" if "everysec" in kind else "disk"


def publish(kind, depth, events):
    def go(c, _):
        s = started(c, kind)
        fresh(s, kind)
        c.filled.discard(kind)
        return s.measured(lambda: run([program("publish")], store=s.url, depth=depth,
                                      events=c.count(events), durability=durability(kind)))
    return go


def fill(c, kind, s, events):
    """The log has so many events, and no consumer; it is filled once for all pairs."""
    if kind not in c.filled:
        fresh(s, kind)
        run([program("consume")], store=s.url, events=events, only="publish",
            durability=durability(kind))
        c.filled.add(kind)
    if kind == "postgresql":
        psql(s, "CHECKPOINT")


def consume(kind, events):
    def go(c, _):
        s, count = started(c, kind), c.count(events)
        fill(c, kind, s, count)
        c.consumers += 1
        return s.measured(lambda: run([program("consume")], store=s.url, events=count,
                                      consumer=f"bench-{c.consumers}", only="consume",
                                      durability=durability(kind)))
    return go


# ---- pgbench -------------------------------------------------------------------------------------

def as_text(column):
    """Bytes that are text, which is all that pgbench takes: in hex they would be twice as many."""
    return f"convert_from({column}, 'UTF8')"


def columns_of(s):
    """Name, type and value of each column of an event as hark stored it; no value is NULL."""
    names = psql(s, "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute "
                    "WHERE attrelid = 'hark.events'::regclass AND attnum > 0 AND NOT attisdropped "
                    "ORDER BY attnum").splitlines()
    columns = [line.split(" ", 1) for line in names]
    texts = (as_text(n) if n == "data" else f"{n}::text" for n, _ in columns)
    values = psql(s, "SELECT " + ", ".join(f"coalesce({t}, 'NULL')" for t in texts) +
                  " FROM hark.events ORDER BY seq DESC LIMIT 1").split("|")
    if len(values) != len(columns):
        raise Failure("the event that pgbench is to insert has a '|' in it")
    return [(name, kind, value) for (name, kind), value in zip(columns, values)]


def row_of(columns):
    """A row's values over x(k, d): the number in its group, the data. Text goes in by variables, as
    a colon in a script begins one. Returns the expressions and the variables."""
    values, variables = [], {}
    for name, kind, text in columns:
        if name == "seq":
            value = ":at::int8 + k"
        elif name == "id":
            value = f"'{text[:-12]}' || (:at::int8 + k)"
        elif name == "data":
            value, variables["data"] = "d", text
        elif name in ("recorded", "time"):  # one and the same for a group, as ours
            value = f"{text} + :at::int8"
        elif kind == "bigint" or text == "NULL":
            value = f"({text})::{kind}"
        else:
            value, variables[name] = f":{name}::{kind}", text
        values.append(value)
    return values, variables


def insert_script(columns, group, span):
    """A transaction of `group` rows, `span` in a statement, all in one pipeline."""
    values, variables = row_of(columns)
    names = ", ".join(name for name, _, _ in columns)
    lines = [f"\\set at :at + {group}", "\\startpipeline", "BEGIN;"]
    for first in range(0, group, span):
        rows = ", ".join(f"({k}, :data::bytea)" for k in range(first, min(first + span, group)))
        lines.append(f"INSERT INTO peer.events({names}) SELECT {', '.join(values)} "
                     f"FROM (VALUES {rows}) x(k, d);")
    return "\n".join([*lines, "COMMIT;", "\\endpipeline", ""]), variables


def pgbench(c, s, script, variables, transactions):
    """Runs a script that often; its seconds, without those of connecting."""
    (tool,) = needed("postgresql", "pgbench")
    path = c.dir / "pgbench.sql"
    path.write_text(script, encoding="utf-8")
    line = [tool, "-n", "-M", "prepared", "-c", "1", "-f", path, "-t", transactions]
    for name, value in {**variables, "at": variables.get("at", FIRST)}.items():
        line += ["-D", f"{name}={value}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"^tps = ([\d.]+)", text_of([*line, s.url]), re.M)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not found:
        raise Failure("pgbench: it tells no rate")
    return {"seconds": transactions / float(found[1]),
            "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def rated(result, name, events, group):
    return {**result, "name": name, "events": events, "group": group,
            "rate": events / result["seconds"]}


def pgbench_insert(events, span=SPAN):
    """The row that hark just wrote, in groups of the size that hark's had."""
    def go(c, pair):
        s, group = started(c, "postgresql"), max(1, round(pair["hark"]["group"]))
        script, variables = insert_script(columns_of(s), group, span)
        transactions = max(1, c.count(events) // group)
        psql(s, "DROP SCHEMA IF EXISTS peer CASCADE; CREATE SCHEMA peer; "
                "CREATE TABLE peer.events(LIKE hark.events INCLUDING ALL)")
        psql(s, "CHECKPOINT")
        done = transactions * group
        return s.measured(lambda: rated(pgbench(c, s, script, variables, transactions),
                                        "pgbench", done, group))
    return go


def read_script(columns, pages):
    """So many pages, one after the other, and one update of a ledger's row."""
    names = ", ".join(as_text(name) if name == "data" else name
                      for name, _, _ in columns)
    page = [f"SELECT {names} FROM hark.events WHERE seq > :at ORDER BY seq LIMIT {PAGE};",
            f"\\set at :at + {PAGE}"]
    return "\n".join([*page * pages, "UPDATE peer.ledger SET floor = :at WHERE id = 1;", ""])


def pgbench_read(events):
    """The events that hark just consumed, and a row of a ledger as often as hark saved."""
    def go(c, pair):
        s = started(c, "postgresql")
        pages = max(1, round(pair["hark"]["group"] / PAGE))
        transactions = max(1, c.count(events) // (pages * PAGE))
        script = read_script(columns_of(s), pages)
        psql(s, "DROP SCHEMA IF EXISTS peer CASCADE; CREATE SCHEMA peer; CREATE TABLE "
                "peer.ledger(id int PRIMARY KEY, floor int8) WITH (fillfactor = 40); "
                "INSERT INTO peer.ledger VALUES(1, 0)")
        psql(s, "CHECKPOINT")
        done = transactions * pages * PAGE
        return s.measured(lambda: rated(pgbench(c, s, script, {"at": 0}, transactions),
                                        "pgbench", done, pages * PAGE))
    return go


# ---- Redis ---------------------------------------------------------------------------------------

def fsync_of(kind):
    return "everysec" if "everysec" in kind else "always"


def xadd(depth, events):
    """Plain XADD, beside the rows of other stores."""
    def go(c, _):
        s = started(c, "redis")
        fresh(s, "redis")
        c.filled.discard("redis")
        return s.measured(lambda: run([program("redis_xadd")], port=s.port, depth=depth,
                                      events=c.count(events)))
    return go


def redis_script(kind, depth, events):
    """XADD and SET NX in one script a group, with groups of the size that hark's had."""
    def go(c, pair):
        s, group = started(c, kind), max(1, round(pair["hark"]["group"]))
        fresh(s, kind)
        c.filled.discard(kind)
        return s.measured(lambda: run([program("redis_xadd")], port=s.port, depth=depth,
                                      group=group, events=c.count(events), fsync=fsync_of(kind)))
    return go


def redis_read(kind, events):
    """The stream that hark just consumed, and a field of a ledger as often as hark saved."""
    def go(c, pair):
        s, group = started(c, kind), max(1, round(pair["hark"]["group"]))
        return s.measured(lambda: run([program("redis_xadd")], port=s.port, group=group, page=PAGE,
                                      read="{hark:hark}:s", events=c.count(events),
                                      fsync=fsync_of(kind)))
    return go
