package links

import (
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
)

// Limits of a Config.
const (
	minBytes = 1 << 10
	maxBytes = int64(1) << 36
	maxFrame = 64 << 10 // bytes of one transfer
)

// Config describes a run. The zero value of Delay, Loss, Rate and Return is a
// perfect wire.
type Config struct {
	Layer  link.Layer    // "" is auto
	Delay  time.Duration // one way
	Loss   float64       // share of packets, both ways
	Burst  float64       // packets lost in a row, on average; 0: 1
	Rate   int64         // bit/s of IP packets; 0: as fast as this machine goes
	Return int64         // bit/s of the way back; 0: as Rate
	Bytes  int64         // to move
	Seed   uint64        // of what is lost
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Bytes < minBytes || c.Bytes > maxBytes {
		errs = append(errs, fmt.Errorf("bytes: %d is not between %d and %d", c.Bytes, minBytes, maxBytes))
	}
	if c.tcp() && (c.Loss != 0 || c.Burst != 0) {
		errs = append(errs, errors.New("loss, burst: the emulator ends connections of TCP and loses nothing in them, so they say nothing of layer tls; leave them out"))
	}
	return errors.Join(append(errs, c.properties().Validate())...)
}

// tcp reports whether the link is over TCP.
func (c Config) tcp() bool { return c.Layer == link.LayerTLS }

// direct reports whether the nodes need nothing between them: a connection of
// TCP that is not held up is only copied by the emulator.
func (c Config) direct() bool { return c.tcp() && c.Delay == 0 && c.Rate == 0 && c.Return == 0 }

// properties is what both nodes are told of the link.
func (c Config) properties() link.Properties {
	return link.Properties{OWLT: c.Delay, Rate: c.Rate, ReturnRate: c.Return, Loss: c.Loss, Burst: c.Burst, Layer: c.Layer}
}

// back is what the far node is told of its way to us.
func (c Config) back() link.Properties {
	p := c.properties()
	if c.Return > 0 {
		p.Rate, p.ReturnRate = c.Return, c.Rate
	}
	return p
}

// Report is what Run found.
type Report struct {
	Layer   link.Layer `json:"layer"` // that was used
	Delay   float64    `json:"delay_ms"`
	Loss    float64    `json:"loss"`
	Burst   float64    `json:"burst,omitempty"`
	Rate    float64    `json:"rate_mbit"`
	Return  float64    `json:"return_mbit"`
	Bytes   int64      `json:"bytes"`
	Seconds float64    `json:"seconds"`       // from the first byte sent to the last delivered
	Goodput float64    `json:"goodput_mbit"`  // bytes over Seconds
	Share   float64    `json:"share_of_link"` // bytes over what the rate carries in Seconds less the delay; 0 without a rate
	Reverse uint64     `json:"reverse_bytes"` // of IP packets, of TCP what they carry, while it lasted
	SHA256  bool       `json:"sha256_ok"`
	CPU     float64    `json:"cpu_s_per_gib"`        // of this process: both ends and the emulator
	Memory  int64      `json:"held_bytes,omitempty"` // by salvo of what was under way, at most
	Again   uint64     `json:"reread,omitempty"`     // bundles that were made again to repair what was lost

	RTT     float64 `json:"rtt_ms"` // as the session measured it
	Packets uint64  `json:"packets"`
	Lost    uint64  `json:"packets_lost"` // by the emulated link
	Queue   uint64  `json:"queue_drops"`  // at its bottleneck
	Unreal  uint64  `json:"emulator_drops"`
}

// String implements fmt.Stringer.
func (r Report) String() string {
	share := "no rate was set"
	if r.Share > 0 {
		share = fmt.Sprintf("%.1f %% of the link", 100*r.Share)
	}
	return fmt.Sprintf("%s: %d bytes in %.2f s: %.2f Mbit/s, %s; %d bytes back; %d of %d packets lost, %d at the bottleneck",
		r.Layer, r.Bytes, r.Seconds, r.Goodput, share, r.Reverse, r.Lost, r.Packets, r.Queue)
}

// hello is the Hello of a node of a run.
func hello() wire.Hello {
	return wire.Hello{Version: wire.Version, Boot: 1, MaxFrame: wire.MaxFrame, Software: "bench"}
}
