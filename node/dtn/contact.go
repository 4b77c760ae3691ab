package dtn

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

// acceptPatience is how long a node that connects may take for its contact,
// TLS and SESS_INIT. Its distance is unknown; TCP itself would not carry over
// one at which six round trips take longer.
const acceptPatience = time.Minute

// readBuffer holds every extension item, and many small messages.
const readBuffer = 64 << 10

// contact is one end's part in the beginning of a TCPCLv4 session.
type contact struct {
	cfg    *Config
	active bool
	policy Policy
	auth   Auth   // while the peer is not known
	name   string // the DNS name dialled
	// lookup finds the peer that announced a node id, and what it has to
	// prove. An error refuses the session.
	lookup func(node addr.EID) (*peer, Auth, error)
}

// established is what the beginning leaves behind.
type established struct {
	conn          net.Conn // TCP or TLS
	br            *bufio.Reader
	peer          *peer // nil: a stranger
	node          addr.EID
	authenticated bool
	kex           string // TLS key exchange, "" without TLS
	init          sessInit
	rtt           time.Duration
}

// errVersion, errPolicy are ends of a contact that has no session yet.
var (
	errVersion = errors.New("the peer speaks another version of TCPCL than 4")
	errPolicy  = errors.New("TLS is required here and the peer offers none")
)

// begin does contact headers, TLS and SESS_INIT on tcp (RFC 9174, section 4),
// whose deadline the caller has set. rtt is the round trip known so far.
func (c *contact) begin(tcp net.Conn, rtt time.Duration) (*established, error) {
	theirs, sent, err := c.headers(tcp)
	if err != nil {
		return nil, err
	}
	e := &established{conn: tcp, rtt: rtt}
	useTLS := theirs.canTLS && c.policy != TLSNone
	if !useTLS && (c.policy == "" || c.policy == TLSRequired) {
		_, _ = tcp.Write(appendTerm(nil, 0, termContact))
		return nil, errPolicy
	}
	var state *tls.ConnectionState
	if useTLS {
		if state, err = c.secure(e); err != nil {
			return nil, err
		}
		e.kex = state.CurveID.String()
	}
	e.br = bufio.NewReaderSize(e.conn, readBuffer)
	if e.rtt == 0 { // one round trip lies between our header and what follows it
		if _, err := e.br.Peek(1); err != nil {
			return nil, fmt.Errorf("wait for SESS_INIT: %w", err)
		}
		e.rtt = time.Since(sent)
	}
	if err := c.sessInit(e, state); err != nil {
		if pe, ok := errors.AsType[*protocolError](err); ok {
			_, _ = e.conn.Write(pe.answer(nil))
		}
		return nil, err
	}
	return e, nil
}

// answer appends what is sent to a peer that broke the protocol.
func (e *protocolError) answer(dst []byte) []byte {
	if e.reject != 0 {
		dst = appendReject(dst, e.reject, e.kind)
	}
	return appendTerm(dst, 0, e.term)
}

// headers exchanges contact headers; the active end goes first.
func (c *contact) headers(tcp net.Conn) (theirs contactHeader, sent time.Time, err error) {
	ours := encodeContact(c.policy != TLSNone)
	if c.active {
		if _, err := tcp.Write(ours); err != nil {
			return theirs, sent, fmt.Errorf("send contact header: %w", err)
		}
	}
	// Not a byte more than the header may be read: TLS may follow.
	var b [contactLen]byte
	if _, err := io.ReadFull(tcp, b[:]); err != nil {
		return theirs, sent, fmt.Errorf("read contact header: %w", err)
	}
	if theirs, err = parseContact(b[:]); err != nil {
		return theirs, sent, err
	}
	if !c.active {
		if _, err := tcp.Write(ours); err != nil {
			return theirs, sent, fmt.Errorf("send contact header: %w", err)
		}
	}
	if theirs.version != version {
		_, _ = tcp.Write(appendTerm(nil, 0, termVersion)) // section 4.3
		return theirs, sent, fmt.Errorf("%w: %d", errVersion, theirs.version)
	}
	return theirs, time.Now(), nil
}

