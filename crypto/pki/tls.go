package pki

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// Application protocols (RFC 7301).
const (
	ALPN     = "farhop/1"      // links between nodes
	JoinALPN = "farhop-join/1" // a new node and its issuer

	// CheckALPN is for farhop netcheck: between enrolled nodes as a link is, with
	// no effect on the link that stands.
	CheckALPN = "farhop-check/1"
)

// ErrKeyExchange is returned for a connection that is not post-quantum.
var ErrKeyExchange = errors.New("key exchange is not post-quantum")

// errALPN: over TCP a peer that offers no protocol at all gets this far.
var errALPN = errors.New("peer speaks another protocol")

// group is the one key exchange of the mesh. One, because a peer that guesses
// another costs a round trip more, and any second one can be downgraded to.
const group = tls.X25519MLKEM768

// KexName names the key exchange that a connection really used, such as
// "X25519MLKEM768"; "none" before it is done.
func KexName(state tls.ConnectionState) string {
	if state.CurveID == 0 {
		return "none"
	}
	return state.CurveID.String()
}

// ServerConfig is for the accepting end of a link between nodes. now is the
// node's clock (see FloorClock). It logs peers that cannot do X25519MLKEM768.
func ServerConfig(m *Material, now func() time.Time, log *slog.Logger) *tls.Config {
	c, quiet := m.serverConfig(ALPN, now), &seldom{log: log, now: now}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		quiet.downgrade(hello)
		return nil, nil // stay with c, which refuses it
	}
	return c
}

func (m *Material) serverConfig(alpn string, now func() time.Time) *tls.Config {
	c := baseConfig(alpn, now)
	c.Certificates = []tls.Certificate{m.certificate(false)}
	// Any certificate as far as crypto/tls goes; VerifyConnection judges it.
	// RequireAndVerify would judge NotBefore by a clock that may be slow.
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := m.verify(state, alpn, x509.ExtKeyUsageClientAuth, now())
		return err
	}
	return c
}

// ClientConfig is for the dialling end of a link between nodes. want is the
// node that must answer; zero accepts any node of the mesh. Sessions are not
// resumed unless the caller sets a ClientSessionCache.
func ClientConfig(m *Material, now func() time.Time, want addr.Node) *tls.Config {
	return m.clientConfig(ALPN, now, want)
}

// CheckConfig is ClientConfig for farhop netcheck. A node that is older than
// that refuses the protocol.
func CheckConfig(m *Material, now func() time.Time, want addr.Node) *tls.Config {
	return m.clientConfig(CheckALPN, now, want)
}

func (m *Material) clientConfig(alpn string, now func() time.Time, want addr.Node) *tls.Config {
	c := baseConfig(alpn, now)
	c.Certificates = []tls.Certificate{m.certificate(false)}
	// No host names in a mesh: VerifyConnection checks chain and SPIFFE id.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		p, err := m.verify(state, alpn, x509.ExtKeyUsageServerAuth, now())
		if err != nil {
			return err
		}
		if !want.IsZero() && p.Node != want {
			return fmt.Errorf("%w: %s answers, not %s; check the address", ErrWrongNode, p.Node, want)
		}
		return nil
	}
	return c
}

func baseConfig(alpn string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{group},
		NextProtos:       []string{alpn},
		Time:             now,
	}
}

// verify is VerifyConnection of both ends of a link, on full and on resumed
// handshakes.
func (m *Material) verify(state tls.ConnectionState, alpn string, use x509.ExtKeyUsage, now time.Time) (Peer, error) {
	if err := checkSession(state, alpn); err != nil {
		return Peer{}, err
	}
	return m.Trust.verifyPeer(state.PeerCertificates, use, now)
}

// checkSession holds even if somebody edits CurvePreferences or MinVersion.
func checkSession(state tls.ConnectionState, alpn string) error {
	if state.Version != tls.VersionTLS13 {
		return fmt.Errorf("%w: %s", ErrKeyExchange, tls.VersionName(state.Version))
	}
	if state.CurveID != group {
		return fmt.Errorf("%w: %s, want %s; update the peer", ErrKeyExchange, KexName(state), group)
	}
	if state.NegotiatedProtocol != alpn {
		return fmt.Errorf("%w: %s, want %q", errALPN, clip(state.NegotiatedProtocol), alpn)
	}
	return nil
}

