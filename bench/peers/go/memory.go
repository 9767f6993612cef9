package main

import (
	"flag"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
)

// The guide's shop as the guide leaves it: everything in memory, payment and shipping told by PUT,
// three listeners that do nothing but look at the order. In its favour the listeners print nothing,
// there is no logger, ids are a counter, and PUT takes a made-up order as the guide's
// fetchOrderFromDB does. Nothing is kept: a crash loses what was under way.

type memoryShop struct {
	bus     *EventBus
	kinds   []string
	handled [3]uint64 // by place in kinds
	sent    [3]uint64
	ids     uint64
}

func (s *memoryShop) listen(kind int) {
	ch := s.bus.Subscribe(s.kinds[kind])
	go func() {
		for event := range ch {
			if order := event.Payload.(Order); order.ID != "" {
				atomic.AddUint64(&s.handled[kind], 1)
			}
		}
	}()
}

func (s *memoryShop) publish(kind int, order Order) {
	atomic.AddUint64(&s.sent[kind], 1)
	s.bus.Publish(newEvent(s.kinds[kind], order))
}

func (s *memoryShop) create(c echo.Context) error {
	var order Order
	if err := c.Bind(&order); err != nil {
		return c.JSON(http.StatusBadRequest, map[string]string{"error": err.Error()})
	}
	order.ID = "ord-" + strconv.FormatUint(atomic.AddUint64(&s.ids, 1), 10)
	order.Status = "created"
	order.CreatedAt = time.Now()
	s.publish(0, order)
	return c.JSON(http.StatusCreated, order)
}

func madeUpOrder(id string) Order {
	return Order{
		ID: id, UserID: "user123", Total: 21.98, CreatedAt: time.Now(),
		Items: []Item{{ProductID: "prod1", Quantity: 2, Price: 10.99}},
	}
}

func (s *memoryShop) move(kind int, status string) echo.HandlerFunc {
	return func(c echo.Context) error {
		order := madeUpOrder(c.Param("id"))
		order.Status = status
		s.publish(kind, order)
		return c.JSON(http.StatusOK, order)
	}
}

// stats has the parts of the shop's GET /stats by which the benchmark knows that all is done.
func (s *memoryShop) stats(c echo.Context) error {
	var reply statsReply
	for i, kind := range s.kinds {
		handled := atomic.LoadUint64(&s.handled[i]) // before what was sent
		lag := atomic.LoadUint64(&s.sent[i]) - handled
		reply.Consumers = append(reply.Consumers, consumerStats{Name: kind, Lag: int64(lag)})
	}
	reply.Orders.Created = int64(atomic.LoadUint64(&s.handled[0]))
	reply.Orders.Shipped = int64(atomic.LoadUint64(&s.handled[2]))
	return c.JSON(http.StatusOK, reply)
}

func runMemoryShop(args []string) {
	flags := flag.NewFlagSet("shop-memory", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address and port")
	flags.Parse(args)

	s := &memoryShop{bus: newEventBus(), kinds: []string{"order:created", "order:paid", "order:shipped"}}
	for kind := range s.kinds {
		s.listen(kind)
	}
	e := newServer()
	e.POST("/orders", s.create)
	e.PUT("/orders/:id/pay", s.move(1, "paid"))
	e.PUT("/orders/:id/ship", s.move(2, "shipped"))
	e.GET("/stats", s.stats)
	serve(e, *listen, "guide, in memory")
}
