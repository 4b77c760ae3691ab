package core

import "time"

// Probing is how closely a link is watched. Each value is the least of a time
// that is a multiple of the link's round trip otherwise; 0 stands for that of
// DefaultProbing. The driver takes them from the link's profile.
type Probing struct {
	Probe  time.Duration // between probes of a peer that owes an answer
	Gauge  time.Duration // between probes that measure a link in use, whatever else is heard
	Idle   time.Duration // between probes of a link that idles
	Mute   time.Duration // between probes of a link that just fell silent,
	Muted  time.Duration // and of one that is silent for long
	Stuck  time.Duration // until a silent session that owes custody is made anew
	Opened time.Duration // the same for one that stays unanswered since its contact opened
	Rest   time.Duration // in which a peer without room is offered nothing
}

// DefaultProbing is for links of which no profile is known, as in virtual
// worlds: that of a LAN, whose round trip is far below all of it.
func DefaultProbing() Probing {
	return Probing{
		Probe: 25 * time.Millisecond, Gauge: 250 * time.Millisecond, Idle: 2 * time.Second,
		Mute: 100 * time.Millisecond, Muted: time.Second, Stuck: 10 * time.Second, Opened: time.Second, Rest: time.Second,
	}
}

// floors are the same in ms.
type floors struct{ probe, gauge, idle, mute, muted, stuck, opened, rest int64 }

func (p Probing) floors() floors {
	d := DefaultProbing()
	or := func(d, otherwise time.Duration) int64 {
		if d <= 0 {
			d = otherwise
		}
		return max(d.Milliseconds(), 1)
	}
	return floors{
		probe: or(p.Probe, d.Probe), gauge: or(p.Gauge, d.Gauge), idle: or(p.Idle, d.Idle), mute: or(p.Mute, d.Mute),
		muted: or(p.Muted, d.Muted), stuck: or(p.Stuck, d.Stuck), opened: or(p.Opened, d.Opened), rest: or(p.Rest, d.Rest),
	}
}
