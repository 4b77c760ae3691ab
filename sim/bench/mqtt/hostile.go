package mqtt

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/bench/mqtt/attack"
	"github.com/farhop/farhop/sim/bench/mqtt/load"
	"github.com/farhop/farhop/sim/bench/proc"
)

// The well-behaved clients of Hostile.
const (
	victimPairs    = 10
	victimRate     = 1000 // messages/s of sessions that end with their connection
	durablePart    = 5    // one message in so many goes to sessions that are on disk
	victimSize     = 64
	liveVictims    = "victim"
	durableVictims = "durable"
	memoryEvery    = 200 * time.Millisecond
	begunWithin    = time.Minute // attackers that have done nothing until then never will
)

// FairShare is the part of their rate that well-behaved clients must keep.
const FairShare = 0.95

// ErrUnfair says that well-behaved clients lost messages, were cut off, or did
// not keep FairShare of their rate. The report is whole.
var ErrUnfair = errors.New("an attack costs others what is theirs")

// HostileReport is what Hostile found.
type HostileReport struct {
	Machine Machine  `json:"machine"`
	Rate    int      `json:"rate"`    // messages/s of all well-behaved clients
	Seconds float64  `json:"seconds"` // measured without and with each attack
	Attacks []Attack `json:"attacks"`
}

// Attack is one of them. Milliseconds are from when a message was due to be
// sent until it arrived, as the 99th of 100.
type Attack struct {
	Name string `json:"name"`

	Share        float64 `json:"victims_rate_share"`    // arrived a second with the attack, of what did without
	DurableShare float64 `json:"durable_rate_share"`    // of them, those whose sessions are on disk
	P99          float64 `json:"p99_ms"`                // with the attack
	BaseP99      float64 `json:"p99_ms_before"`         // without
	DurableP99   float64 `json:"durable_p99_ms"`        // with the attack
	BaseDurable  float64 `json:"durable_p99_ms_before"` // without
	Lost         uint64  `json:"lost"`
	Wrong        uint64  `json:"wrong"` // repeated or out of order
	Fault        string  `json:"fault,omitempty"`

	RSS  float64 `json:"rss_growth_mib"`  // most there was during the attack, over what was before
	Anon float64 `json:"anon_growth_mib"` // of it, what no file backs
	CPU  float64 `json:"broker_cpu"`      // cores during the attack
	Base float64 `json:"broker_cpu_before"`

	Counts  attack.Counts      `json:"attacker"` // what it did, over Seconds and what came before and after
	Over    float64            `json:"attack_seconds"`
	Refused map[string]float64 `json:"refused"` // counters of the broker that tell of refusals and cuts
}

// Attacks returns the names of all attacks.
func Attacks() []string { return attack.Names() }

// Hostile measures what well-behaved clients notice of others that behave as
// badly as they can: their rate, how late messages are, and the broker's
// memory, without and with each attack, on a fresh node each. They publish at a
// pace far below what the machine can, so that what they miss was taken from
// them. The attackers run in a process of their own, which yields to the others
// on this machine: they come from elsewhere. Of c it takes Time (8 s), Warm
// (2 s), Rate and Attacks.
func Hostile(ctx context.Context, c Config, note func(format string, args ...any)) (r HostileReport, err error) {
	c, done, err := c.begin(Config{Time: 8 * time.Second, Warm: 2 * time.Second})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if note == nil {
		note = func(string, ...any) {}
	}
	c.Rate = cmp.Or(c.Rate, victimRate)
	r = HostileReport{Machine: machine(""), Rate: c.Rate, Seconds: c.Time.Seconds()}
	var unfair error
	for _, name := range Attacks() {
		if c.Attacks != nil && !slices.Contains(c.Attacks, name) {
			continue
		}
		x, err := c.attacked(ctx, name)
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		note("%s", x)
		r.Attacks = append(r.Attacks, x)
		if x.Fault != "" || x.Lost+x.Wrong > 0 || min(x.Share, x.DurableShare) < FairShare {
			unfair = errors.Join(unfair, fmt.Errorf("%s: %w: %s", name, ErrUnfair, x))
		}
	}
	return r, unfair
}

// String implements fmt.Stringer.
func (a Attack) String() string {
	text := fmt.Sprintf("%s: others keep %.3f of their rate (durable %.3f), p99 %.1f ms after %.1f (durable %.1f after %.1f), %+.0f MiB, %.2f cores after %.2f; attack: %+v; refused: %v",
		a.Name, a.Share, a.DurableShare, a.P99, a.BaseP99, a.DurableP99, a.BaseDurable, a.RSS, a.CPU, a.Base, a.Counts, a.Refused)
	if a.Lost+a.Wrong > 0 {
		text += fmt.Sprintf(", %d lost, %d repeated or out of order", a.Lost, a.Wrong)
	}
	if a.Fault != "" {
		text += ": " + a.Fault
	}
	return text
}

