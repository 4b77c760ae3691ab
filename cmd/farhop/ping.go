package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
)

func (a *app) pingCmd() *cobra.Command {
	r := admin.PingRequest{}
	var interval, timeout time.Duration
	c := &cobra.Command{
		Use: "ping NODE", GroupID: groupLook, Short: "Measure the round trip to a node, over any number of links", Args: args(1, 1, "one node"),
		Long: `Send questions to a node of the mesh and show how long the answers took.

Questions and answers are bundles: they wait in the same queues, are stored at each
node on the way and go by the same routes as messages of their class. So the times
are those a message needs there and back, disks included; for the link to the next
node alone its own round trip is shown beside. What is cut off now is asked all the
same: the question waits for the link, and the answer comes when it is back.

How long an answer may take follows from the path and is said at first: four round
trips of its links and a second for each node. Then the question counts as
lost, though a late answer is still shown. While the path is down there is no such
limit; --timeout sets one in any case. A node older than this command does not
answer.`,
		Example: "  farhop ping luna-1\n  farhop ping luna-1 --count 0 --interval 10s --class alarm",
	}
	f := c.Flags()
	f.IntVarP(&r.Count, "count", "n", 4, "questions (0: until stopped)")
	f.DurationVarP(&interval, "interval", "i", time.Second, "time between two questions, 10ms or more")
	f.StringVar(&r.Class, "class", bundle.Interactive.String(), "class of the bundles: control, alarm, interactive, telemetry or bulk")
	f.DurationVar(&timeout, "timeout", 0, "time for each answer (default: as the path explains)")
	asJSON := f.Bool("json", false, "print JSON, one value a line, the last of them a summary")
	c.RunE = func(c *cobra.Command, given []string) error {
		var err error
		if r.Node, err = addr.ParseNode(given[0]); err != nil {
			return usage(c, "NODE: %v", err)
		}
		_, err = bundle.ParseClass(r.Class)
		switch {
		case err != nil:
			return usage(c, "--class: %v", err)
		case r.Count < 0 || interval < 10*time.Millisecond || timeout < 0:
			return usage(c, "--count and --timeout are not negative, and --interval is 10ms or more")
		}
		r.Interval, r.Timeout = config.Duration(interval), config.Duration(timeout)
		return a.ping(c, r, *asJSON)
	}
	return c
}

func (a *app) ping(c *cobra.Command, r admin.PingRequest, asJSON bool) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	s := pingSummary{Event: "summary", Node: r.Node}
	err = cl.Ping(c.Context(), r, func(e admin.PingEvent) error {
		s.note(e)
		if asJSON {
			return printLine(a.out, e)
		}
		_, err := fmt.Fprintln(a.out, clean(pingText(e), 0))
		return err
	})
	refused := (*admin.Error)(nil)
	if errors.As(err, &refused) || err != nil && c.Context().Err() == nil {
		return err
	}
	s.close()
	if asJSON {
		err = printLine(a.out, s)
	} else {
		_, err = fmt.Fprintln(a.out, s.text())
	}
	if err == nil && s.Answered == 0 {
		err = &failure{exitNothing, fmt.Errorf("%s did not answer", r.Node), "farhop queue, farhop nodes"}
	}
	return err
}

// pingText is an event in words.
func pingText(e admin.PingEvent) string {
	switch e.Event {
	case admin.PingOpen:
		return fmt.Sprintf("ping %s (%s): %s", e.Node, e.Class, wayText(e.Path))
	case admin.PingPath:
		return "the path is another one: " + wayText(e.Path)
	case admin.PingSilent:
		return fmt.Sprintf("%d: no answer in time", e.Seq)
	case admin.PingRefused:
		return fmt.Sprintf("%d: the question was not taken: %s", e.Seq, e.Reason)
	case admin.PingAnswer:
		late := ""
		if e.Late {
			late = "late"
		}
		return fmt.Sprintf("%d: %s", e.Seq, join(", ", rttText(e.RTTms), linksText(e.There, e.Back), viaText(e.Path), late))
	}
	return e.Event
}

func linksText(there, back int) string {
	if there == back {
		return count(there, "link", "links")
	}
	return fmt.Sprintf("%d links there and %d back", there, back)
}

// viaText names the next node and what carries the bundles there.
func viaText(w *admin.Way) string {
	if w == nil || w.NextHop.IsZero() {
		return ""
	}
	return join(" by ", "over "+w.NextHop.String(), w.Layer)
}

func wayText(w *admin.Way) string {
	patience := "what is sent waits for it"
	if w != nil && w.PatienceMS > 0 {
		patience = "an answer may take " + spanText(time.Duration(w.PatienceMS*float64(time.Millisecond)))
	}
	switch {
	case w == nil || w.NextHop.IsZero():
		return "no path is known; " + patience
	case !w.Up:
		return fmt.Sprintf("%s, %s, down now; %s", count(w.Hops, "link", "links"), viaText(w), patience)
	}
	link := ""
	if w.LinkRTTms > 0 {
		link = "round trip of that link " + rttText(w.LinkRTTms)
	}
	expected := ""
	if w.Hops > 1 && w.ExpectedMS > 0 {
		expected = "of the path " + rttText(w.ExpectedMS)
	}
	return join(", ", count(w.Hops, "link", "links"), viaText(w), link, expected) + "; " + patience
}

// pingSummary is the end of a ping.
type pingSummary struct {
	Event    string    `json:"event"` // summary
	Node     addr.Node `json:"node"`
	Sent     int       `json:"sent"`     // questions of which something is known
	Answered int       `json:"answered"` // late ones too
	Late     int       `json:"late"`
	Lost     int       `json:"lost"`   // Sent without Answered
	MinMS    float64   `json:"min_ms"` // of those answered, 0 without any
	MedianMS float64   `json:"median_ms"`
	P99MS    float64   `json:"p99_ms"`
	MaxMS    float64   `json:"max_ms"`

	rtts []float64
}

func (s *pingSummary) note(e admin.PingEvent) {
	s.Sent = max(s.Sent, e.Seq)
	if e.Event == admin.PingAnswer {
		s.rtts = append(s.rtts, e.RTTms)
		if e.Late {
			s.Late++
		}
	}
}

func (s *pingSummary) close() {
	slices.Sort(s.rtts)
	s.Answered = len(s.rtts)
	s.Lost = s.Sent - s.Answered
	if n := len(s.rtts); n > 0 {
		s.MinMS, s.MedianMS, s.P99MS, s.MaxMS = s.rtts[0], s.rtts[(n-1)/2], s.rtts[(n*99+99)/100-1], s.rtts[n-1]
	}
}

func (s *pingSummary) text() string {
	text := join(", ", fmt.Sprintf("%d asked", s.Sent), fmt.Sprintf("%d answered", s.Answered), fmt.Sprintf("%d lost", s.Lost))
	if s.Late > 0 {
		text += fmt.Sprintf(", %d late", s.Late)
	}
	if s.Answered == 0 {
		return text
	}
	var figures []string
	for _, f := range []struct {
		name string
		ms   float64
	}{{"least", s.MinMS}, {"median", s.MedianMS}, {"p99", s.P99MS}, {"most", s.MaxMS}} {
		figures = append(figures, f.name+" "+cmp.Or(rttText(f.ms), "0 ms"))
	}
	return text + "; " + strings.Join(figures, ", ")
}
