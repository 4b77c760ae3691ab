package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/sim/bench"
	"github.com/farhop/farhop/sim/bench/mqtt"
	"github.com/farhop/farhop/sim/bench/mqtt/attack"
	"github.com/farhop/farhop/sim/bench/mqtt/crowd"
	"github.com/farhop/farhop/sim/bench/proc"
	"github.com/farhop/farhop/sim/emulator/desc"
)

// benchMQTTFlags are those of "bench mqtt". One of durable, idle, sessions,
// queued, retained, moon, tsung and hostile says what is measured, none of them
// the workloads.
type benchMQTTFlags struct {
	b              mqtt.Config  // Rounds, Size and Window are those of all
	d              bench.Config // of durable
	crowd          crowd.Config // of sessions
	dir            string
	peer           string // NAME=PATH
	mosquitto      string // the older way to say so
	durable, moon  bool
	tsung          bool
	hostile        bool
	attacks        []string
	loss           string
	attack, at     string // what the program of the attackers is told
	settle, length time.Duration
}

func (a *app) benchMQTTCmd() *cobra.Command {
	var o benchMQTTFlags
	var json *bool
	c := &cobra.Command{
		Use:   "mqtt",
		Short: "Messages a second through a broker and what they cost, beside Mosquitto",
		Long: `Measure a new node as a broker, beside Mosquitto if there is one, round by round.
Without one of the flags below, five workloads of clean sessions, for which
nothing has to be on a disk: 20 publishers to one subscriber and one to 50, with
QoS 0 and 1, and 50 pairs with QoS 1. Rates are messages that arrive; processor
time is the broker's, per message in or out. Every message has to arrive once and
in order, or the command fails.

  --durable     messages that are on disk before they are acknowledged, and what
                is left after a kill
  --idle N      memory and processor time of connections that do nothing
  --sessions N  the same without sockets, within this process
  --queued N    messages that wait in the session of a client that is away: memory,
                and whether they come in order after a kill
  --retained N  retained messages: memory, and what becomes of others while a
                subscriber to all of them reads nothing
  --moon        two nodes 1.28 s of light apart, beside a bridge of Mosquitto
  --tsung       the load made by tsung 1.7, which others wrote
  --hostile     what others notice of clients that behave as badly as they can

The load shares the machine with the brokers, so the ratios of one run say more
than its rates. The workloads take about a minute and a half, --moon about six,
--hostile five.`,
		Example: "  farhop bench mqtt --json\n  farhop bench mqtt --peer mosquitto=/opt/bin/mosquitto --rounds 5\n  farhop bench mqtt --idle 19000\n  farhop bench mqtt --durable --clients 64 --dir /srv",
		Args:    args(0, 0, ""),
	}
	o.add(c)
	json = jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.check(c); err != nil {
			return err
		}
		return a.benchMQTT(c, &o, *json)
	}
	return c
}

// add declares the flags.
func (o *benchMQTTFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.durable, "durable", false, "messages that are on disk before they are acknowledged")
	f.IntVar(&o.b.Idle, "idle", 0, "connections that do nothing")
	f.IntVar(&o.crowd.Sessions, "sessions", 0, "sessions within this process that do nothing")
	f.IntVar(&o.b.Queued, "queued", 0, "messages that wait for one client")
	f.IntVar(&o.b.Retained, "retained", 0, "retained messages")
	f.BoolVar(&o.moon, "moon", false, "messages between two nodes over a link as to the moon")
	f.BoolVar(&o.tsung, "tsung", false, "users that come, publish and go, made by tsung")
	f.BoolVar(&o.hostile, "hostile", false, "well-behaved clients beside attackers of many kinds")
	f.StringSliceVar(&o.attacks, "attacks", nil, "with --hostile: only these (default: all)")
	f.IntVar(&o.b.Rate, "rate", 0, "with --hostile: messages a second of the well-behaved (default 1000)")
	f.StringVar(&o.loss, "loss", "", "with --moon: share of packets that is lost, such as 1%; without the bridge")
	f.StringVar(&o.attack, "attack", "", "attack the broker of --at until the end of the input")
	f.StringVar(&o.at, "at", "", "with --attack: HOST:PORT")
	_ = f.MarkHidden("attack") // what --hostile starts
	_ = f.MarkHidden("at")
	f.StringVar(&o.peer, "peer", "", "the other broker: mosquitto=PROGRAM, or none (default: the one in PATH or in sbin)")
	f.StringVar(&o.mosquitto, "mosquitto", "", "the same, without its name")
	f.StringVar(&o.dir, "dir", "", "folder of the brokers, with --durable on the disk to measure (default: the system's for temporary files)")
	f.IntVar(&o.b.Rounds, "rounds", 3, "rounds, of which medians are taken")
	f.IntVar(&o.b.Size, "size", 0, "bytes of a message (default 64, with --durable 256)")
	f.IntVar(&o.b.Window, "window", 0, "messages of one publisher under way (default by workload, with --durable 64)")
	f.DurationVar(&o.length, "time", 0, "time that is measured (default 3s per workload, 20s of idleness, 10.24s on the moon)")
	f.DurationVar(&o.settle, "settle", 0, "time after which the memory of what is idle is read (default 15s, with --durable 10s)")
	f.DurationVar(&o.b.Warm, "warm", 0, "time before what is measured (default 0.5s per workload, 20.48s on the moon)")
	f.IntVar(&o.d.Clients, "clients", 16, "with --durable: publishers")
	f.IntVar(&o.d.Messages, "messages", 100_000, "with --durable: messages of one round, of all publishers together")
	f.DurationVar(&o.d.Limit, "limit", 20*time.Second, "with --durable: most time for the messages of one round; a slow server is measured by what it did until then")
}

