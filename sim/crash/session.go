package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// Patience of the clients.
const (
	redial     = 40 * time.Millisecond // after a connection ended
	dialWait   = 5 * time.Second
	neverEnds  = 0xFFFFFFFF // session expiry (MQTT 5, 3.1.2.11.2)
	readBuffer = 64 << 10
)

// session is a client whose MQTT session outlives its connections.
type session struct {
	id, addr string // client id; HOST:PORT of its node
	ledger   *ledger
	known    bool        // a session was made: the node has to know it from now on
	away     atomic.Bool // do not connect
	conn     atomic.Pointer[net.Conn]
}

// behaviour is what a client does with its connections.
type behaviour interface {
	// connected is called first on each connection. fresh: the session is new.
	connected(w io.Writer, fresh bool) error
	// handle takes in one packet.
	handle(w io.Writer, p *packets.ControlPacket) error
}

// run keeps the client connected until ctx ends.
func (s *session) run(ctx context.Context, b behaviour) {
	for ctx.Err() == nil {
		if !s.away.Load() {
			_ = s.once(ctx, b) // a node that dies is what this is about
		}
		select {
		case <-ctx.Done():
		case <-time.After(redial):
		}
	}
}

// leave ends the connection and stays away until stay is false.
func (s *session) leave(stay bool) {
	s.away.Store(stay)
	if c := s.conn.Load(); stay && c != nil {
		_ = (*c).Close()
	}
}

// once serves one connection to its end.
func (s *session) once(ctx context.Context, b behaviour) error {
	d := net.Dialer{Timeout: dialWait}
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s.conn.Store(&conn)
	r := bufio.NewReaderSize(conn, readBuffer)
	w := packets.NewThreadSafeConn(conn)
	fresh, err := s.connect(w, r)
	if err != nil {
		return err
	}
	if err := b.connected(w, fresh); err != nil {
		return err
	}
	for {
		p, err := packets.ReadPacket(r)
		if err != nil {
			return err
		}
		if p.Type == packets.DISCONNECT {
			return io.EOF
		}
		if err := b.handle(w, p); err != nil {
			return err
		}
	}
}

// connect opens the session. It is a fault when the node has forgotten it.
func (s *session) connect(w io.Writer, r io.Reader) (fresh bool, err error) {
	p := packets.NewControlPacket(packets.CONNECT)
	c := p.Content.(*packets.Connect)
	expiry := uint32(neverEnds)
	c.ClientID, c.Properties.SessionExpiryInterval = s.id, &expiry
	if _, err := p.WriteTo(w); err != nil {
		return false, err
	}
	answer, err := packets.ReadPacket(r)
	if err != nil {
		return false, err
	}
	ack, ok := answer.Content.(*packets.Connack)
	if !ok || ack.ReasonCode != 0 {
		return false, fmt.Errorf("connect %s: %s", s.id, answer)
	}
	if s.known && !ack.SessionPresent {
		s.ledger.fault("lost: the session of %s is not known any more", s.id)
	}
	s.known = true
	return !ack.SessionPresent, nil
}
