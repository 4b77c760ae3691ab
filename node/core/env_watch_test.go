package core_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
)

func (e *env) cmdWatch() { e.node(e.arg(0)).core.Watch(!e.flag("off")) }

func (e *env) sightText(s *core.Sight) string {
	text := map[core.SightKind]string{
		core.SightArrived: "arrived", core.SightBatched: "batched", core.SightHandedOn: "handed on", core.SightAcknowledged: "acknowledged", core.SightEnded: "ended",
	}[s.Kind]
	text += " " + e.label(s.Header.Message)
	if s.Header.Topic != "" {
		text += " of " + s.Header.Topic
	}
	for _, h := range s.Members {
		text += fmt.Sprintf(" %s of %s", e.label(h.Message), h.Topic)
	}
	if s.Queue.Name != "" {
		text += " in " + core.QueueText(s.Queue)
	}
	for _, q := range s.To {
		text += " to " + core.QueueText(q)
	}
	if !s.Node.IsZero() {
		text += " node " + s.Node.String()
	}
	return text + ": " + s.Reason.String()
}

func (e *env) cmdSessions() {
	name := e.value("name", "")
	all, more := e.node(e.arg(0)).core.Sessions(func(client string) bool { return strings.Contains(client, name) }, e.value("after", ""), e.number("limit", 100))
	for _, s := range all {
		state := "away"
		if s.Conn != 0 {
			state = "connected"
		}
		if !s.At.IsZero() {
			state = "at " + s.At.String()
		}
		text := fmt.Sprintf("%s %s for %v, %d filters, %d queued, %d bytes, %d in flight", s.Client, state,
			e.now.Sub(time.UnixMilli(s.Since)), len(s.Subscriptions), s.Queued, s.Bytes, s.InFlight)
		if s.Durable {
			text += ", durable"
		}
		if s.Ends != 0 {
			text += fmt.Sprintf(", ends in %v", time.UnixMilli(s.Ends).Sub(e.now))
		}
		if s.Oldest != 0 {
			text += fmt.Sprintf(", oldest for %v", e.now.Sub(time.UnixMilli(s.Oldest)))
		}
		e.printf("%s", text)
	}
	if more {
		e.printf("and more")
	}
}
