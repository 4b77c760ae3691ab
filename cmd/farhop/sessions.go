package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

const aboutSessions = `The sessions of MQTT clients at this node: those that are connected, and those
that outlive their connection, for which the node keeps what they subscribed to.`

func (a *app) sessionsCmd() *cobra.Command {
	list := a.sessionsListCmd()
	c := &cobra.Command{
		Use: "sessions", GroupID: groupLook, Short: "Show and end MQTT sessions", Args: noCommand, RunE: list.RunE,
		Long: aboutSessions + `

Without a command it lists them, as farhop sessions ls does.`,
	}
	c.Flags().AddFlagSet(list.Flags())
	c.AddCommand(list, a.sessionsShowCmd(), a.sessionsKickCmd(), a.sessionsEndCmd())
	return c
}

func (a *app) sessionsListCmd() *cobra.Command {
	var r admin.SessionsRequest
	c := &cobra.Command{
		Use: "ls", Short: "List sessions by client id", Args: args(0, 0, ""),
		Long: aboutSessions + `

FOR is how long the client is connected, or away; for one that was away when the
node started, since then. One that is at another node follows its client there: QUEUED
is what is on its way. ENDS is when the session ends: with the connection,
that long after it, never, or, of a client that is away, in that time. QUEUED are
the messages that wait for it, those in flight among them.`,
		Example: "  farhop sessions\n  farhop sessions ls --client 'plc-*' --json",
	}
	c.Flags().StringVar(&r.Client, "client", "", "only ids like this: * is any text, ? any character")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := a.allSessions(c.Context(), r)
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(a.out, all)
		}
		return a.printSessions(all)
	}
	return c
}

// allSessions asks for one part after the other.
func (a *app) allSessions(ctx context.Context, r admin.SessionsRequest) (admin.Sessions, error) {
	cl, err := a.client()
	if err != nil {
		return admin.Sessions{}, err
	}
	all, err := cl.Sessions(ctx, r)
	for err == nil && all.More && len(all.Sessions) > 0 {
		r.After = all.Sessions[len(all.Sessions)-1].Client
		var more admin.Sessions
		more, err = cl.Sessions(ctx, r)
		all.Sessions, all.More = append(all.Sessions, more.Sessions...), more.More && len(more.Sessions) > 0
	}
	return all, err
}

func (a *app) printSessions(all admin.Sessions) error {
	t := newTable("CLIENT", "STATE", "FOR", "LISTENER", "ADDRESS", "USER", "MQTT", "ENDS", "FILTERS", "QUEUED", "SIZE", "IN FLIGHT", "OLDEST")
	for _, s := range all.Sessions {
		t.row(s.Client, stateText(s), sinceText(all.Now, s.Since), s.Listener, s.Remote, s.User, s.Version, endsText(all.Now, s),
			fmt.Sprint(s.Subscriptions), fmt.Sprint(s.Queued), sizeText(s.Bytes), fmt.Sprint(s.InFlight), sinceText(all.Now, s.Oldest))
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, "no sessions")
		return err
	}
	return t.print(a.out)
}

func stateText(s admin.Session) string {
	switch {
	case s.Node:
		return "the node's own"
	case s.At != "":
		return "at " + s.At
	case s.Connected:
		return "connected"
	}
	return "away"
}

// endsText says when a session ends.
func endsText(now time.Time, s admin.Session) string {
	switch {
	case !s.Persistent:
		return "with its connection"
	case !s.Expires.IsZero():
		return "in " + spanText(s.Expires.Sub(now))
	case s.ExpiryS == nil:
		return "never"
	}
	return spanText(time.Duration(*s.ExpiryS)*time.Second) + " after it"
}

func (a *app) sessionsShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "show ID", Short: "Show one session with its filters", Args: args(1, 1, "the id of a client"),
		Long: `Show the session of one client, with its topic filters. farhop queue peek session ID
shows what waits for it. Exit code 5: there is none.`,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		all, err := cl.Sessions(c.Context(), admin.SessionsRequest{Client: given[0], Exact: true, Subscriptions: true})
		switch {
		case err != nil:
			return err
		case len(all.Sessions) == 0:
			return noSession(given[0])
		case *asJSON:
			return printJSON(a.out, all.Sessions[0])
		}
		return a.printSession(all.Now, all.Sessions[0])
	}
	return c
}

