package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/interest"
)

func (a *app) tapCmd() *cobra.Command {
	var r admin.TapRequest
	c := &cobra.Command{
		Use: "tap FILTER", GroupID: groupMessages, Short: "Watch messages and verdicts live", Args: args(1, 1, "one topic filter"),
		Long: `Watch what happens at this node to messages whose topic the filter matches, until
stopped or until --count lines were shown:

  accepted      a client published it, and where it goes: queues, and how many
                clients of this node got it at once
  refused       a client published it, and why it was not taken
  arrived       it came from another node, or this node says it itself
  delivered     it was written to a client
  acknowledged  the client of a persistent session has it
  dropped       a delivery to a client was given up, and why
  forwarded     a neighbour has it
  ended         otherwise, and why: expired, purged, session-ended, ...

What this node only passes on is not looked into. A slow reader does not slow the
node: what it misses is counted and shown as lost. At most 8 taps are open at a
node; while none is, nothing is gathered.

Payloads are shown only with --payload. Whoever may read admin.token in the data
directory may see them all, whatever the access rules say.`,
		Example: "  farhop tap 'plant/#'\n  farhop tap plant/1/temp --payload --json --count 10",
	}
	f := c.Flags()
	f.BoolVar(&r.Payload, "payload", false, "show payloads")
	f.IntVarP(&r.Count, "count", "n", 0, "end after this many events (default: go on)")
	asJSON := f.Bool("json", false, "print JSON, one value a line")
	c.RunE = func(c *cobra.Command, given []string) error {
		r.Filter = given[0]
		if err := interest.ValidFilter(r.Filter); err != nil {
			return usage(c, "FILTER: %v", err)
		}
		if r.Count < 0 {
			return usage(c, "--count: %d is negative", r.Count)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		told := 0
		err = cl.Tap(c.Context(), r, func(e admin.TapEvent) error {
			if e.Event == "open" {
				a.note("tap on %s at %s", clean(e.Topic, 0), e.Node)
				return nil
			}
			told++
			if *asJSON {
				return printLine(a.out, e)
			}
			return a.printTap(e, r.Payload)
		})
		switch {
		case c.Context().Err() != nil:
			return nil // stopped
		case err == nil && (r.Count == 0 || told < r.Count):
			return failed("farhop status", "the node ended the tap")
		}
		return err
	}
	return c
}

// maxTapText bounds a payload on a line, in bytes.
const maxTapText = 256

func (a *app) printTap(e admin.TapEvent, payload bool) error {
	if e.Lost > 0 {
		fmt.Fprintf(a.out, "%s lost: the reader was too slow\n", count(int(e.Lost), "event", "events"))
	}
	retain := ""
	if e.Retain {
		retain = "retain"
	}
	text := join(" ", fmt.Sprintf("%-12s", e.Event), e.Topic, fmt.Sprintf("QoS %d", e.QoS), retain, sizeText(int64(e.Size)), e.Class, tapFate(e))
	if e.Message != "" {
		text += " (" + e.Message + ")"
	}
	if payload && e.Payload != nil {
		text += ": " + payloadShort(e.Payload, maxTapText)
	}
	_, err := fmt.Fprintf(a.out, "%s %s\n", e.At.Format("15:04:05.000"), clean(text, 0))
	return err
}

// tapFate says from whom, to whom and why.
func tapFate(e admin.TapEvent) string {
	who := prefixed("client ", e.Client)
	switch e.Event {
	case "accepted", "arrived":
		to := strings.Join(e.To, ", ")
		if e.Live > 0 {
			to = join(", ", to, count(e.Live, "client here", "clients here"))
		}
		reason := e.Reason
		if reason == "ok" {
			reason = ""
		}
		return join(" ", prefixed("from ", join(" ", who, prefixed("node ", e.Node.String()))), prefixed("to ", to), reason)
	case "refused":
		return join(" ", prefixed("from ", who), e.Reason)
	case "forwarded":
		return join(" ", "to node "+e.Node.String(), prefixed("for ", e.Queue))
	case "ended":
		return join(" ", prefixed("in queue ", e.Queue), e.Reason)
	}
	return join(" ", prefixed("to ", who), e.Reason)
}
