package config

import (
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

func eid(t *testing.T, s string) addr.EID {
	t.Helper()
	e, err := addr.ParseEID(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func patterns(t *testing.T, list ...string) (out []addr.Pattern) {
	t.Helper()
	for _, s := range list {
		p, err := addr.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// fullDTN is the section dtn of full.
func fullDTN(t *testing.T) DTN {
	return DTN{
		Node: addr.IPN(17, 0), TLS: DTNTLS{"door.pem", "door.key", "roots.pem"},
		Listen: []DTNListener{
			{Kind: "tcpcl", Address: ":4556", TLS: "required", Auth: "host", Strangers: true},
			{Kind: "stcp", Address: "127.0.0.1:4557", Peer: "ion"},
		},
		Peers: []DTNPeer{
			{"hdtn", "tcpcl", "hdtn.example.net:4556", addr.IPN(2, 0), patterns(t, "ipn:2.*", "dtn://hdtn/**"), "optional", "chain", "door.example.net", true, true, true},
			{Name: "dials-us", Kind: "tcpcl", Node: eid(t, "dtn://other/"), TLS: "none"},
		},
		Mappings:         []DTNMapping{{addr.IPN(17, 5), "plant/1/temp"}},
		Exports:          []DTNExport{{"plant/#", "dtn://hdtn/in/{topic}", addr.IPN(17, 6), addr.IPN(17, 0), Duration(2 * time.Hour), 30}},
		Routes:           []DTNRoute{{patterns(t, "ipn:3.*"), addr.MustNode("gw-2")}},
		ReportsPerMinute: 30,
	}
}

func TestDTNIsZero(t *testing.T) {
	if !(DTN{}).IsZero() || fullDTN(t).IsZero() || (DTN{ReportsPerMinute: 1}).IsZero() {
		t.Error("a door is where there is none, or not where there is one")
	}
	if strings.Contains(string(Render(Default())), "\ndtn:") {
		t.Error("the defaults have a door")
	}
}
