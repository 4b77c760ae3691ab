package emulator

import (
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// socket is a UDP socket that reads and writes many datagrams with one system
// call: recvmmsg(2) and sendmmsg(2).
type socket struct {
	*net.UDPConn
	pc *ipv4.PacketConn // its batches do not depend on the version of IP
}

func newSocket(c *net.UDPConn) *socket {
	growBuffers(c)
	return &socket{UDPConn: c, pc: ipv4.NewPacketConn(c)}
}

// growBuffers asks for large kernel buffers, beyond what net.core.rmem_max
// grants if the process may, for a count of what they could not hold, and for
// the time at which each datagram came. What the kernel gives is good enough, so
// its refusal is no error.
func growBuffers(c *net.UDPConn) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, opt := range []struct{ name, value int }{
			{unix.SO_RCVBUFFORCE, socketBuffer},
			{unix.SO_SNDBUFFORCE, socketBuffer},
			{unix.SO_RXQ_OVFL, 1},
			{unix.SO_TIMESTAMPNS, 1},
		} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt.name, opt.value)
		}
	})
}

// inbox reads a socket. Only one goroutine uses it.
type inbox struct {
	sock  *socket
	msgs  []ipv4.Message
	spill [][]byte // by message: what a packet's own buffer does not hold
	drops uint32   // of the kernel, so far
}

func newInbox(s *socket) *inbox { return &inbox{sock: s} }

// maxAge is the longest time that a datagram is believed to have waited in the
// kernel: a busy machine reads late, which must not make the link longer. More
// than this is the system clock being set.
const maxAge = 250 * time.Millisecond

// timespec is the size of a time in a control message on 64-bit systems; on
// others the time of reading has to do.
const timespec = 16

// control has room for a timestamp and a count.
func control() []byte {
	return make([]byte, unix.CmsgSpace(timespec)+unix.CmsgSpace(4))
}

// read waits for datagrams and fills in data, from and came of as many packets
// as there are, at most len(ps). missed is how many the kernel has dropped since
// the last read, as far as it tells.
func (in *inbox) read(ps []*packet) (n int, missed uint32, err error) {
	for len(in.msgs) < len(ps) {
		spill := make([]byte, maxDatagram-bufferSize)
		in.spill = append(in.spill, spill)
		in.msgs = append(in.msgs, ipv4.Message{Buffers: [][]byte{nil, spill}, OOB: control()})
	}
	for i, p := range ps {
		in.msgs[i].Buffers[0] = p.small[:]
	}
	n, err = in.sock.pc.ReadBatch(in.msgs[:len(ps)], 0)
	if err != nil || n <= 0 {
		return 0, 0, err
	}
	now := time.Now()
	drops := in.drops
	for i, p := range ps[:n] {
		m := &in.msgs[i]
		p.data = p.small[:min(m.N, bufferSize)]
		if m.N > bufferSize { // grows away from small
			p.data = append(p.data, in.spill[i][:m.N-bufferSize]...)
		}
		if a, ok := m.Addr.(*net.UDPAddr); ok {
			p.from = a.AddrPort()
		}
		p.came = now
		in.learn(m.OOB[:m.NN], now, p)
	}
	return n, in.drops - drops, nil
}

// learn reads what the kernel says of a datagram (socket(7)).
func (in *inbox) learn(oob []byte, now time.Time, p *packet) {
	for len(oob) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		switch {
		case h.Level != unix.SOL_SOCKET:
		case h.Type == unix.SO_RXQ_OVFL && len(data) >= 4: // a count since the socket was opened
			in.drops = binary.NativeEndian.Uint32(data)
		case h.Type == unix.SO_TIMESTAMPNS && len(data) >= timespec:
			sec, nsec := binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint64(data[8:])
			age := now.Sub(time.Unix(int64(sec), int64(nsec)))
			p.came = now.Add(-min(max(age, 0), maxAge))
		}
	}
}

// outbox writes to sockets. Only one goroutine uses it.
type outbox struct {
	msgs  []ipv4.Message
	owner []int // by message: index of its packet
}

func newOutbox() *outbox { return &outbox{} }

// send writes packets, those that are duplicated twice, to the addresses that
// to gives, nil for a connected socket, and marks those that were refused.
func (o *outbox) send(s *socket, ps []*packet, to func(*packet) *net.UDPAddr, failed []bool) {
	o.msgs, o.owner = o.msgs[:0], o.owner[:0]
	for i, p := range ps {
		o.add(i, p.data, to(p))
		if p.fate.twice {
			o.add(i, p.data, to(p))
		}
	}
	for at, again := 0, false; at < len(o.msgs); {
		n, err := s.pc.WriteBatch(o.msgs[at:], 0)
		at += max(n, 0)
		switch {
		case err == nil && n > 0:
			again = false
		case err != nil && passing(err) && !again:
			// The kernel reports what an earlier datagram met instead of sending
			// this one; a receiver that has come back must not miss it.
			again = true
		default:
			failed[o.owner[at]] = true
			at, again = at+1, false
		}
	}
}

func (o *outbox) add(owner int, data []byte, to *net.UDPAddr) {
	n := len(o.msgs)
	if n == cap(o.msgs) {
		o.msgs = append(o.msgs, ipv4.Message{})
	}
	o.msgs = o.msgs[:n+1]
	m := &o.msgs[n]
	if m.Buffers == nil {
		m.Buffers = make([][]byte, 1)
	}
	m.Buffers[0], m.Addr = data, nil
	if to != nil {
		m.Addr = to
	}
	o.owner = append(o.owner, owner)
}
