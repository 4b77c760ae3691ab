package salvo

import (
	"math"
	"time"
)

// breaker measures loss, one round trip after the other, and lowers the rate
// when it is far above what the link is declared to lose: then something else
// is on the link, or it is not the link that it was.
type breaker struct {
	loss, burst float64 // as declared

	share    float64 // of the configured rate: 1, or down to a sixteenth
	bad      int     // round trips in a row with too much loss
	good     int     // round trips in a row without
	halvings int64

	since       time.Time
	packets     uint64 // sent when the round trip began, as far as the peer saw
	count       uint64 // of them arrived
	seenPackets uint64
	seenCount   uint64
	average     float64
	any         bool
}

const (
	breakerFactor = 3 // times the declared loss
	breakerTrips  = 2 // round trips in a row
	breakerRest   = 4 // good ones before the rate rises by a quarter
)

func newBreaker(now time.Time, loss, burst float64) breaker {
	return breaker{loss: loss, burst: burst, share: 1, since: now}
}

// measured is the loss of late, a moving average; before the first full round
// trip, what there is.
func (b *breaker) measured() float64 {
	const enough = 256
	if b.any || b.seenPackets < enough {
		return b.average
	}
	return 1 - float64(b.seenCount)/float64(b.seenPackets)
}

// limit is the loss beyond which the breaker acts. One packet in a hundred is
// no reason on a link that is declared to lose none.
func (b *breaker) limit() float64 { return breakerFactor * max(b.loss, 0.003) }

// update takes a report: the number of the last packet that arrived, and one,
// and how many arrived. It reports whether the rate changed.
func (b *breaker) update(now time.Time, trip time.Duration, packets, count uint64) bool {
	if packets < b.seenPackets || count < b.seenCount || count > packets {
		return false // older than the last one, or not true
	}
	b.seenPackets, b.seenCount = packets, count
	sent, got := packets-b.packets, count-b.count
	// So many that chance does not make three times of it: bursts count as one.
	enough := 30 * b.burst / b.limit()
	if now.Sub(b.since) < trip || float64(sent) < enough {
		return false
	}
	loss := 1 - min(float64(got)/float64(sent), 1)
	b.since, b.packets, b.count = now, packets, count
	if !b.any {
		b.any, b.average = true, loss
	}
	b.average += (loss - b.average) / 2
	return b.judge(loss)
}

// judge counts one round trip.
func (b *breaker) judge(loss float64) bool {
	before := b.share
	if loss > b.limit() {
		b.good = 0
		if b.bad++; b.bad >= breakerTrips {
			b.bad = 0
			b.share = math.Max(b.share/2, breakerFloor)
			if b.share < before {
				b.halvings++
			}
		}
	} else {
		b.bad = 0
		if b.good++; b.good >= breakerRest {
			b.good = 0
			b.share = math.Min(b.share*1.25, 1)
		}
	}
	return b.share != before
}
