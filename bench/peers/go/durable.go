package main

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

// The guide's shop made durable, as a Go programmer would straightforwardly do it: Echo, SQLite
// through mattn/go-sqlite3 (cgo; faster than the translated modernc.org/sqlite), WAL with
// synchronous=FULL. It does the work of hark's shop for an order: the same tables and rows, events
// in the transaction of what they tell, eight consumers that commit effect and position together,
// retries and dead letters, a payment deadline, a request:completed for each request.
//
// It leaves out, in its favour: idempotency keys, versions and upcasters of events, check sums and
// unique ids in the log, traces, lanes that let other orders go on while one is tried again (its
// consumers wait), crash counting, live streams, switches to make it fail, the story on the
// console. What it does not have is one commit for the transactions of all: that is what hark
// brings. database/sql is used plainly: one connection for writing, every statement prepared once.

type consumerStats struct {
	Name string `json:"name"`
	Lag  int64  `json:"lag"`
}

type statsReply struct {
	Consumers []consumerStats `json:"consumers"`
	Orders    struct {
		Created int64 `json:"created"`
		Shipped int64 `json:"shipped"`
	} `json:"orders"`
}

type durableShop struct {
	*dispatcher
	requests *requestLog
}

const idLetters = "23456789abcdefghijkmnpqrstuvwxyz"

// newOrderID begins with the time, so that new rows lie beside each other.
func newOrderID() string {
	var text [20]byte
	rand.Read(text[9:])
	for i := 9; i < len(text); i++ {
		text[i] = idLetters[text[i]&31]
	}
	ms := uint64(time.Now().UnixMilli())
	for i := 8; i >= 0; i-- {
		text[i] = idLetters[ms&31]
		ms >>= 5
	}
	return "ord-" + string(text[:])
}

func (s *durableShop) reply(c echo.Context, status int, o *shopOrder, err error) error {
	if r, is := err.(*refused); is {
		return c.JSON(r.status, map[string]interface{}{"status": r.status, "detail": r.text})
	}
	if err != nil {
		return err
	}
	if status == http.StatusCreated {
		c.Response().Header().Set("Location", "/orders/"+o.ID)
	}
	return c.JSON(status, o)
}

func (s *durableShop) create(c echo.Context) error {
	var o shopOrder
	if err := c.Bind(&o); err != nil {
		return err
	}
	bad := len(o.Items) < 1 || len(o.Items) > 50
	for _, i := range o.Items {
		bad = bad || i.Quantity < 1 || i.Quantity > 1000
	}
	if bad {
		return s.reply(c, 0, nil, &refused{422, "items: 1 to 50 of them, quantity 1 to 1000"})
	}
	o.ID = newOrderID()
	err := s.write(func(t *tx) error { return t.place(&o) })
	return s.reply(c, http.StatusCreated, &o, err)
}

func (s *durableShop) put(change func(t *tx, id string) (*shopOrder, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		var o *shopOrder
		err := s.write(func(t *tx) (err error) {
			o, err = change(t, c.Param("id"))
			return err
		})
		return s.reply(c, http.StatusOK, o, err)
	}
}

func (s *durableShop) stats(c echo.Context) error {
	var head int64
	var reply statsReply
	err := s.s.reader.QueryRow(`SELECT coalesce(max(seq), 0) FROM events`).Scan(&head)
	if err != nil {
		return err
	}
	for _, d := range s.consumers {
		lag := head - atomic.LoadInt64(&d.position)
		reply.Consumers = append(reply.Consumers, consumerStats{Name: d.name, Lag: lag})
	}
	const totals = `SELECT coalesce(sum(n) FILTER (WHERE name = 'orders:created'), 0),
		coalesce(sum(n) FILTER (WHERE name = 'orders:shipped'), 0) FROM analytics_totals`
	err = s.s.reader.QueryRow(totals).Scan(&reply.Orders.Created, &reply.Orders.Shipped)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, reply)
}

// logRequests publishes request:completed after the reply, but for GET /stats.
func (s *durableShop) logRequests(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		err := next(c)
		if err == nil && c.Path() != "/stats" {
			data, _ := json.Marshal(map[string]interface{}{
				"path": c.Request().URL.Path, "route": c.Path(), "method": c.Request().Method,
				"status": c.Response().Status, "time": began, "duration_ms": time.Since(began).Seconds() * 1000,
			})
			s.requests.add(data)
		}
		return err
	}
}

func newServer() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(middleware.Recover())
	return e
}

// serve prints the port as a line of JSON and serves until the process is killed.
func serve(e *echo.Echo, address, name string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail(err)
	}
	e.Listener = listener
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"name": name + ", echo " + echo.Version, "port": listener.Addr().(*net.TCPAddr).Port,
		"version": runtime.Version(),
	})
	fail(e.Start(""))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "peer:", err)
	os.Exit(1)
}

func runDurableShop(args []string) {
	flags := flag.NewFlagSet("shop", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address and port")
	path := flags.String("db", "peer-shop.db", "the database")
	stock := flags.Int("stock", 1000, "of each product at the first start")
	batch := flags.Int("batch", 1, "events of a consumer in one transaction")
	flags.Parse(args)

	st, err := openStore(*path, *stock)
	if err != nil {
		fail(err)
	}
	d := &dispatcher{s: st, consumers: newConsumers(), batch: *batch}
	if err = d.start(); err != nil {
		fail(err)
	}
	go d.runDue()
	s := &durableShop{dispatcher: d, requests: &requestLog{d: d, wake: make(chan struct{}, 1)}}
	go s.requests.run()

	e := newServer()
	e.Use(s.logRequests)
	e.POST("/orders", s.create)
	e.PUT("/orders/:id/pay", s.put(func(t *tx, id string) (*shopOrder, error) { return t.pay(id, "by hand") }))
	e.PUT("/orders/:id/ship", s.put((*tx).ship))
	e.PUT("/orders/:id/cancel", s.put(func(t *tx, id string) (*shopOrder, error) { return t.cancel(id, "by the customer") }))
	e.GET("/stats", s.stats)
	serve(e, *listen, "guide, durable")
}
