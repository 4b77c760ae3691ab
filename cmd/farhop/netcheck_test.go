package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/routing/addr"
)

func (f fakeNode) Netcheck(_ context.Context, r admin.NetcheckRequest, tell func(admin.Netcheck) error) error {
	if f.empty {
		return admin.NotHere("name an address: farhop netcheck HOST:PORT", "no peer is configured here: others dial this node")
	}
	ours := admin.NetcheckCertified{Ours: noon().Add(240 * time.Hour), Theirs: noon().Add(48 * time.Hour)}
	unknown := admin.Netcheck{
		Running: true, DNS: admin.NetcheckDNS{Addresses: []string{"192.0.2.2"}, TookMS: 0.1}, TCP: admin.NetcheckTCP{State: "unknown"},
		ECN: admin.NetcheckECN{Out: "unknown", In: "unknown"}, NAT: admin.NetcheckNAT{State: "unknown"}, Certified: admin.NetcheckCertified{Ours: ours.Ours},
	}
	silent, old, nameless := unknown, unknown, unknown
	silent.Address, silent.UDP = "192.0.2.2:7330", admin.NetcheckUDP{Cause: "timeout", Error: "no answer within 10s"}
	silent.TCP, silent.Note = admin.NetcheckTCP{State: "silent"}, "by its schedule this link is closed now"
	old.Address, old.UDP, old.TCP = "192.0.2.3:7330", admin.NetcheckUDP{OK: true, Old: true, Error: "its farhop is older"}, admin.NetcheckTCP{State: "failed", Error: "no route to host\x1b[31m"}
	nameless.Address, nameless.DNS, nameless.UDP = "nowhere:7330", admin.NetcheckDNS{Addresses: []string{}}, admin.NetcheckUDP{Error: "no such host"}
	all := []admin.Netcheck{{
		Node: addr.MustNode("earth-1"), Region: addr.MustRegion("earth"), Address: "earth.example:7330", Software: "farhop v1.2.3", Running: true,
		DNS: admin.NetcheckDNS{Addresses: []string{"192.0.2.1", "2001:db8::1"}, TookMS: 12},
		UDP: admin.NetcheckUDP{OK: true, Address: "192.0.2.1:7330", HandshakeMS: 62, RTTms: 30.2, Kex: "X25519MLKEM768"},
		TCP: admin.NetcheckTCP{State: "open", TookMS: 30.1}, MTU: admin.NetcheckMTU{Payload: 1452, IP: 1480, Done: true},
		ECN: admin.NetcheckECN{Out: "lost", In: "kept", Congested: 2}, Clock: admin.NetcheckClock{Known: true, OffsetMS: -120, WithinMS: 15.1},
		NAT: admin.NetcheckNAT{State: "yes", Local: "10.0.0.5:7330", Seen: "198.51.100.9:31337"}, Certified: ours,
	}, {
		Address: "198.51.100.7:7330", DNS: admin.NetcheckDNS{Addresses: []string{"198.51.100.7"}}, UDP: admin.NetcheckUDP{OK: true, Address: "198.51.100.7:7330", HandshakeMS: 1, RTTms: 0.4},
		TCP: admin.NetcheckTCP{State: "refused"}, MTU: admin.NetcheckMTU{Payload: 1280, IP: 1308}, ECN: admin.NetcheckECN{Out: "kept", In: "none"},
		Clock: admin.NetcheckClock{Known: true, WithinMS: 0.2}, NAT: admin.NetcheckNAT{State: "none", Local: "198.51.100.1:7330", Seen: "198.51.100.1:7330"}, Certified: ours,
	}}
	if !r.Quick {
		all = append(all, silent, old, nameless)
	}
	for _, n := range all {
		if err := tell(n); err != nil {
			return err
		}
	}
	return nil
}

// A node that does not run is looked from all the same.
func TestNetcheckAlone(t *testing.T) {
	earth, luna, mesh := filepath.Join(t.TempDir(), "earth"), filepath.Join(t.TempDir(), "luna"), freeUDP(t)
	ports := []string{"--mqtt", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--mesh"}
	must(t, "", append([]string{"init", "--region", "earth", "--name", "earth-1", "--dir", earth}, append(ports, mesh)...)...)
	runDaemon(t, earth)
	ticket := must(t, "", "invite", "--region", "luna", "--advertise", mesh, "--dir", earth)
	must(t, ticket, append([]string{"join", "-", "--name", "luna-1", "--dir", luna}, append(ports, "127.0.0.1:0")...)...)
	all := fromJSON[[]admin.Netcheck](t, must(t, "", "netcheck", "--json", "--dir", luna))
	if len(all) != 1 || !all[0].UDP.OK || all[0].Running || all[0].Node.String() != "earth-1" || !all[0].Clock.Known || all[0].MTU.IP < 1300 {
		t.Errorf("%+v", all)
	}
	if out := must(t, "", "netcheck", mesh, "--quick", "--dir", luna); !strings.HasPrefix(out, "earth-1 at "+mesh+", farhop ") || !strings.Contains(out, "the node does not run\n") {
		t.Errorf("%q", out)
	}
	if code, _, stderr := call(t.Context(), "", "netcheck", "--dir", earth); code != exitFailed || !strings.Contains(stderr, "no peer is configured here") {
		t.Errorf("%d %q", code, stderr)
	}
	if code, _, stderr := call(t.Context(), "", "netcheck", "mars-1", "--dir", luna); code != exitFailed || !strings.Contains(stderr, "neither a configured peer") {
		t.Errorf("%d %q", code, stderr)
	}
}
