package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/farhop/farhop/sim/bench/proc"
)

// Convergence layers between the sender, the relay and the receiver.
const (
	CLQUIC = "quic"    // links of farhop
	CLTCP  = "tcpclv4" // RFC 9174
	CLAny  = "quic, tcpclv4"
)

// RelayConfig says what RunRelay measures. The zero value of each field but Dir
// and Farhop means its default.
type RelayConfig struct {
	Dir      string        `json:"-"` // where the nodes keep their files, on the disk to be measured
	Farhop   string        `json:"-"` // the program of the nodes
	CL       string        `json:"cl"`
	Size     int           `json:"size"`     // bytes of an MQTT payload, one in each bundle; default 1,024
	Messages int           `json:"messages"` // per round; default 30,000
	Rounds   int           `json:"rounds"`   // default 3
	Volatile bool          `json:"volatile"` // QoS 0, which no node stores
	Limit    time.Duration `json:"-"`        // most time of one round; default 60 s
}

// volatileWindow is how many volatile messages may be under way: they are not
// acknowledged, and what no queue has room for is dropped.
const volatileWindow = 512

func (c RelayConfig) withDefaults() RelayConfig {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Size, 1024)
	set(&c.Messages, 30_000)
	set(&c.Rounds, 3)
	if c.Limit == 0 {
		c.Limit = time.Minute
	}
	if c.CL == "" {
		c.CL = CLQUIC
	}
	return c
}

// Validate reports every fault of the configuration, by the names of the flags.
func (c RelayConfig) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(name string, v, low, high int) {
		if v < low || v > high {
			errs = append(errs, fmt.Errorf("%s: %d, want %d to %d", name, v, low, high))
		}
	}
	if c.CL != CLQUIC && c.CL != CLTCP {
		errs = append(errs, fmt.Errorf("cl: %q, want one of %s", c.CL, CLAny))
	}
	check("size", c.Size, minSize, maxSize)
	check("messages", c.Messages, 100, maxMessages)
	check("rounds", c.Rounds, 1, maxRounds)
	// The receiver keeps what all rounds sent.
	if total := int64(c.Messages) * int64(c.Rounds); total > maxMessages || total*int64(c.Size) > maxBytes {
		errs = append(errs, fmt.Errorf("messages of all rounds: %d of %d bytes, want at most %d and %d bytes: fewer of them, or smaller ones",
			total, c.Size, maxMessages, maxBytes))
	}
	if c.Limit < 0 {
		errs = append(errs, errors.New("limit: a negative time"))
	}
	if c.Dir == "" || c.Farhop == "" {
		errs = append(errs, errors.New("the folder or the program of the nodes: missing"))
	}
	return errors.Join(errs...)
}

// RelayReport is what RunRelay found: medians over the rounds.
type RelayReport struct {
	RelayConfig

	FileSystem string `json:"fs"`
	CPUs       int    `json:"cpus"`
	Durable    bool   `json:"durable"`

	PerSecond   float64 `json:"bundles_per_s"`
	CPU         float64 `json:"cpu_us_per_bundle"` // user and system time of the relay
	MB          float64 `json:"mb_per_s"`          // of payloads, 10^6 bytes
	SenderCPU   float64 `json:"sender_cpu_us_per_bundle"`
	ReceiverCPU float64 `json:"receiver_cpu_us_per_bundle"`
	Written     float64 `json:"relay_written_bytes_per_bundle"`
	Lost        int     `json:"lost"` // in all rounds; volatile messages may be

	All []RelayRound `json:"all_rounds"`
}

// RelayRound is one round of RunRelay.
type RelayRound struct {
	Bundles     int     `json:"bundles"`
	Seconds     float64 `json:"seconds"`
	PerSecond   float64 `json:"bundles_per_s"`
	CPU         float64 `json:"cpu_us_per_bundle"`
	SenderCPU   float64 `json:"sender_cpu_us_per_bundle"`
	ReceiverCPU float64 `json:"receiver_cpu_us_per_bundle"`
	Written     float64 `json:"relay_written_bytes_per_bundle"`
	Lost        int     `json:"lost"`
}

