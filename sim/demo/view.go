package demo

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/sim/emulator/desc"
)

// Shape of the live view.
const (
	viewWidth  = 100 // columns at most
	viewEvents = 7   // lines of the story that stay in sight
	redraw     = 200 * time.Millisecond
	plainEvery = 5 * time.Second // between lines of progress in a plain log
)

// view shows a run: in place on a terminal, as a log elsewhere.
type view struct {
	out   io.Writer // nil shows nothing
	live  bool
	stage *stage

	told  int // events of the plain log
	lines int // of the last picture
	next  time.Time
}

func newView(cfg Config, s *stage) *view { return &view{out: cfg.Out, live: cfg.Live, stage: s} }

// run draws until ctx ends, and once more then.
func (v *view) run(ctx context.Context) {
	if v.out == nil {
		return
	}
	t := time.NewTicker(redraw)
	defer t.Stop()
	for {
		if v.live {
			v.draw()
		} else {
			v.log()
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// log writes what happened since, and from time to time how far it is.
func (v *view) log() {
	events := v.stage.story(v.told)
	v.told += len(events)
	for _, e := range events {
		fmt.Fprintln(v.out, e)
	}
	p := v.stage.picture()
	if now := time.Now(); now.After(v.next) && !p.start.IsZero() {
		v.next = now.Add(plainEvery)
		fmt.Fprintln(v.out, event{time.Since(p.start), p.up.text("telemetry") + "; " + p.down.text("commands")})
	}
}

// String writes an event with its time.
func (e event) String() string { return fmt.Sprintf("%6.1f s  %s", e.at.Seconds(), e.text) }

// story returns the events after the first n.
func (s *stage) story(n int) []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event(nil), s.events[min(n, len(s.events)):]...)
}

// picture is all that the view shows, copied at one moment.
type picture struct {
	start    time.Time
	plan     plan
	links    links
	phase    string
	seed     uint64
	seen     map[string]observed
	up, down tally
	tcp      surveyed
	fleet    map[string]uint64 // node -> revision in force
	pushed   uint64
	moonOpen bool
	cut      bool
	events   []event
}

func (s *stage) picture() picture {
	p := picture{
		plan: s.plan, links: s.links, seed: s.cfg.Seed, up: s.ledger.tally(luna), down: s.ledger.tally(earth),
		seen: map[string]observed{}, fleet: map[string]uint64{},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.start, p.phase, p.pushed, p.cut = s.start, s.phase, s.pushed, s.cut
	maps.Copy(p.seen, s.seen)
	for _, n := range s.fleet.Nodes {
		p.fleet[n.Node.String()] = n.Applied
	}
	p.events = append(p.events, s.events[max(len(s.events)-viewEvents, 0):]...)
	if s.survey != nil {
		p.tcp = s.survey.seen()
		now := time.Since(s.start)
		p.moonOpen = s.plan.contacts(s.start).Open(s.start.Add(now))
	}
	return p
}

// text is one direction of the traffic.
func (t tally) text(name string) string {
	text := fmt.Sprintf("%s %d acknowledged, %d delivered, %d under way", name, t.acked, t.delivered, t.lost)
	if t.delivered > 0 {
		text += fmt.Sprintf(", median %s", seconds(t.p(0.5).Round(10*time.Millisecond)))
	}
	return text
}

// draw replaces the picture on the terminal.
func (v *view) draw() {
	var b strings.Builder
	if v.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.lines) // up to the first line
	}
	lines := v.stage.picture().lines()
	for _, l := range lines {
		b.WriteString("\r" + clip(l, viewWidth) + "\x1b[K\n") // clear what was there before
	}
	b.WriteString("\x1b[J")
	v.lines = len(lines)
	_, _ = io.WriteString(v.out, b.String()) // a terminal that is gone ends the process by itself
}

