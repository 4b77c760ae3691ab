package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farhop/farhop/node"
	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/link"
)

func (a *app) netcheckCmd() *cobra.Command {
	var r admin.NetcheckRequest
	c := &cobra.Command{
		Use: "netcheck [PEER...]", GroupID: groupLook, Short: "Look what passes to the peers: UDP, TCP, packet sizes, ECN, NAT, clocks",
		Long: `Look what passes from here to the peers in farhop.yaml, or to those named, by name
or address, or to other nodes of the mesh, by HOST:PORT. It makes a connection of its
own, so that links that stand are not touched.

  name          what the name resolves to
  udp           whether QUIC is answered, how long its handshake took, and the round trip
  tcp           whether a TCP connection to the same port comes up
  mtu           how large packets may be; the search needs some 40 round trips, and
                does not go beyond what links use
  ecn           whether the marks of congestion survive, out to the peer and in from it
  clock         how far the peer's clock is ahead, give or take half a round trip
  nat           whether the peer sees another address than this node has
  certificates  when they end

What could not be seen is unknown. While the node runs, it looks itself, from its own
socket; else this command does, from the port of mesh.listen. A peer that is older
than this command only shows that it answers.`,
		Example: "  farhop netcheck\n  farhop netcheck earth-1 --quick --json",
		Args:    args(0, admin.MaxNetcheck, fmt.Sprintf("%d peers at a time", admin.MaxNetcheck)),
	}
	c.Flags().BoolVar(&r.Quick, "quick", false, "do not search for the largest packet")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) error {
		r.Peers = given
		return a.netcheck(c, r, *asJSON)
	}
	return c
}

func (a *app) netcheck(c *cobra.Command, r admin.NetcheckRequest, asJSON bool) error {
	dir, err := a.dataDir()
	if err != nil {
		return err
	}
	all, bad := []admin.Netcheck{}, 0
	tell := func(n admin.Netcheck) error {
		if !n.UDP.OK {
			bad++
		}
		if all = append(all, n); asJSON {
			return nil
		}
		return a.printNetcheck(n, len(all) == 1)
	}
	cl, err := a.client()
	if err == nil {
		err = cl.Netcheck(c.Context(), r, tell)
	}
	if down := (*admin.NotRunning)(nil); errors.As(err, &down) {
		err = a.noNode(dir, node.NetcheckAlone(c.Context(), dir, r, tell))
	}
	if err != nil {
		return err
	}
	if asJSON {
		if err := printJSON(a.out, all); err != nil {
			return err
		}
	}
	if bad > 0 {
		return &failure{exitBroken, fmt.Errorf("%s of %d not reached", count(bad, "peer", "peers"), len(all)), "docs/links.md, When a link does not come up"}
	}
	return nil
}

func (a *app) printNetcheck(n admin.Netcheck, first bool) error {
	if !first {
		fmt.Fprintln(a.out)
	}
	who := n.Address
	if !n.Node.IsZero() {
		who = n.Node.String() + " at " + who
	}
	from := "looked at from here; the node does not run"
	if n.Running {
		from = "looked at by the running node"
	}
	fmt.Fprintln(a.out, clean(join(", ", who, n.Software, from), 0))
	for _, line := range [][2]string{
		{"name", dnsText(n.DNS)},
		{"udp", udpText(n.UDP)},
		{"tcp", tcpText(n.TCP)},
		{"mtu", mtuText(n.MTU)},
		{"ecn", ecnText(n.ECN)},
		{"clock", clockText(n.Clock)},
		{"nat", natText(n.NAT)},
		{"certificates", "ours until " + endText(n.Certified.Ours) + ", theirs " + prefixedOr("until ", endText(n.Certified.Theirs), "unknown")},
		{"note", n.Note},
	} {
		if line[1] != "" {
			fmt.Fprintf(a.out, "  %-13s %s\n", line[0], clean(line[1], 0))
		}
	}
	return nil
}

const unknownText = "unknown"

func prefixedOr(prefix, s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return prefix + s
}

func endText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func dnsText(d admin.NetcheckDNS) string {
	if len(d.Addresses) == 0 {
		return "resolves to nothing"
	}
	return join(", ", strings.Join(d.Addresses, " "), prefixed("in ", rttText(d.TookMS)))
}

func udpText(u admin.NetcheckUDP) string {
	switch {
	case u.Old:
		return "answers; the rest is unknown: " + u.Error
	case !u.OK:
		return "no: " + u.Error
	}
	text := join(", ", "answers at "+u.Address, prefixed("handshake ", rttText(u.HandshakeMS)), prefixed("round trip ", rttText(u.RTTms)), u.Kex)
	return join("; ", text, u.Error)
}

func tcpText(t admin.NetcheckTCP) string {
	switch t.State {
	case link.TCPOpen:
		return "connects in " + rttText(t.TookMS)
	case link.TCPRefused:
		return "is answered, but nobody listens"
	case link.TCPSilent:
		return "no answer"
	case link.TCPFailed:
		return "no: " + t.Error
	}
	return unknownText
}

func mtuText(m admin.NetcheckMTU) string {
	switch {
	case m.Payload == 0:
		return unknownText
	case m.Done:
		return fmt.Sprintf("%d bytes of UDP, %d of IP", m.Payload, m.IP)
	}
	return fmt.Sprintf("%d bytes of UDP, %d of IP, or more", m.Payload, m.IP)
}

func ecnText(e admin.NetcheckECN) string {
	out := map[string]string{link.ECNKept: "marks are kept", link.ECNLost: "marks are lost"}[e.Out]
	in := map[string]string{link.ECNKept: "marks arrive", link.ECNNone: "no marks arrive: not sent, or lost"}[e.In]
	text := fmt.Sprintf("out: %s; in: %s", prefixedOr("", out, unknownText), prefixedOr("", in, unknownText))
	if e.Congested > 0 {
		text += ", " + count(e.Congested, "packet", "packets") + " with congestion"
	}
	return text
}

func clockText(k admin.NetcheckClock) string {
	if !k.Known {
		return unknownText
	}
	way := "ahead"
	if k.OffsetMS < 0 {
		k.OffsetMS, way = -k.OffsetMS, "behind"
	}
	return fmt.Sprintf("%s %s, give or take %s", prefixedOr("", rttText(k.OffsetMS), "0 ms"), way, rttText(k.WithinMS))
}

func natText(n admin.NetcheckNAT) string {
	switch n.State {
	case link.NATNone:
		return "none: the peer sees " + n.Seen
	case link.NATYes, link.NATPort:
		return fmt.Sprintf("yes: %s here is %s to the peer", n.Local, n.Seen)
	}
	return unknownText
}
