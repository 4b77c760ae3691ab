package salvo

import (
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/node/salvo/fec"
	"github.com/farhop/farhop/node/salvo/packet"
)

// Defaults and limits.
const (
	DefaultMTU       = 1280 // IP bytes: what any IPv6 link carries
	DefaultIPHeader  = 28   // IPv4 and UDP
	DefaultBuffer    = 32 << 20
	DefaultMaxBlock  = 64 << 20
	DefaultMaxBlocks = 1 << 16

	MinMTU    = 256
	MaxMTU    = 9216
	MinBuffer = 1 << 20
	MaxOWLT   = 24 * time.Hour

	trainSymbols = 200      // data symbols of a train at most
	maxTrains    = 1 << 16  // of a class, sent and not known to be complete
	maxRanges    = 4096     // of a set that a peer can make grow
	maxOpen      = 8192     // trains of which a receiver has a part
	trainCost    = 1 << 10  // bytes a receiver reckons for such a train besides its symbols
	perTick      = 64       // packets in the shortest time that timers count in
	reportSize   = 100      // bytes of a report as timers reckon
	reportShare  = 16       // of the return link's rate, one in this many bytes may be reports
	breakerFloor = 1.0 / 16 // of the rate
)

// Config describes one direction of a link. Both ends get the same.
type Config struct {
	// Rate is that of the link from the sender to the receiver, ReturnRate that
	// of the way back, in bit/s of IP packets. There is no default for Rate;
	// ReturnRate 0 is Rate.
	Rate       int64
	ReturnRate int64
	// OWLT is how long a packet takes, one way. It may be set later as well.
	OWLT time.Duration
	// Loss is the share of packets the link is declared to lose, at most 0.5;
	// Burst how many in a row on average, 0 and 1: independently.
	Loss  float64
	Burst float64
	// MTU is the largest IP packet; IPHeader what IP and UDP take of it.
	MTU      int
	IPHeader int
	// Buffer bounds the receiver's memory for trains of which it has a part,
	// in bytes; MaxBlock the length of a block; MaxBlocks those under way.
	Buffer    int64
	MaxBlock  int64
	MaxBlocks int
	// AnyOrder delivers a block as soon as it is complete. Else blocks of a
	// class are delivered in the order of their ids.
	AnyOrder bool
}

// withDefaults fills in what is 0.
func (c Config) withDefaults() Config {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.ReturnRate, c.Rate)
	def(&c.Buffer, DefaultBuffer)
	def(&c.MaxBlock, DefaultMaxBlock)
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.IPHeader == 0 {
		c.IPHeader = DefaultIPHeader
	}
	if c.MaxBlocks == 0 {
		c.MaxBlocks = DefaultMaxBlocks
	}
	c.Burst = max(c.Burst, 1)
	return c
}

// Validate refuses what no link has, and a link without a rate: salvo sends as
// fast as it is told, so someone has to tell.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf("salvo: "+format, args...))
		}
	}
	bad(c.Rate <= 0, "rate %d bit/s: set the rate of the link, there is nothing that would find it out", c.Rate)
	bad(c.ReturnRate < 0, "return rate %d bit/s: below zero", c.ReturnRate)
	bad(c.OWLT < 0 || c.OWLT > MaxOWLT, "one-way time %v: from 0 to %v", c.OWLT, MaxOWLT)
	bad(!(c.Loss >= 0 && c.Loss <= fec.MaxPlanned), "loss %v: from 0 to %v", c.Loss, fec.MaxPlanned)
	bad(!(c.Burst >= 1 && c.Burst <= 1000), "burst %v: from 1 to 1000 packets", c.Burst)
	bad(c.MTU < MinMTU || c.MTU > MaxMTU, "MTU %d: from %d to %d bytes", c.MTU, MinMTU, MaxMTU)
	bad(c.IPHeader < 0 || c.IPHeader > 100, "headers of %d bytes: from 0 to 100", c.IPHeader)
	bad(c.Buffer < MinBuffer, "buffer of %d bytes: at least %d", c.Buffer, MinBuffer)
	bad(c.MaxBlock < 1 || c.MaxBlock > 1<<40, "blocks of %d bytes: from 1 to 2^40", c.MaxBlock)
	bad(c.MaxBlocks < 1 || c.MaxBlocks > 1<<24, "%d blocks at once: from 1 to 2^24", c.MaxBlocks)
	return errors.Join(errs...)
}

// Keys is what an association begins with, for both ends the same.
type Keys struct {
	Secret      []byte // 32 bytes that both ends have from their handshake
	Association uint32 // in each packet, so that many links share a socket
	Direction   packet.Direction
	// Incarnation names the sender's numbering of blocks: it changes when a
	// sender begins to count anew, and never else. It is part of the keys.
	Incarnation uint64
}

func (k Keys) derive(kind packet.Kind) (packet.Keys, error) {
	return packet.Derive(k.Secret, k.Association, k.Incarnation, k.Direction, kind)
}

// payload is the number of bytes for frames in a packet.
func (c Config) payload() int { return c.MTU - c.IPHeader - packet.Overhead }

// airtime is how long the link is busy with a UDP payload of n bytes.
func airtime(n int, header int, rate float64) time.Duration {
	return time.Duration(float64(n+header) * 8 / rate * float64(time.Second))
}

// What the trains of a group hold at most: so much time of the link, but so
// many symbols each at least, so that parity does not become most of it.
const (
	groupTime    = 250 * time.Millisecond
	groupSymbols = 16
)

const leastLate = 4 * time.Millisecond // that timers and schedulers are late at any time

// late is how long a sender may have been kept from its work and still catch
// up: a processor that others want is away for some milliseconds, and a link
// whose light takes long has room for what then comes at once.
func (c Config) late() time.Duration {
	return min(max(c.OWLT/16, leastLate), 25*time.Millisecond)
}

// tick is the time that timers count in: a round trip, or the time of some
// packets, or of a report, on links where that is longer.
func (c Config) tick() time.Duration {
	report := airtime(reportSize, c.IPHeader, float64(c.ReturnRate)/reportShare)
	return max(2*c.OWLT, perTick*airtime(c.MTU, 0, float64(c.Rate)), report)
}
