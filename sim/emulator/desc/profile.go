package desc

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Limits and defaults of a Profile.
const (
	// DefaultQueue is the bottleneck queue of a profile that names none, in bytes.
	DefaultQueue = 4 << 20
	// DefaultReorderBy is how much later a reordered datagram arrives when a
	// profile does not say.
	DefaultReorderBy = 10 * time.Millisecond
	// MaxQueue keeps the time to drain a queue inside 64 bits of nanoseconds
	// even at 1 bit/s.
	MaxQueue = 1 << 30
	// MaxDelay is a day; Pluto is 5 to 7 hours away.
	MaxDelay = 24 * time.Hour
	// MaxBurst is the largest mean of datagrams lost in a row.
	MaxBurst = 1e6
	// MaxOverhead is the largest share of headers in one datagram, bytes.
	MaxOverhead = 1024
	// MaxMTU is the largest MTU: a full datagram and its headers.
	MaxMTU = 65535 + MaxOverhead
)

// Profile is what one direction of a link does. The zero Profile is a perfect
// wire.
type Profile struct {
	// Delay is the one-way light time. Nothing ever arrives earlier.
	Delay time.Duration
	// Delays is a light time that varies; it takes the place of Delay.
	Delays Delays
	// Jitter is added to the delay, uniform in [0, Jitter). It never reorders: a
	// packet that would overtake the one before it arrives together with it, so
	// that packets sent closer together than Jitter see a little more of it on
	// average.
	Jitter time.Duration
	// Loss is the share of datagrams that vanish, 0 to 1. Without Burst each is
	// lost independently of all others. It does not apply to TCP, whose users
	// never see loss.
	Loss float64
	// Burst is the mean number of datagrams lost in a row, at least 1; 0 is
	// independent loss. It makes the chain of Gilbert with two states, of which
	// the bad one loses everything and the good one nothing: from bad to good
	// with the chance 1/Burst after each datagram, from good to bad with the
	// chance Loss/(Burst*(1-Loss)), so that the share of time in the bad state is
	// Loss. It needs Loss <= Burst/(Burst+1).
	Burst float64
	// Reorder is the share of datagrams that arrive ReorderBy later than they
	// would have, after others that were sent behind them.
	Reorder float64
	// ReorderBy is how much later; 0 means DefaultReorderBy.
	ReorderBy time.Duration
	// Duplicate is the share of datagrams that arrive twice, the second right
	// behind the first.
	Duplicate float64
	// Corrupt is the share of datagrams in which one bit, chosen at random, is
	// flipped. The checksums on both sides of the link are right: it imitates
	// what they do not catch.
	Corrupt float64
	// Rate is the speed of the bottleneck in bits per second, Overhead included;
	// 0 is unlimited.
	Rate int64
	// Trace is a bottleneck of varying speed, in place of Rate; nil is none.
	Trace *Trace
	// Overhead is how many bytes of headers are counted with each datagram in
	// Rate, Trace, Queue and MTU: 28 for IPv4 and UDP, 48 for IPv6; 0 counts
	// payload alone. TCP is charged for 24 bytes more per segment of a full MTU.
	Overhead int
	// Queue is how many bytes may wait at the bottleneck, the one being sent
	// included; a datagram that finds no room is dropped. 0 means DefaultQueue.
	// An idle bottleneck takes a datagram of any size. It has no meaning without
	// Rate or Trace, nor for TCP, which is held back instead.
	Queue int
	// MTU is the largest datagram, Overhead included, in bytes; larger ones are
	// dropped. 0 is no limit. It does not apply to TCP, whose ends see the MTU
	// of their own networks.
	MTU int
	// Contacts says when the link can carry; zero is always.
	Contacts Schedule
	// Since is when Delays and Trace begin; zero is the opening of the link.
	Since time.Time
}

// Validate reports all faults of p, each with its field.
func (p Profile) Validate() error {
	var errs []error
	for _, f := range p.faults() {
		errs = append(errs, fmt.Errorf("%s: %w", f.field, f.err))
	}
	return errors.Join(errs...)
}

