package link

import (
	"math/rand/v2"
	"testing"
	"time"
)

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func TestContact(t *testing.T) {
	hourly := Window{Start: noon, Every: time.Hour, For: 10 * time.Minute}
	once := Window{Start: noon.Add(5 * time.Minute), For: 20 * time.Minute}
	for _, tc := range []struct {
		name    string
		windows []Window
		at      time.Duration // after noon
		open    bool
		change  time.Duration // after noon; -1: never
	}{
		{"no schedule", nil, 0, true, -1},
		{"before the first", []Window{hourly}, -time.Second, false, 0},
		{"at the start", []Window{hourly}, 0, true, 10 * time.Minute},
		{"inside", []Window{hourly}, 9 * time.Minute, true, 10 * time.Minute},
		{"at the end", []Window{hourly}, 10 * time.Minute, false, time.Hour},
		{"much later", []Window{hourly}, 100*time.Hour + time.Minute, true, 100*time.Hour + 10*time.Minute},
		{"between", []Window{hourly}, 100*time.Hour + 30*time.Minute, false, 101 * time.Hour},
		{"once, before", []Window{once}, 0, false, 5 * time.Minute},
		{"once, over", []Window{once}, time.Hour, false, -1},
		{"two overlap", []Window{hourly, once}, 6 * time.Minute, true, 25 * time.Minute},
		{"the earlier of two", []Window{once, hourly}, -time.Minute, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			open, change := Properties{Contacts: tc.windows}.contact(noon.Add(tc.at))
			want := noon.Add(tc.change)
			if tc.change < 0 {
				want = time.Time{}
			}
			if open != tc.open || !change.Equal(want) {
				t.Errorf("open %v until %v, want %v until %v", open, change, tc.open, want)
			}
		})
	}
	p := Properties{Contacts: []Window{hourly}}
	if gap, ok := p.gapAfter(noon.Add(10 * time.Minute)); gap != 50*time.Minute || !ok {
		t.Errorf("gap %v, %v", gap, ok)
	}
	if p.longestGap() != 50*time.Minute {
		t.Errorf("longest gap %v", p.longestGap())
	}
}

func TestTimersFollowFromTheLink(t *testing.T) {
	moon := Properties{OWLT: 1280 * time.Millisecond, Rate: 50_000_000, Contacts: []Window{{Start: noon, Every: 2 * time.Hour, For: 40 * time.Minute}}}
	mars := Properties{OWLT: 10 * time.Minute}
	thin := Properties{OWLT: 300 * time.Millisecond, Rate: 9600}
	for _, tc := range []struct {
		name      string
		p         Properties
		attempt   int
		seen      time.Duration
		handshake time.Duration
		idle      time.Duration
		window    uint64
		keepAlive bool
	}{
		{"nothing known", Properties{}, 0, 0, 5 * time.Second, 10 * time.Minute, 6 << 20, true},
		{"nothing known, third attempt", Properties{}, 2, 0, 20 * time.Second, 10 * time.Minute, 6 << 20, true},
		{"nothing known, many attempts", Properties{}, 99, 0, 5 * time.Minute, 10 * time.Minute, 6 << 20, true},
		{"seen near", Properties{}, 99, time.Millisecond, 20 * time.Second, 10 * time.Minute, 6 << 20, true},
		{"seen far", Properties{}, 99, 10 * time.Second, 200 * time.Second, 10 * time.Minute, 6 << 20, true},
		{"lan", Properties{OWLT: time.Millisecond}, 5, 0, 2 * time.Second, 10 * time.Minute, 6 << 20, true},
		{"moon", moon, 3, 0, 12800 * time.Millisecond, 80*time.Minute + 15360*time.Millisecond, 12 << 20, false},
		{"mars", mars, 0, 0, 100 * time.Minute, 4 * time.Hour, 6 << 20, true},
		{"thin", thin, 0, 0, 3 * time.Second, 10 * time.Minute, 512 << 10, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := tc.p.dialConfig(tc.attempt, tc.seen)
			if c.HandshakeIdleTimeout != tc.handshake || c.MaxIdleTimeout != tc.idle {
				t.Errorf("handshake %v idle %v, want %v and %v", c.HandshakeIdleTimeout, c.MaxIdleTimeout, tc.handshake, tc.idle)
			}
			if c.MaxStreamReceiveWindow != tc.window || c.MaxConnectionReceiveWindow > maxWindow || c.MaxConnectionReceiveWindow < tc.window {
				t.Errorf("windows %d and %d, want %d", c.MaxStreamReceiveWindow, c.MaxConnectionReceiveWindow, tc.window)
			}
			if (c.KeepAlivePeriod > 0) != tc.keepAlive || c.InitialPacketSize != 0 {
				t.Errorf("keepalive %v, packet size %d", c.KeepAlivePeriod, c.InitialPacketSize)
			}
			l := Config{Peers: []Peer{{Link: tc.p}}}.listenConfig()
			if l.MaxIdleTimeout < c.MaxIdleTimeout || l.HandshakeIdleTimeout < c.HandshakeIdleTimeout || l.MaxStreamReceiveWindow < tc.window {
				t.Errorf("the listener gives up before the dialer: %v, %v", l.MaxIdleTimeout, l.HandshakeIdleTimeout)
			}
		})
	}
}

func TestBackoffGrowsToItsCeiling(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for attempt := range 100 {
		lo, hi := 375*time.Millisecond, 75*time.Second
		if d := (Properties{}).backoff(attempt, 0, rnd); d < lo || d > hi {
			t.Fatalf("attempt %d: pause %v is not in [%v, %v]", attempt, d, lo, hi)
		}
	}
	again := rand.New(rand.NewPCG(1, 2))
	if a, b := (Properties{}).backoff(3, 0, rand.New(rand.NewPCG(1, 2))), (Properties{}).backoff(3, 0, again); a != b {
		t.Errorf("one seed, two pauses: %v and %v", a, b)
	}
}