func (c *contact) secure(e *established) (*tls.ConnectionState, error) {
	cfg := tlsConfig(c.cfg.TLS, c.active, c.name, c.auth)
	t := tls.Server(e.conn, cfg)
	if c.active {
		t = tls.Client(e.conn, cfg)
	}
	start := time.Now()
	if err := t.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if e.rtt == 0 { // a passive end waits once: from ServerHello to Finished
		e.rtt = time.Since(start) / 2
	}
	e.conn = t
	state := t.ConnectionState()
	return &state, nil
}

// sessInit exchanges SESS_INIT, the active end first, and judges who answers.
func (c *contact) sessInit(e *established, state *tls.ConnectionState) error {
	own := encodeInit(sessInit{
		keepalive:  uint16(c.cfg.Keepalive / time.Second),
		segmentMRU: c.cfg.Limits.SegmentMRU, transferMRU: c.cfg.Limits.TransferMRU, nodeID: c.cfg.Node.String(),
	})
	if c.active {
		if _, err := e.conn.Write(own); err != nil {
			return fmt.Errorf("send SESS_INIT: %w", err)
		}
	}
	m, err := readMessage(e.br)
	switch {
	case err != nil:
		return fmt.Errorf("read SESS_INIT: %w", err)
	case m.kind == msgTerm:
		return fmt.Errorf("the peer ends the session: %s", termText(m.reason))
	case m.kind != msgInit:
		return &protocolError{reject: rejectUnexpected, kind: m.kind, msg: fmt.Sprintf("message type %d before SESS_INIT", m.kind)}
	case m.critical:
		return &protocolError{term: termContact, msg: "the peer demands a session extension that is unknown here"}
	case m.init.segmentMRU < 1 || m.init.transferMRU < 1:
		return &protocolError{term: termContact, msg: "the peer accepts no data: an MRU of 0"}
	}
	if e.node, err = parseNodeID(m.init.nodeID); err != nil {
		return &protocolError{term: termContact, msg: err.Error()}
	}
	p, auth, err := c.lookup(e.node)
	if err != nil {
		return &protocolError{term: termContact, msg: err.Error()}
	}
	who := claim{node: e.node.String(), name: c.name, remote: remoteIP(e.conn)}
	var proved error
	if c.cfg.TLS == nil {
		e.authenticated, proved = identify(state, nil, auth, who)
	} else {
		e.authenticated, proved = identify(state, c.cfg.TLS.RootCAs, auth, who)
	}
	if proved != nil {
		return &protocolError{term: termContact, msg: proved.Error()}
	}
	if p != nil && state == nil && (p.cfg.TLS == "" || p.cfg.TLS == TLSRequired) {
		return &protocolError{term: termContact, msg: "the peer " + p.cfg.Name + " is required to use TLS and did not"}
	}
	e.peer, e.init = p, m.init
	if !c.active {
		if _, err := e.conn.Write(own); err != nil {
			return fmt.Errorf("send SESS_INIT: %w", err)
		}
	}
	return nil
}

// parseNodeID reads the node id of a SESS_INIT. Some stacks leave the last
// slash of a dtn node id out.
func parseNodeID(s string) (addr.EID, error) {
	if rest, ok := strings.CutPrefix(s, "dtn://"); ok && !strings.Contains(rest, "/") {
		s += "/"
	}
	e, err := addr.ParseEID(s)
	if err != nil {
		return addr.EID{}, fmt.Errorf("node id of the peer: %w", err)
	}
	return e, nil
}

func remoteIP(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}

// termText names a reason of SESS_TERM.
func termText(reason byte) string {
	names := []string{"no reason given", "idle", "version mismatch", "busy", "contact failure (TLS, certificate or node id)", "out of resources"}
	if int(reason) < len(names) {
		return names[reason]
	}
	return fmt.Sprintf("reason %#02x", reason)
}
