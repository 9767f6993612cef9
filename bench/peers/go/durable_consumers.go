package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The consumers of the durable shop: a goroutine each, which reads the events after its position,
// some hundred at a time, and commits the effect of each event with its new position in one
// transaction. An error is tried again with growing pauses, and after ten attempts the event goes to
// dead_letters. With -batch N a consumer takes so many events into one transaction, and one by one
// when that fails: not what a first version does, so it is beside the row, not judged.

type storedEvent struct {
	seq      int64
	kind     string
	subject  string
	request  string
	recorded int64
	data     []byte
}

type durableConsumer struct {
	name     string
	kinds    []string // prefixes; "" is every event
	handle   func(t *tx, e *storedEvent) error
	position int64
	attempts int
	wake     chan struct{}
}

var (
	setPosition  = sqlText(`UPDATE consumers SET position = ?2 WHERE name = ?1`)
	insertLetter = sqlText(`INSERT INTO dead_letters VALUES(?, ?, ?, ?, ?)`)
	findMail     = sqlText(`SELECT email FROM users JOIN orders ON user_id = users.id WHERE orders.id = ?`)
	insertMail   = sqlText(`INSERT OR IGNORE INTO mails VALUES(?, ?, ?)`)
	insertPoints = sqlText(`INSERT OR IGNORE INTO points VALUES(?, ?, ?)`)
	insertAudit  = sqlText(`INSERT OR IGNORE INTO audit VALUES(?, ?, ?, ?, ?)`)
	addTotal     = sqlText(`INSERT INTO analytics_totals VALUES(?1, ?2) ON CONFLICT DO UPDATE SET n = n + ?2`)
	addProduct   = sqlText(`INSERT INTO analytics_products VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET ordered = ordered + ?2, revenue = revenue + ?3`)
	addDay       = sqlText(`INSERT INTO analytics_days VALUES(?1, ?2, 1, ?3) ON CONFLICT DO UPDATE SET n = n + 1, total = total + ?3`)
)

func orderOf(e *storedEvent) (*orderEvent, error) {
	var o orderEvent
	return &o, json.Unmarshal(e.data, &o)
}

func noteOf(e *storedEvent) (*note, error) {
	var n note
	return &n, json.Unmarshal(e.data, &n)
}

// settled: somebody else was faster, nothing is to be done.
func settled(err error) error {
	if r, is := err.(*refused); is && r.status == 409 {
		return nil
	}
	return err
}

func onOrder(created, cancelled func(t *tx, o *orderEvent) error) func(*tx, *storedEvent) error {
	return func(t *tx, e *storedEvent) error {
		o, err := orderOf(e)
		if err != nil {
			return err
		}
		if e.kind == "order:cancelled" {
			return cancelled(t, o)
		}
		return created(t, o)
	}
}

func charge(t *tx, e *storedEvent) error {
	if e.kind == "order:cancelled" {
		o, err := orderOf(e)
		if err != nil {
			return err
		}
		return t.refund(o)
	}
	n, err := noteOf(e)
	if err != nil {
		return err
	}
	_, err = t.pay(n.OrderID, "pay-"+n.OrderID)
	return settled(err)
}

func shipPaid(t *tx, e *storedEvent) error {
	_, err := t.ship(e.subject)
	return settled(err)
}

func mail(t *tx, e *storedEvent) error {
	what := strings.Replace(strings.TrimPrefix(e.kind, "order:"), ":", "-", 1)
	var to string
	if err := t.row(findMail, e.subject).Scan(&to); err != nil {
		return err
	}
	_, err := t.run(insertMail, e.subject, what, time.Now().UnixNano())
	return err
}