// clip shortens a line to n columns. The view uses narrow characters only.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// lines is the picture as text.
func (p picture) lines() []string {
	var now time.Duration
	if !p.start.IsZero() {
		now = time.Since(p.start)
	}
	out := []string{
		fmt.Sprintf("farhop demo  seed %d   %s %4.0f s of %.0f s   %s", p.seed, bar(now, p.plan, 40), now.Seconds(), p.plan.length.Seconds(), p.phase),
		"",
	}
	moon := fmt.Sprintf("%s, loss %s, %s", seconds(least(&p.links.moon)), desc.FormatLoss(p.links.moon.Up.Loss), p.moon(now))
	ground := fmt.Sprintf("%d ms, %s", least(&p.links.ground).Milliseconds(), p.ground())
	out = append(out, fmt.Sprintf("  luna ──── %s ──── relay ──── %s ──── earth", moon, ground), "")
	for _, n := range names() {
		out = append(out, "  "+p.node(n))
	}
	out = append(out, "",
		"  "+p.up.text("telemetry  luna→earth:"),
		"  "+p.down.text("commands   earth→luna:"),
		fmt.Sprintf("  TCP        %d exchanges with earth, %d with leo, %d bytes, %d connections broke", p.tcp.done[earth], p.tcp.done[relay], p.tcp.bytes, p.tcp.broken),
		"  "+p.revision(), "")
	for i := range viewEvents {
		line := ""
		if i < len(p.events) {
			line = p.events[i].String()
		}
		out = append(out, line)
	}
	return out
}

// moon is the state of the link to the Moon.
func (p picture) moon(now time.Duration) string {
	switch st := state(p.seen[luna], relay); {
	case p.start.IsZero():
		return "not yet"
	case !p.moonOpen:
		return fmt.Sprintf("no contact for %.0f s", max(p.plan.back-now, 0).Seconds())
	case st == admin.PeerUp:
		return fmt.Sprintf("contact, up, %s %.0f kbit/s", p.seen[luna].layer, p.seen[luna].rate)
	default:
		return "contact, light is on its way"
	}
}

func (p picture) ground() string {
	if p.cut {
		return "CUT"
	}
	if st := state(p.seen[earth], relay); st != "" {
		return string(st)
	}
	return "not yet"
}

// state is how a node sees its link to a peer.
func state(o observed, peer string) admin.PeerState {
	for _, p := range o.Peers {
		if p.Node.String() == peer {
			return p.State
		}
	}
	return ""
}

// node is what one node holds.
func (p picture) node(name string) string {
	o, ok := p.seen[name]
	if !ok {
		return fmt.Sprintf("%-6s", name)
	}
	if o.down {
		return fmt.Sprintf("%-6s DOWN", name)
	}
	var queued, flying int
	for _, q := range o.Queues {
		queued += q.Bundles - q.InFlight // what is offered to a peer or a client is in flight
		flying += q.InFlight
	}
	return fmt.Sprintf("%-6s queued %4d   in flight %4d   handed on %5d   delivered %5d   on disk %d B",
		name, queued, flying, o.Counters.HandedOn, o.Counters.Delivered, o.Store.Bytes)
}

// revision tells which node has which revision.
func (p picture) revision() string {
	if p.pushed == 0 {
		return "fleet      no revision yet"
	}
	var text strings.Builder
	text.WriteString(fmt.Sprintf("fleet      revision %d:", p.pushed))
	for _, n := range names() {
		text.WriteString("  " + n + " " + map[bool]string{true: "applied", false: "pending"}[p.fleet[n] >= p.pushed])
	}
	return text.String()
}

// bar is the progress: publishing up to the mark, draining after it.
func bar(now time.Duration, p plan, width int) string {
	at := func(d time.Duration) int { return int(min(max(float64(d)/float64(p.length), 0), 1) * float64(width)) }
	cells := []rune(strings.Repeat("█", at(now)) + strings.Repeat("░", width-at(now)))
	mark := at(p.publish)
	return string(cells[:mark]) + "|" + string(cells[mark:])
}
