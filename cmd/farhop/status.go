package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

func (a *app) statusCmd() *cobra.Command {
	var url bool
	c := &cobra.Command{
		Use:     "status",
		GroupID: groupLook,
		Short:   "Show the node, its links and what waits",
		Long: `Show the node at this moment: its store, its clients, its links, what waits for
whom, and what happened since the daemon started. What waits is counted in
bundles: small messages that go the same way share one. Counts named own are of
what the node itself sends, such as receipts.

With --url it prints the address of the status page, with the token that opens
it. The token gives the whole API to whoever has it.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.Flags().BoolVar(&url, "url", false, "print the address of the status page")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		s, err := cl.Status(c.Context())
		if err != nil {
			return err
		}
		switch {
		case url:
			_, err = fmt.Fprintln(a.out, cl.URL())
			return err
		case *asJSON:
			return printJSON(a.out, s)
		}
		return a.printStatus(s)
	}
	return c
}

func (a *app) printStatus(s admin.Status) error {
	clock := "clock ok"
	if !s.ClockOK {
		clock = "clock not trusted: it is behind times that were signed"
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-8s%s\n", name, clean(fmt.Sprintf(format, args...), 0))
	}
	line("node", "%s, region %s, mesh %s", s.Node, s.Region, s.Mesh)
	line("version", "%s, up %s, %s", s.Version, spanText(time.Duration(s.UptimeS)*time.Second), clock)
	line("store", "%s, %s of %s (peak %s, file %s, %s)%s", count(s.Store.Messages, "bundle", "bundles"),
		sizeText(s.Store.Bytes), sizeText(s.Store.MaxBytes), sizeText(s.Store.PeakBytes), sizeText(s.Store.FileBytes), s.Store.Engine, roomText(s.Store.RoomBytes))
	if at := strings.TrimSpace(s.MQTT.Listen + " " + strings.Join(s.MQTT.Listeners, " ")); at == "" {
		line("mqtt", "no broker")
	} else {
		line("mqtt", "%s, %s", at, count(s.MQTT.Clients, "client", "clients"))
	}
	line("counts", "%s", countersText(s.Counters))
	fmt.Fprintln(a.out)
	if err := a.printPeers(s, false); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	if len(s.MQTT.Bridges) > 0 {
		if err := a.printBridges(s); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	return a.printQueues(s)
}

func (a *app) printBridges(s admin.Status) error {
	t := newTable("BRIDGE", "REMOTE", "STATE", "FOR", "RTT", "OUT", "IN", "DROPPED", "NOTE")
	for _, b := range s.MQTT.Bridges {
		dropped := uint64(0)
		for _, d := range []admin.BridgeTraffic{b.Out, b.In} {
			for _, n := range d.Dropped {
				dropped += n
			}
		}
		note := join("; ", append([]string{b.LastError}, b.Warnings...)...)
		t.row(b.Name, b.Remote, b.State, sinceText(s.Now, b.Since), rttText(b.RTTms), fmt.Sprint(b.Out.Forwarded), fmt.Sprint(b.In.Forwarded), fmt.Sprint(dropped), note)
	}
	return t.print(a.out)
}

// roomText tells how much more the disk takes.
func roomText(room *int64) string {
	switch {
	case room == nil:
		return ""
	case *room == 0:
		return "; the disk is full: new messages are refused"
	}
	return "; the disk takes " + sizeText(*room) + " more"
}

// countersText names the counters that are not zero.
func countersText(c admin.Counters) string {
	var parts []string
	add := func(n uint64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	each := func(m map[string]uint64, prefix string) {
		for _, reason := range slices.Sorted(maps.Keys(m)) {
			add(m[reason], prefix+reason)
		}
	}
	each(c.Submitted, "submitted ")
	add(c.Arrived, "arrived")
	add(c.Relayed, "relayed")
	add(c.HandedOn, "handed on")
	add(c.Delivered, "delivered")
	add(c.Volatile, "QoS 0 sent")
	add(c.Duplicates, "copies dropped")
	add(c.OutOfOrder, "out of order")
	add(c.HeldBack, "held back for order")
	add(c.GapsGivenUp, "gaps given up")
	each(c.Ended, "ended ")
	each(c.Own, "own ")
	each(c.Refused, "refused to peers ")
	if len(parts) == 0 {
		return "nothing yet"
	}
	return strings.Join(parts, ", ")
}

// status asks the daemon for its status.
func (a *app) status(c *cobra.Command) (admin.Status, error) {
	cl, err := a.client()
	if err != nil {
		return admin.Status{}, err
	}
	return cl.Status(c.Context())
}

func (a *app) printQueues(s admin.Status) error {
	t := newTable("WAITING FOR", "CLASS", "BUNDLES", "SIZE", "IN FLIGHT", "OLDEST", "NEXT HOP")
	for _, q := range s.Queues {
		t.row(q.Queue, q.Class, fmt.Sprint(q.Bundles), sizeText(q.Bytes), fmt.Sprint(q.InFlight), sinceText(s.Now, q.Oldest), hopText(q))
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, nothingWaits)
		return err
	}
	return t.print(a.out)
}
