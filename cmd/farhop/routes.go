package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
)

func (a *app) routesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "routes",
		GroupID: groupLook,
		Short:   "Show the rules in force and where they lead now",
		Long: `Show the routes in force, in the order in which they are tried: the first that
matches a message is taken. They come from farhop.yaml (file) or from a revision
(fleet). A message that no route matches goes to its subscribers, wherever they
are.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		all, err := cl.Routes(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, all)
		}
		return a.printRoutes(all)
	}
	return c
}

func (a *app) printRoutes(all []admin.Route) error {
	t := newTable("ROUTE", "MATCHES", "TO", "CLASS", "TTL", "UNREACHABLE", "ON FULL", "FROM")
	for _, r := range all {
		match := "topic " + r.Match.Topic
		if r.Match.Service != "" {
			match = "service " + r.Match.Service
		}
		ttl := ""
		if r.TTL != 0 {
			ttl = r.TTL.String()
		}
		t.row(r.Name, match, hopsText(r), string(r.Class), ttl, r.Unreachable.String(), r.OnFull.String(), r.Origin)
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, "no routes: messages go to their subscribers")
		return err
	}
	return t.print(a.out)
}

// hopsText names the regions of a route with the neighbour they are reached by.
func hopsText(r admin.Route) string {
	var out []string
	for _, h := range r.Hops {
		text := h.Region.String()
		switch {
		case h.Node.IsZero():
			text += " (no node known)"
		case !h.Up:
			text += " (down: " + h.Node.String() + ")"
		case h.NextHop.IsZero():
		default:
			text += " (by " + h.NextHop.String() + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