func noSession(id string) *failure {
	return &failure{exitNothing, fmt.Errorf("there is no session of client %q", id), "farhop sessions"}
}

func (a *app) printSession(now time.Time, s admin.Session) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s%s\n", name, clean(fmt.Sprintf(format, args...), 0))
	}
	line("client", "%s", s.Client)
	line("state", "%s for %s", stateText(s), sinceText(now, s.Since))
	if s.Connected && s.Version != "" {
		line("from", "%s", join(", ", s.Remote+" by "+s.Listener, "MQTT "+s.Version, prefixed("user ", s.User), strings.Join(s.Names, " "),
			prefixed("keep-alive ", spanOr(s.KeepAliveS))))
	}
	line("ends", "%s", endsText(now, s))
	line("queue", "%s", join(", ", count(s.Queued, "message", "messages"), sizeText(s.Bytes),
		fmt.Sprintf("%d of at most %d in flight", s.InFlight, s.Window), prefixed("the oldest for ", sinceText(now, s.Oldest))))
	if s.Inbound > 0 {
		line("inbound", "%s", count(s.Inbound, "QoS 2 publish awaits its PUBREL", "QoS 2 publishes await their PUBREL"))
	}
	if len(s.Filters) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	t := newTable("FILTER", "QOS", "OPTIONS")
	for _, f := range s.Filters {
		var options []string
		if f.NoLocal {
			options = append(options, "no local")
		}
		if f.RetainAsPublished {
			options = append(options, "retain as published")
		}
		if f.ID != 0 {
			options = append(options, fmt.Sprintf("id %d", f.ID))
		}
		t.row(f.Filter, fmt.Sprint(f.QoS), strings.Join(options, ", "))
	}
	return t.print(a.out)
}

// prefixed is a text with what stands before it, "" for an empty one.
func prefixed(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// spanOr writes seconds, "" for none.
func spanOr(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return spanText(time.Duration(seconds) * time.Second)
}

func (a *app) sessionsKickCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "kick ID", Short: "Disconnect a client", Args: args(1, 1, "the id of a client"),
		Long: `Disconnect a client, as an administrator: MQTT 5 clients read 0x98. Its will is
published, its session goes on as if the connection had been lost, and nothing
keeps the client from connecting again. Exit code 5: it is not connected.`,
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		k, err := cl.KickSession(c.Context(), admin.SessionRequest{Client: given[0]})
		if err == nil && *asJSON {
			err = printJSON(a.out, k)
		}
		switch {
		case err != nil:
			return err
		case !k.Connected:
			return &failure{exitNothing, fmt.Errorf("client %q is not connected", given[0]), "farhop sessions"}
		case *asJSON:
			return nil
		}
		_, err = fmt.Fprintf(a.out, "%s was disconnected\n", clean(given[0], 0))
		return err
	}
	return c
}

func (a *app) sessionsEndCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "end ID", Short: "End a session and what waits for it", Args: args(1, 1, "the id of a client"),
		Long: `End a session: the client is disconnected (0x98), its filters are gone, and what
waits for it counts as session-ended; messages of shared subscriptions go to
another member. Without --yes nothing is changed: it says what would end, and
exits with 7. Exit code 5: there is no such session.`,
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		e, err := cl.EndSession(c.Context(), admin.SessionRequest{Client: given[0], DryRun: !yes})
		if err == nil && *asJSON {
			err = printJSON(a.out, e)
		}
		waited := count(e.Messages, "message", "messages") + ", " + sizeText(e.Bytes)
		switch {
		case err != nil:
			return err
		case !e.Found:
			return noSession(given[0])
		case !yes:
			return &failure{exitUnconfirmed, fmt.Errorf("nothing was ended; %s would end with the session of %q", waited, given[0]), "the same with --yes"}
		case *asJSON:
			return nil
		}
		_, err = fmt.Fprintf(a.out, "the session of %s ended, and with it %s\n", clean(given[0], 0), waited)
		return err
	}
	return c
}