func analyse(t *tx, e *storedEvent) error {
	o, err := orderOf(e)
	if err != nil {
		return err
	}
	if _, err = t.run(addTotal, "orders:"+o.Status, 1); err != nil {
		return err
	}
	day := time.Unix(0, e.recorded).UTC().Format("2006-01-02")
	if _, err = t.run(addDay, day, o.Status, o.Total); err != nil {
		return err
	}
	switch e.kind {
	case "order:created":
		var units int64
		for _, i := range o.Items {
			units += i.Quantity
			if _, err = t.run(addProduct, i.ProductID, i.Quantity, 0); err != nil {
				return err
			}
		}
		_, err = t.run(addTotal, "units", units)
	case "order:paid":
		for _, i := range o.Items {
			if _, err = t.run(addProduct, i.ProductID, 0, i.Quantity*i.Price); err != nil {
				return err
			}
		}
		_, err = t.run(addTotal, "revenue", o.Total)
	}
	return err
}

func givePoints(t *tx, e *storedEvent) error {
	o, err := orderOf(e)
	if err != nil {
		return err
	}
	points := o.Total / 100
	if points < 1 {
		points = 1
	}
	_, err = t.run(insertPoints, o.ID, o.UserID, points)
	return err
}

func keepTrail(t *tx, e *storedEvent) error {
	_, err := t.run(insertAudit, e.seq, e.kind, e.subject, e.request, e.recorded)
	return err
}

func checkout(t *tx, e *storedEvent) error {
	reason := map[string]string{"inventory:rejected": "sold out", "payment:failed": "payment failed",
		"payment:due": "not paid in time"}[e.kind]
	if e.kind == "order:created" {
		_, err := t.run(insertDue, e.subject, e.recorded+int64(15*time.Minute))
		return err
	}
	if reason == "" {
		return nil
	}
	_, err := t.cancel(e.subject, reason)
	return settled(err)
}

func newConsumers() []*durableConsumer {
	list := []*durableConsumer{
		{name: "inventory", kinds: []string{"order:created", "order:cancelled"},
			handle: onOrder((*tx).reserve, (*tx).release)},
		{name: "payment", kinds: []string{"inventory:reserved", "order:cancelled"}, handle: charge},
		{name: "shipping", kinds: []string{"order:paid"}, handle: shipPaid},
		{name: "notification", kinds: []string{"order:", "payment:failed"}, handle: mail},
		{name: "analytics", kinds: []string{"order:"}, handle: analyse},
		{name: "loyalty", kinds: []string{"order:paid"}, handle: givePoints},
		{name: "audit", kinds: []string{""}, handle: keepTrail},
		{name: "checkout", kinds: []string{"order:created", "inventory:rejected", "payment:"}, handle: checkout},
	}
	for _, c := range list {
		c.wake = make(chan struct{}, 1)
	}
	return list
}

func (c *durableConsumer) wants(kind string) bool {
	for _, k := range c.kinds {
		if strings.HasPrefix(kind, k) {
			return true
		}
	}
	return false
}

// ---- reading and settling -----------------------------------------------------------------------

type dispatcher struct {
	s         *store
	consumers []*durableConsumer
	batch     int
}

func (d *dispatcher) start() error {
	for _, c := range d.consumers {
		if _, err := d.s.writer.Exec(`INSERT OR IGNORE INTO consumers VALUES(?, 0)`, c.name); err != nil {
			return err
		}
		row := d.s.writer.QueryRow(`SELECT position FROM consumers WHERE name = ?`, c.name)
		if err := row.Scan(&c.position); err != nil {
			return err
		}
	}
	for _, c := range d.consumers {
		go d.serve(c)
	}
	return nil
}

