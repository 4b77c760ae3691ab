package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

var (
	errSelf      = errors.New("this is the node itself")
	errWrongNode = errors.New("wrong node")
	errResolve   = errors.New("resolve the name")
)

// TLS alerts (RFC 8446, section 6) as QUIC crypto errors (RFC 9001, 4.8).
const (
	alertHandshakeFailure = 0x128
	alertBadCertificate   = 0x12a
	alertExpired          = 0x12d
	alertUnknownCA        = 0x130
	alertAccessDenied     = 0x131
	alertCertRequired     = 0x174
	alertNoProtocol       = 0x178
)

const (
	causeCertificate = "certificate"
	causeFailed      = "failed"
)

// explain says in an operator's words why dialling p failed. cause is a
// bounded label: one log line per change of it.
func explain(err error, p Peer, waited time.Duration) (cause, text string) {
	var (
		transport *quic.TransportError
		dns       *net.DNSError
		unknown   x509.UnknownAuthorityError
		from      *sourceError
		d         Down
	)
	if cause, text := explainTCP(err, p, waited); cause != "" {
		return cause, text
	}
	switch {
	case errors.As(err, &from):
		return "from", from.Error()
	case errors.Is(err, errResolve), errors.As(err, &dns):
		return "name", fmt.Sprintf("%v; check the address %s", err, p.Address)
	case errors.Is(err, errSelf):
		return "self", fmt.Sprintf("%s leads to this node itself; remove it from the peers", p.Address)
	case errors.Is(err, errWrongNode):
		return "wrong-node", err.Error() + "; correct the peer's node or its address"
	case errors.As(err, &unknown):
		return "other-authority", fmt.Sprintf("%s has a certificate of another authority: it belongs to another mesh (%v)", p.Address, err)
	case isTimeout(err):
		return "timeout", fmt.Sprintf("no answer from %s/udp within %v: is farhop running there, and may UDP pass?", p.Address, waited)
	case errors.As(err, &d) && d.Remote:
		return "peer-" + string(d.Cause), fmt.Sprintf("%s closed the connection: %v", p.Address, d.Err)
	case errors.As(err, &d):
		return string(d.Cause), err.Error()
	case errors.As(err, &transport):
		return explainTLS(transport, p)
	}
	return causeFailed, fmt.Sprintf("dial %s: %v", p.Address, err)
}

func isTimeout(err error) bool {
	var (
		handshake *quic.HandshakeTimeoutError
		idle      *quic.IdleTimeoutError
	)
	return errors.As(err, &handshake) || errors.As(err, &idle)
}

func explainTLS(e *quic.TransportError, p Peer) (cause, text string) {
	switch {
	case !e.Remote && e.ErrorCode.IsCryptoError():
		return causeCertificate, fmt.Sprintf("the certificate of %s is not acceptable: %v", p.Address, e)
	case e.ErrorCode == alertHandshakeFailure:
		return "key-exchange", fmt.Sprintf("%s does not offer the post-quantum key exchange %v that every link needs (%v)", p.Address, tls.X25519MLKEM768, e)
	case e.ErrorCode == alertUnknownCA:
		return "other-authority", fmt.Sprintf("%s does not know the authority of our certificate: it belongs to another mesh (%v)", p.Address, e)
	case e.ErrorCode == alertBadCertificate, e.ErrorCode == alertExpired, e.ErrorCode == alertAccessDenied, e.ErrorCode == alertCertRequired:
		return "our-certificate", fmt.Sprintf("%s refuses our certificate: expired, revoked, or of another mesh (%v)", p.Address, e)
	case e.ErrorCode == alertNoProtocol:
		return "protocol", fmt.Sprintf("%s does not speak %s; is it a farhop node's mesh port? (%v)", p.Address, ALPN, e)
	}
	if !e.Remote { // nothing was heard from there: no route, no permission
		return causeFailed, fmt.Sprintf("dial %s: %v", p.Address, e)
	}
	return "tls", fmt.Sprintf("dial %s: %v", p.Address, e)
}

// warn logs what strangers can provoke: one line per second at most at Warn,
// the rest at Debug.
func (m *Manager) warn(msg string, args ...any) {
	level, now, last := slog.LevelWarn, time.Now().UnixNano(), m.lastWarn.Load()
	if now-last < int64(time.Second) || !m.lastWarn.CompareAndSwap(last, now) {
		level = slog.LevelDebug
	}
	m.cfg.Log.Log(context.Background(), level, msg, args...)
}
