package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestPlanKeepsItsOrder(t *testing.T) {
	for _, d := range []time.Duration{MinDuration, 40 * time.Second, 5 * time.Minute, MaxDuration} {
		t.Run(d.String(), func(t *testing.T) {
			p := planFor(d)
			steps := []time.Duration{0, p.gap, p.push, p.back, p.cut, p.heal, p.kill, p.rise, p.publish, p.length}
			for i := 1; i < len(steps); i++ {
				if steps[i] <= steps[i-1] {
					t.Errorf("step %d at %v does not come after the one before, at %v", i, steps[i], steps[i-1])
				}
			}
			if p.fail <= p.back || p.fail > p.publish {
				t.Errorf("the server goes away at %v, want after %v and until %v", p.fail, p.back, p.publish)
			}
			if rest := p.back + p.lead; rest < p.length+p.grace {
				t.Errorf("the last contact ends at %v, before the run does", rest)
			}
			if p.gap-p.lead > 0 {
				t.Errorf("the first contact begins only at %v", p.gap-p.lead)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Duration: time.Second}.Validate()
	if err == nil || !strings.Contains(err.Error(), "program: ") || !strings.Contains(err.Error(), "duration: 1s") {
		t.Errorf("got %v, want both faults", err)
	}
	if err := (Config{Program: "farhop", Duration: MinDuration}).Validate(); err != nil {
		t.Error(err)
	}
}

// sentTo makes a ledger with one flow of n messages, all acknowledged.
func sentTo(n int) (*ledger, *flow, time.Time) {
	l, start := &ledger{}, time.Unix(1_700_000_000, 0)
	f := l.add("rover-1", luna, earth, "telemetry/rover-1", 7)
	for range n {
		i, _ := l.publish(f, start)
		l.acked(f, i)
	}
	return l, f, start
}

func TestLedgerCounts(t *testing.T) {
	for _, c := range []struct {
		name                                      string
		arrive                                    []int
		delivered, lost, duplicates, late, damage int
	}{
		{"all in order", []int{0, 1, 2, 3}, 4, 0, 0, 0, 0},
		{"nothing", nil, 0, 4, 0, 0, 0},
		{"one is lost", []int{0, 1, 3}, 3, 1, 0, 0, 0},
		{"one comes twice", []int{0, 1, 1, 2, 3, 1}, 4, 0, 2, 0, 0},
		{"one comes late", []int{0, 2, 1, 3}, 4, 0, 0, 1, 0},
		{"a repetition is not late", []int{0, 1, 0, 2, 3}, 4, 0, 1, 0, 0},
		{"never published", []int{0, 1, 2, 3, 4, -1}, 4, 0, 0, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, f, start := sentTo(4)
			for i, n := range c.arrive {
				l.arrived(f.topic, []byte(f.payload(n)), start.Add(1280*time.Millisecond+time.Duration(i)*time.Second))
			}
			got := l.tally("")
			if got.delivered != c.delivered || got.lost != c.lost || got.duplicates != c.duplicates || got.late != c.late || got.strange != c.damage {
				t.Errorf("got %+v, want %+v", got, c)
			}
			if other := l.tally(earth); other.published != 0 {
				t.Errorf("%d messages from earth, which sent none", other.published)
			}
			if c.delivered > 0 && got.p(0) != 1280*time.Millisecond {
				t.Errorf("least latency %v, want that of the first arrival, %v", got.p(0), 1280*time.Millisecond)
			}
			if named := len(l.missing()) > 0; named != (c.lost > 0) {
				t.Errorf("missing: %q", l.missing())
			}
		})
	}
}

func TestLedgerRefusesDamage(t *testing.T) {
	l, f, start := sentTo(2)
	good := f.payload(1)
	for _, payload := range []string{"", "rover-1", good[:len(good)-1], good + "=", strings.Replace(good, "rover-1 1", "rover-1 0", 1), "rover-2" + good[7:]} {
		l.arrived(f.topic, []byte(payload), start)
	}
	l.arrived("telemetry/rover-9", []byte(good), start)
	if got := l.tally(""); got.strange != 7 || got.delivered != 0 {
		t.Errorf("got %+v, want 7 strange arrivals and nothing else", got)
	}
}

func TestPayloadsDiffer(t *testing.T) {
	l := &ledger{}
	seen := map[string]bool{}
	for i := range uint64(3) {
		f := l.add(fmt.Sprintf("rover-%d", i+1), luna, earth, "t", 7+i)
		for n := range 100 {
			p := f.payload(n)
			if len(p) < 55 || len(p) > 130 {
				t.Fatalf("payload of %d bytes", len(p))
			}
			if seen[p] {
				t.Fatalf("%q twice", p)
			}
			seen[p] = true
		}
	}
}

// kept is a report in which every promise was kept.
func kept() Report {
	return Report{
		Acknowledged: 300, Delivered: 300, Latency: Latency{P50: 1300, P99: 9000, Min: 1281, Max: 9999}, Outages: 2, Restarts: 1,
		Links: []Link{{luna, relay, 1280, 0.01, "X25519MLKEM768", "salvo", 80}, {relay, earth, 15, 0, "X25519MLKEM768", "quic", 20}},
		TCP:   TCP{Bytes: 1000, Exchanges: 4, Sha256OK: true, Failovers: 1}, Fleet: Fleet{Revision: 1, Applied: 3},
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Report)
		want  string // in the one line of Broken, "" for none
	}{
		{"all kept", func(*Report) {}, ""},
		{"delivered what was not acknowledged", func(r *Report) { r.Delivered++ }, ""},
		{"nothing sent", func(r *Report) { r.Acknowledged = 0 }, "no message was acknowledged"},
		{"lost", func(r *Report) { r.Lost = 2 }, "2 of 300 acknowledged"},
		{"repeated", func(r *Report) { r.Duplicates = 1 }, "1 deliveries were repetitions"},
		{"out of order", func(r *Report) { r.OutOfOrder = 3 }, "3 messages arrived after a later one"},
		{"damaged", func(r *Report) { r.Damaged = 1 }, "nobody published"},
		{"expired", func(r *Report) { r.Expired = 4 }, "4 messages expired"},
		{"faster than light", func(r *Report) { r.Latency.Min = 1279.9 }, "light takes 1280 ms"},
		{"bytes differ", func(r *Report) { r.TCP.Sha256OK = false }, "came back different"},
		{"no failover", func(r *Report) { r.TCP.Failovers = 0 }, "did not fail over"},
		{"revision pending", func(r *Report) { r.Fleet.Applied, r.Fleet.Pending = 2, 1 }, "applied on 2 of 3 nodes"},
		{"no revision", func(r *Report) { r.Fleet.Revision = 0 }, "revision 0"},
		{"no outage", func(r *Report) { r.Outages = 0 }, "proves nothing"},
		{"no restart", func(r *Report) { r.Restarts = 0 }, "proves nothing"},
		{"another layer", func(r *Report) { r.Links[0].Layer = "quic" }, `used "quic", not salvo`},
		{"classical key exchange", func(r *Report) { r.Links[0].Kex = "X25519" }, `luna-relay negotiated "X25519"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := kept()
			c.spoil(&r)
			r.judge()
			if c.want == "" {
				if !r.OK || len(r.Broken) != 0 {
					t.Fatalf("broken: %q", r.Broken)
				}
				return
			}
			if r.OK || len(r.Broken) != 1 || !strings.Contains(r.Broken[0], c.want) {
				t.Fatalf("broken: %q, want one line with %q", r.Broken, c.want)
			}
			var b strings.Builder
			if err := r.Text(&b); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), "BROKEN: "+r.Broken[0]) || strings.Contains(b.String(), "exactly once") {
				t.Errorf("the text does not say so:\n%s", &b)
			}
		})
	}
}
