package mqtt

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/bench/mqtt/load"
)

// TestHostile attacks a real node, a little. What others keep of their rate
// says something in a longer run only: a busy machine may leave them nothing of
// half a second. That they lose nothing holds in any.
func TestHostile(t *testing.T) {
	c := testConfig(t)
	c.Time, c.Warm, c.Rate, c.Attacks = 500*time.Millisecond, 300*time.Millisecond, 200, []string{"malformed", "publish-flood"}
	r, err := Hostile(t.Context(), c, t.Logf)
	if err != nil && !errors.Is(err, ErrUnfair) {
		t.Fatal(err)
	}
	if len(r.Attacks) != 2 || r.Rate != 200 {
		t.Fatalf("got %+v", r)
	}
	for _, x := range r.Attacks {
		if x.BaseP99 <= 0 || x.Lost+x.Wrong > 0 || x.Counts.Packets == 0 || x.Fault != "" {
			t.Errorf("%+v", x)
		}
	}
	if refused := r.Attacks[0].Refused[`disconnects{cause="protocol-error"}`]; refused == 0 {
		t.Errorf("malformed packets are not counted: %v", r.Attacks[0].Refused)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"attacks", "name", "victims_rate_share", "p99_ms", "rss_growth_mib", "refused"} {
		if !strings.Contains(string(text), `"`+key+`":`) {
			t.Errorf("no %s in %s", key, text)
		}
	}
	nothingLeft(t, c.Dir)
	c.Attacks = []string{"none"}
	if _, err := Hostile(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), `attacks: "none", want some of [`) {
		t.Errorf("error %v", err)
	}
}

// TestCompare: what two slices say of each other.
func TestCompare(t *testing.T) {
	result := func(name string, arrived uint64, p99 time.Duration) load.PacedResult {
		return load.PacedResult{Name: name, Arrived: arrived, P99: p99, Time: 2 * time.Second}
	}
	var x Attack
	before := slice{groups: []load.PacedResult{result(liveVictims, 800, time.Millisecond), result(durableVictims, 200, 2*time.Millisecond)}}
	with := slice{groups: []load.PacedResult{result(liveVictims, 600, 3*time.Millisecond), result(durableVictims, 100, 4*time.Millisecond)}}
	with.groups[1].Missing, with.peak.Resident = 5, 3<<20
	x.compare(before, with)
	want := Attack{Share: 0.7, DurableShare: 0.5, P99: 3, BaseP99: 1, DurableP99: 4, BaseDurable: 2, Lost: 5, RSS: 3}
	if x.String() != want.String() {
		t.Errorf("got %+v, want %+v", x, want)
	}
	if got := told("{\"packets\":1}\n{\"packets\":2}\n{\"pack"); got.Packets != 2 {
		t.Errorf("the last whole line says 2, got %+v", got)
	}
	c := counts{`farhop_mqtt_disconnects_total{cause="too-large"}`: 3, `farhop_mqtt_connects_total{result="ok"}`: 9, "other": 1}
	if got := c.since(counts{`farhop_mqtt_disconnects_total{cause="too-large"}`: 1}); len(got) != 1 || got[`disconnects{cause="too-large"}`] != 2 {
		t.Errorf("refused: %v", got)
	}
}