// attacked measures one attack on a fresh node.
func (c Config) attacked(ctx context.Context, name string) (x Attack, err error) {
	admin, err := proc.FreeAddr()
	if err != nil {
		return x, err
	}
	// Anybody may subscribe to everything here: without it, those who never read
	// what they subscribed to would have everybody's publishes refused.
	skip := func(c *config.Config) { c.MQTT.Limits.FullSession = config.SkipFull }
	p, err := launch(ctx, nodeAt(c.Farhop, admin, skip), c.Dir)
	if err != nil {
		return x, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Tail())
		}
		err = errors.Join(err, p.Stop())
	}()
	victims, err := load.OpenPaced(ctx, p.addr, victimSize, []load.PacedGroup{
		{Name: liveVictims, Pairs: victimPairs, Rate: c.Rate - c.Rate/durablePart},
		{Name: durableVictims, Pairs: victimPairs, Rate: c.Rate / durablePart, Persistent: true},
	})
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, victims.Close()) }()
	x.Name = name
	before, err := c.slice(ctx, p, victims)
	if err != nil {
		return x, err
	}
	counted, err := counters(ctx, admin)
	if err != nil {
		return x, err
	}
	begun := time.Now()
	enemy, err := c.enemy(ctx, name, p.addr)
	if err != nil {
		return x, err
	}
	with, failed := c.slice(ctx, p, victims)
	x.Over = time.Since(begun).Seconds()
	x.Counts = told(enemy.Tail())
	err = enemy.Stop()
	switch {
	case ctx.Err() != nil:
		return x, ctx.Err()
	case failed != nil:
		x.Fault = failed.Error()
	case err != nil:
		return x, err
	}
	after, err := counters(ctx, admin)
	if err != nil {
		return x, err
	}
	x.Refused = after.since(counted)
	x.compare(before, with)
	return x, nil
}

// enemy starts the attackers and waits until they have begun: they yield to
// all others on a busy machine, and a slice without them says nothing.
func (c Config) enemy(ctx context.Context, name, addr string) (*proc.Program, error) {
	dir, err := os.MkdirTemp(c.Dir, "attack-")
	if err != nil {
		return nil, err
	}
	e := &proc.Program{Path: c.Farhop, Args: []string{"bench", "mqtt", "--attack", name, "--at", addr}, Dir: filepath.Clean(dir)}
	if err := e.Begin(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(e.Dir))
	}
	ctx, cancel := context.WithTimeout(ctx, begunWithin)
	defer cancel()
	for told(e.Tail()) == (attack.Counts{}) {
		if e.Gone() {
			return nil, errors.Join(fmt.Errorf("the attackers ended:\n%s", e.Tail()), e.Stop())
		}
		if err := pause(ctx, memoryEvery); err != nil {
			return nil, errors.Join(fmt.Errorf("the attackers did nothing for %v: %w", begunWithin, err), e.Stop())
		}
	}
	return e, nil
}

// told reads the last counts of the attackers.
func told(log string) (c attack.Counts) {
	lines := bytes.Split([]byte(log), []byte("\n"))
	for _, line := range slices.Backward(lines) {
		if json.Unmarshal(line, &c) == nil {
			return c
		}
	}
	return c
}

// slice is what was seen over a time.
type slice struct {
	groups       []load.PacedResult
	memory, peak proc.Memory
	cpu          float64
}

// slice measures the victims. An error is what ended one of them; what was
// seen until then is returned.
func (c Config) slice(ctx context.Context, p *process, victims *load.Paced) (s slice, err error) {
	if s.memory, err = proc.MemoryOf(p.PID()); err != nil {
		return s, err
	}
	from, err := proc.CPU(p.PID())
	if err != nil {
		return s, err
	}
	begun := time.Now()
	watch, stop := context.WithCancel(ctx)
	most := make(chan proc.Memory, 1)
	go func() { most <- watchMemory(watch, p.PID()) }()
	s.groups, err = victims.Run(ctx, c.Warm, c.Time)
	stop()
	s.peak = <-most
	to, cpuErr := proc.CPU(p.PID())
	s.cpu = ratio((to - from).Seconds(), time.Since(begun).Seconds())
	return s, errors.Join(err, cpuErr)
}

// watchMemory returns the most a process held until ctx ended.
func watchMemory(ctx context.Context, pid int) (most proc.Memory) {
	for {
		if m, err := proc.MemoryOf(pid); err == nil {
			most.Resident, most.Anonymous = max(most.Resident, m.Resident), max(most.Anonymous, m.Anonymous)
		}
		if pause(ctx, memoryEvery) != nil {
			return most
		}
	}
}

// compare fills in what the two slices say of each other.
func (x *Attack) compare(before, with slice) {
	rate := func(r load.PacedResult) float64 { return ratio(float64(r.Arrived), r.Time.Seconds()) }
	millis := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	var all, allBefore float64
	for i, g := range with.groups {
		b := before.groups[i]
		all, allBefore = all+rate(g), allBefore+rate(b)
		x.Lost, x.Wrong = x.Lost+g.Missing, x.Wrong+g.Wrong
		if g.Name == durableVictims {
			x.DurableShare, x.DurableP99, x.BaseDurable = ratio(rate(g), rate(b)), millis(g.P99), millis(b.P99)
		} else {
			x.P99, x.BaseP99 = millis(g.P99), millis(b.P99)
		}
	}
	x.Share = ratio(all, allBefore)
	mib := func(n int64) float64 { return math.Round(float64(n)/(1<<20)*10) / 10 }
	x.RSS, x.Anon = mib(with.peak.Resident-before.peak.Resident), mib(with.peak.Anonymous-before.peak.Anonymous)
	x.CPU, x.Base = with.cpu, before.cpu
}
