package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/farhop/farhop/routing/addr"
)

// Tickets keeps what a node needs to come back to a peer with its first
// flight: one secret for each address, over restarts.
type Tickets interface {
	// Ticket returns what is kept for an address, nil when there is nothing.
	Ticket(address string) ([]byte, error)
	// Keep puts a ticket in the place of what was kept; nil forgets it.
	Keep(address string, ticket []byte) error
}

// maxTicket bounds a ticket that is kept, in bytes: two certificate chains and
// what TLS and QUIC add.
const maxTicket = 32 << 10

// pass is the ticket of one attempt to dial. crypto/tls asks it for a session,
// and gives it the next one.
type pass struct {
	keep func([]byte)
	log  *slog.Logger

	mu    sync.Mutex
	state *tls.ClientSessionState // of an earlier session; nil: none
	peer  tls.ConnectionState     // who that session was with
	named uint64                  // what the listener calls the session of this attempt
	epoch uint64                  // that the listener called that session
	fresh [][]byte                // ticket and state that came before it was known who from
}

// newPass reads a ticket; what cannot be read is as good as none.
func newPass(ticket []byte, keep func([]byte), log *slog.Logger) *pass {
	p := &pass{keep: keep, log: log}
	if len(ticket) == 0 {
		return p
	}
	if err := p.parse(ticket); err != nil {
		log.Debug("a ticket is of no use", "error", err)
		p.state = nil
	}
	return p
}

var errTicket = errors.New("ticket is malformed")

// parse reads ticket, state, certificates and epoch, each after its length.
func (p *pass) parse(b []byte) error {
	var fields [4][]byte
	for i := range fields {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return errTicket
		}
		fields[i], b = b[w:w+int(n)], b[w+int(n):]
	}
	if len(fields[3]) != 8 {
		return errTicket
	}
	p.epoch = binary.BigEndian.Uint64(fields[3])
	state, err := tls.ParseSessionState(fields[1])
	if err != nil {
		return err
	}
	if p.state, err = tls.NewResumptionState(fields[0], state); err != nil {
		return err
	}
	// As it was when the ticket was given, see the configurations of crypto/pki.
	p.peer = tls.ConnectionState{Version: tls.VersionTLS13, CurveID: tls.X25519MLKEM768, NegotiatedProtocol: ALPN}
	p.peer.PeerCertificates, err = x509.ParseCertificates(fields[2])
	if err == nil && len(p.peer.PeerCertificates) == 0 {
		err = errTicket
	}
	return err
}

// Get implements tls.ClientSessionCache.
func (p *pass) Get(string) (*tls.ClientSessionState, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.state != nil
}

// Put implements tls.ClientSessionCache. crypto/tls takes a ticket back whenever
// a handshake fails, also one that nobody answered: failed decides about that.
func (p *pass) Put(_ string, cs *tls.ClientSessionState) {
	if cs == nil {
		return
	}
	ticket, state, err := cs.ResumptionState()
	if err != nil || state == nil {
		return
	}
	text, err := state.Bytes()
	if err != nil {
		p.log.Debug("a ticket cannot be kept", "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh = [][]byte{ticket, text}
	p.store()
}

// store keeps the ticket that came, once it is known who from; mu is held.
func (p *pass) store() {
	if p.fresh == nil || p.named == 0 || len(p.peer.PeerCertificates) == 0 {
		return
	}
	var certs, out []byte
	for _, c := range p.peer.PeerCertificates {
		certs = append(certs, c.Raw...)
	}
	for _, f := range [][]byte{p.fresh[0], p.fresh[1], certs, binary.BigEndian.AppendUint64(nil, p.named)} {
		out = append(binary.AppendUvarint(out, uint64(len(f))), f...)
	}
	if p.fresh = nil; len(out) <= maxTicket {
		p.keep(out)
	}
}

// met notes who the session is with, and what the listener calls it, for the
// ticket that it brings.
func (p *pass) met(state tls.ConnectionState, epoch uint64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peer, p.named = state, epoch
	p.store()
}

func (p *pass) forget() {
	p.mu.Lock()
	p.state = nil
	p.mu.Unlock()
	p.keep(nil)
}

// known says who the ticket is from, zero if the mesh takes it for no node.
func (p *pass) known(verify func(tls.ConnectionState) error, identify func(tls.ConnectionState) (Identity, error)) addr.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil {
		return addr.Node{}
	}
	if verify != nil && verify(p.peer) != nil {
		return addr.Node{}
	}
	id, err := identify(p.peer)
	if err != nil {
		return addr.Node{}
	}
	return id.Node
}

// failed forgets a ticket that an attempt failed with, but for an attempt
// without an answer. What a peer refuses may be what the ticket says of us.
func (p *pass) failed(err error) {
	var idle *quic.IdleTimeoutError
	var handshake *quic.HandshakeTimeoutError
	var from *sourceError
	if p == nil || errors.As(err, &from) || errors.As(err, &idle) || errors.As(err, &handshake) || errors.Is(err, context.Canceled) {
		return
	}
	p.mu.Lock()
	used := p.state != nil
	p.mu.Unlock()
	if used && downOf(err).Cause != Redundant {
		p.forget()
	}
}