// faults lists what is wrong by field.
func (p *Profile) faults() []fieldFault {
	v := &faults{}
	v.between("Delay", p.Delay, MaxDelay)
	v.between("Jitter", p.Jitter, MaxDelay)
	v.between("ReorderBy", p.ReorderBy, MaxDelay)
	v.share("Loss", p.Loss)
	v.share("Reorder", p.Reorder)
	v.share("Duplicate", p.Duplicate)
	v.share("Corrupt", p.Corrupt)
	v.wrap("Burst", p.burstFault())
	if p.Rate < 0 || p.Rate > MaxRate {
		v.add("Rate", "%d bit/s is not between 0 (unlimited) and %s", p.Rate, FormatRate(MaxRate))
	}
	v.size("Queue", p.Queue, MaxQueue)
	v.size("MTU", p.MTU, MaxMTU)
	v.size("Overhead", p.Overhead, MaxOverhead)
	if p.MTU > 0 && p.MTU <= p.Overhead {
		v.add("MTU", "%d bytes leave no room behind %d bytes of overhead", p.MTU, p.Overhead)
	}
	if p.Trace != nil && p.Rate != 0 {
		v.add("Trace", "a trace and a rate are two bottlenecks: give one")
	}
	if len(p.Delays.Points) > 0 && p.Delay != 0 {
		v.add("Delays", "a table and a fixed delay are two light times: give one")
	}
	v.wrap("Delays", p.Delays.Validate())
	v.wrap("Contacts", p.Contacts.Validate())
	return v.list
}

// burstFault says why Loss cannot come in bursts of that mean.
func (p *Profile) burstFault() error {
	switch {
	case p.Burst == 0:
		return nil
	case !(p.Burst >= 1 && p.Burst <= MaxBurst): // written so that NaN fails too
		return fmt.Errorf("%v is not 0 (independent loss) or between 1 and %v", p.Burst, float64(MaxBurst))
	case p.Loss > p.Burst/(p.Burst+1):
		return fmt.Errorf("bursts of %v with one datagram between them lose %s at most, not %s",
			p.Burst, FormatLoss(p.Burst/(p.Burst+1)), FormatLoss(p.Loss))
	}
	return nil
}

type fieldFault struct {
	field string
	err   error
}

// faults collects what is wrong with a Profile.
type faults struct{ list []fieldFault }

func (v *faults) add(field, format string, args ...any) {
	v.list = append(v.list, fieldFault{field, fmt.Errorf(format, args...)})
}

func (v *faults) wrap(field string, err error) {
	if err != nil {
		v.add(field, "%w", err)
	}
}

func (v *faults) between(field string, d, most time.Duration) {
	if d < 0 || d > most {
		v.add(field, "%v is not between 0 and %v", d, most)
	}
}

func (v *faults) share(field string, s float64) {
	if !(s >= 0 && s <= 1) { // written so that NaN fails too
		v.add(field, "%v is not between 0 and 1", s)
	}
}

func (v *faults) size(field string, n, most int) {
	if n < 0 || n > most {
		v.add(field, "%d bytes is not between 0 (default) and %d", n, most)
	}
}

// String describes p for people: "delay 1.28s, loss 1%, rate 50Mbit".
func (p Profile) String() string {
	var parts []string
	say := func(there bool, format string, args ...any) {
		if there {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	say(p.Delay != 0, "delay %s", shortDuration(p.Delay))
	say(len(p.Delays.Points) > 0, "delay %s", p.Delays)
	say(p.Jitter != 0, "jitter %s", shortDuration(p.Jitter))
	say(p.Loss != 0, "loss %s", FormatLoss(p.Loss))
	say(p.Loss != 0 && p.Burst != 0, "bursts of %v", p.Burst)
	say(p.Rate != 0, "rate %s", FormatRate(p.Rate))
	say(p.Trace != nil, "rate of trace %s", p.Trace)
	say(p.Queue != 0, "queue %d bytes", p.Queue)
	say(p.MTU != 0, "mtu %d", p.MTU)
	say(p.Reorder != 0, "reorder %s", FormatLoss(p.Reorder))
	say(p.Duplicate != 0, "duplicate %s", FormatLoss(p.Duplicate))
	say(p.Corrupt != 0, "corrupt %s", FormatLoss(p.Corrupt))
	say(!p.Contacts.Always(), "contacts %s", p.Contacts)
	if len(parts) == 0 {
		return "perfect"
	}
	return strings.Join(parts, ", ")
}

// Anchored fills what zero stands for; opened anchors contacts, delays and
// trace.
func (p Profile) Anchored(opened time.Time) Profile {
	if p.Queue == 0 {
		p.Queue = DefaultQueue
	}
	if p.ReorderBy == 0 {
		p.ReorderBy = DefaultReorderBy
	}
	if p.Since.IsZero() {
		p.Since = opened
	}
	p.Contacts = p.Contacts.Anchored(opened)
	return p
}

// DelayAt is the light time of what leaves at t. p is Anchored.
func (p *Profile) DelayAt(t time.Time) time.Duration {
	if len(p.Delays.Points) == 0 {
		return p.Delay
	}
	return p.Delays.At(t.Sub(p.Since))
}

// Enter and Leave are the chances of the chain of Burst to change its state:
// from good to bad, and from bad to good.
func (p *Profile) Enter() float64 { return p.Loss / (p.Burst * (1 - p.Loss)) }

// Leave is the counterpart of Enter.
func (p *Profile) Leave() float64 { return 1 / p.Burst }
