package virtual

import (
	"errors"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// unlike are the keys of a description that a Net does not honour, and why.
func unlike() map[string]string {
	const (
		homes    = "hosts of a virtual network have homes; leave it out"
		packets  = "a virtual network loses packets and does nothing else to them; leave it out, or use the emulator"
		constant = "ways of a virtual network do not change by themselves; leave it out"
	)
	return map[string]string{
		"listen": homes, "to": homes, "network": "a virtual network has datagrams alone; leave it out", "seed": "it is that of the network; leave it out",
		"trace": constant, "delays": constant, "delays_repeat": constant, "events": constant, "rebind_every": constant,
		"reorder": packets, "reorder_by": packets, "duplicate": packets, "corrupt": packets,
	}
}

// Ways are the two directions of a link in a file, the first from its first end.
// What a Net does not honour is reported with its line. Contacts without a start
// begin now.
func Ways(n desc.Named) (there, back Way, err error) {
	errs := []error{n.Refuse(unlike())}
	for _, key := range []string{"overhead", "return.overhead"} {
		if n.Gives(key) && (n.Up.Overhead != Overhead || n.Down.Overhead != Overhead) {
			errs = append(errs, n.Fault(key, errors.New("a virtual network counts 28 bytes with each datagram; leave it out")))
		}
	}
	now := time.Now()
	return wayOf(n.Up, now), wayOf(n.Down, now), errors.Join(errs...)
}

func wayOf(p desc.Profile, now time.Time) Way {
	p = p.Anchored(now)
	w := Way{Delay: p.Delay, Jitter: p.Jitter, InOrder: true, Rate: p.Rate, Loss: p.Loss, Burst: p.Burst, MTU: p.MTU, Contacts: p.Contacts}
	if p.Rate > 0 { // of the time that it takes to drain
		w.Queue = time.Duration(float64(p.Queue) * 8 / float64(p.Rate) * float64(time.Second))
	}
	return w
}
