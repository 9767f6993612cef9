// Peers for hark's benchmark: what one gets by following a guide to event-driven architecture
// with Echo. A bus that is a map of channels with one goroutine for each event and subscriber, an
// HTTP server whose handler publishes to it, the guide's shop in memory, and that shop made durable.
// Results are one line of JSON.
//
//	peer bus -subscribers 1 -events 2000000
//	peer http -listen 127.0.0.1:0
//	peer shop -listen 127.0.0.1:0 -db FILE -stock 1000 [-batch 1]
//	peer shop-memory -listen 127.0.0.1:0
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type Event struct {
	Name    string
	ID      string
	Time    time.Time
	Payload interface{}
}

type EventBus struct {
	lock        sync.RWMutex
	subscribers map[string][]chan Event
}

func newEventBus() *EventBus {
	return &EventBus{subscribers: map[string][]chan Event{}}
}

func (b *EventBus) Subscribe(name string) <-chan Event {
	ch := make(chan Event, 1)
	b.lock.Lock()
	b.subscribers[name] = append(b.subscribers[name], ch)
	b.lock.Unlock()
	return ch
}

func (b *EventBus) Publish(e Event) {
	b.lock.RLock()
	for _, ch := range b.subscribers[e.Name] {
		go func(ch chan Event) { ch <- e }(ch)
	}
	b.lock.RUnlock()
}

var counter uint64

const hexDigits = "0123456789abcdef"

// newID is as cheap as an id can be that is unique and has the length of a UUID: time and a counter.
func newID(now time.Time) string {
	var text [36]byte
	copy(text[:], "00000000-0000-7000-8000-000000000000")
	n := atomic.AddUint64(&counter, 1)
	for i := 35; i >= 24; i-- {
		text[i] = hexDigits[n&15]
		n >>= 4
	}
	ms := uint64(now.UnixMilli())
	for _, i := range [...]int{12, 11, 10, 9, 7, 6, 5, 4, 3, 2, 1, 0} {
		text[i] = hexDigits[ms&15]
		ms >>= 4
	}
	return string(text[:])
}

func newEvent(name string, payload interface{}) Event {
	now := time.Now()
	return Event{Name: name, ID: newID(now), Time: now, Payload: payload}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// runBus publishes events of 256 bytes and waits until every subscriber has had all of them.
func runBus(args []string) {
	flags := flag.NewFlagSet("bus", flag.ExitOnError)
	subscribers := flags.Int("subscribers", 1, "number of subscribers")
	events := flags.Int64("events", 2000000, "number of events")
	size := flags.Int("bytes", 256, "bytes of each payload")
	flags.Parse(args)

	bus := newEventBus()
	var received, bytes int64
	var done sync.WaitGroup
	for i := 0; i < *subscribers; i++ {
		ch := bus.Subscribe("order:placed")
		done.Add(1)
		go func() {
			defer done.Done()
			var sum int64
			for n := int64(0); n < *events; n++ {
				e := <-ch
				sum += int64(len(e.Payload.([]byte)))
				if n&255 == 255 {
					atomic.AddInt64(&received, 256)
				}
			}
			atomic.AddInt64(&bytes, sum)
		}()
	}

	data := make([]byte, *size)
	begin, cpu := time.Now(), cpuSeconds()
	for n := int64(0); n < *events; n++ {
		bus.Publish(newEvent("order:placed", append([]byte(nil), data...)))
		// The guide's bus bounds nothing; without this it would be measured with millions of
		// goroutines waiting, which would only make it slower.
		for n&1023 == 0 && (n+1)*int64(*subscribers)-atomic.LoadInt64(&received) > 100000 {
			runtime.Gosched()
		}
	}
	done.Wait()
	seconds := time.Since(begin).Seconds()
	deliveries := float64(*events) * float64(*subscribers)
	if bytes != int64(deliveries)*int64(*size) {
		fmt.Fprintln(os.Stderr, "peer: payloads were lost")
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"name": "go bus", "events": *events, "deliveries": deliveries, "seconds": seconds,
		"rate": deliveries / seconds, "cpu_seconds": cpuSeconds() - cpu,
		"version": runtime.Version(),
	})
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "bus":
			runBus(os.Args[2:])
			return
		case "http":
			runHTTP(os.Args[2:])
			return
		case "shop":
			runDurableShop(os.Args[2:])
			return
		case "shop-memory":
			runMemoryShop(os.Args[2:])
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: peer bus|http|shop|shop-memory [flags]")
	os.Exit(64)
}
