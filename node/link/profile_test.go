package link

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryRowIsWhole: a time that is missing would be a timer that fires at
// once, or a pause that is none.
func TestEveryRowIsWhole(t *testing.T) {
	for i, r := range profiles {
		if r.handshake <= 0 || r.handshakeMax < r.handshake || r.hello <= 0 || r.redial <= 0 || r.redialMax < r.redial ||
			r.cross <= 0 || r.settle <= 0 || r.lookUDP <= 0 || r.idle < 2*r.keepAlive || r.idle <= 0 {
			t.Errorf("%q: a time is missing or out of order: %+v", r.profile, r)
		}
		if r.minWindow <= 0 || r.window < r.minWindow || r.maxWindow < r.window || r.maxWindow > 12<<20 {
			t.Errorf("%q: windows %d, %d, %d", r.profile, r.minWindow, r.window, r.maxWindow)
		}
		if p := r.probing; p.Probe <= 0 || p.Gauge < p.Probe || p.Idle < p.Gauge || p.Mute < p.Probe || p.Muted < p.Mute || p.Stuck < p.Muted || p.Opened <= 0 || p.Rest <= 0 {
			t.Errorf("%q: a time to watch it is missing or out of order: %+v", r.profile, p)
		}
		if (r.profile == "") != (i == 0) {
			t.Errorf("row %d is %q: the one of which nothing is known is the first", i, r.profile)
		}
	}
	for _, p := range Profiles() {
		if err := (Properties{Profile: p}).Validate(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if err := (Properties{Profile: "lam"}).Validate(); err == nil || !strings.Contains(err.Error(), "lan wan") {
		t.Errorf("got %v", err)
	}
	if err := (Properties{MTU: maxMTU + 1}).Validate(); err == nil {
		t.Error("packets that the socket cuts off are allowed")
	}
}

// TestAutoLayer holds when salvo is taken, see docs/links.md.
func TestAutoLayer(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct {
		name string
		p    Properties
		want Layer
	}{
		{"nothing known", Properties{}, LayerQUIC},
		{"far, rate unknown", Properties{OWLT: 1280 * ms}, LayerQUIC},
		{"rate, distance unknown", Properties{Rate: 50e6}, LayerQUIC},
		{"wan", Properties{OWLT: 25 * ms, Rate: 100e6, Loss: 0.01}, LayerQUIC},
		{"moon", Properties{OWLT: 1280 * ms, Rate: 50e6}, LayerSalvo},
		{"moon by name", Properties{Profile: ProfileMoon, Rate: 50e6}, LayerSalvo},
		{"moon, 1 Mbit/s", Properties{OWLT: 1280 * ms, Rate: 1e6}, LayerQUIC},
		{"lossy satellite", Properties{OWLT: 300 * ms, Rate: 5e6, Loss: 0.002}, LayerSalvo},
		{"thin way back", Properties{OWLT: 300 * ms, Rate: 5e6, ReturnRate: 256e3}, LayerQUIC},
		{"20 times thinner", Properties{OWLT: 300 * ms, Rate: 5e6, ReturnRate: 250e3}, LayerSalvo},
		{"told so", Properties{OWLT: 1280 * ms, Rate: 50e6, Layer: LayerQUIC}, LayerQUIC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.p.layer(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			o := tc.p.offer()
			if (o.Rate > 0) != (tc.want == LayerSalvo) || o.Rate > 0 && o.OWLT <= 0 {
				t.Errorf("offers %+v", o)
			}
		})
	}
}

// TestTableInTheDocs compares docs/links.md with the table.
func TestTableInTheDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/links.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(doc)) {
		if cells := strings.Split(line, "|"); len(cells) == 10 && strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			rows = append(rows, line)
		}
	}
	var want []string
	for _, r := range append(slices.Clone(profiles[1:]), profiles[0]) {
		name := string(r.profile)
		if name == "" {
			name = "–"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s … %s | %s … %s | %s | %s | %s | %d KiB / %d KiB |\n",
			name, docTime(2*r.light), docTime(r.handshake), docTime(r.handshakeMax), docTime(r.redial), docTime(r.redialMax),
			docTime(r.hello), docTime(r.idle), docTime(r.keepAlive), r.minWindow>>10, r.window>>10))
	}
	if !slices.Equal(rows, want) {
		t.Errorf("docs/links.md has\n%s\nwant\n%s", strings.Join(rows, ""), strings.Join(want, ""))
	}
}

// docTime is how docs/links.md writes a time.
func docTime(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return strings.Replace(s, "ms", " ms", 1)
}

// TestProbesInTheDocs compares the table of docs/links.md that says how links
// are watched with the code: a row for each way of it, the usual one last.
func TestProbesInTheDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/links.md")
	if err != nil {
		t.Fatal(err)
	}
	_, doc, found := bytes.Cut(doc, []byte("## Detection and failover\n"))
	doc, _, ends := bytes.Cut(doc, []byte("\n## "))
	if !found || !ends {
		t.Fatal("docs/links.md has no part on detection and failover")
	}
	var rows []string
	for line := range strings.Lines(string(doc)) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, line)
		}
	}
	usual := profiles[0].probing
	row := func(names string, p Probing) string {
		return fmt.Sprintf("| %s | %s | %s | %s | %s … %s | %s |\n", names,
			docTime(p.Probe), docTime(p.Gauge), docTime(p.Idle), docTime(p.Mute), docTime(p.Muted), docTime(p.Stuck))
	}
	var ways []Probing
	names := map[Probing][]string{}
	for _, r := range profiles[1:] {
		if names[r.probing] == nil && r.probing != usual {
			ways = append(ways, r.probing)
		}
		names[r.probing] = append(names[r.probing], "`"+string(r.profile)+"`")
	}
	var want []string
	for _, p := range ways {
		want = append(want, row(strings.Join(names[p], ", "), p))
	}
	want = append(want, row("others", usual))
	if len(rows) < 2 || !slices.Equal(rows[2:], want) { // after its head
		t.Errorf("docs/links.md has\n%s\nwant\n%s", strings.Join(rows, ""), strings.Join(want, ""))
	}
}
