package wire

import (
	"math"
	"time"

	"github.com/farhop/farhop/storeforward/cbor"
)

// SalvoVersion is the version of salvo that this node takes and sends.
const SalvoVersion = 1

// Salvo is the part of a Hello that says whether its node takes salvo, and how
// it will send: the direction from it to the reader. Fields are in whole units
// on the wire: microseconds, millionths, thousandths.
type Salvo struct {
	Version    uint8         // 0: it knows none, and there is nothing else
	Rate       uint64        // bit/s of IP packets; 0: it sends none
	ReturnRate uint64        // bit/s, for reports
	OWLT       time.Duration // one way
	Loss       float64       // share of packets, 0 to 0.5
	Burst      float64       // packets in a row, on average
	MTU        uint16        // bytes of an IP packet
}

const (
	micro = 1_000_000
	milli = 1_000
)

// quantum is what the wire makes of a Salvo, so that both ends compute with
// the same numbers.
func (s Salvo) quantum() (owlt, loss, burst uint64) {
	clip := func(v, most float64) uint64 { return uint64(min(max(math.Round(v), 0), most)) }
	return uint64(max(s.OWLT, 0) / time.Microsecond), clip(s.Loss*micro, micro), clip(s.Burst*milli, micro)
}

// Rounded returns s as the peer will read it.
func (s Salvo) Rounded() Salvo {
	owlt, loss, burst := s.quantum()
	s.OWLT, s.Loss, s.Burst = time.Duration(owlt)*time.Microsecond, float64(loss)/micro, float64(burst)/milli
	return s
}

func (s Salvo) append(dst []byte) []byte {
	if s.Version == 0 {
		return cbor.AppendArray(dst, 0)
	}
	owlt, loss, burst := s.quantum()
	dst = cbor.AppendArray(dst, 7)
	for _, v := range []uint64{uint64(s.Version), s.Rate, s.ReturnRate, owlt, loss, burst, uint64(s.MTU)} {
		dst = cbor.AppendUint(dst, v)
	}
	return dst
}

// parseSalvo reads what append wrote; a later version may have more items.
func parseSalvo(r *cbor.Reader) (s Salvo) {
	n := r.ArrayMin(0)
	if n == 0 {
		return s
	}
	if n < 7 {
		r.Fail(r.Offset(), "salvo of fewer than 7 items")
		return s
	}
	s.Version = uint8(r.UintMax(math.MaxUint8))
	s.Rate, s.ReturnRate = r.UintMax(math.MaxInt64), r.UintMax(math.MaxInt64)
	s.OWLT = time.Duration(r.UintMax(uint64(24*time.Hour/time.Microsecond))) * time.Microsecond
	s.Loss = float64(r.UintMax(micro)) / micro
	s.Burst = float64(r.UintMax(micro)) / milli
	s.MTU = uint16(r.UintMax(math.MaxUint16))
	rest(r, n-7)
	return s
}
