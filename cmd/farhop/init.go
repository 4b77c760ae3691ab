package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/routing/addr"
)

// listeners are the flags that init and join share.
type listeners struct{ name, mqtt, mesh, admin string }

func (l *listeners) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.name, "name", "", "name of the node (default: made of its region and its key)")
	f.StringVar(&l.mqtt, "mqtt", "", "HOST:PORT for MQTT clients (default 127.0.0.1:1883)")
	f.StringVar(&l.mesh, "mesh", "", "HOST:PORT for other nodes, UDP (default :7330)")
	f.StringVar(&l.admin, "admin", "", "HOST:PORT for the API and the status page (default 127.0.0.1:7331)")
}

func (l *listeners) check(c *cobra.Command) error {
	if l.name == "" {
		return nil
	}
	if _, err := addr.ParseNode(l.name); err != nil {
		return usage(c, "--name: %v", err)
	}
	return nil
}

func (a *app) initCmd() *cobra.Command {
	var region string
	var l listeners
	c := &cobra.Command{
		Use:     "init --region REGION",
		GroupID: groupSetUp,
		Short:   "Make a mesh and its first node",
		Long: `Make a new mesh: its authority, which admits nodes and signs fleet revisions,
and the first node, in the data directory. The node does not run yet.

A region is a path of names, such as earth or earth/eu/fra. Routes send messages
to regions, and every node lives in one.

The authority's keys are in the data directory. Whoever has them can admit nodes:
keep a copy of the directory in a safe place.

Other nodes do not use init: they join, with a ticket of farhop invite.`,
		Example: "  farhop init --region earth\n  farhop init --region earth/eu --name fra-1 --dir /srv/farhop --mqtt 127.0.0.1:2883",
		Args:    args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := need(c, "region"); err != nil {
				return err
			}
			if _, err := addr.ParseRegion(region); err != nil {
				return usage(c, "--region: %v", err)
			}
			if err := l.check(c); err != nil {
				return err
			}
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			made, err := initNode(c.Context(), node.InitOptions{Dir: dir, Region: region, Name: l.name, MQTT: l.mqtt, Mesh: l.mesh, Admin: l.admin})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "made mesh %s\n", made.Mesh)
			a.created(made)
			return nil
		},
	}
	c.Flags().StringVar(&region, "region", "", "region of the node, such as earth or earth/eu")
	l.add(c)
	return c
}

// created tells of a node that was made, and what to do with it.
func (a *app) created(made node.Created) {
	fmt.Fprintf(a.out, "node %s of region %s is in %s\n", made.Node, made.Region, made.Dir)
	fmt.Fprintf(a.out, "next: farhop run --dir %s\n", made.Dir)
}
