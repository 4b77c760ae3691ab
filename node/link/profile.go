package link

import (
	"cmp"
	"slices"
	"time"
)

// Profile is the kind of a link. It says what to reckon with where the link's
// own figures are not known, and what they must not go below where they are.
type Profile string

// The profiles.
const (
	ProfileLAN       Profile = "lan"       // one building: nothing between the ends forgets or delays
	ProfileWAN       Profile = "wan"       // the internet, with NATs on the way
	ProfileCellular  Profile = "cellular"  // radio that sleeps, and NATs that forget soon
	ProfileGEO       Profile = "geo"       // one geostationary satellite
	ProfileMoon      Profile = "moon"      // the Moon, and all that is farther and always in sight
	ProfileScheduled Profile = "scheduled" // it carries in contacts and is silent between them
	ProfileNarrow    Profile = "narrow"    // some kbit/s or less: a handshake takes seconds of it
)

// timing is one row of the table: all times, windows and retries of a link
// that are no multiple of its round trip. Those that are have the row's value
// as their least.
type timing struct {
	profile Profile
	light   time.Duration // one way, where no figure is given; 0: unknown
	rate    int64         // bit/s, where no figure is given; 0: fast enough not to count

	handshake    time.Duration // silence in a handshake that ends the attempt
	handshakeMax time.Duration // of the last of many attempts, where the distance is not given
	hello        time.Duration // to exchange Hellos after the handshake
	redial       time.Duration // pause after the first failed attempt; doubles
	redialMax    time.Duration
	cross        time.Duration // longest pause before dialling after a session ended
	settle       time.Duration // age of a session that has shown to last
	idle         time.Duration // silence that ends a connection
	lookUDP      time.Duration // pause before a link that went over TCP tries UDP again; doubles
	keepAlive    time.Duration // pause between packets that keep NATs from forgetting; 0: none

	minWindow, window, maxWindow int64 // bytes to receive; window where rate or distance is unknown

	probing Probing
}

// Probing is how closely a link is watched by the nodes at its ends: the least
// of times that are multiples of its measured round trip otherwise. What they
// do is said at core.Probing, which has the same fields.
type Probing struct {
	Probe, Gauge, Idle, Mute, Muted, Stuck, Opened, Rest time.Duration
}

// The ways of watching: links that carry a packet at any time and at no price,
// those on which each one wakes a radio or is paid for, and those on which it
// takes its time.
var (
	near = Probing{
		Probe: 25 * time.Millisecond, Gauge: 250 * time.Millisecond, Idle: 2 * time.Second,
		Mute: 100 * time.Millisecond, Muted: time.Second, Stuck: 10 * time.Second, Opened: time.Second, Rest: time.Second,
	}
	dear = Probing{
		Probe: 100 * time.Millisecond, Gauge: 2 * time.Second, Idle: 15 * time.Second,
		Mute: 500 * time.Millisecond, Muted: 5 * time.Second, Stuck: 20 * time.Second, Opened: 2 * time.Second, Rest: 2 * time.Second,
	}
	slow = Probing{
		Probe: time.Second, Gauge: 30 * time.Second, Idle: 30 * time.Second,
		Mute: 3 * time.Second, Muted: 30 * time.Second, Stuck: time.Minute, Opened: 10 * time.Second, Rest: 10 * time.Second,
	}
)

