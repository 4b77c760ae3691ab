package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/interest"
)

func (a *app) retainedCmd() *cobra.Command {
	return group(&cobra.Command{
		Use: "retained", GroupID: groupMessages, Short: "Show and remove retained messages",
		Long: `The retained messages that this node keeps: those published here, and those its
clients want. Of each topic the newest one counts, wherever it was published.`,
	}, a.retainedListCmd(), a.retainedGetCmd(), a.retainedRemoveCmd())
}

func (a *app) retainedListCmd() *cobra.Command {
	var r admin.RetainedRequest
	c := &cobra.Command{
		Use: "ls [FILTER]", Short: "List retained messages by topic", Args: args(0, 1, "one topic filter"),
		Long: `List the retained messages that a topic filter matches, by default all. AGE is
since it was published, by the clock of the node where that was. --marks shows
also what the node remembers of messages that were deleted or expired, so that
they do not come back.`,
		Example: "  farhop retained ls\n  farhop retained ls 'plant/+/state' --values",
	}
	f := c.Flags()
	f.BoolVar(&r.Values, "values", false, "show payloads")
	f.BoolVar(&r.Marks, "marks", false, "show deleted and expired ones, too")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		if r.Filter = "#"; len(given) > 0 {
			r.Filter = given[0]
		}
		if err := interest.ValidFilter(r.Filter); err != nil {
			return usage(c, "FILTER: %v", err)
		}
		all, err := a.allRetained(c.Context(), r)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(a.out, all)
		}
		return a.printRetained(all, &r)
	}
	return c
}

// allRetained asks for one part after the other.
func (a *app) allRetained(ctx context.Context, r admin.RetainedRequest) (admin.Retained, error) {
	cl, err := a.client()
	if err != nil {
		return admin.Retained{}, err
	}
	all, err := cl.Retained(ctx, r)
	for err == nil && all.More && len(all.Messages) > 0 {
		r.After = all.Messages[len(all.Messages)-1].Topic
		var more admin.Retained
		more, err = cl.Retained(ctx, r)
		all.Messages, all.More = append(all.Messages, more.Messages...), more.More && len(more.Messages) > 0
	}
	return all, err
}

func (a *app) printRetained(all admin.Retained, r *admin.RetainedRequest) error {
	heads := []string{"TOPIC", "SIZE", "NODE", "AGE", "EXPIRES"}
	if r.Marks {
		heads = append(heads, "STATE")
	}
	if r.Values {
		heads = append(heads, "VALUE")
	}
	t := newTable(heads...)
	for _, m := range all.Messages {
		row := []string{m.Topic, sizeText(int64(m.Size)), m.Node.String(), sinceText(all.Now, m.Published), inText(all.Now, m.Expires)}
		if r.Marks {
			row = append(row, m.State)
		}
		if r.Values {
			row = append(row, valueText(&m))
		}
		t.row(row...)
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, "nothing is retained")
		return err
	}
	return t.print(a.out)
}

// inText is the span until t, "never" for no time at all.
func inText(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return "in " + spanText(t.Sub(now))
}

// maxValue bounds a payload in a table, in bytes.
const maxValue = 64

func valueText(m *admin.RetainedMessage) string {
	if m.Content == nil {
		return m.Unread
	}
	return payloadShort(m.Content.Payload, maxValue)
}

// payloadShort writes the beginning of a payload for people.
func payloadShort(b []byte, most int) string {
	more := ""
	if len(b) > most {
		b, more = b[:most], "..."
		for cut := 1; cut < 4 && !validTail(b); cut++ {
			b = b[:len(b)-1] // not in the middle of a character
		}
	}
	as, text := payloadText(b)
	if as == "base64" {
		text = as + " " + text
	}
	return clean(text, 0) + more
}

func validTail(b []byte) bool { as, _ := payloadText(b); return as != "base64" }

