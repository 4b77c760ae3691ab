package link

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/farhop/farhop/node/salvo"
	"github.com/farhop/farhop/node/wire"
)

// Layer is what carries the bundles of a link. The session itself, with its
// handshake, its acknowledgements and its probes, is the same on all.
type Layer string

// The layers.
const (
	LayerAuto  Layer = "auto" // chosen by the other properties
	LayerQUIC  Layer = "quic"
	LayerSalvo Layer = "salvo" // needs a Rate
	LayerTLS   Layer = "tls"   // over TCP; auto takes it where no UDP passes
)

// Layers returns all of them.
func Layers() []Layer { return []Layer{LayerAuto, LayerQUIC, LayerSalvo, LayerTLS} }

// When auto takes salvo: where QUIC's window would have to be larger than it
// holds, or its congestion control would take loss of the link for too much
// traffic, or its acknowledgements would not fit through the way back.
const (
	salvoPipe   = 4 << 20 // bytes under way in a round trip
	salvoLoss   = 0.001
	salvoRTT    = 200 * time.Millisecond // of links where that loss counts
	salvoThin   = 20                     // times slower the way back is
	salvoMemory = 24 << 20               // bytes of blocks under way that are in memory, at either end
	salvoFlows  = 4 << 30                // most bytes of blocks under way: on the sender's disk, and at worst on the receiver's too

	// maxMTU is what IP and UDP make of the largest packet that is read from
	// the socket salvo shares with QUIC.
	maxMTU = packetBytes + salvo.DefaultIPHeader
)

// layer returns what carries bundles from this node where UDP passes:
// LayerQUIC, LayerSalvo, or LayerTLS when that is configured.
func (p Properties) layer() Layer {
	switch {
	case p.Layer == LayerSalvo:
		return LayerSalvo
	case p.Layer == LayerTLS:
		return LayerTLS
	case p.Layer == LayerQUIC || p.Rate == 0 || p.rtt() == 0:
		return LayerQUIC
	}
	pipe := float64(p.Rate) / 8 * p.rtt().Seconds()
	lossy := p.Loss > salvoLoss && p.rtt() >= salvoRTT
	thin := p.ReturnRate > 0 && p.ReturnRate <= p.Rate/salvoThin
	if pipe > salvoPipe || lossy || thin {
		return LayerSalvo
	}
	return LayerQUIC
}

// pipe is how many bytes of bundles may be under way: what is in the link, is
// repaired, and waits for its acknowledgement.
func (p Properties) pipe() int64 {
	if p.layer() != LayerSalvo {
		return 0
	}
	return min(int64(float64(p.Rate)/8*(p.rtt().Seconds()*2+1)), salvoFlows)
}

// offer is what our Hello says of salvo on this link.
func (p Properties) offer() wire.Salvo {
	o := wire.Salvo{Version: wire.SalvoVersion}
	if p.layer() == LayerSalvo {
		o.Rate, o.ReturnRate, o.OWLT = uint64(p.Rate), uint64(p.ReturnRate), p.light()
		o.Loss, o.Burst, o.MTU = p.Loss, p.Burst, uint16(min(p.MTU, math.MaxUint16))
	}
	return o.Rounded()
}

// offerOn is the offer for a session on a connection: salvo shares a socket with
// QUIC, and there is none under TCP.
func offerOn(conn carrier, p Properties) wire.Salvo {
	if _, ok := conn.(tlsCarrier); ok {
		return wire.Salvo{}
	}
	return p.offer()
}

// salvoConfig is what both ends make of an offer.
func salvoConfig(o wire.Salvo, maxBlock int64) salvo.Config {
	return salvo.Config{
		Rate: int64(o.Rate), ReturnRate: int64(o.ReturnRate), OWLT: o.OWLT,
		Loss: o.Loss, Burst: o.Burst, MTU: int(o.MTU), MaxBlock: maxBlock,
	}
}

// validateLayer reports what salvo cannot work with.
func (p Properties) validateLayer() error {
	var errs []error
	switch p.Layer {
	case "", LayerAuto, LayerQUIC:
	case LayerTLS:
		if p.Loss != 0 || p.Burst != 0 || p.MTU != 0 {
			errs = append(errs, errors.New("layer tls runs over TCP: loss, burst and mtu are for salvo, leave them out or take layer auto"))
		}
	case LayerSalvo:
		if p.Rate == 0 {
			errs = append(errs, errors.New("layer salvo needs the rate of the link: it sends as fast as it is told"))
		}
	default:
		errs = append(errs, fmt.Errorf("layer %q: want one of %v", p.Layer, Layers()))
	}
	if p.MTU > maxMTU {
		errs = append(errs, fmt.Errorf("mtu %d: at most %d bytes are read from the socket that salvo shares with QUIC", p.MTU, maxMTU))
	}
	c := salvoConfig(p.offer(), 0)
	if c.Rate == 0 { // not in use, but what is said must still make sense
		c = salvo.Config{Rate: 1, ReturnRate: p.ReturnRate, OWLT: p.OWLT, Loss: p.Loss, Burst: p.Burst, MTU: p.MTU}
	}
	return errors.Join(append(errs, c.Validate())...)
}
