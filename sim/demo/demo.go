// Package demo plays the product on one machine: three real nodes as processes
// of their own, a link to the Moon between them, real MQTT and TCP clients, and
// trouble in the middle. At the end it judges whether every promise was kept.
//
// It owns the processes, the emulated links and the clients, and the data
// directories below one temporary directory. It never looks into a node but
// through the API that everybody has, and never helps one: what is lost is
// reported as lost. Its caller is `farhop demo`.
//
//	r, err := demo.Run(ctx, demo.Config{Program: os.Args[0], Duration: 40 * time.Second, Seed: 7, Out: os.Stdout})
//	if err != nil { ... }      // it could not be played
//	if !r.OK { ... r.Broken }  // it was played, and a promise was broken
//
// # The world
//
//	rovers, lander     luna ---- 1.28 s, 1 % loss, contacts ---- relay ---- 15 ms ---- earth     archive, mission
//	(MQTT, TCP client)                                   (leo, TCP server)            (MQTT, TCP server)
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// MinDuration is the shortest run in which everything fits: handshakes with
// the Moon take five seconds each, and there are two.
const MinDuration = 20 * time.Second

// MaxDuration bounds what is remembered of single messages: about 100,000.
const MaxDuration = 2 * time.Hour

// Config is what Run needs.
type Config struct {
	Program  string        // the farhop program, started as "PROGRAM run --dir DIR"
	Duration time.Duration // from the start of the nodes; draining may take a few seconds more
	Seed     uint64        // of losses, payloads and the pace of the publishers
	Keep     string        // directory for data and logs, must not exist or be empty; "" for a temporary one that is removed
	Out      io.Writer     // the view; nil for none
	Live     bool          // Out is a terminal: redraw in place
	Links    []desc.Named  // in the place of those built in that join the same nodes
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Program == "" {
		errs = append(errs, errors.New("program: is empty"))
	}
	if c.Duration < MinDuration || c.Duration > MaxDuration {
		errs = append(errs, fmt.Errorf("duration: %v is not between %v and %v", c.Duration, MinDuration, MaxDuration))
	}
	_, err := c.links()
	return errors.Join(append(errs, err)...)
}

// Run plays the demo. An error says that it could not be played to its end,
// the report whether what was promised was kept.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	if err := cfg.Validate(); err != nil {
		return r, fmt.Errorf("demo: %w", err)
	}
	dir, remove, err := directory(cfg.Keep)
	if err != nil {
		return r, fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	s, err := newStage(cfg, dir)
	if err != nil {
		return r, errors.Join(fmt.Errorf("demo: %w", err), remove())
	}
	v := newView(cfg, s)
	vctx, stopView := context.WithCancel(context.WithoutCancel(ctx))
	var show errgroup.Group
	show.Go(func() error { v.run(vctx); return nil })
	err = s.play(ctx)
	stopView()
	_ = show.Wait() // it only draws
	if err != nil {
		return r, fmt.Errorf("demo: %w", err)
	}
	return s.report(), nil
}

// directory makes the directory of a run. remove cleans up after it.
func directory(keep string) (dir string, remove func() error, err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "farhop-demo-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(keep); err != nil {
		return "", nil, err
	}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty; name another directory with --keep", dir)
	}
	return dir, func() error { return nil }, err
}

// plan is when what happens, as time since the start of the nodes.
type plan struct {
	length     time.Duration // the whole run
	publish    time.Duration // publishing ends
	grace      time.Duration // after length, for what is still on its way
	gap, back  time.Duration // the planned pause of the contacts with luna
	push       time.Duration // a revision is pushed, in the pause
	cut, heal  time.Duration // relay-earth is cut, which nobody planned
	kill, rise time.Duration // the relay is killed and started again
	fail       time.Duration // earth's TCP server goes away, if it has served by then
	lead       time.Duration // the contacts before the pause began this long before it
	again      time.Duration // from one contact to the next
}

// contacts are those of the plan, from a start of the nodes.
func (p plan) contacts(start time.Time) desc.Schedule {
	return desc.Schedule{Start: start.Add(p.gap - p.lead), Every: p.again, For: p.lead}
}

// follow takes the contacts of a description instead, which begin with the nodes.
func (p plan) follow(at desc.Schedule) plan {
	if at.Always() {
		return p
	}
	p.gap, p.back, p.lead, p.again = at.For, at.Every, at.For, at.Every
	p.push = (p.gap + p.back) / 2
	return p
}

// planFor fits the events into a run. Shares of the duration keep their order;
// limits keep outages of long runs within what drains in them.
func planFor(d time.Duration) plan {
	at := func(share float64) time.Duration {
		return time.Duration(share * float64(d)).Round(10 * time.Millisecond)
	}
	p := plan{length: d, publish: at(0.60), lead: 2*d + time.Hour}
	p.grace = 14*time.Second + max(40*time.Second-d, 0)/2 // the handshakes of a short run take as long
	p.gap = at(0.24)
	p.back = p.gap + min(at(0.11), 20*time.Second)
	p.again = p.lead + p.back - p.gap
	p.push = (p.gap + p.back) / 2
	p.cut = at(0.40)
	p.heal = p.cut + min(at(0.05), 15*time.Second)
	p.kill = at(0.48)
	p.rise = p.kill + min(max(at(0.025), time.Second), 10*time.Second)
	p.fail = at(0.55)
	return p
}

// Names of the nodes and of what uses them.
const (
	luna  = "luna"
	relay = "relay"
	earth = "earth"

	service = "survey" // the TCP service
)

// regions of the nodes.
const (
	lunaRegion  = "luna"
	relayRegion = "leo"
	earthRegion = "earth"
)

// sleepUntil waits for a moment and reports why it ended early.
func sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	return sleepUntil(ctx, time.Now().Add(d))
}

// seconds writes a span for people.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%.*f s", cmp.Or(map[bool]int{true: 2}[d%(100*time.Millisecond) != 0 && d < 10*time.Second], 1), d.Seconds())
}
