"""Where the shop keeps its books, opened for the audit (shop_audit.py) without anything of hark's: SQLite
with Python's sqlite3 (docs/format-sqlite.md), PostgreSQL with psql. Both run SQL that names tables as they
are in SQLite; what differs is in the class of each:

    EVENTS       the log, in order: seq, recorded, type, id, dataversion, subject, correlationid,
                 causationid, userid, partitionkey, data
    sound()      what the database itself finds wrong
    consumers()  (id, name, pattern, share, shares, floor, settled, paused), a row for each share
    FAULTS       SQL that plants a fault there, by name, for shop_audit.faults_found"""
import json
import sqlite3
import subprocess

AGAIN = ("INSERT INTO hark_events(seq, id, subject_version, {0}) "
         "SELECT (SELECT max(seq) + 1 FROM hark_events), id || 'x', subject_version + 1000, {0} "
         "FROM hark_events WHERE seq = ({1})")


class Sqlite:
    EVENTS = ("SELECT seq, recorded, t.name, e.id, dataversion, subject, correlationid, causationid, "
              "json_extract(attrs, '$.userid'), partitionkey, data "
              "FROM hark_events e JOIN hark_types t ON t.id = type_id ORDER BY seq")
    COLUMNS = ("recorded, source_id, type_id, mediatype_id, time, dataversion, check_sum, digest, subject, "
               "partitionkey, correlationid, causationid, attrs, data")
    NEWEST = "SELECT max(seq) FROM hark_events JOIN hark_types t ON t.id = type_id WHERE t.name = '%s'"
    FAULTS = {
        "again": AGAIN.format(COLUMNS, NEWEST),
        "gone": f"DELETE FROM hark_events WHERE seq = ({NEWEST})",
        "unsettle": "UPDATE hark_consumers SET floor = 1, settled = NULL WHERE name = '%s'",
        "open": "INSERT INTO hark_deliveries SELECT id, 1, 1, 1, 0, 0, 0, 0, NULL, NULL "
                "FROM hark_consumers WHERE name = '%s'",
    }

    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.execute, self.close = self.db.execute, self.db.close

    def sound(self):
        """SQLite finds nothing wrong with its file."""
        for pragma in "quick_check", "foreign_key_check":
            for row in self.execute(f"PRAGMA {pragma}"):
                if row[0] != "ok":
                    yield f"{pragma}: {row}"

    def consumers(self):
        return [(cid, name, pattern, 0, 1, floor, blob, paused) for cid, name, pattern, floor, blob, paused in
                self.execute("SELECT id, name, pattern, floor, settled, paused FROM hark_consumers")]

    def lift_constraints(self):
        self.execute("PRAGMA foreign_keys = OFF")
        self.execute("PRAGMA ignore_check_constraints = ON")


class Rows(list):
    """What psql answered, with the little of a cursor that is needed."""
    rowcount = 0

    def fetchone(self):
        return self[0] if self else None


