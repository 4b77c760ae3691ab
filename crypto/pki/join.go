package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// ErrAuthority is returned when a server belongs to another authority than the
// ticket: a wrong address, or somebody in between.
var ErrAuthority = errors.New("the server belongs to another authority than the ticket")

// JoinServerConfig is for the issuer's end of a join: no client certificate,
// and the root is sent along because the new node does not have it yet. The
// server then sends Trust.Encode as its first message.
func JoinServerConfig(m *Material, now func() time.Time) *tls.Config {
	c := baseConfig(JoinALPN, now)
	c.Certificates = []tls.Certificate{m.certificate(true)}
	c.ClientAuth = tls.NoClientCert
	c.SessionTicketsDisabled = true // a node joins once
	c.VerifyConnection = func(state tls.ConnectionState) error { return checkSession(state, JoinALPN) }
	return c
}

// JoinClientConfig is for the new node's end. It cannot know the server yet:
// the handshake only records what it showed, and proves that it holds that
// key. Call VerifyJoin before sending anything secret.
func JoinClientConfig(now func() time.Time) *tls.Config {
	c := baseConfig(JoinALPN, now)
	c.InsecureSkipVerify = true // VerifyJoin does it
	c.SessionTicketsDisabled = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if err := checkSession(state, JoinALPN); err != nil {
			return err
		}
		if n := len(state.PeerCertificates); n < 2 || n > maxChain {
			return fmt.Errorf("%w: the join server sent %d certificates, want its own and the root's", ErrCertificate, n)
		}
		return nil
	}
	return c
}

// VerifyJoin decides whether the server of a join connection is the one the
// ticket means. trust is what the server sent, authority and issuer are the
// ticket's (a zero issuer accepts any node of the mesh), now is the later of
// the clock and the ticket's IssuedAt. The bundle must have the ticket's hash
// and the certificates of this very connection must come from its root. Any
// node of the mesh may answer and carry the request to the issuer: it sees a
// Proof, never the secret.
func VerifyJoin(trust *Trust, authority Hash, issuer addr.Node, state tls.ConnectionState, now time.Time) (Peer, error) {
	if trust == nil || trust.root == nil {
		return Peer{}, fmt.Errorf("verify join: %w: none received", ErrTrust)
	}
	if got := trust.Hash(); got != authority {
		return Peer{}, fmt.Errorf("verify join: %w: it is %s, the ticket says %s; check the address", ErrAuthority, got, authority)
	}
	if err := checkSession(state, JoinALPN); err != nil {
		return Peer{}, fmt.Errorf("verify join: %w", err)
	}
	p, err := trust.verifyPeer(state.PeerCertificates, x509.ExtKeyUsageServerAuth, now)
	switch {
	case errors.Is(err, ErrChain):
		// The bundle is genuine but anyone may hold a copy of it.
		return Peer{}, fmt.Errorf("verify join: %w: it sent the right trust bundle, but: %w", ErrAuthority, err)
	case err != nil:
		return Peer{}, fmt.Errorf("verify join: %w", err)
	case !issuer.IsZero() && p.Node != issuer:
		return Peer{}, fmt.Errorf("verify join: %w: %s answers, the ticket is from %s; check the address", ErrWrongNode, p.Node, issuer)
	}
	return p, nil
}
