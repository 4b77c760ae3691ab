package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

func (a *app) queuePeekCmd() *cobra.Command {
	var r admin.PeekRequest
	c := &cobra.Command{
		Use:   "peek QUEUE",
		Short: "Show the messages at the front of a queue",
		Long: `Show what waits in a queue, in the order of arrival, without changing it. One row
is one bundle: a message, or a batch of small ones, which has the id of its first
and the number of the others. STATE is waiting; in flight, sent and not yet
answered; received, when a device has it and the end of the QoS 2 exchange is due;
ended, when only the news of its end still has to travel; or damaged.

With --payload also what the messages say is shown, those of a batch one by one:
as text when it is UTF-8, else in base64. The output of --payload --json can be
given to farhop queue replay. Exit code 5 says that the queue is empty.`,
		Example: "  farhop queue peek node earth-1\n  farhop queue peek session plc-7 --class alarm -n 5 --payload",
		Args:    queueArgs(),
	}
	f := c.Flags()
	f.StringVar(&r.Class, "class", "", "only this class (default: all)")
	f.IntVarP(&r.Limit, "number", "n", 20, fmt.Sprintf("most bundles to show, up to %d", admin.MaxPeek))
	f.Uint64Var(&r.After, "after", 0, "only those behind this SEQ")
	f.BoolVar(&r.Payload, "payload", false, "show what the messages say")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, words []string) error {
		if r.Limit < 1 || r.Limit > admin.MaxPeek {
			return usage(c, "-n: %d is not between 1 and %d", r.Limit, admin.MaxPeek)
		}
		r.Queue = queueName(words)
		cl, err := a.client()
		if err != nil {
			return err
		}
		p, err := cl.Peek(c.Context(), r)
		if err != nil {
			return err
		}
		if *asJSON {
			err = printJSON(a.out, p)
		} else if len(p.Messages) > 0 {
			err = a.printPeek(p, r.Payload)
		}
		if err == nil && len(p.Messages) == 0 {
			err = nothing("nothing waits in %s", r.Queue)
		}
		return err
	}
	return c
}

func (a *app) printPeek(p admin.Peek, payload bool) error {
	t := newTable("SEQ", "CLASS", "MESSAGE", "TOPIC", "ORIGIN", "FROM", "HOPS", "QOS", "SIZE", "AGE", "LIFE LEFT", "STATE", "SENT")
	for _, m := range p.Messages {
		id := m.Message
		if m.Count > 1 {
			id += fmt.Sprintf(" and %d more", m.Count-1)
		}
		t.row(fmt.Sprint(m.Seq), m.Class, id, m.Topic, m.Origin.String(), m.Previous.String(), fmt.Sprint(m.Hops), fmt.Sprint(m.QoS),
			sizeText(m.Size), sinceText(p.Now, m.Received), leftText(p.Now, m.Expires), m.State, fmt.Sprint(m.Sent))
	}
	if err := t.print(a.out); err != nil {
		return err
	}
	if payload {
		fmt.Fprintln(a.out)
		if err := a.printContent(p.Messages); err != nil {
			return err
		}
	}
	if p.More {
		a.note("there are more: --after %d", p.Messages[len(p.Messages)-1].Seq)
	}
	return nil
}

func (a *app) printContent(messages []admin.Waiting) error {
	t := newTable("MESSAGE", "TOPIC", "AS", "PAYLOAD")
	for _, m := range messages {
		if m.Unread != "" {
			t.row(m.Message, "", "unread", m.Unread)
		}
		for _, p := range m.Content {
			as, text := payloadText(p.Payload)
			t.row(p.Message, p.Topic, as, text)
		}
	}
	return t.print(a.out)
}

// payloadText writes a payload for people.
func payloadText(b []byte) (as, text string) {
	if len(b) == 0 {
		return "empty", ""
	}
	if utf8.Valid(b) {
		return "text", string(b)
	}
	return "base64", base64.StdEncoding.EncodeToString(b)
}

func (a *app) queueRetryCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "retry",
		Short: "Send at once what rests",
		Long: `Tell the node that something changed: queues that rest because the next hop had no
room are offered to it again now, and links that fell silent are asked whether
they are there. Without it the node does so by itself, later.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		r, err := cl.Retry(c.Context())
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(a.out, r)
		}
		parts := []string{count(r.Resting, "queue rested and goes on", "queues rested and go on")}
		if r.Probed > 0 {
			parts = append(parts, count(r.Probed, "silent link is asked", "silent links are asked"))
		}
		_, err = fmt.Fprintln(a.out, strings.Join(parts, ", "))
		return err
	}
	return c
}