func (a *app) retainedGetCmd() *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use: "get TOPIC", Short: "Show the retained message of a topic", Args: args(1, 1, "one topic"),
		Long: `Show the retained message of a topic: its payload, the node where it was published,
the stamp by which the newest is told, its age and when it expires. --raw prints
the payload alone, byte by byte. Exit code 5: there is none.`,
	}
	c.Flags().BoolVar(&raw, "raw", false, "print the payload and nothing else")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		if err := interest.ValidTopic(given[0]); err != nil {
			return usage(c, "TOPIC: %v", err)
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		all, err := cl.Retained(c.Context(), admin.RetainedRequest{Filter: given[0], Values: true})
		switch {
		case err != nil:
			return err
		case len(all.Messages) == 0:
			return noneRetained(given[0])
		case *asJSON:
			return printJSON(a.out, all.Messages[0])
		case all.Messages[0].Content == nil:
			return failed("farhop store check, while the node is stopped", "the message cannot be read: %s", all.Messages[0].Unread)
		case raw:
			_, err = a.out.Write(all.Messages[0].Content.Payload)
			return err
		}
		return a.printKept(all.Now, &all.Messages[0])
	}
	return c
}

func noneRetained(what string) *failure {
	return &failure{exitNothing, fmt.Errorf("nothing is retained for %s", what), "farhop retained ls"}
}

func (a *app) printKept(now time.Time, m *admin.RetainedMessage) error {
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(a.out, "%-14s%s\n", name, clean(text, 0))
		}
	}
	p := m.Content
	line("topic", m.Topic)
	line("node", m.Node.String())
	line("stamp", m.Stamp)
	if !m.Published.IsZero() {
		line("published", m.Published.Format(time.RFC3339)+", "+sinceText(now, m.Published)+" ago")
	}
	line("expires", inText(now, m.Expires))
	line("client", p.Client)
	line("qos", fmt.Sprint(p.QoS))
	line("content type", p.ContentType)
	line("response", p.Response)
	if len(p.Correlation) > 0 {
		_, text := payloadText(p.Correlation)
		line("correlation", text)
	}
	for _, u := range p.Properties {
		line("property", u.Key+": "+u.Value)
	}
	as, text := payloadText(p.Payload)
	line("payload", join(", ", sizeText(int64(m.Size)), as))
	_, err := fmt.Fprintf(a.out, "\n%s\n", clean(text, '\n'))
	return err
}

func (a *app) retainedRemoveCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "rm FILTER", Short: "Delete retained messages everywhere", Args: args(1, 1, "one topic filter"),
		Long: `Delete the retained messages that this node keeps and a topic filter matches, as an
empty retained publish to each topic does: subscribers get it, and the deletion
wins on every node, now or when it is in reach again. A filter with wildcards
needs --yes; without it nothing is changed: it says how many there are, and exits
with 7. Exit code 5: nothing matches.`,
		Example: "  farhop retained rm plant/1/state\n  farhop retained rm 'plant/old/#' --yes",
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it, whatever matches")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		if err := interest.ValidFilter(given[0]); err != nil {
			return usage(c, "FILTER: %v", err)
		}
		r := admin.RetainedRequest{Filter: given[0], DryRun: !yes && strings.ContainsAny(given[0], "+#")}
		done, err := a.removeRetained(c.Context(), r)
		if err == nil && *asJSON {
			err = printJSON(a.out, done)
		}
		return a.reportRemoved(r, done, *asJSON, err)
	}
	return c
}

// removeRetained asks again as long as there are more.
func (a *app) removeRetained(ctx context.Context, r admin.RetainedRequest) (admin.RemovedRetained, error) {
	cl, err := a.client()
	if err != nil {
		return admin.RemovedRetained{}, err
	}
	all, err := cl.RemoveRetained(ctx, r)
	for err == nil && all.More && len(all.Failed) == 0 && !r.DryRun {
		var more admin.RemovedRetained
		more, err = cl.RemoveRetained(ctx, r)
		all.Removed += more.Removed
		all.Failed, all.More = more.Failed, more.More
	}
	return all, err
}

func (a *app) reportRemoved(r admin.RetainedRequest, done admin.RemovedRetained, asJSON bool, err error) error {
	number := count(done.Removed, "retained message", "retained messages")
	if done.More {
		number += " and more"
	}
	switch {
	case err != nil:
		return err
	case len(done.Failed) > 0:
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(done.Failed)) {
			why = append(why, fmt.Sprintf("%d %s", done.Failed[reason], reason))
		}
		return failed("farhop status shows how full the store is", "%s removed, not all: %s", number, strings.Join(why, ", "))
	case done.Removed == 0:
		return noneRetained(r.Filter)
	case r.DryRun:
		return &failure{exitUnconfirmed, fmt.Errorf("nothing was removed; %s would be", number), "the same with --yes"}
	case asJSON:
		return nil
	}
	_, err = fmt.Fprintln(a.out, number+" removed")
	return err
}
