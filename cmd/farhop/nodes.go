package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

func (a *app) nodesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "nodes",
		GroupID: groupLook,
		Short:   "Show the known nodes of the mesh",
		Long: `Show all nodes of the mesh this one knows of, with the way to them, how many
topic filters their subscribers have, their TCP services, and the fleet revision
in force there. What is known of a node that cannot be reached is what it said
last.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		all, err := cl.Nodes(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, all)
		}
		return a.printNodes(all)
	}
	return c
}

func (a *app) printNodes(all []admin.Node) error {
	t := newTable("NODE", "REGION", "STATE", "NEXT HOP", "HOPS", "LIGHT TIME", "FILTERS", "SERVICES", "REVISION")
	for _, n := range all {
		state, hops, delay := "down", "", ""
		switch {
		case n.Self:
			state = "this node"
		case n.Up:
			state = "up"
		case n.NextHop.IsZero():
			state = "no path"
		}
		if !n.Self && !n.NextHop.IsZero() {
			hops, delay = fmt.Sprint(n.Hops), fmt.Sprintf("%d ms", n.DelayMS)
		}
		revision := ""
		if n.FleetApplied > 0 {
			revision = fmt.Sprint(n.FleetApplied)
		}
		if n.FleetRefused > n.FleetApplied {
			revision = join(", ", revision, fmt.Sprintf("refused %d: %s", n.FleetRefused, n.FleetReason))
		}
		t.row(n.Node.String(), n.Region.String(), state, waysText(n), hops, delay,
			fmt.Sprint(len(n.Interest)+n.InterestMore), servicesText(n.Services), revision)
	}
	return t.print(a.out)
}

// waysText is the next hop, and which classes have another one.
func waysText(n admin.Node) string {
	var apart []string
	for _, w := range n.Ways {
		if w.Up {
			apart = append(apart, w.Class+" by "+w.NextHop.String())
		} else {
			apart = append(apart, w.Class+" waits")
		}
	}
	if len(apart) == 0 {
		return n.NextHop.String()
	}
	return n.NextHop.String() + " (" + strings.Join(apart, ", ") + ")"
}

func servicesText(all []admin.Service) string {
	var names []string
	for _, s := range all {
		if !s.Up {
			s.Name += " (down)"
		}
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}
