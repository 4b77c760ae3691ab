package salvo

import "time"

// pace is a token bucket, kept as the time at which the link is free again.
type pace struct {
	rate   float64 // bit/s
	header int     // bytes of IP and UDP
	free   time.Time
	late   time.Duration // that may be caught up
}

// ready reports whether a packet may be sent.
func (p *pace) ready(now time.Time) bool { return !now.Before(p.free) }

// idle says that there is nothing to send: what was not sent is not caught up,
// but for a little.
func (p *pace) idle(now time.Time) {
	if t := now.Add(-leastLate); p.free.Before(t) {
		p.free = t
	}
}

// spend books a UDP payload of n bytes. A sender that comes late may catch up,
// so that the driver's timers need not be exact.
func (p *pace) spend(now time.Time, n int) {
	if credit := now.Add(-p.late); p.free.Before(credit) {
		p.free = credit
	}
	p.free = p.free.Add(airtime(n, p.header, p.rate))
}
