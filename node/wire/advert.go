package wire

import (
	"fmt"
	"math"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/cbor"
)

const (
	maxFilter      = 65535 // an MQTT string
	maxServiceName = addr.MaxName
	maxFleetReason = 256
)

// Advert floods what one node tells the mesh about itself, passed on by any
// neighbour.
type Advert struct {
	routing.Advert
}

// Type implements Frame.
func (Advert) Type() Type { return TypeAdvert }

func (f Advert) append(dst []byte) []byte {
	dst = cbor.AppendArray(dst, 10)
	dst = cbor.AppendText(dst, f.Node.String())
	dst = cbor.AppendText(dst, f.Region.String())
	dst = cbor.AppendUint(dst, f.Seq)
	dst = cbor.AppendArray(dst, len(f.Neighbors))
	for _, n := range f.Neighbors {
		items := 3
		if n.Barred != 0 {
			items = 4
		}
		dst = cbor.AppendText(cbor.AppendArray(dst, items), n.Node.String())
		if dst = cbor.AppendBool(cbor.AppendUint(dst, uint64(n.Cost)), n.Up); n.Barred != 0 {
			dst = cbor.AppendUint(dst, uint64(n.Barred))
		}
	}
	dst = cbor.AppendArray(dst, len(f.Interest))
	for _, s := range f.Interest {
		dst = cbor.AppendText(dst, s)
	}
	dst = cbor.AppendArray(dst, len(f.Services))
	for _, s := range f.Services {
		dst = cbor.AppendBool(cbor.AppendText(cbor.AppendArray(dst, 2), s.Name), s.Up)
	}
	dst = cbor.AppendArray(dst, 3)
	dst = cbor.AppendUint(cbor.AppendUint(dst, f.Fleet.Applied), f.Fleet.Refused)
	dst = appendClipped(dst, f.Fleet.Reason, maxFleetReason)
	dst = cbor.AppendArray(dst, len(f.Groups))
	for _, g := range f.Groups {
		dst = cbor.AppendBool(cbor.AppendText(cbor.AppendArray(dst, 2), g.Filter), g.Online)
	}
	return cbor.AppendBool(cbor.AppendBool(dst, f.Keeps), f.Sessions)
}

func parseAdvert(outer *cbor.Reader) (f Advert) {
	// A copy, since what list calls through a func makes its Reader escape,
	// and the other frames need none on the heap.
	inside := *outer
	r := &inside
	more := fields(r, 7)
	f.Node = needNode(r, "advertised")
	f.Region = readRegion(r)
	f.Seq = r.Uint()
	f.Neighbors = list(r, routing.MaxNeighbors, "neighbours", readNeighbor)
	f.Interest = list(r, routing.MaxFilters, "filters", func(r *cbor.Reader) string { return r.TextMax(maxFilter) })
	f.Services = list(r, routing.MaxServices, "services", readService)
	inner := fields(r, 3)
	f.Fleet = routing.FleetState{Applied: r.Uint(), Refused: r.Uint(), Reason: r.TextMax(maxFleetReason)}
	rest(r, inner)
	if more > 0 {
		f.Groups = list(r, routing.MaxGroups, "groups", readGroup)
		more--
	}
	if more > 0 {
		f.Keeps = r.Bool()
		more--
	}
	if more > 0 {
		f.Sessions = r.Bool()
		more--
	}
	rest(r, more)
	*outer = inside
	return f
}

func readNeighbor(r *cbor.Reader) (n routing.Neighbor) {
	more := fields(r, 3)
	n.Node = needNode(r, "neighbour")
	at := r.Offset()
	if n.Cost = uint32(r.UintMax(math.MaxUint32)); n.Cost == 0 {
		r.Fail(at, "a link of cost 0")
	}
	n.Up = r.Bool()
	if more > 0 {
		at = r.Offset()
		if n.Barred = bundle.Classes(r.UintMax(uint64(bundle.AllClasses))); n.Barred.Has(bundle.Control) {
			r.Fail(at, "a link that bars control")
		}
		more--
	}
	rest(r, more)
	return n
}

func readService(r *cbor.Reader) (s routing.ServiceState) {
	more := fields(r, 2)
	s.Name, s.Up = r.TextMax(maxServiceName), r.Bool()
	rest(r, more)
	return s
}

func readGroup(r *cbor.Reader) (g routing.GroupState) {
	more := fields(r, 2)
	g.Filter, g.Online = r.TextMax(maxFilter), r.Bool()
	rest(r, more)
	return g
}

// list reads an array of at most most items, nil when it has none.
func list[T any](r *cbor.Reader, most int, what string, read func(*cbor.Reader) T) []T {
	at := r.Offset()
	n := r.ArrayMin(0)
	if n > most {
		r.Fail(at, fmt.Sprintf("%d %s, more than the limit of %d", n, what, most))
	}
	if n == 0 || r.Err() != nil {
		return nil
	}
	out := make([]T, 0, n) // n is bounded by most and by the bytes left
	for range n {
		v := read(r)
		if r.Err() != nil {
			return nil
		}
		out = append(out, v)
	}
	return out
}
