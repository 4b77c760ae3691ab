package salvo

import "time"

// pace is a token bucket, kept as the time at which the link is free again.
type pace struct {
	rate   float64 // bit/s
	header int     // bytes of IP and UDP
	free   time.Time
}

// ready reports whether a packet may be sent.
func (p *pace) ready(now time.Time) bool { return !now.Before(p.free) }

// spend books a UDP payload of n bytes. A sender that comes late may catch up
// some milliseconds, so that the driver's timers need not be exact.
func (p *pace) spend(now time.Time, n int) {
	if credit := now.Add(-burstCredit * time.Millisecond); p.free.Before(credit) {
		p.free = credit
	}
	p.free = p.free.Add(airtime(n, p.header, p.rate))
}
