package emulator

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
	// maxQueue keeps the time to drain a queue inside 64 bits of nanoseconds
	// even at 1 bit/s.
	maxQueue = 1 << 30
	// maxDelay is a day; Pluto is 5 to 7 hours away.
	maxDelay = 24 * time.Hour
)

// Profile is what one direction of a link does. The zero Profile is a perfect
// wire.
type Profile struct {
	// Delay is the one-way light time. Nothing ever arrives earlier.
	Delay time.Duration
	// Jitter is added to Delay, uniform in [0, Jitter). It never reorders: a
	// packet that would overtake the one before it arrives together with it, so
	// that packets sent closer together than Jitter see a little more of it on
	// average.
	Jitter time.Duration
	// Loss is the chance of a datagram to vanish, 0 to 1, independent of all
	// others. It does not apply to TCP, whose users never see loss.
	Loss float64
	// Rate is the speed of the bottleneck in bits of payload per second (headers
	// of UDP and IP are not counted); 0 is unlimited.
	Rate int64
	// Queue is how many bytes may wait at the bottleneck, the one being sent
	// included; a datagram that finds no room is dropped. 0 means DefaultQueue.
	// An idle bottleneck takes a datagram of any size. It has no meaning without
	// Rate, nor for TCP, which is held back instead.
	Queue int
	// Contacts says when the link can carry; zero is always.
	Contacts Schedule
}

// Validate reports all faults of p, each with its field.
func (p Profile) Validate() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf(field+": "+format, args...))
	}
	if p.Delay < 0 || p.Delay > maxDelay {
		fault("Delay", "%v is not between 0 and %v", p.Delay, maxDelay)
	}
	if p.Jitter < 0 || p.Jitter > maxDelay {
		fault("Jitter", "%v is not between 0 and %v", p.Jitter, maxDelay)
	}
	if !(p.Loss >= 0 && p.Loss <= 1) { // written so that NaN fails too
		fault("Loss", "%v is not between 0 and 1", p.Loss)
	}
	if p.Rate < 0 || p.Rate > MaxRate {
		fault("Rate", "%d bit/s is not between 0 (unlimited) and %s", p.Rate, FormatRate(MaxRate))
	}
	if p.Queue < 0 || p.Queue > maxQueue {
		fault("Queue", "%d bytes is not between 0 (default) and %d", p.Queue, maxQueue)
	}
	if err := p.Contacts.Validate(); err != nil {
		fault("Contacts", "%w", err)
	}
	return errors.Join(errs...)
}

// String describes p for people: "delay 1.28s, loss 1%, rate 50Mbit".
func (p Profile) String() string {
	var parts []string
	if p.Delay != 0 {
		parts = append(parts, "delay "+shortDuration(p.Delay))
	}
	if p.Jitter != 0 {
		parts = append(parts, "jitter "+shortDuration(p.Jitter))
	}
	if p.Loss != 0 {
		parts = append(parts, "loss "+FormatLoss(p.Loss))
	}
	if p.Rate != 0 {
		parts = append(parts, "rate "+FormatRate(p.Rate))
	}
	if p.Queue != 0 {
		parts = append(parts, fmt.Sprintf("queue %d bytes", p.Queue))
	}
	if !p.Contacts.Always() {
		parts = append(parts, "contacts "+p.Contacts.String())
	}
	if len(parts) == 0 {
		return "perfect"
	}
	return strings.Join(parts, ", ")
}

// withDefaults fills what zero stands for; opened anchors the contacts.
func (p Profile) withDefaults(opened time.Time) Profile {
	if p.Queue == 0 {
		p.Queue = DefaultQueue
	}
	p.Contacts = p.Contacts.Anchored(opened)
	return p
}
