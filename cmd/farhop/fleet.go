package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

func (a *app) fleetCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:     "fleet",
		GroupID: groupFleet,
		Short:   "Change and watch the services, routes and quotas of all nodes",
		Long: `Services, routes and quotas can stand in the farhop.yaml of one node, or be the
same for the whole mesh: a revision is signed by the authority, travels as
messages do, and is applied by every node when it arrives, however late. A node on
which it cannot work goes back to the one before and says why.`,
	}, a.fleetPushCmd(), a.fleetStatusCmd())
}

func (a *app) fleetPushCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "push FILE",
		Short: "Sign a file of services, routes and quotas and send it to all nodes",
		Long: `Read a file with the keys services, routes and quotas, as in farhop.yaml but with a
node in every endpoint, and make it the next revision. It replaces the whole of the
revision before. The file is checked before anything is sent; - is standard input.

The daemon must run, on the node that holds the mesh's authority.`,
		Example: "  farhop fleet push plant.yaml\n  farhop fleet status",
		Args:    args(1, 1, "one file"),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		data, err := a.readFile(given[0], config.MaxFile)
		if err != nil {
			return err
		}
		if _, err := config.ParseResources(given[0], data); err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		pushed, err := cl.FleetPush(c.Context(), admin.FleetPushRequest{File: given[0], Data: data})
		if err != nil {
			return err
		}
		switch {
		case *asJSON:
			return printJSON(a.out, pushed)
		case pushed.Unchanged:
			fmt.Fprintf(a.out, "revision %d holds the same already\n", pushed.Revision)
		default:
			fmt.Fprintf(a.out, "revision %d is on its way to %s\n", pushed.Revision, count(pushed.Nodes, "node", "nodes"))
		}
		return nil
	}
	return c
}

func (a *app) fleetStatusCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how far the newest revision has come",
		Long: `Show the newest revision and, for each node, the one in force there as far as is
known here. Nodes that cannot be reached get it when they can.`,
		Args: args(0, 0, ""),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		s, err := cl.FleetStatus(c.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, s)
		}
		return a.printFleet(s)
	}
	return c
}

func (a *app) printFleet(s admin.FleetStatus) error {
	if s.Revision == 0 {
		_, err := fmt.Fprintln(a.out, "no revision was pushed: every node follows its own farhop.yaml")
		return err
	}
	done := 0
	t := newTable("NODE", "REGION", "IN FORCE", "STATE")
	for _, n := range s.Nodes {
		state := "waits: it cannot be reached"
		switch {
		case n.Applied == s.Revision:
			state = "done"
			done++
		case n.Refused == s.Revision:
			state = "refused: " + n.Reason
		case n.Up:
			state = "on its way"
		}
		t.row(n.Node.String(), n.Region.String(), fmt.Sprint(n.Applied), state)
	}
	pushed := ""
	if !s.Pushed.IsZero() {
		pushed = ", pushed " + s.Pushed.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(a.out, "revision %d%s: in force on %d of %s\n\n", s.Revision, pushed, done, count(len(s.Nodes), "node", "nodes"))
	return t.print(a.out)
}

// readFile reads a file of at most limit bytes, "-" for standard input.
func (a *app) readFile(name string, limit int64) ([]byte, error) {
	var in io.Reader = a.in
	if name != "-" {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, failed("check the name", "there is no file %s", name)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, failed("", "%s is larger than %s", name, sizeText(limit))
	}
	return data, nil
}
