package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
)

type Item struct {
	ProductID string  `json:"product_id"`
	Quantity  int     `json:"quantity"`
	Price     float64 `json:"price"`
}

type Order struct {
	ID        string    `json:"id"`
	UserID    string    `json:"user_id"`
	Items     []Item    `json:"items"`
	Total     float64   `json:"total"`
	Status    string    `json:"status"`
	CreatedAt time.Time `json:"created_at"`
}

func createOrder(bus *EventBus) echo.HandlerFunc {
	return func(c echo.Context) error {
		var order Order
		if err := c.Bind(&order); err != nil {
			return c.JSON(http.StatusBadRequest, map[string]string{"error": err.Error()})
		}
		order.CreatedAt = time.Now()
		order.ID = newID(order.CreatedAt)
		order.Status = "created"
		bus.Publish(newEvent("order:placed", order))
		return c.JSON(http.StatusCreated, order)
	}
}

type Thing struct {
	ID    string `json:"id"`
	Route int    `json:"route"`
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
}

func showThing(route int) echo.HandlerFunc {
	return func(c echo.Context) error {
		return c.JSON(http.StatusOK, Thing{ID: c.Param("id"), Route: route, Name: "thing", OK: true})
	}
}

// runHTTP serves POST /orders, published in memory, and 100 JSON routes, until it is killed. It
// prints its port. The guide's request logger is left out, in the peer's favour.
func runHTTP(args []string) {
	flags := flag.NewFlagSet("http", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address and port")
	flags.Parse(args)

	bus := newEventBus()
	orders := bus.Subscribe("order:placed")
	go func() {
		for range orders {
		}
	}()

	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(middleware.Recover())
	e.POST("/orders", createOrder(bus))
	for i := 0; i < 100; i++ {
		e.GET(fmt.Sprintf("/api/v1/things%d/:id", i), showThing(i))
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	e.Listener = listener
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"name": "echo " + echo.Version, "port": listener.Addr().(*net.TCPAddr).Port,
		"version": runtime.Version(),
	})
	if err := e.Start(""); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