// Serving is what a listener needs to accept links and joins on one socket.
type Serving struct {
	// Material is asked at every handshake, so that a renewed certificate
	// serves at once and without binding again. It never returns nil.
	Material func() *Material
	// Joins accepts farhop-join/1 too: on nodes that can redeem tickets.
	Joins bool
	// Resume is the secret of the tickets by which known peers come back
	// without certificates and with data in their first flight. It is kept over
	// restarts; with zero, tickets are good until this configuration is gone.
	Resume [32]byte
	Now    func() time.Time // the node's clock, see FloorClock
	Log    *slog.Logger
}

// ticketDays is how long a ticket is taken, in days, as crypto/tls has it.
const ticketDays = 7

// ticketKeys makes the keys of tickets, one for each day: the first is of
// today. A clock that was a day ahead does not cost the tickets of then.
func ticketKeys(secret [32]byte, now time.Time) [][32]byte {
	today := now.Unix() / int64((24 * time.Hour).Seconds())
	var keys [][32]byte
	for _, back := range [...]int64{0, -1, 1, 2, 3, 4, 5, 6, ticketDays} {
		h := hmac.New(sha256.New, secret[:])
		h.Write(binary.BigEndian.AppendUint64([]byte("farhop session ticket"), uint64(today-back)))
		keys = append(keys, [32]byte(h.Sum(nil)))
	}
	return keys
}

// ListenerConfig serves links, checks and joins by what the client asks for.
func ListenerConfig(s Serving) *tls.Config {
	base := baseConfig(ALPN, s.Now)
	base.NextProtos = append(base.NextProtos, CheckALPN)
	if s.Joins {
		base.NextProtos = append(base.NextProtos, JoinALPN)
	}
	quiet := &seldom{log: s.Log, now: s.Now}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		quiet.downgrade(hello)
		m := s.Material()
		asks := func(alpn string) bool {
			return slices.Contains(hello.SupportedProtos, alpn) && !slices.Contains(hello.SupportedProtos, ALPN)
		}
		switch {
		case s.Joins && asks(JoinALPN):
			return JoinServerConfig(m, s.Now), nil
		case asks(CheckALPN):
			return m.serverConfig(CheckALPN, s.Now), nil
		}
		c := m.serverConfig(ALPN, s.Now)
		if s.Resume != [32]byte{} {
			c.SetSessionTicketKeys(ticketKeys(s.Resume, s.Now()))
		}
		return c, nil
	}
	return base
}

// seldom logs what strangers can provoke: a line a second at most at Warn, the
// rest at Debug.
type seldom struct {
	log  *slog.Logger
	now  func() time.Time
	last atomic.Int64 // Unix nanoseconds of the last line at Warn
}

func (s *seldom) level() slog.Level {
	now, last := s.now().UnixNano(), s.last.Load()
	if now-last < int64(time.Second) || !s.last.CompareAndSwap(last, now) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// downgrade says why the handshake is about to fail, because the alert that
// the peer gets (handshake_failure) does not.
func (s *seldom) downgrade(hello *tls.ClientHelloInfo) {
	if slices.Contains(hello.SupportedCurves, group) {
		return
	}
	peer := "unknown"
	if hello.Conn != nil {
		peer = hello.Conn.RemoteAddr().String()
	}
	const most = 8 // names of a hostile list
	offers := make([]string, 0, most)
	for _, c := range hello.SupportedCurves[:min(most, len(hello.SupportedCurves))] {
		offers = append(offers, c.String())
	}
	s.log.Log(context.Background(), s.level(), "refused: peer "+peer+" offers only "+strings.Join(offers, ",")+"; update it",
		"peer", peer, "offers", strings.Join(offers, ","), "want", group.String())
}
