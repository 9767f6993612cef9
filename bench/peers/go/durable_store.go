package main

import (
	"database/sql"
	"fmt"

	_ "github.com/mattn/go-sqlite3"
)

// The durable shop's database: the tables of hark's shop, an events table with positions for the
// consumers instead of hark's log, and dead letters. WAL, synchronous=FULL: a commit is on the disk
// when it returns. One connection writes, since SQLite has one writer; others read beside it.

const schema = `
CREATE TABLE IF NOT EXISTS users(id TEXT PRIMARY KEY, name TEXT, email TEXT, created_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS products(sku TEXT PRIMARY KEY, name TEXT, price INTEGER, start INTEGER,
  stock INTEGER CHECK(stock >= 0), reserved INTEGER CHECK(reserved >= 0), sold INTEGER,
  CHECK(start = stock + reserved + sold)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders(id TEXT PRIMARY KEY, user_id TEXT REFERENCES users, total INTEGER,
  currency TEXT, status TEXT, reason TEXT, created_at INTEGER, holds INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_of_user ON orders(user_id, id);
CREATE TABLE IF NOT EXISTS order_items(order_id TEXT, line INTEGER, product_id TEXT REFERENCES products,
  quantity INTEGER, price INTEGER, PRIMARY KEY(order_id, line)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS payments(order_id TEXT PRIMARY KEY, amount INTEGER, reference TEXT,
  paid_at INTEGER, refunded_at INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shipments(order_id TEXT PRIMARY KEY, tracking TEXT, shipped_at INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS points(order_id TEXT, user_id TEXT, points INTEGER,
  PRIMARY KEY(user_id, order_id)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mails(order_id TEXT, kind TEXT, sent_at INTEGER, PRIMARY KEY(order_id, kind))
  STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit(seq INTEGER PRIMARY KEY, type TEXT, subject TEXT, correlationid TEXT,
  recorded_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS analytics_totals(name TEXT PRIMARY KEY, n INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS analytics_products(sku TEXT PRIMARY KEY, ordered INTEGER, revenue INTEGER)
  STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS analytics_days(day TEXT, status TEXT, n INTEGER, total INTEGER,
  PRIMARY KEY(day, status)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events(seq INTEGER PRIMARY KEY, id TEXT, type TEXT, subject TEXT,
  correlationid TEXT, recorded_at INTEGER, data BLOB) STRICT;
CREATE TABLE IF NOT EXISTS consumers(name TEXT PRIMARY KEY, position INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS dead_letters(consumer TEXT, seq INTEGER, error TEXT, attempts INTEGER,
  dead_at INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS due(order_id TEXT PRIMARY KEY, at INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS due_by_time ON due(at);`

const products = `INSERT OR IGNORE INTO products VALUES
  ('prod1', 'Teapot', 1099, ?1, ?1, 0, 0), ('prod2', 'Cup', 450, ?1, ?1, 0, 0),
  ('prod3', 'Tea, 100 g', 725, ?1, ?1, 0, 0)`
const firstUser = `INSERT OR IGNORE INTO users VALUES('user123', 'John Doe', 'john@example.com', 0)`

// query is one of the statements, all of which are prepared once, when the database is opened.
type query int

var queries []string

func sqlText(text string) query {
	queries = append(queries, text)
	return query(len(queries) - 1)
}

type store struct {
	writer, reader *sql.DB
	prepared       []*sql.Stmt // of the writer
}

func (s *store) prepare(path string, stock int) error {
	for _, text := range []string{schema, products, firstUser} {
		args := []interface{}{}
		if text == products {
			args = append(args, stock)
		}
		if _, err := s.writer.Exec(text, args...); err != nil {
			return err
		}
	}
	for _, text := range queries {
		p, err := s.writer.Prepare(text)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		s.prepared = append(s.prepared, p)
	}
	return nil
}

func openStore(path string, stock int) (*store, error) {
	const pragmas = "?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000&_foreign_keys=1"
	writer, err := sql.Open("sqlite3", "file:"+path+pragmas+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	s := &store{writer: writer}
	if err = s.prepare(path, stock); err != nil {
		return nil, err
	}
	s.reader, err = sql.Open("sqlite3", "file:"+path+pragmas+"&_query_only=1")
	if err != nil {
		return nil, err
	}
	s.reader.SetMaxOpenConns(8)
	s.reader.SetMaxIdleConns(8)
	return s, nil
}

// tx is a transaction of the writer.
type tx struct {
	*sql.Tx
	s         *store
	published bool
}

func (t *tx) run(q query, args ...interface{}) (int64, error) {
	result, err := t.Tx.Stmt(t.s.prepared[q]).Exec(args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", queries[q], err)
	}
	return result.RowsAffected()
}

func (t *tx) row(q query, args ...interface{}) *sql.Row {
	return t.Tx.Stmt(t.s.prepared[q]).QueryRow(args...)
}

func (t *tx) rows(q query, args ...interface{}) (*sql.Rows, error) {
	return t.Tx.Stmt(t.s.prepared[q]).Query(args...)
}

// transact commits what fn does, or undoes it; it says whether there are new events.
func (s *store) transact(fn func(t *tx) error) (published bool, err error) {
	raw, err := s.writer.Begin()
	if err != nil {
		return false, err
	}
	t := &tx{Tx: raw, s: s}
	if err = fn(t); err != nil {
		raw.Rollback()
		return false, err
	}
	return t.published, raw.Commit()
}
