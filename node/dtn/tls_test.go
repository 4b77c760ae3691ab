package dtn

import (
	"crypto/tls"
	"testing"
	"time"
)

// TestTLS goes through the policies and what certificates prove.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	a := func(ids ...string) *tls.Config { return ca.tls(t, ids, nil, oidBundleSecurity) }
	for _, c := range []struct {
		name         string
		aTLS, bTLS   *tls.Config
		aPol, bPol   Policy
		aAuth, bAuth Auth
		aName        string
		up           bool
		proved       bool // at b
		plain        bool
	}{
		{name: "both prove their node ids", aTLS: a("dtn://a/"), bTLS: a("dtn://b/"), up: true, proved: true},
		{name: "one of several node ids", aTLS: a("ipn:3.0", "dtn://a/"), bTLS: a("dtn://b/"), up: true, proved: true},
		{name: "b is somebody else", aTLS: a("dtn://a/"), bTLS: a("dtn://c/")},
		{name: "a is somebody else", aTLS: a("dtn://c/"), bTLS: a("dtn://b/")},
		{name: "a names no node", aTLS: a(), bTLS: a("dtn://b/")},
		{name: "any certificate of a will do", aTLS: a(), bTLS: a("dtn://b/"), bAuth: AuthChain, up: true},
		{name: "any certificate, but not of somebody else", aTLS: a("dtn://c/"), bTLS: a("dtn://b/"), bAuth: AuthChain},
		{name: "a certificate of another authority", aTLS: other.tls(t, []string{"dtn://a/"}, nil), bTLS: a("dtn://b/")},
		{name: "b by its host name", aTLS: a("dtn://a/"), bTLS: ca.tls(t, nil, []string{"b.example"}), aAuth: AuthHost, aName: "b.example", up: true, proved: true},
		{name: "b by another host name", aTLS: a("dtn://a/"), bTLS: ca.tls(t, nil, []string{"c.example"}), aAuth: AuthHost, aName: "b.example"},
		{name: "another host name, the right node", aTLS: a("dtn://a/"), bTLS: ca.tls(t, []string{"dtn://b/"}, []string{"c.example"}), aName: "b.example", up: true, proved: true},
		{name: "no certificate", aTLS: &tls.Config{RootCAs: ca.pool}, bTLS: a("dtn://b/")},
		{name: "no certificate is asked for", aTLS: &tls.Config{RootCAs: ca.pool}, bTLS: a("dtn://b/"), bAuth: AuthNone, up: true},
		{name: "a certificate for something else", aTLS: ca.tls(t, []string{"dtn://a/"}, nil, []int{1, 2, 3}), bTLS: a("dtn://b/")},
		{name: "optional at both ends", aTLS: a("dtn://a/"), bTLS: a("dtn://b/"), aPol: TLSOptional, bPol: TLSOptional, up: true, proved: true},
		{name: "required meets none", aTLS: a("dtn://a/"), bTLS: a("dtn://b/"), aPol: TLSNone, bPol: TLSRequired},
		{name: "none meets required", aTLS: a("dtn://a/"), bTLS: a("dtn://b/"), aPol: TLSRequired, bPol: TLSNone},
		{name: "optional meets none", aTLS: a("dtn://a/"), bTLS: a("dtn://b/"), aPol: TLSOptional, bPol: TLSNone, up: true, plain: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			sa, sb := newSink(), newSink()
			b, _ := start(t, Config{
				Node: eid(t, "dtn://b/"), Sink: sb, TLS: c.bTLS, Drain: time.Second,
				Listeners: []Listener{{Kind: TCPCL, Address: "127.0.0.1:0", TLS: c.bPol, Auth: c.bAuth}},
				Peers:     []Peer{{Name: "a", Kind: TCPCL, Node: eid(t, "dtn://a/"), TLS: c.bPol, Auth: c.bAuth}},
			})
			a, _ := start(t, Config{
				Node: eid(t, "dtn://a/"), Sink: sa, TLS: c.aTLS, Drain: time.Second,
				Peers: []Peer{{Name: "b", Kind: TCPCL, Address: b.Addresses()[0], Node: eid(t, "dtn://b/"), TLS: c.aPol, Auth: c.aAuth, ServerName: c.aName}},
			})
			if !c.up {
				sa.until(t, "the refusal", func() bool { return a.Peers()[0].LastError != "" })
				// Under TLS 1.3 the dialler is done first: it may be up for a moment.
				sa.until(t, "no session", func() bool { return sa.up["b"] == 0 })
				sb.until(t, "no session", func() bool { return sb.up["a"] == 0 })
				return
			}
			sa.until(t, "the session", func() bool { return sa.up["b"] == 1 })
			raw := makeBundle(t, "dtn://a/x", "dtn://b/y", 1, make([]byte, 200_000))
			if err := a.Send(t.Context(), "b", [][]byte{raw}); err != nil {
				t.Fatal(err)
			}
			sb.wantSame(t, raw)
			st := a.Peers()[0]
			if proved := sb.first().Authenticated; proved != c.proved || (st.Kex == "") != c.plain {
				t.Errorf("authenticated %v, kex %q", proved, st.Kex)
			}
		})
	}
}
