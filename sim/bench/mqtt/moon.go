package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator"
)

// The link of the moon: 2.56 s there and back.
const (
	MoonLight = 1280 * time.Millisecond // one way
	MoonRate  = 50_000_000              // bit/s, each way
)

const (
	// moonWindow is how many messages may be under way: a second and a quarter of
	// light holds 91,000 of 64 bytes with their topics at 50 Mbit/s.
	moonWindow = 200_000
	// moonUnacked is how many publishes the client has open at its own broker.
	moonUnacked = 1000
	// hubWindow is mqtt.limits.window of the subscriber's node: with what it is
	// by default, each sync of the disk there lets 32 messages go on.
	hubWindow = 512
	// A bridge by its defaults queues 1,000 messages and takes 20 of QoS 2 from a
	// client at a time: with more it loses some.
	bridgeWindow  = 400
	bridgeUnacked = 20
	// freeWindow is the most with which a bridge without limits goes on with
	// QoS 2: it looks through all that is under way for each acknowledgement.
	freeWindow = 8_000
)

// MoonReport is what Moon found. Rates are messages a second that arrived at the
// subscriber, once they are steady.
type MoonReport struct {
	Machine Machine `json:"machine"`
	OWLT    float64 `json:"one_way_seconds"`
	Rate    int64   `json:"bit_per_s"`
	Loss    float64 `json:"loss"`
	Size    int     `json:"size"`
	Warm    float64 `json:"warm_seconds"` // from the first arrival until the measurement
	Seconds float64 `json:"seconds"`      // measured

	QoS1 float64 `json:"qos1_msgs_s"`
	QoS2 float64 `json:"qos2_msgs_s"`
	// A Mosquitto bridge by its defaults, and one with its limits on messages
	// under way and waiting lifted.
	PeerQoS1 float64 `json:"peer_qos1_msgs_s"`
	PeerQoS2 float64 `json:"peer_qos2_msgs_s"`
	FreeQoS1 float64 `json:"peer_unlimited_qos1_msgs_s"`
	FreeQoS2 float64 `json:"peer_unlimited_qos2_msgs_s"`

	Runs []MoonRun `json:"runs"`
}

// MoonRun is one of them.
type MoonRun struct {
	Broker  string  `json:"broker"`
	Setting string  `json:"setting"`
	QoS     byte    `json:"qos"`
	Rate    float64 `json:"msgs_s"`
	Arrived uint64  `json:"arrived"` // in the measured time
	Lost    uint64  `json:"lost"`
	Wrong   uint64  `json:"wrong"`
	Stalled bool    `json:"stalled,omitempty"`
	CPU     float64 `json:"cpu_us_per_msg"` // of both brokers together
	LinkMB  float64 `json:"link_mb"`        // what went up the link in all, 10^6 bytes
}

// moonCase is one pair of brokers.
type moonCase struct {
	broker, setting string
	window          func(qos byte) int
	unacked         int
	into            func(r *MoonReport, qos byte) *float64
	open            func(ctx context.Context, c Config, qos byte) (*pair, error)
}

func (c Config) moonCases() []moonCase {
	out := []moonCase{{
		broker: "farhop", setting: "owlt, rate and window configured", window: func(byte) int { return moonWindow }, unacked: moonUnacked, open: openNodes,
		into: func(r *MoonReport, qos byte) *float64 { return pick(qos, &r.QoS1, &r.QoS2) },
	}}
	if c.Peer == "" || c.Loss > 0 {
		return out
	}
	return append(out, moonCase{
		broker: "mosquitto", setting: "bridge, defaults", window: func(byte) int { return bridgeWindow }, unacked: bridgeUnacked,
		open: func(ctx context.Context, c Config, qos byte) (*pair, error) { return openBridge(ctx, c, qos) },
		into: func(r *MoonReport, qos byte) *float64 { return pick(qos, &r.PeerQoS1, &r.PeerQoS2) },
	}, moonCase{
		broker: "mosquitto", setting: "bridge, limits lifted", unacked: moonUnacked,
		window: func(qos byte) int {
			if qos == 1 {
				return moonWindow
			}
			return freeWindow
		},
		open: func(ctx context.Context, c Config, qos byte) (*pair, error) {
			return openBridge(ctx, c, qos, "max_inflight_messages 0", "max_queued_messages 0")
		},
		into: func(r *MoonReport, qos byte) *float64 { return pick(qos, &r.FreeQoS1, &r.FreeQoS2) },
	})
}

func pick(qos byte, one, two *float64) *float64 {
	if qos == 1 {
		return one
	}
	return two
}

