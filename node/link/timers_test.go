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

type timerCase struct {
	name    string
	p       Properties
	attempt int
	seen    time.Duration

	profile   Profile
	handshake time.Duration
	hello     time.Duration // at the distance given or seen
	idle      time.Duration
	window    uint64
	keepAlive time.Duration
	redial    [2]time.Duration // first and last pause
}

func timerCases() []timerCase {
	const ms = time.Millisecond
	passes := []Window{{Start: noon, Every: 2 * time.Hour, For: 40 * time.Minute}}
	return []timerCase{
		{"nothing known", Properties{}, 0, 0, "", 5 * time.Second, 15 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"third attempt", Properties{}, 2, 0, "", 20 * time.Second, 15 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"many attempts", Properties{}, 99, 0, "", 5 * time.Minute, 15 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"seen near", Properties{}, 99, ms, ProfileLAN, 20 * time.Second, 10 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{100 * ms, 10 * time.Second}},
		{"was near, may have moved", Properties{}, 15, ms, ProfileLAN, 5 * time.Minute, 10 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{100 * ms, 10 * time.Second}},
		{"seen far", Properties{}, 0, 10 * time.Second, ProfileMoon, 50 * time.Second, 100 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{5 * time.Second, time.Minute}},
		{"lan", Properties{OWLT: 500 * time.Microsecond, Rate: 1e9}, 5, 0, ProfileLAN, 2 * time.Second, 10 * time.Second, 10 * time.Minute, 2 << 20, 20 * time.Second, [2]time.Duration{100 * ms, 10 * time.Second}},
		{"wan", Properties{OWLT: 25 * ms, Rate: 100e6}, 5, 0, ProfileWAN, 3 * time.Second, 15 * time.Second, 10 * time.Minute, 1 << 20, 20 * time.Second, [2]time.Duration{300 * ms, time.Minute}},
		{"cellular", Properties{Profile: ProfileCellular}, 9, 0, ProfileCellular, time.Minute, 15 * time.Second, 30 * time.Minute, 3 << 20, 15 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"geo", Properties{Profile: ProfileGEO, Rate: 50e6}, 0, 0, ProfileGEO, 5 * time.Second, 15 * time.Second, 10 * time.Minute, 5_000_000, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"geo by distance", Properties{OWLT: 300 * ms}, 0, 0, ProfileGEO, 5 * time.Second, 15 * time.Second, 10 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"moon, 2.6 s", Properties{OWLT: 1300 * ms, Rate: 50e6}, 3, 0, ProfileMoon, 13 * time.Second, 26 * time.Second, 30 * time.Minute, 12 << 20, 20 * time.Second, [2]time.Duration{1300 * ms, time.Minute}},
		{"moon, named alone", Properties{Profile: ProfileMoon}, 3, 0, ProfileMoon, 13500 * ms, 27 * time.Second, 30 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{1350 * ms, time.Minute}},
		{"6 s", Properties{OWLT: 3 * time.Second}, 0, 0, ProfileMoon, 30 * time.Second, time.Minute, 30 * time.Minute, 6 << 20, 20 * time.Second, [2]time.Duration{3 * time.Second, time.Minute}},
		{"passes of the Moon", Properties{OWLT: 1300 * ms, Rate: 50e6, Contacts: passes}, 3, 0, ProfileScheduled, 13 * time.Second, 26 * time.Second, 80*time.Minute + 15600*ms, 12 << 20, 0, [2]time.Duration{1300 * ms, 30 * time.Second}},
		{"passes, profile of the place", Properties{Profile: ProfileMoon, Contacts: passes}, 0, 0, ProfileMoon, 13500 * ms, 27 * time.Second, 80*time.Minute + 16200*ms, 6 << 20, 0, [2]time.Duration{1350 * ms, time.Minute}},
		{"2 x 20 min", Properties{OWLT: 20 * time.Minute}, 0, 0, ProfileMoon, 200 * time.Minute, 400 * time.Minute, 8 * time.Hour, 6 << 20, 20 * time.Second, [2]time.Duration{20 * time.Minute, 80 * time.Minute}},
		{"2 x 20 min, passes", Properties{OWLT: 20 * time.Minute, Contacts: passes}, 0, 0, ProfileScheduled, 200 * time.Minute, 400 * time.Minute, 8 * time.Hour, 6 << 20, 0, [2]time.Duration{20 * time.Minute, 80 * time.Minute}},
		{"narrow", Properties{OWLT: 300 * ms, Rate: 9600}, 0, 0, ProfileNarrow, 5*time.Second + 13653*ms, 30*time.Second + 14506*ms, time.Hour, 64 << 10, 0, [2]time.Duration{3 * time.Second, 5 * time.Minute}},
		{"very narrow", Properties{Profile: ProfileNarrow, Rate: 1200, OWLT: 300 * ms}, 0, 0, ProfileNarrow, 5*time.Second + 109226*ms, 30*time.Second + 116053*ms, time.Hour, 64 << 10, 0, [2]time.Duration{3 * time.Second, 5 * time.Minute}},
		{"thin way back", Properties{OWLT: 300 * ms, Rate: 50e6, ReturnRate: 256e3}, 0, 0, ProfileGEO, 5*time.Second + 512*ms, 15*time.Second + 544*ms, 10 * time.Minute, 512 << 10, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
		{"its far end", Properties{OWLT: 300 * ms, Rate: 256e3, ReturnRate: 50e6}, 0, 0, ProfileGEO, 5*time.Second + 512*ms, 15*time.Second + 544*ms, 10 * time.Minute, 4_687_500, 20 * time.Second, [2]time.Duration{500 * ms, time.Minute}},
	}
}

// TestTimersFollowFromTheLink goes from a LAN to Mars, with a profile named
// and with one that follows.
func TestTimersFollowFromTheLink(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range timerCases() {
		t.Run(tc.name, func(t *testing.T) {
			near := func(what string, got, want time.Duration) { // what its bytes take aside
				if got < want || got > want+10*ms {
					t.Errorf("%s %v, want %v", what, got, want)
				}
			}
			if got := tc.p.profile(tc.seen); got != tc.profile {
				t.Errorf("profile %q, want %q", got, tc.profile)
			}
			c := tc.p.dialConfig(tc.attempt, tc.seen)
			near("handshake", c.HandshakeIdleTimeout, tc.handshake)
			near("hello", tc.p.helloWait(max(tc.p.rtt(), tc.seen)), tc.hello)
			if c.MaxIdleTimeout != tc.idle || c.KeepAlivePeriod != tc.keepAlive {
				t.Errorf("idle %v, keepalive %v; want %v and %v", c.MaxIdleTimeout, c.KeepAlivePeriod, tc.idle, tc.keepAlive)
			}
			if c.MaxStreamReceiveWindow != tc.window || c.MaxConnectionReceiveWindow > 12<<20 || c.MaxConnectionReceiveWindow < tc.window || c.InitialPacketSize != 0 {
				t.Errorf("windows %d and %d, packets of %d; want %d", c.MaxStreamReceiveWindow, c.MaxConnectionReceiveWindow, c.InitialPacketSize, tc.window)
			}
			for i, attempt := range []int{0, 99} {
				rnd := rand.New(rand.NewPCG(1, uint64(attempt)))
				for range 20 {
					if d, want := tc.p.backoff(attempt, tc.seen, rnd), tc.redial[i]; d < want*3/4 || d > want*5/4 {
						t.Fatalf("pause %v after attempt %d, want %v", d, attempt, want)
					}
				}
			}
			l := Config{Peers: []Peer{{Link: tc.p}}}.listenConfig()
			if l.MaxIdleTimeout < c.MaxIdleTimeout || l.HandshakeIdleTimeout < tc.p.handshakeTimeout(0, 0) || l.MaxStreamReceiveWindow < tc.window {
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
