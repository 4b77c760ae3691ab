//go:build !linux

package emulator

import (
	"net"
	"time"
)

// socket is a UDP socket that reads and writes one datagram at a time.
type socket struct{ *net.UDPConn }

func newSocket(c *net.UDPConn) *socket {
	growBuffers(c)
	return &socket{c}
}

// growBuffers asks for large kernel buffers; what the kernel grants is good
// enough, so its refusal is no error.
func growBuffers(c *net.UDPConn) {
	_ = c.SetReadBuffer(socketBuffer)
	_ = c.SetWriteBuffer(socketBuffer)
}

// inbox reads a socket. Only one goroutine uses it.
type inbox struct {
	sock *socket
	buf  []byte
}

func newInbox(s *socket) *inbox { return &inbox{sock: s, buf: make([]byte, maxDatagram)} }

// read waits for a datagram and fills in data, from and came of the first packet.
// What the kernel has dropped is not known.
func (in *inbox) read(ps []*packet) (n int, missed uint32, err error) {
	size, from, err := in.sock.ReadFromUDPAddrPort(in.buf)
	if err != nil {
		return 0, 0, err
	}
	ps[0].data = append(ps[0].small[:0], in.buf[:size]...) // grows away from small if it must
	ps[0].from, ps[0].came = from, time.Now()
	return 1, 0, nil
}

// outbox writes to sockets. Only one goroutine uses it.
type outbox struct{}

func newOutbox() *outbox { return &outbox{} }

// send writes packets, those that are duplicated twice, to the addresses that
// to gives, nil for a connected socket, and marks those that were refused.
func (o *outbox) send(s *socket, ps []*packet, to func(*packet) *net.UDPAddr, failed []bool) {
	write := func(p *packet) error {
		if addr := to(p); addr != nil {
			_, err := s.WriteToUDP(p.data, addr)
			return err
		}
		_, err := s.Write(p.data)
		return err
	}
	for i, p := range ps {
		err := write(p)
		if err != nil && passing(err) {
			// The kernel reports what an earlier datagram met instead of sending
			// this one; a receiver that has come back must not miss it.
			err = write(p)
		}
		if err == nil && p.fate.twice {
			err = write(p)
		}
		failed[i] = err != nil
	}
}
