package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/routing/addr"
)

func (a *app) inviteCmd() *cobra.Command {
	var region, life string
	var advertise []string
	c := &cobra.Command{
		Use:     "invite --region REGION",
		GroupID: groupSetUp,
		Short:   "Make a ticket for one new node",
		Long: `Make a ticket with which one new node can join the mesh. It is the last line of
standard output; all else goes to standard error, so that

  ticket=$(farhop invite --region luna --advertise 192.0.2.7:7330)

holds the ticket alone. A ticket serves one node, until it expires, and is a
secret: whoever shows it first joins.

--advertise is where the new node reaches this one; it may be given more than
once. Without it the addresses in mesh.advertise are used.

The daemon must run on this node, and this node must hold the mesh's authority:
it is the one on which farhop init was run.`,
		Args: args(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			req, err := inviteRequest(c, region, life, advertise)
			if err != nil {
				return err
			}
			got, err := a.inviteSoon(c.Context(), req)
			if err != nil {
				return a.inviteOffline(err)
			}
			a.note("a ticket for one node of region %s, good until %s", got.Region, got.Expires.UTC().Format(time.RFC3339))
			a.note("on the new machine: farhop join TICKET")
			_, err = fmt.Fprintln(a.out, got.Ticket)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&region, "region", "", "region in which the new node will live")
	f.StringArrayVar(&advertise, "advertise", nil, "HOST:PORT at which the new node reaches this one")
	f.StringVar(&life, "life", "24h", "how long the ticket is good, such as 90m, 24h or 30d")
	return c
}

// inviteSoon asks the daemon, and asks again for a moment when it does not
// answer yet: "farhop run &" and "farhop invite" often follow each other.
func (a *app) inviteSoon(ctx context.Context, req admin.InviteRequest) (got admin.Invite, err error) {
	for range 25 {
		var cl *admin.Client
		if cl, err = a.client(); err == nil {
			got, err = cl.Invite(ctx, req)
		}
		if _, ok := errors.AsType[*admin.NotRunning](err); !ok {
			return got, err
		}
		select {
		case <-ctx.Done():
			return got, err
		case <-time.After(200 * time.Millisecond):
		}
	}
	return got, err
}

func inviteRequest(c *cobra.Command, region, life string, advertise []string) (req admin.InviteRequest, err error) {
	if err := need(c, "region"); err != nil {
		return req, err
	}
	if req.Region, err = addr.ParseRegion(region); err != nil {
		return req, usage(c, "--region: %v", err)
	}
	if err := req.Life.UnmarshalText([]byte(life)); err != nil {
		return req, usage(c, "--life: %v", err)
	}
	if d := time.Duration(req.Life); d <= 0 || d > pki.MaxLife {
		return req, usage(c, "--life: %s is not between 1s and %s", life, config.Duration(pki.MaxLife))
	}
	if len(advertise) > pki.MaxTicketAddresses {
		return req, usage(c, "--advertise: a ticket holds at most %d addresses", pki.MaxTicketAddresses)
	}
	req.Advertise = make([]config.HostPort, len(advertise))
	for i, text := range advertise {
		if err := req.Advertise[i].UnmarshalText([]byte(text)); err != nil {
			return req, usage(c, "--advertise: %v", err)
		}
		if h := req.Advertise[i]; h.Host() == "" || h.Port() == 0 {
			return req, usage(c, "--advertise: %q must name a host and a port that the new node can reach", text)
		}
	}
	return req, nil
}

// inviteOffline says why a ticket needs the daemon: the tickets that are out
// are in the ledger, and that has one writer.
func (a *app) inviteOffline(err error) error {
	if n := (*admin.NotRunning)(nil); errors.As(err, &n) {
		return &failure{exitNotRunning, fmt.Errorf("%s, and only the running daemon may write the ledger of tickets", n.What()), n.Next()}
	}
	return err
}