// durableFlags have no meaning without --durable.
func durableFlags() []string { return []string{"clients", "messages", "limit"} }

// check refuses what cannot be before anything is measured.
func (o *benchMQTTFlags) check(c *cobra.Command) error {
	changed := c.Flags().Changed
	for _, group := range [][]string{{"durable", "idle", "sessions", "queued", "retained", "moon", "tsung", "hostile", "attack"}, {"peer", "mosquitto"}} {
		if set := slices.DeleteFunc(group, func(name string) bool { return !changed(name) }); len(set) > 1 {
			return usage(c, "--%s: want one of them", strings.Join(set, ", --"))
		}
	}
	for _, name := range durableFlags() {
		if changed(name) && !o.durable {
			return usage(c, "--%s says something with --durable only", name)
		}
	}
	for _, name := range []string{"attacks", "rate"} {
		if changed(name) && !o.hostile {
			return usage(c, "--%s says something with --hostile only", name)
		}
	}
	if o.loss != "" {
		var err error
		switch o.b.Loss, err = desc.ParseLoss(o.loss); {
		case err != nil:
			return usage(c, "--loss: %v", err)
		case !o.moon:
			return usage(c, "--loss says something with --moon only")
		}
	}
	for _, name := range []string{"time", "warm"} {
		if changed(name) && o.durable {
			return usage(c, "--%s says nothing with --durable", name)
		}
	}
	for name, n := range map[string]int{"idle": o.b.Idle, "sessions": o.crowd.Sessions, "queued": o.b.Queued, "retained": o.b.Retained} {
		if changed(name) && n < 1 {
			return usage(c, "--%s: want 1 or more", name)
		}
	}
	switch name, path, ok := strings.Cut(o.peer, "="); {
	case o.peer == "":
	case o.peer == noMosquitto:
		o.mosquitto = noMosquitto
	case ok && name == "mosquitto" && path != "":
		o.mosquitto = path
	default:
		return usage(c, "--peer: %q, want mosquitto=PROGRAM or none", o.peer)
	}
	return nil
}

// benchMQTT measures what the flags say.
func (a *app) benchMQTT(c *cobra.Command, o *benchMQTTFlags, json bool) error {
	if o.attack != "" {
		proc.Yield()
		return attack.Run(c.Context(), o.attack, o.at, a.out)
	}
	o.d.Rounds, o.d.Size, o.d.Window, o.d.Settle = o.b.Rounds, o.b.Size, o.b.Window, o.settle
	if o.crowd.Sessions > 0 {
		return a.benchSessions(c, o, json)
	}
	if err := a.benchPrograms(&o.d, o.dir, o.mosquitto); err != nil {
		return err
	}
	if o.durable {
		return a.benchDurable(c, o.d, json)
	}
	b := o.b
	b.Attacks = o.attacks
	b.Dir, b.Farhop, b.Peer, b.Settle, b.Time = o.d.Dir, o.d.Farhop, o.d.Mosquitto, o.settle, o.length
	if err := b.Validate(); err != nil {
		return usage(c, "%v", err)
	}
	switch {
	case b.Idle > 0:
		r, err := mqtt.Idle(c.Context(), b, a.note)
		return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchIdle(w, r) })
	case b.Queued > 0:
		r, err := mqtt.Queued(c.Context(), b, a.note)
		return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchQueued(w, r) })
	case b.Retained > 0:
		r, err := mqtt.Retained(c.Context(), b, a.note)
		return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchRetained(w, r) })
	case o.hostile:
		r, err := mqtt.Hostile(c.Context(), b, a.note)
		return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchHostile(w, r) })
	case o.moon:
		r, err := mqtt.Moon(c.Context(), b, a.note)
		return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchMoon(w, r) })
	case o.tsung:
		r, err := mqtt.Tsung(c.Context(), b, a.note)
		return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchTsung(w, r) })
	}
	r, err := mqtt.Run(c.Context(), b, a.note)
	return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchWorkloads(w, r) })
}

// benchReport prints what was found, also when messages were lost, and ends
// with the error.
func (a *app) benchReport(json bool, r any, err error, print func(io.Writer) error) error {
	if err != nil && !errors.Is(err, mqtt.ErrUnfaithful) && !errors.Is(err, mqtt.ErrUnfair) {
		return err
	}
	if json {
		return cmp.Or(printJSON(a.out, r), err)
	}
	return cmp.Or(print(a.out), err)
}

func (a *app) benchSessions(c *cobra.Command, o *benchMQTTFlags, json bool) error {
	o.crowd.Settle, o.crowd.Time = o.settle, o.length
	if err := o.crowd.Validate(); err != nil {
		return usage(c, "%v", err)
	}
	r, err := crowd.Run(c.Context(), o.crowd, a.note)
	return a.benchReport(json, r, err, func(w io.Writer) error { return printBenchSessions(w, r) })
}

// benchPrograms finds what a run needs.
func (a *app) benchPrograms(b *bench.Config, dir, mosquitto string) error {
	var err error
	if b.Farhop, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if b.Dir = dir; dir == "" {
		b.Dir = os.TempDir()
	}
	switch mosquitto {
	case noMosquitto:
	case "":
		if b.Mosquitto = proc.FindMosquitto(); b.Mosquitto == "" {
			a.note("there is no Mosquitto on this machine: measuring without it")
		}
	default:
		b.Mosquitto = mosquitto
	}
	return nil
}
