package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/link"
)

const aboutStates = `States: up, a session stands; down, there is none, and the note says why; silent,
a session stands but nothing was heard for too long; closed-contact, the link is
between two contacts of its schedule.`

func (a *app) peersCmd() *cobra.Command {
	return a.peersOrLinks("peers", "Show the neighbours and whether they are there", `Show the nodes this one is linked to: those it dials (peers in farhop.yaml), and
those that dial it; and the peers of its doors (dtn in farhop.yaml).

`+aboutStates, false)
}

func (a *app) linksCmd() *cobra.Command {
	return a.peersOrLinks("links", "Show the links with their figures", `Show the same neighbours as farhop peers, with the figures of the links: the profile
from which their timers follow, round trip, what carries the bundles, what is in
flight, bytes and losses of the session, and the key exchange it is protected by.

`+aboutStates, true)
}

func (a *app) peersOrLinks(use, short, long string, figures bool) *cobra.Command {
	c := &cobra.Command{Use: use, GroupID: groupLook, Short: short, Long: long, Args: args(0, 0, "")}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := a.status(c)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(a.out, s.Peers)
		}
		return a.printPeers(s, figures)
	}
	return c
}

func (a *app) printPeers(s admin.Status, figures bool) error {
	t := newTable("PEER", "REGION", "ADDRESS", "STATE", "FOR", "RTT", "NOTE")
	if figures {
		t = newTable("PEER", "STATE", "FOR", "PROFILE", "RTT", "LAYER", "IN FLIGHT", "SENT", "RECEIVED", "LOST", "KEY EXCHANGE", "NEXT CONTACT", "NOTE")
	}
	for _, p := range s.Peers {
		name, region := p.Node.String(), p.Region.String()
		if p.Kind != "" {
			name, region = p.Name, p.Kind+" door"
		}
		if name == "" && figures {
			name = p.Address
		}
		if p.Link != "" {
			name += "/" + p.Link
		}
		rtt := rttText(p.RTTms)
		note, next, since := p.LastError, "", sinceText(s.Now, p.Since)
		if !p.NextContact.IsZero() {
			next = "in " + spanText(p.NextContact.Sub(s.Now))
		}
		if p.State == admin.PeerUp {
			note = "" // what failed before it came up
			if figures && p.Link != "" {
				note = fmt.Sprintf("cost %d, carries %s", p.Cost, cmp.Or(strings.Join(p.Classes, " "), "nothing now"))
			}
		}
		if p.DampedMS > 0 {
			note = join("; ", note, "came and went: the mesh is told in "+spanText(time.Duration(p.DampedMS)*time.Millisecond))
		}
		if figures {
			flight := fmt.Sprintf("%d (%s)", p.InFlight, sizeText(p.InFlightBytes))
			t.row(name, string(p.State), since, p.Profile, rtt, p.Layer, flight, sizeText(int64(p.SentBytes)), sizeText(int64(p.ReceivedBytes)), packetsText(p), p.Kex, next, note)
			continue
		}
		if next != "" && p.State != admin.PeerUp {
			note = join("; ", "next contact "+next, note)
		}
		t.row(name, region, p.Address, string(p.State), since, rtt, note)
	}
	if t.empty() {
		_, err := fmt.Fprintln(a.out, "no peers: none is configured and none has called")
		return err
	}
	return t.print(a.out)
}

// packetsText writes what got lost: packets of QUIC, and the share of salvo's.
func packetsText(p admin.Peer) string {
	if p.Layer != string(link.LayerSalvo) {
		return fmt.Sprint(p.PacketsLost)
	}
	return fmt.Sprintf("%.2g %%", 100*p.Loss)
}

// rttText writes a round trip of ms milliseconds, "" when it is not known.
func rttText(ms float64) string {
	switch {
	case ms <= 0:
		return ""
	case ms >= 1000:
		return fmt.Sprintf("%.2f s", ms/1000)
	}
	return fmt.Sprintf("%.3g ms", ms)
}

// join puts texts together, without the empty ones.
func join(sep string, texts ...string) string {
	out := ""
	for _, t := range texts {
		switch {
		case out == "":
			out = t
		case t != "":
			out += sep + t
		}
	}
	return out
}