// profiles is the table of docs/links.md. No time outside of it decides
// whether a link is alive or is tried again.
//
// The first row is for a link of which nothing is known yet: its attempts reach
// from the next room to 2.5 minutes of light. A handshake ends after five
// round trips (stock quic-go needs one, and each loss of a packet costs two);
// windows end at 12 MB, for more than 1000 gaps in one kill the connection.
// On narrow links a window is also the longest queue in front of an alarm.
// idle is long on purpose: noticing that a link is dead is the business of the
// node's probes, and a cut of minutes must not cost the connection.
var profiles = [...]timing{
	{
		handshake: 5 * time.Second, handshakeMax: 5 * time.Minute, hello: 15 * time.Second,
		redial: 500 * time.Millisecond, redialMax: time.Minute, cross: 100 * time.Millisecond, settle: time.Second, lookUDP: time.Minute,
		idle: 10 * time.Minute, keepAlive: 20 * time.Second,
		minWindow: 512 << 10, window: 6 << 20, maxWindow: 12 << 20,
		probing: near,
	},
	{
		profile:   ProfileLAN,
		handshake: 2 * time.Second, handshakeMax: 20 * time.Second, hello: 10 * time.Second,
		redial: 100 * time.Millisecond, redialMax: 10 * time.Second, cross: 50 * time.Millisecond, settle: time.Second, lookUDP: 30 * time.Second,
		idle: 10 * time.Minute, keepAlive: 20 * time.Second,
		minWindow: 2 << 20, window: 6 << 20, maxWindow: 12 << 20,
		probing: near,
	},
	{
		profile:   ProfileWAN,
		handshake: 3 * time.Second, handshakeMax: 30 * time.Second, hello: 15 * time.Second,
		redial: 300 * time.Millisecond, redialMax: time.Minute, cross: 100 * time.Millisecond, settle: time.Second, lookUDP: time.Minute,
		idle: 10 * time.Minute, keepAlive: 20 * time.Second, // below the UDP timeouts of common NATs
		minWindow: 1 << 20, window: 6 << 20, maxWindow: 12 << 20,
		probing: near,
	},
	{
		profile:   ProfileCellular,
		handshake: 5 * time.Second, handshakeMax: time.Minute, hello: 15 * time.Second,
		redial: 500 * time.Millisecond, redialMax: time.Minute, cross: 100 * time.Millisecond, settle: 2 * time.Second, lookUDP: 5 * time.Minute,
		idle: 30 * time.Minute, keepAlive: 15 * time.Second,
		minWindow: 512 << 10, window: 3 << 20, maxWindow: 12 << 20,
		probing: dear,
	},
	{
		profile: ProfileGEO, light: 320 * time.Millisecond,
		handshake: 5 * time.Second, handshakeMax: time.Minute, hello: 15 * time.Second,
		redial: 500 * time.Millisecond, redialMax: time.Minute, cross: 100 * time.Millisecond, settle: 2 * time.Second, lookUDP: 2 * time.Minute,
		idle: 10 * time.Minute, keepAlive: 20 * time.Second,
		minWindow: 512 << 10, window: 6 << 20, maxWindow: 12 << 20,
		probing: dear,
	},
	{
		profile: ProfileMoon, light: 1350 * time.Millisecond,
		handshake: 10 * time.Second, handshakeMax: 5 * time.Minute, hello: 15 * time.Second,
		redial: time.Second, redialMax: time.Minute, cross: 100 * time.Millisecond, settle: 5 * time.Second, lookUDP: 5 * time.Minute,
		idle: 30 * time.Minute, keepAlive: 20 * time.Second,
		minWindow: 512 << 10, window: 6 << 20, maxWindow: 12 << 20,
		probing: near,
	},
	{
		profile:   ProfileScheduled,
		handshake: 5 * time.Second, handshakeMax: 5 * time.Minute, hello: 15 * time.Second,
		redial: 500 * time.Millisecond, redialMax: 30 * time.Second, cross: 100 * time.Millisecond, settle: time.Second, lookUDP: time.Minute,
		idle:      10 * time.Minute, // and the longest gap between contacts
		minWindow: 512 << 10, window: 6 << 20, maxWindow: 12 << 20,
		probing: near,
	},
	{
		profile: ProfileNarrow, rate: 9600,
		handshake: 5 * time.Second, handshakeMax: 5 * time.Minute, hello: 30 * time.Second,
		redial: 3 * time.Second, redialMax: 5 * time.Minute, cross: 2 * time.Second, settle: 10 * time.Second, lookUDP: time.Hour,
		idle:      time.Hour,
		minWindow: 64 << 10, window: 64 << 10, maxWindow: 512 << 10,
		probing: slow,
	},
}

