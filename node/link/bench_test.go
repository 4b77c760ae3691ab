package link

import (
	"runtime"
	"testing"

	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/storeforward/bundle"
)

// BenchmarkTransfers moves bundles of 256 bytes over loopback with TLS and
// QUIC, both ends on this machine.
func BenchmarkTransfers(b *testing.B) {
	m := newMesh(b)
	far := m.start("b", nil)
	near := m.start("a", dials(far.addr))
	s := near.next("up").s
	payload := make([]byte, 256)
	b.SetBytes(256)
	b.ReportAllocs()
	xid := uint64(0)
	for b.Loop() {
		xid++
		for xid%1024 == 0 && s.Stats().Queued > 4<<20 {
			runtime.Gosched()
		}
		if !s.Send(wire.Transfer{Class: bundle.Telemetry, XID: xid, Bundle: payload}) {
			b.Fatal("session over")
		}
	}
	until(func() bool { return far.got.Load() == int64(xid) })
}
