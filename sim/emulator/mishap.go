package emulator

import "math/rand/v2"

// chain is the two-state chain of Profile.Burst, in steps of one datagram.
type chain struct {
	bad   bool
	begun bool
}

// loses moves the chain with a number in [0, 1) and says whether the datagram
// is lost. Without bursts the number alone decides.
func (c *chain) loses(luck float64, p *Profile) bool {
	if p.Burst == 0 || p.Loss == 0 {
		*c = chain{}
		return luck < p.Loss
	}
	switch {
	case !c.begun: // as if it had always run
		c.begun, c.bad = true, luck < p.Loss
	case c.bad:
		c.bad = luck >= p.Leave()
	default:
		c.bad = luck < p.Enter()
	}
	return c.bad
}

// fate is what befalls a datagram beside delay and loss.
type fate struct {
	held  bool // arrives ReorderBy later
	twice bool
	flip  uint64 // chooses the bit to flip; 0: none
}

// mishap draws fates.
type mishap struct{ rng *rand.Rand }

// draw takes four numbers whatever the profile says.
func (m *mishap) draw(p *Profile) fate {
	held, twice, damaged, bit := m.rng.Float64(), m.rng.Float64(), m.rng.Float64(), m.rng.Uint64()
	f := fate{held: held < p.Reorder, twice: twice < p.Duplicate}
	if damaged < p.Corrupt {
		f.flip = max(bit, 1)
	}
	return f
}

// damage flips the bit of data that the fate says. An empty datagram has none.
func (f *fate) damage(data []byte) {
	switch {
	case f.flip == 0:
	case len(data) == 0:
		f.flip = 0
	default:
		bit := f.flip % (uint64(len(data)) * 8)
		data[bit/8] ^= 1 << (bit % 8)
	}
}