// Moon publishes at one broker to a subscriber at another, with the link of the
// moon between them, which is without loss. Of c it takes Size, Warm (8 round
// trips, from the first arrival: a link has to find out what it may send) and
// Time (4 round trips, which are two handshakes of QoS 2).
func Moon(ctx context.Context, c Config, note func(format string, args ...any)) (r MoonReport, err error) {
	c, done, err := c.begin(Config{Warm: 16 * MoonLight, Time: 8 * MoonLight})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if note == nil {
		note = func(string, ...any) {}
	}
	c.light = cmp.Or(c.light, MoonLight)
	r = MoonReport{
		Machine: machine(proc.MosquittoVersion(ctx, c.Peer)), OWLT: c.light.Seconds(), Rate: MoonRate, Loss: c.Loss, Size: c.Size,
		Warm: c.Warm.Seconds(), Seconds: c.Time.Seconds(),
	}
	var faults []error
	for _, m := range c.moonCases() {
		for qos := byte(1); qos <= 2; qos++ {
			x, err := c.moon(ctx, m, qos)
			if err != nil {
				return r, fmt.Errorf("%s (%s), QoS %d: %w", m.broker, m.setting, qos, err)
			}
			note("%s (%s), QoS %d: %.1f messages/s, %d lost, %d repeated or out of order", m.broker, m.setting, qos, x.Rate, x.Lost, x.Wrong)
			r.Runs = append(r.Runs, x)
			*m.into(&r, qos) = x.Rate
			if m.broker == "farhop" && (x.Lost+x.Wrong > 0 || x.Stalled) {
				faults = append(faults, fmt.Errorf("QoS %d over the moon's link: %w: %d lost, %d repeated or out of order, stalled %t",
					qos, ErrUnfaithful, x.Lost, x.Wrong, x.Stalled))
			}
		}
	}
	return r, errors.Join(faults...)
}

// moon measures one pair with one QoS.
func (c Config) moon(ctx context.Context, m moonCase, qos byte) (x MoonRun, err error) {
	p, err := m.open(ctx, c, qos)
	if err != nil {
		return x, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w%s", err, p.tails())
		}
		err = errors.Join(err, p.stop())
	}()
	l, err := load.Open(ctx, load.Config{
		Publish: p.near.addr, Subscribe: p.far.addr, Publishers: 1, Subscribers: 1, QoS: qos, Size: c.Size,
		// What comes over a long link comes in bursts larger than what a broker
		// holds in memory for a client: the subscriber's session is a stored one.
		Persistent: true, Window: m.window(qos), Unacked: m.unacked,
	})
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	trip := 2 * c.light
	if err := l.Reach(ctx, trip, patience); err != nil {
		return x, err
	}
	// Nothing for many round trips is a stall: a bridge moves in bursts of one
	// window, and a link in trouble waits a few of them.
	quiet := 12*trip + stall
	res, err := l.Run(ctx, load.Plan{Warm: c.Warm, Time: c.Time, Stall: quiet, Drain: quiet, CPU: p.cpu})
	if err != nil {
		return x, err
	}
	return MoonRun{
		Broker: m.broker, Setting: m.setting, QoS: qos, Rate: ratio(float64(res.Out), res.Time.Seconds()), Arrived: res.Out,
		Lost: res.Missing, Wrong: res.Wrong, Stalled: res.Stalled,
		CPU: ratio(float64(res.CPU)/float64(time.Microsecond), float64(res.Out)), LinkMB: p.carried() / 1e6,
	}, nil
}

// pair is two brokers with a link between them.
type pair struct {
	near, far *process // with the publisher, with the subscriber
	link      *emulator.Link
	ended     chan struct{} // closed when the link has
}

// open starts a link to an address, with a profile for both ways.
func (p *pair) open(ctx context.Context, network, to string, profile emulator.Profile) (err error) {
	p.link, err = emulator.Open(emulator.Config{
		Network: network, Listen: "127.0.0.1:0", To: to, Up: profile, Down: profile, Seed: 1,
	})
	if err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func() { // ends with the link, in stop
		defer close(p.ended)
		_ = p.link.Run(ctx) // a link that ended shows as a stall
	}()
	return nil
}

func (c Config) profile() emulator.Profile {
	return emulator.Profile{Delay: c.light, Rate: MoonRate, Loss: c.Loss}
}

func (p *pair) stop() error {
	var errs []error
	for _, x := range []*process{p.near, p.far} {
		if x != nil {
			errs = append(errs, x.Stop())
		}
	}
	if p.link != nil {
		errs = append(errs, p.link.Close())
		<-p.ended
	}
	return errors.Join(errs...)
}

// cpu is the processor time of both.
func (p *pair) cpu() (time.Duration, error) {
	near, err := proc.CPU(p.near.PID())
	if err != nil {
		return 0, err
	}
	far, err := proc.CPU(p.far.PID())
	return near + far, err
}

// carried is what went up the link, in bytes.
func (p *pair) carried() float64 {
	up := p.link.Stats().Up
	return float64(up.Bytes + up.StreamBytes)
}

func (p *pair) tails() string {
	var text strings.Builder
	for _, x := range []*process{p.near, p.far} {
		if x != nil {
			fmt.Fprintf(&text, "\n%s:\n%s", x.Dir, x.Tail())
		}
	}
	return text.String()
}