func (d *dispatcher) wakeAll() {
	for _, c := range d.consumers {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

func (d *dispatcher) write(fn func(t *tx) error) error {
	published, err := d.s.transact(fn)
	if err == nil && published {
		d.wakeAll()
	}
	return err
}

func (d *dispatcher) serve(c *durableConsumer) {
	read, err := d.s.reader.Prepare(`SELECT seq, type, coalesce(subject, ''), coalesce(correlationid, ''),
		recorded_at, data FROM events WHERE seq > ? ORDER BY seq LIMIT 256`)
	for err == nil {
		var page []storedEvent
		rows, failed := read.Query(c.position)
		if err = failed; err != nil {
			break
		}
		for rows.Next() && err == nil {
			var e storedEvent
			err = rows.Scan(&e.seq, &e.kind, &e.subject, &e.request, &e.recorded, &e.data)
			page = append(page, e)
		}
		rows.Close()
		if len(page) == 0 {
			<-c.wake
		}
		for len(page) > 0 {
			page = page[d.take(c, page):]
		}
	}
	fmt.Fprintln(os.Stderr, "peer:", c.name, err)
	os.Exit(1)
}

// take settles the first events of a page and says how many. What the consumer does not want moves
// its position in memory only; the next commit writes it down.
func (d *dispatcher) take(c *durableConsumer, page []storedEvent) int {
	n, wanted := 0, []*storedEvent{}
	for n < len(page) && len(wanted) < d.batch {
		if c.wants(page[n].kind) {
			wanted = append(wanted, &page[n])
		}
		n++
	}
	last := page[n-1].seq
	if len(wanted) > 0 {
		if err := d.settle(c, wanted, last); err != nil {
			for _, e := range wanted {
				d.settleOne(c, e)
			}
		}
	}
	atomic.StoreInt64(&c.position, last)
	return n
}

func (d *dispatcher) settle(c *durableConsumer, events []*storedEvent, last int64) error {
	return d.write(func(t *tx) error {
		for _, e := range events {
			if err := c.handle(t, e); err != nil {
				return err
			}
		}
		_, err := t.run(setPosition, c.name, last)
		return err
	})
}

func (d *dispatcher) settleOne(c *durableConsumer, e *storedEvent) {
	const most = 10
	for attempt := 1; ; attempt++ {
		err := d.settle(c, []*storedEvent{e}, e.seq)
		if err == nil {
			return
		}
		if attempt >= most {
			err = d.write(func(t *tx) error {
				text, now := err.Error(), time.Now().UnixNano()
				if _, err := t.run(insertLetter, c.name, e.seq, text, attempt, now); err != nil {
					return err
				}
				_, err := t.run(setPosition, c.name, e.seq)
				return err
			})
			if err == nil {
				return
			}
		}
		time.Sleep(time.Duration(attempt) * 100 * time.Millisecond)
	}
}

// ---- what comes later ----------------------------------------------------------------------------

// requests are stored after their replies, as many in a transaction as there are.
type requestLog struct {
	d    *dispatcher
	lock sync.Mutex
	list [][]byte
	wake chan struct{}
}

func (r *requestLog) add(data []byte) {
	r.lock.Lock()
	r.list = append(r.list, data)
	r.lock.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *requestLog) run() {
	for range r.wake {
		r.lock.Lock()
		list := r.list
		r.list = nil
		r.lock.Unlock()
		err := r.d.write(func(t *tx) error {
			for _, data := range list {
				now := time.Now()
				_, err := t.run(insertEvent, newID(now), "request:completed", nil, nil, now.UnixNano(), data)
				if err != nil {
					return err
				}
			}
			t.published = true
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "peer: requests:", err)
		}
	}
}

// runDue publishes payment:due for the orders whose time has come.
func (d *dispatcher) runDue() {
	for range time.Tick(time.Second) {
		now := time.Now().UnixNano()
		for {
			var id string
			if d.s.reader.QueryRow(`SELECT order_id FROM due WHERE at <= ? ORDER BY at LIMIT 1`, now).Scan(&id) != nil {
				break
			}
			err := d.write(func(t *tx) error {
				if _, err := t.Exec(`DELETE FROM due WHERE order_id = ?`, id); err != nil {
					return err
				}
				return t.publishNote("payment:due", note{OrderID: id})
			})
			if err != nil {
				fmt.Fprintln(os.Stderr, "peer: due:", err)
				break
			}
		}
	}
}
