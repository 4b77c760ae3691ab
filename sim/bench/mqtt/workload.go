package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

// stall is how long nothing may arrive, with messages under way, until a
// broker is taken to have stopped.
const stall = 5 * time.Second

// shape is one workload. window holds the messages of all publishers together
// far below what a broker queues for a client.
type shape struct {
	name                    string
	publishers, subscribers int
	pairs                   bool
	qos                     byte
	window                  int
}

func shapes() []shape {
	return []shape{
		{"fan-in-qos0", 20, 1, false, 0, 200},
		{"fan-in-qos1", 20, 1, false, 1, 200},
		{"fan-out-qos0", 1, 50, false, 0, 1000},
		{"fan-out-qos1", 1, 50, false, 1, 1000},
		{"pairs-qos1", 50, 50, true, 1, 100},
	}
}

// Workloads returns the names of all workloads.
func Workloads() []string {
	var out []string
	for _, s := range shapes() {
		out = append(out, s.name)
	}
	return out
}

// Report is what Run found.
type Report struct {
	Machine Machine `json:"machine"`
	Config
	Seconds   float64    `json:"seconds"` // measured of each workload in each round
	Workloads []Workload `json:"workloads"`
}

// Workload is one of them: medians over the rounds in which a broker did not
// stall, 0 where there is none.
type Workload struct {
	Name        string `json:"name"`
	Publishers  int    `json:"publishers"`
	Subscribers int    `json:"subscribers"`
	QoS         byte   `json:"qos"`
	Window      int    `json:"window"` // messages of one publisher under way

	Rate    float64 `json:"rate"`           // messages that arrived at subscribers, per second
	CPU     float64 `json:"cpu_us_per_msg"` // broker's user and system time per message in or out
	Lost    uint64  `json:"lost"`
	Wrong   uint64  `json:"wrong"`   // repeated or out of order
	Stalled int     `json:"stalled"` // rounds

	PeerRate    float64 `json:"peer_rate"`
	PeerCPU     float64 `json:"peer_cpu_us_per_msg"`
	PeerLost    uint64  `json:"peer_lost"`
	PeerWrong   uint64  `json:"peer_wrong"`
	PeerStalled int     `json:"peer_stalled"`

	RateRatio float64 `json:"rate_ratio"` // over the peer's: median within the rounds
	CPURatio  float64 `json:"cpu_ratio"`

	Generator float64 `json:"generator_cpu_us_per_msg"` // of the load, with the node
	Busy      float64 `json:"generator_busy"`           // its share of one core, which is all it can use

	All     []Round `json:"rounds"`
	AllPeer []Round `json:"peer_rounds,omitempty"`
}

// Round is one workload on one broker once.
type Round struct {
	Rate      float64 `json:"rate"`
	CPU       float64 `json:"cpu_us_per_msg"`
	In        uint64  `json:"in"`
	Out       uint64  `json:"out"`
	Seconds   float64 `json:"seconds"`
	Lost      uint64  `json:"lost"`
	Wrong     uint64  `json:"wrong"`
	Stalled   bool    `json:"stalled,omitempty"`
	After     uint64  `json:"stalled_after,omitempty"` // messages
	Generator float64 `json:"generator_cpu_us_per_msg"`
	Busy      float64 `json:"generator_busy"`
}

// ErrUnfaithful says that a node lost, repeated or reordered messages, or
// stopped. The report is whole.
var ErrUnfaithful = errors.New("the node did not deliver every message once and in order")

// Run measures the workloads: all sessions are clean, so that no broker has
// anything to put on a disk. Of c it takes Rounds (3), Size, Window, Time (3 s),
// Warm (500 ms) and Only. note hears what is going on; nil is silence.
func Run(ctx context.Context, c Config, note func(format string, args ...any)) (r Report, err error) {
	c, done, err := c.begin(Config{Rounds: 3, Time: 3 * time.Second, Warm: 500 * time.Millisecond})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if note == nil {
		note = func(string, ...any) {}
	}
	r = Report{Machine: machine(proc.MosquittoVersion(ctx, c.Peer)), Config: c, Seconds: c.Time.Seconds()}
	for _, s := range c.chosen() {
		r.Workloads = append(r.Workloads, Workload{
			Name: s.name, Publishers: s.publishers, Subscribers: s.subscribers, QoS: s.qos, Window: s.window,
		})
	}
	brokers := []broker{node(c.Farhop)}
	if c.Peer != "" {
		brokers = append(brokers, mosquitto(c.Peer, fair()...))
	}
	for n := range c.Rounds {
		for i, s := range c.chosen() {
			for k := range brokers {
				b := brokers[(k+n)%len(brokers)] // the first one takes turns too
				x, err := c.once(ctx, b, s)
				if err != nil {
					return r, fmt.Errorf("%s: %s: %w", s.name, b.name, err)
				}
				note("round %d: %s: %s: %s", n+1, s.name, b.name, x)
				r.Workloads[i].add(b.name, x)
			}
		}
	}
	for i := range r.Workloads {
		err = errors.Join(err, r.Workloads[i].finish())
	}
	return r, err
}

// chosen returns the workloads of a run.
func (c Config) chosen() []shape {
	var out []shape
	for _, s := range shapes() {
		if c.Only != nil && !slices.Contains(c.Only, s.name) {
			continue
		}
		if c.Window > 0 {
			s.window = c.Window
			if !s.pairs {
				s.window = min(s.window, maxWindow/s.publishers)
			}
		}
		out = append(out, s)
	}
	return out
}

// once measures one workload on a fresh broker.
func (c Config) once(ctx context.Context, b broker, s shape) (x Round, err error) {
	p, err := launch(ctx, b, c.Dir)
	if err != nil {
		return x, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	l, err := load.Open(ctx, load.Config{
		Publish: p.addr, Publishers: s.publishers, Subscribers: s.subscribers, Pairs: s.pairs, QoS: s.qos, Size: c.Size, Window: s.window,
	})
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	r, err := l.Run(ctx, load.Plan{
		Warm: c.Warm, Time: c.Time, Stall: stall, Drain: stall,
		CPU: func() (time.Duration, error) { return proc.CPU(p.PID()) },
	})
	return newRound(r), err
}

func newRound(r load.Result) Round {
	n, seconds := float64(r.In+r.Out), r.Time.Seconds()
	micros := func(d time.Duration) float64 { return ratio(float64(d)/float64(time.Microsecond), n) }
	return Round{
		Rate: ratio(float64(r.Out), seconds), CPU: micros(r.CPU), In: r.In, Out: r.Out, Seconds: seconds,
		Lost: r.Missing, Wrong: r.Wrong, Stalled: r.Stalled, After: r.After, Generator: micros(r.Own), Busy: ratio(r.Own.Seconds(), seconds),
	}
}

// String implements fmt.Stringer.
func (r Round) String() string {
	text := fmt.Sprintf("%.0f messages/s, %.2f µs each, load %.2f µs", r.Rate, r.CPU, r.Generator)
	if r.Stalled {
		text += fmt.Sprintf(", stalled after %d", r.After)
	}
	if r.Lost+r.Wrong > 0 {
		text += fmt.Sprintf(", %d lost, %d repeated or out of order", r.Lost, r.Wrong)
	}
	return text
}
