package link

import (
	"encoding/binary"
	"net"
	"slices"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
	"golang.org/x/net/ipv4"
)

// sharedConn is the UDP socket of QUIC and salvo. It looks like a socket to
// quic-go, which keeps its segmentation offload, ECN and path MTU discovery;
// packets that are not QUIC's leave it on the way (RFC 9443 has the first bits
// of what may share a port). quic-go would queue 32 of them.
type sharedConn struct {
	*net.UDPConn
	batch *ipv4.PacketConn // reads IPv6 as well: only the call of the system is used
	stray func(b []byte)
	// wrong is told of packets of versions of QUIC that nobody here speaks.
	wrong func(from net.Addr, v quic.Version)
}

func newSharedConn(c *net.UDPConn, stray func(b []byte), wrong func(net.Addr, quic.Version)) *sharedConn {
	return &sharedConn{UDPConn: c, batch: ipv4.NewPacketConn(c), stray: stray, wrong: wrong}
}

// idLength is that of the connection IDs that peers write in their packets, bytes.
const idLength = 8

// minInitial is the least of a first packet, in bytes (RFC 9000, section 14.1):
// to smaller ones of a version that is not known nobody answers.
const minInitial = 1200

// unknownVersion returns the version of a first packet that says one which
// quic-go does not speak.
func unknownVersion(b []byte) (v quic.Version, ok bool) {
	if len(b) < minInitial || b[0]&0x80 == 0 {
		return 0, false
	}
	v = quic.Version(binary.BigEndian.Uint32(b[1:]))
	return v, v != 0 && !slices.Contains(quicVersions[:], v)
}

// isQUIC reports whether a packet has one of QUIC's header forms (RFC 9000,
// section 17): the fixed bit, or the long header of a version that greases it.
func isQUIC(b []byte) bool { return len(b) > 0 && b[0]&0xC0 != 0 }

// ReadBatch is what quic-go reads with. It returns once a packet of QUIC is
// there.
func (c *sharedConn) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := c.batch.ReadBatch(ms, flags)
		if err != nil {
			return n, err
		}
		if n = c.sort(ms[:n]); n > 0 {
			return n, nil
		}
	}
}

// sort gives away what is not QUIC's and moves the rest to the front. Messages
// stay where they are, since quic-go knows their buffers by their places.
func (c *sharedConn) sort(ms []ipv4.Message) (kept int) {
	for i := range ms {
		b := ms[i].Buffers[0][:ms[i].N]
		if !isQUIC(b) {
			c.stray(b)
			continue
		}
		if v, ok := unknownVersion(b); ok {
			c.wrong(ms[i].Addr, v)
		}
		if to := &ms[kept]; kept < i {
			from := &ms[i]
			to.N = copy(to.Buffers[0], b)
			to.NN = copy(to.OOB, from.OOB[:from.NN])
			to.Addr, to.Flags = from.Addr, from.Flags
		}
		kept++
	}
	return kept
}

// strayQUIC counts packets of QUIC that belong to no connection, as the
// transport tells of them: it says nothing else that is not of a connection.
// Packets that a connection drops are told of by the trace of that connection
// alone, which is told of every packet: that costs a sixth more processor time a
// byte, and is not worth it.
type strayQUIC struct{ m *Manager }

// RecordEvent implements qlogwriter.Recorder.
func (s strayQUIC) RecordEvent(e qlogwriter.Event) {
	if _, ok := e.(qlog.PacketDropped); ok {
		s.m.met.strays.WithLabelValues("quic").Inc()
	}
}

// Close implements qlogwriter.Recorder.
func (strayQUIC) Close() error { return nil }