// RunRelay measures what one node does to bundles that only pass it. Three
// nodes are made, all of them child processes with a disk buffer: a sender, a
// relay and a receiver.
//
// Durable: while the relay is down, the sender is filled over MQTT. The relay
// starts, and takes, stores, hands on and removes all of it; the receiver keeps
// it for a client that is away. Volatile: publishers and a subscriber are
// connected, and QoS 0 messages go through at the rate at which they arrive.
// Rates are those between the first and the last tenth of the arrivals; the
// processor time is of the whole round, the start of the relay among it.
func RunRelay(ctx context.Context, c RelayConfig, note func(format string, args ...any)) (r RelayReport, err error) {
	if err := c.Validate(); err != nil {
		return r, err
	}
	c = c.withDefaults()
	if note == nil {
		note = func(string, ...any) {}
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(c.Dir, "farhop-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = RelayReport{RelayConfig: c, FileSystem: proc.FileSystem(dir), CPUs: runtime.NumCPU(), Durable: !c.Volatile}
	ch, err := newRelayed(ctx, c, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ch.stop()) }()
	note("sender, relay and receiver are linked, in %s", dir)
	for n := range c.Rounds {
		x, err := ch.round(ctx, c)
		if err != nil {
			return r, fmt.Errorf("round %d: %w%s", n+1, err, ch.tails())
		}
		note("round %d: %.0f bundles/s, %.1f µs of the relay's processor time for each", n+1, x.PerSecond, x.CPU)
		r.All = append(r.All, x)
	}
	r.finish()
	return r, nil
}

// relayed is a relay between a sender and a receiver.
type relayed interface {
	round(ctx context.Context, c RelayConfig) (RelayRound, error)
	tails() string
	stop() error
}

func newRelayed(ctx context.Context, c RelayConfig, dir string) (relayed, error) {
	if c.CL == CLTCP {
		return newDoorChain(ctx, c, dir)
	}
	return newChain(ctx, c.Farhop, dir)
}

// round does one round as the configuration says.
func (ch *chain) round(ctx context.Context, c RelayConfig) (RelayRound, error) {
	if c.Volatile {
		return ch.volatile(ctx, c)
	}
	return ch.durable(ctx, c)
}

func (r *RelayReport) finish() {
	over := func(f func(RelayRound) float64) float64 { return median(r.All, f) }
	r.PerSecond = over(func(x RelayRound) float64 { return x.PerSecond })
	r.CPU = over(func(x RelayRound) float64 { return x.CPU })
	r.SenderCPU = over(func(x RelayRound) float64 { return x.SenderCPU })
	r.ReceiverCPU = over(func(x RelayRound) float64 { return x.ReceiverCPU })
	r.Written = over(func(x RelayRound) float64 { return x.Written })
	r.MB = r.PerSecond * float64(r.Size) / 1e6
	for _, x := range r.All {
		r.Lost += x.Lost
	}
}

// mark is the state of a chain at one moment.
type mark struct {
	at                      time.Time
	arrived                 int
	sender, relay, receiver time.Duration // processor time
	written                 int64         // by the relay
}

// watch takes marks while messages arrive, until want have, or none came for a
// while, or the time is over. arrived counts them.
func (ch *chain) watch(ctx context.Context, want int, limit time.Duration, arrived func() (int, error)) (marks []mark, err error) {
	begin, progress := time.Now(), time.Now()
	for {
		m, err := ch.mark(arrived)
		if err != nil {
			return marks, err
		}
		if len(marks) == 0 || m.arrived > marks[len(marks)-1].arrived {
			progress = m.at
			marks = append(marks, m)
		}
		if m.arrived >= want || m.at.Sub(begin) > limit || m.at.Sub(progress) > limit/4 {
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return marks, err
		}
	}
	// The relay has yet to hear of the last ones, and to remove them.
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return marks, err
	}
	m, err := ch.mark(arrived)
	return append(marks, m), err
}

func (ch *chain) mark(arrived func() (int, error)) (m mark, err error) {
	if m.arrived, err = arrived(); err != nil {
		return m, err
	}
	m.at = time.Now()
	for _, x := range []struct {
		p  *member
		to *time.Duration
	}{{ch.sender, &m.sender}, {ch.relay, &m.relay}, {ch.receiver, &m.receiver}} {
		if x.p == nil { // a door of this process
			continue
		}
		if *x.to, err = proc.CPU(x.p.PID()); err != nil {
			return m, err
		}
	}
	m.written, err = proc.Written(ch.relay.PID())
	return m, err
}

// between makes a round out of marks. The rate is that between the first tenth
// of what arrived and the last; processor time and bytes are those of all, since
// a relay may take bundles long before it hands them on.
func between(marks []mark, want int) (x RelayRound, err error) {
	if len(marks) == 0 {
		return x, errors.New("nothing arrived")
	}
	got := marks[len(marks)-1].arrived
	first := slices.IndexFunc(marks, func(m mark) bool { return m.arrived >= got/10 })
	end := slices.IndexFunc(marks, func(m mark) bool { return m.arrived >= got-got/10 })
	if end <= first {
		first, end = 0, len(marks)-1
	}
	a, b := marks[first], marks[end]
	n := float64(b.arrived - a.arrived)
	x = RelayRound{Bundles: got, Seconds: b.at.Sub(a.at).Seconds(), Lost: max(want-got, 0)}
	x.PerSecond = ratio(n, x.Seconds)
	a, b, n = marks[0], marks[len(marks)-1], float64(got-marks[0].arrived)
	x.CPU, x.SenderCPU, x.ReceiverCPU = perMessage(b.relay-a.relay, n), perMessage(b.sender-a.sender, n), perMessage(b.receiver-a.receiver, n)
	x.Written = ratio(float64(b.written-a.written), n)
	return x, nil
}