// What does not differ between profiles.
const (
	keepGap  = 10 * time.Minute // a connection is kept over shorter gaps between contacts
	joinTime = 2 * time.Minute  // for a newcomer, of whose link nothing is known

	// Multiples of the round trip.
	handshakeTrips = 5
	helloTrips     = 10
	idleTrips      = 12
	gapTrips       = 6 // after the longest gap
	joinTrips      = 20
	lastTrips      = 20 // of the last attempts, where the distance is not given
	freshTrips     = 3

	// wideEvery: one of so many attempts at a peer that was near looks as far
	// as if it had never been seen, for it may have moved.
	wideEvery = 16

	// handshakeBytes is what a handshake sends one way, with copies of what is
	// answered later than quic-go first expects.
	handshakeBytes = 16 << 10
	helloBytes     = 1 << 10

	// Where the layer is auto.
	udpTries      = 2 // handshakes over UDP without an answer, before TCP is tried
	lookDoublings = 4 // of lookUDP

	// Over TCP. A batch is written at once, and so much may wait in the kernel;
	// what is urgent waits for both.
	batchTime    = 5 * time.Millisecond
	unsentTime   = 20 * time.Millisecond
	busyTime     = 20 * time.Millisecond  // a busy machine's processes wait so long for each other
	measureEvery = 250 * time.Millisecond // or more, if the round trip says so
	acceptPause  = 50 * time.Millisecond  // until this machine has open files to spare

	// firstWindow is how far a window is open before the peer has used it.
	firstWindow = 512 << 10
)

// Where the profile follows from what is known of a link.
const (
	narrowRate = 64_000                 // bit/s; up to this, narrow
	lanRTT     = 10 * time.Millisecond  // up to this, lan
	wanRTT     = 400 * time.Millisecond // up to this, wan
	geoRTT     = time.Second            // up to this, geo; beyond, moon
)

// Profiles returns all of them.
func Profiles() []Profile {
	var out []Profile
	for _, r := range profiles[1:] {
		out = append(out, r.profile)
	}
	return out
}

// profile returns what is configured, or follows from the schedule, the rate
// and the distance. seen is a round trip that was measured, 0 when none was;
// "" says that nothing is known.
func (p Properties) profile(seen time.Duration) Profile {
	switch {
	case p.Profile != "":
		return p.Profile
	case p.scheduled():
		return ProfileScheduled
	case p.Rate > 0 && p.Rate <= narrowRate:
		return ProfileNarrow
	}
	switch rtt := cmp.Or(2*p.OWLT, seen); {
	case rtt <= 0:
		return ""
	case rtt <= lanRTT:
		return ProfileLAN
	case rtt <= wanRTT:
		return ProfileWAN
	case rtt <= geoRTT:
		return ProfileGEO
	}
	return ProfileMoon
}

// timing returns the row of the link's profile.
func (p Properties) timing(seen time.Duration) timing {
	name := p.profile(seen)
	i := slices.IndexFunc(profiles[:], func(r timing) bool { return r.profile == name })
	return profiles[max(i, 0)]
}

// light is the one-way time that is given, or that the profile named implies;
// 0 when it has to be found out.
func (p Properties) light() time.Duration {
	return cmp.Or(p.OWLT, p.timing(0).light)
}

// rtt is the round-trip time as far as it is given, 0 when it is not.
func (p Properties) rtt() time.Duration { return 2 * p.light() }

// airtime is how long the slower way of the link is busy with n bytes.
func (p Properties) airtime(n int) time.Duration {
	rate := cmp.Or(p.Rate, p.timing(0).rate)
	if p.ReturnRate > 0 && (rate == 0 || p.ReturnRate < rate) {
		rate = p.ReturnRate
	}
	if rate == 0 {
		return 0
	}
	return time.Duration(float64(n) * 8 / float64(rate) * float64(time.Second))
}

// Profile is the kind of link that the session's times are for.
func (s *Session) Profile() Profile { return s.props.profile(s.firstRTT) }

// Probing is how closely the session's link is watched.
func (s *Session) Probing() Probing { return s.props.timing(s.firstRTT).probing }