class Postgres:
    """A session of psql, which is fed statement by statement. Views of its own give hark's tables the names
    that they have in SQLite; what is written through them is in the tables."""
    VIEWS = ("events", "schedules", "gaps", "deliveries", "consumers", "dead_letters")
    EVENTS = ("SELECT seq, recorded, type, id, dataversion, subject, correlationid, causationid, "
              "CAST(attrs AS json) ->> 'userid', partitionkey, convert_from(data, 'UTF8') FROM hark_events ORDER BY seq")
    COLUMNS = ("recorded, source, type, mediatype, time, dataversion, check_sum, digest, subject, "
               "partitionkey, correlationid, causationid, attrs, data")
    NEWEST = "SELECT max(seq) FROM hark_events WHERE type = '%s'"
    FAULTS = {
        "again": AGAIN.format(COLUMNS, NEWEST),
        "gone": f"DELETE FROM hark_events WHERE seq = ({NEWEST})",
        "unsettle": "UPDATE hark.shares SET floor = 1, settled = NULL "
                    "WHERE consumer_id = (SELECT id FROM hark_consumers WHERE name = '%s')",
        "open": "INSERT INTO hark_deliveries SELECT id, 1, 1, 1, 0, 0, 0, 0, 0, NULL, NULL "
                "FROM hark_consumers WHERE name = '%s'",
    }
    DONE = "the statement has been run"

    def __init__(self, url):
        self.psql = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", url], stdin=subprocess.PIPE, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in self.VIEWS:
            self.execute(f"CREATE TEMP VIEW hark_{name} AS SELECT * FROM hark.{name}")

    def execute(self, sql):
        rows = sql.lstrip().upper().startswith("SELECT")
        self.psql.stdin.write((f"SELECT to_json(q) FROM ({sql}) q" if rows else sql) +
                              f";\n\\echo {self.DONE} :SQLSTATE :ROW_COUNT\n")
        self.psql.stdin.flush()
        got = Rows()
        for line in self.psql.stdout:
            if line.startswith(self.DONE):
                state, got.rowcount = line[len(self.DONE):].split()[0], int(line.split()[-1])
                break
            if rows:
                got.append(tuple(value for _, value in json.loads(line, object_pairs_hook=list)))
        else:
            raise RuntimeError(f"psql ended: {self.psql.stderr.read()}")
        if state != "00000":
            self.psql.stdin.close()
            raise RuntimeError(f"{sql}: {self.psql.stderr.read()}")
        return got

    def close(self):
        self.psql.communicate()

    def sound(self):
        """The head of the log is its last event, and no transaction is left open or prepared."""
        head, last = self.execute("SELECT (SELECT last FROM hark.log), (SELECT max(seq) FROM hark.events)").fetchone()
        if head != last:
            yield f"the log's head says {head}, its last event is {last}"
        for row in self.execute("SELECT gid FROM pg_prepared_xacts"):
            yield f"prepared: {row}"

    def consumers(self):
        return [(*row[:6], row[6] and bytes.fromhex(row[6]), row[7]) for row in self.execute(
            "SELECT c.id, name, pattern, share, shares, floor, encode(settled, 'hex'), paused "
            "FROM hark_consumers c JOIN hark.shares s ON s.consumer_id = c.id ORDER BY name, share")]

    def lift_constraints(self):
        self.execute("SET session_replication_role = replica")


def open_books(url):
    """By the URL that the shop was given."""
    scheme, rest = url.split(":", 1)
    return Sqlite(rest) if scheme == "sqlite" else Postgres(url)


# ---- shares --------------------------------------------------------------------------------------

MASK = (1 << 64) - 1


def siphash(data):
    """SipHash-2-4-128 (Aumasson, Bernstein, 2012) with a key of zeroes, its first half."""
    v = [0x736f6d6570736575, 0x646f72616e646f6d ^ 0xee, 0x6c7967656e657261, 0x7465646279746573]

    def left(x, by):
        return (x << by | x >> 64 - by) & MASK

    def rounds(n):
        for _ in range(n):
            for a, b, r in (0, 1, 13), (2, 3, 16):
                v[a] = (v[a] + v[b]) & MASK
                v[b] = left(v[b], r) ^ v[a]
            v[0] = left(v[0], 32)
            for a, b, r in (0, 3, 21), (2, 1, 17):
                v[a] = (v[a] + v[b]) & MASK
                v[b] = left(v[b], r) ^ v[a]
            v[2] = left(v[2], 32)
    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) & 255])
    for word in [*(data[i:i + 8] for i in range(0, whole, 8)), last]:
        m = int.from_bytes(word, "little")
        v[3] ^= m
        rounds(2)
        v[0] ^= m
    v[2] ^= 0xee
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def share_of(event, shares):
    """hark_store_share_of."""
    key = event.partition or event.subject
    return siphash(key.encode() if key else event.seq.to_bytes(8, "little")) % shares if shares > 1 else 0
