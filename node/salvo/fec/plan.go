package fec

import "math"

// Channel is a link as the code sees it: Gilbert's, which is good or bad and
// loses all packets while it is bad.
type Channel struct {
	Loss  float64 // share of packets that are lost, below 1
	Burst float64 // mean number of packets lost in a row, at least 1
}

// MaxPlanned is the loss that plans reckon with at most: beyond it, reports
// repair what is left.
const MaxPlanned = 0.5

// failure is the share of trains that may need a report: a thousandth of a
// 64 MiB block's trains, or as good as one packet in a thousand sent twice.
const failure = 1.05e-4

// Symbols of different trains take turns, so of each train every n-th packet
// is looked at. Loss in one such packet says this about the next.
func (c Channel) memory(turn int) float64 {
	loss := min(max(c.Loss, 0), MaxPlanned)
	leave := 1 / max(c.Burst, 1/(1-loss)) // bad to good
	enter := leave * loss / (1 - loss)
	return math.Pow(max(1-leave-enter, 0), float64(turn))
}

// Parity is how many parity symbols a train of k data symbols gets that takes
// turns with turn-1 others: as few as leave one train in ten thousand to be
// repaired. The second result is the probability of that. limit bounds the
// answer.
func (c Channel) Parity(k, turn, limit int) (int, float64) {
	loss := min(max(c.Loss, 0), MaxPlanned)
	limit = min(limit, Spare(k))
	if loss == 0 || limit <= 0 {
		return 0, 0
	}
	r := c.memory(turn)
	badBad, goodBad := loss+(1-loss)*r, loss*(1-r)
	// good[j], bad[j]: j lost so far, and the last packet was not, or was.
	good, bad := make([]float64, limit+2), make([]float64, limit+2)
	good[0], bad[1] = 1-loss, loss // the first packet has none before it
	tail := 0.0                    // more lost than can be counted
	for n := 1; ; n++ {
		if n > 1 {
			tail += step(good, bad, goodBad, badBad)
		}
		if n < k {
			continue
		}
		m := n - k
		p := tail
		for j := m + 1; j < len(good); j++ {
			p += good[j] + bad[j]
		}
		if p <= failure || m >= limit {
			return m, p
		}
	}
}

// step moves both distributions on by one packet and returns the share that
// lost too many to be counted.
func step(good, bad []float64, goodBad, badBad float64) float64 {
	last := len(good) - 1
	over := good[last]*goodBad + bad[last]*badBad
	for j := last; j >= 0; j-- {
		lost := 0.0
		if j > 0 {
			lost = good[j-1]*goodBad + bad[j-1]*badBad
		}
		good[j] = good[j]*(1-goodBad) + bad[j]*(1-badBad)
		bad[j] = lost
	}
	return over
}

// Turn is how many trains should take turns on a channel: so many that a burst
// has mostly ended when it is a train's turn again.
func (c Channel) Turn() int {
	const least, most = 4, 64
	return min(max(int(math.Ceil(3.5*c.Burst)), least), most)
}
