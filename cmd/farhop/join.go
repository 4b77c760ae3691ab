package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/crypto/pki"
	"github.com/farhop/farhop/node"
)

func (a *app) joinCmd() *cobra.Command {
	var via string
	var l listeners
	c := &cobra.Command{
		Use:     "join TICKET",
		GroupID: groupSetUp,
		Short:   "Make a node of an existing mesh, with a ticket",
		Long: `Make this machine a node of a mesh. The ticket comes from farhop invite; it
names the region, the addresses of the node that issued it, and pins the mesh's
authority, so that nobody in between can answer in its place.

Joining goes on until an issuer has answered, however far it is; stop it with
Ctrl-C. A join that was cut off can be repeated with the same ticket: the keys of
the node stay, and the same certificate comes back.

A ticket is a secret, and arguments can be seen by other users of a machine:
with - it is read from standard input.`,
		Example: "  farhop join farhop1.AbC...\n  farhop join --via 192.0.2.7:7330 - < ticket.txt",
		Args:    args(1, 1, "one ticket"),
		RunE: func(c *cobra.Command, given []string) error {
			if err := l.check(c); err != nil {
				return err
			}
			text, err := a.ticket(given[0])
			if err != nil {
				return err
			}
			ticket, err := pki.ParseTicket(text)
			if err != nil {
				return failed("copy the whole last line of farhop invite, or have a new ticket made", "%w", err)
			}
			if ticket.Expired(time.Now()) {
				a.note("the ticket ran out at %s by the clock of this machine; trying all the same", ticket.Expires.Format(time.RFC3339))
			}
			dir, err := a.dataDir()
			if err != nil {
				return err
			}
			made, err := joinMesh(c.Context(), node.JoinOptions{
				Dir: dir, Ticket: text, Via: via, Name: l.name, MQTT: l.mqtt, Mesh: l.mesh, Admin: l.admin,
				Progress: func(line string) { a.note("%s", clean(line, 0)) },
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "joined mesh %s\n", made.Mesh)
			a.created(made)
			return nil
		},
	}
	c.Flags().StringVar(&via, "via", "", "HOST:PORT of the issuer as seen from here, instead of the ticket's addresses")
	l.add(c)
	return c
}

// ticket returns the ticket that was given, "-" for the one on standard input.
func (a *app) ticket(given string) (string, error) {
	if given != "-" {
		return strings.TrimSpace(given), nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, pki.MaxTicketText+2)).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		return "", failed("farhop join - < FILE", "there is no ticket on standard input (%v)", err)
	}
	return line, nil
}
