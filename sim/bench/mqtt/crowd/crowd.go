package crowd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/broker"
	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

const (
	keepAlive  = 18_000                 // seconds: no pings are measured, but the broker keeps a timer
	patience   = time.Minute            // with the broker's answer to one client
	samples    = 16                     // sessions that get a message in the end
	most       = 5_000_000              // sessions
	longest    = time.Hour              // of a wait
	stopWait   = 30 * time.Second       // for the broker to end
	stopEach   = 200 * time.Microsecond // and for each of its connections
	connectors = 8                      // sessions that are opened at a time
)

// Config says what is measured. The zero value of each field means its default.
type Config struct {
	Sessions int           // default 1,000,000
	Settle   time.Duration // before memory is read; default 15 s
	Time     time.Duration // over which processor time is taken; default 20 s
}

// Validate reports every fault, by the names of the flags.
func (c Config) Validate() error {
	var errs []error
	if c.Sessions < 0 || c.Sessions > most {
		errs = append(errs, fmt.Errorf("sessions: %d, want 1 to %d", c.Sessions, most))
	}
	if min(c.Settle, c.Time) < 0 || max(c.Settle, c.Time) > longest {
		errs = append(errs, fmt.Errorf("settle, time: %v and %v, want at most %v", c.Settle, c.Time, longest))
	}
	return errors.Join(errs...)
}

// Report is what Run found. Memory is that of this process, the clients' part
// of the connections and the garbage of the collector among it.
type Report struct {
	Sessions   int     `json:"sessions"`
	Settle     float64 `json:"settle_seconds"`
	Seconds    float64 `json:"seconds"` // over which idle_cpu is taken
	Connecting float64 `json:"connects_per_s"`
	Bytes      float64 `json:"bytes_per_session"` // resident, of no file
	Live       float64 `json:"live_bytes_per_session"`
	Heap       float64 `json:"heap_bytes_per_session"` // of these in the heap; the rest are stacks
	Goroutines float64 `json:"goroutines_per_session"`
	CPU        float64 `json:"idle_cpu"` // share of one core
}

// Broker is what is measured: package broker's has it.
type Broker interface {
	// Connect opens a connection within this process.
	Connect() (net.Conn, error)
}

// Run starts a broker, connects the sessions with one subscription each, and
// measures what they cost while they do nothing. In the end some get a message,
// to see that they are there.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (Report, error) {
	if err := c.Validate(); err != nil {
		return Report{}, err
	}
	c.Sessions = cmp.Or(c.Sessions, 1_000_000)
	b, err := broker.New(broker.Config{Listen: "127.0.0.1:0", MaxClients: c.Sessions + samples}, alone{})
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	select {
	case <-b.Listening():
	case err := <-ended:
		return Report{}, err
	}
	r, err := Measure(ctx, c, b, note)
	cancel()
	select {
	case failed := <-ended:
		return r, errors.Join(err, failed)
	case <-time.After(stopWait + time.Duration(c.Sessions)*stopEach):
		return r, errors.Join(err, fmt.Errorf("the broker did not end within %v", stopWait+time.Duration(c.Sessions)*stopEach))
	}
}

// Measure is Run with a broker that runs already.
func Measure(ctx context.Context, c Config, b Broker, note func(format string, args ...any)) (r Report, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	c.Sessions = cmp.Or(c.Sessions, 1_000_000)
	c.Settle, c.Time = cmp.Or(c.Settle, 15*time.Second), cmp.Or(c.Time, 20*time.Second)
	if note == nil {
		note = func(string, ...any) {}
	}
	r = Report{Sessions: c.Sessions, Settle: c.Settle.Seconds(), Seconds: c.Time.Seconds()}
	before, err := read(true)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	clients, err := connect(ctx, b, c.Sessions)
	defer func() {
		for _, conn := range clients {
			_ = conn.Close() // of clients that have nothing to say
		}
	}()
	if err != nil {
		return r, err
	}
	r.Connecting = float64(c.Sessions) / time.Since(begin).Seconds()
	note("%d sessions, %.0f a second", c.Sessions, r.Connecting)
	if err := pause(ctx, c.Settle); err != nil {
		return r, err
	}
	cpu, begin := proc.OwnCPU(), time.Now()
	if err := pause(ctx, c.Time); err != nil {
		return r, err
	}
	r.CPU = (proc.OwnCPU() - cpu).Seconds() / time.Since(begin).Seconds()
	after, err := read(false)
	if err != nil {
		return r, err
	}
	live, err := read(true)
	if err != nil {
		return r, err
	}
	per := func(to, from int64) float64 { return float64(to-from) / float64(c.Sessions) }
	r.Bytes, r.Live, r.Heap = per(after.resident, before.resident), per(live.resident, before.resident), per(live.heap, before.heap)
	r.Goroutines = per(live.goroutines, before.goroutines)
	return r, check(ctx, b, clients)
}

// spent is what this process holds.
type spent struct{ resident, heap, goroutines int64 }

// read reads it, after the collector has given back what it can if that is
// asked for.
func read(collect bool) (spent, error) {
	if collect {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p, err := proc.MemoryOf(os.Getpid())
	return spent{p.Anonymous, int64(m.HeapAlloc), int64(runtime.NumGoroutine())}, err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func topic(i int) string { return fmt.Sprintf("idle/%07d/orders", i) }

// connect opens the sessions, several at a time. Those it has opened are
// returned with an error too.
func connect(ctx context.Context, b Broker, n int) ([]net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]net.Conn, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range connectors {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				var err error
				if clients[i], err = open(b, i); err != nil {
					cancel(fmt.Errorf("session %d: %w", i+1, err))
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return slices.DeleteFunc(clients, func(c net.Conn) bool { return c == nil }), err
	}
	return clients, nil
}

// open opens one session, with its subscription.
func open(b Broker, i int) (net.Conn, error) {
	conn, err := b.Connect()
	if err != nil {
		return nil, err
	}
	out := load.AppendConnect(nil, fmt.Sprintf("idle-%07d", i), keepAlive, false)
	out = load.AppendSubscribe(out, 1, topic(i), 0)
	return conn, exchange(conn, out, []byte{load.Connack, 2, 0, 0, load.Suback, 3, 0, 1, 0})
}

// exchange sends packets and wants these answers.
func exchange(conn net.Conn, out, want []byte) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if len(out) > 0 {
		if _, err := conn.Write(out); err != nil {
			return err
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the broker answers % x, want % x", got, want)
	}
	return conn.SetDeadline(time.Time{})
}

// check sends messages to some of the sessions, the first and the last among
// them.
func check(ctx context.Context, b Broker, clients []net.Conn) error {
	conn, err := b.Connect()
	if err != nil {
		return err
	}
	defer conn.Close() // it has nothing left to say
	out := load.AppendConnect(nil, "idle-check", 0, false)
	if err := exchange(conn, out, []byte{load.Connack, 2, 0, 0}); err != nil {
		return err
	}
	for i, c := range clients {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if i != len(clients)-1 && i%max(1, len(clients)/samples) != 0 {
			continue
		}
		message := load.AppendPublish(nil, topic(i), 0, 0, []byte("anybody there?"))
		if _, err := conn.Write(message); err != nil {
			return err
		}
		if err := exchange(c, nil, message); err != nil {
			return fmt.Errorf("session %d after its rest: %w", i+1, err)
		}
	}
	return nil
}
