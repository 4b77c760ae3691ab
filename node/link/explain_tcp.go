package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// The operations of errors that are alerts, of the far end's TLS and of ours.
const (
	remoteError = "remote error"
	localError  = "local error"
)

// explainTCP says why dialling over TCP failed; cause is "" when it is for
// others to say.
func explainTCP(err error, p Peer, waited time.Duration) (cause, text string) {
	var op *net.OpError
	switch {
	case errors.Is(err, errNoAnswer), errors.Is(err, syscall.ETIMEDOUT):
		return "timeout", fmt.Sprintf("no answer from %s/tcp within %v: is farhop running there, and may TCP pass?", p.Address, 2*waited)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused-port", fmt.Sprintf("nobody listens at %s/tcp: is farhop running there, of a version that has layer tls?", p.Address)
	case errors.As(err, &op) && op.Op == remoteError:
		for _, a := range []struct {
			alerts []uint8
			cause  string
			text   string
		}{
			{[]uint8{alertHandshakeFailure & 0xff}, "key-exchange", "%s does not offer the post-quantum key exchange X25519MLKEM768 that every link needs (%v)"},
			{[]uint8{alertUnknownCA & 0xff}, "other-authority", "%s does not know the authority of our certificate: it belongs to another mesh (%v)"},
			{[]uint8{alertBadCertificate & 0xff, alertExpired & 0xff, alertAccessDenied & 0xff, alertCertRequired & 0xff}, "our-certificate", "%s refuses our certificate: expired, revoked, or of another mesh (%v)"},
			{[]uint8{alertNoProtocol & 0xff}, "protocol", "%s does not speak " + ALPN + "; is it a farhop node's mesh port? (%v)"},
		} {
			for _, n := range a.alerts {
				if strings.HasSuffix(op.Err.Error(), tls.AlertError(n).Error()) {
					return a.cause, fmt.Sprintf(a.text, p.Address, err)
				}
			}
		}
		return "tls", fmt.Sprintf("dial %s/tcp: %v", p.Address, err)
	}
	return "", ""
}
