package bench

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestRelay sends bundles through three real nodes, stored by each and by none.
func TestRelay(t *testing.T) {
	for _, c := range []struct {
		name, cl string
		volatile bool
	}{{"durable", CLQUIC, false}, {"volatile", CLQUIC, true}, {"doors", CLTCP, false}, {"doors volatile", CLTCP, true}} {
		t.Run(c.name, func(t *testing.T) {
			volatile, cl := c.volatile, c.cl
			c := testConfig(t)
			r, err := RunRelay(t.Context(), RelayConfig{
				Dir: c.Dir, Farhop: c.Farhop, CL: cl, Size: 100, Messages: 900, Rounds: 2, Volatile: volatile, Limit: time.Minute,
			}, t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.All) != 2 || r.PerSecond <= 0 || r.MB <= 0 || r.Durable == volatile {
				t.Errorf("%+v", r)
			}
			for _, x := range r.All {
				if x.Seconds <= 0 || (!volatile || cl == CLTCP) && (x.Bundles < 900 || x.Lost > 0) || x.Bundles+x.Lost < 900 {
					t.Errorf("%+v", x)
				}
			}
			if left, err := os.ReadDir(c.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

func TestRelayValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		c    RelayConfig
		want string
	}{
		{"defaults", RelayConfig{}, ""},
		{"tcpclv4", RelayConfig{CL: CLTCP}, ""},
		{"cl", RelayConfig{CL: "carrier pigeon"}, `cl: "carrier pigeon", want one of quic, tcpclv4`},
		{"size", RelayConfig{Size: 1}, "size: 1, want 16 to"},
		{"messages", RelayConfig{Messages: 5}, "messages: 5, want 100 to"},
		{"all rounds", RelayConfig{Messages: 500_000, Rounds: 2}, "messages of all rounds: 1000000"},
		{"limit", RelayConfig{Limit: -1}, "limit: a negative time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.c.Dir, c.c.Farhop = "d", "farhop"
			err := c.c.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestBetween checks which part of a round counts.
func TestBetween(t *testing.T) {
	var marks []mark
	for i := range 21 { // 50 arrive every 100 ms; the first and last are slow
		at := time.Unix(0, 0).Add(time.Duration(i) * 100 * time.Millisecond)
		if i == 0 {
			at = at.Add(-time.Hour)
		}
		if i == 20 {
			at = at.Add(time.Hour)
		}
		marks = append(marks, mark{at: at, arrived: 50 * i, relay: time.Duration(i) * time.Millisecond, written: int64(i) * 5000})
	}
	x, err := between(marks, 1010)
	if err != nil || x.PerSecond != 500 || x.CPU != 20 || x.Written != 100 || x.Bundles != 1000 || x.Lost != 10 {
		t.Errorf("%+v %v; want 500/s, 20 µs, 100 bytes, 1000 arrived, 10 lost", x, err)
	}
	if _, err := between(nil, 1); err == nil {
		t.Error("nothing at all is a round")
	}
	if x, err = between(marks[:1], 5); err != nil || x.PerSecond != 0 || x.Lost != 5 {
		t.Errorf("one mark alone: %+v %v", x, err)
	}
}
