package dtn

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Object identifiers (RFC 9174, sections 4.4.2.1 and 9.9 to 9.11).
var (
	oidBundleEID      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 11} // id-on-bundleEID
	oidBundleSecurity = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 35} // id-kp-bundleSecurity
	oidSAN            = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// tlsConfig makes the configuration of one handshake. The standard checks are
// replaced, not left out: they know no node ids, and no extended key usage of
// bundle security.
func tlsConfig(own *tls.Config, active bool, serverName string, auth Auth) *tls.Config {
	c := &tls.Config{}
	if own != nil {
		c = own.Clone()
	}
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = nil
	c.SessionTicketsDisabled, c.ClientSessionCache = true, nil
	c.ClientAuth = tls.RequestClientCert // "SHALL request", 4.4.1; identify demands it
	c.InsecureSkipVerify = true
	c.VerifyPeerCertificate = nil
	roots := c.RootCAs
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if auth == AuthNone || len(s.PeerCertificates) == 0 {
			return nil
		}
		return verifyChain(s, roots)
	}
	if active {
		c.ServerName = serverName
	}
	return c
}

// verifyChain checks that the peer's certificate was issued under roots and
// may be used here.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	if roots == nil {
		return errors.New("no roots to verify the peer's certificate against")
	}
	leaf := *s.PeerCertificates[0]
	// A critical alternative name that holds only a NODE-ID is one we handle.
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), oidSAN.Equal)
	inter := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		inter.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: inter, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("the peer's certificate: %w", err)
	}
	usable := len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 ||
		slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidBundleSecurity.Equal) ||
		slices.ContainsFunc(leaf.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
			return u == x509.ExtKeyUsageAny || u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageServerAuth
		})
	if !usable {
		return errors.New("the peer's certificate is for neither bundle security nor TLS; see its extended key usage")
	}
	return nil
}

// claim is who the far end says it is, or should be.
type claim struct {
	node   string     // of its SESS_INIT
	name   string     // DNS name we dialled, "" when we did not
	remote netip.Addr // its address
}

// finding is the outcome of one comparison (RFC 9174, section 4.4.3).
type finding uint8

const (
	absent finding = iota
	matches
	contradicts
)

// identify compares the certificate of a finished handshake with the claim.
// It reports whether the node id was proved. A NODE-ID that contradicts always
// fails; a host name that contradicts is made good by a NODE-ID that matches,
// because nodes move and hide behind translated addresses.
func identify(s *tls.ConnectionState, roots *x509.CertPool, auth Auth, c claim) (bool, error) {
	if s == nil || auth == AuthNone {
		return false, nil
	}
	if len(s.PeerCertificates) == 0 {
		return false, errors.New("the peer shows no certificate; give it one, or set auth to none for it")
	}
	if err := verifyChain(*s, roots); err != nil {
		return false, err
	}
	leaf := s.PeerCertificates[0]
	ids, err := nodeIDs(leaf)
	if err != nil {
		return false, err
	}
	node, host := among(ids, c.node), hostOf(leaf, c)
	switch {
	case node == contradicts:
		return false, fmt.Errorf("the peer says it is %s, its certificate says %s", c.node, strings.Join(ids, ", "))
	case host == contradicts && node != matches:
		return false, fmt.Errorf("the peer's certificate is not for %s or %s", c.name, c.remote)
	case (auth == "" || auth == AuthNode) && node != matches:
		return false, fmt.Errorf("the peer's certificate names no node id; %s stays unproved", c.node)
	case auth == AuthHost && host != matches:
		return false, errors.New("the peer's certificate names neither the host dialled nor its address")
	}
	return node == matches, nil
}

func among(list []string, want string) finding {
	switch {
	case len(list) == 0:
		return absent
	case slices.Contains(list, want):
		return matches
	}
	return contradicts
}

// hostOf compares DNS-ID and IPADDR-ID; one that matches is enough.
func hostOf(leaf *x509.Certificate, c claim) finding {
	out := absent
	if c.name != "" && len(leaf.DNSNames) > 0 {
		if leaf.VerifyHostname(c.name) == nil {
			return matches
		}
		out = contradicts
	}
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok && a.Unmap() == c.remote.Unmap() {
			return matches
		}
		out = contradicts
	}
	return out
}

// nodeIDs returns the NODE-IDs of a certificate: other names of type bundle
// EID, and URIs, which is where drafts before the RFC put them.
func nodeIDs(leaf *x509.Certificate) ([]string, error) {
	var out []string
	for _, u := range leaf.URIs {
		if u.Scheme == "dtn" || u.Scheme == "ipn" {
			out = append(out, u.String())
		}
	}
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var seq asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &seq); err != nil {
			return nil, fmt.Errorf("alternative names of the certificate: %w", err)
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, fmt.Errorf("alternative names of the certificate: %w", err)
			}
			if id, ok := bundleEID(name); ok {
				out = append(out, id)
			}
		}
	}
	return out, nil
}

// bundleEID reads an otherName of type id-on-bundleEID:
// [0] { type OBJECT IDENTIFIER, value [0] EXPLICIT IA5String }.
func bundleEID(name asn1.RawValue) (string, bool) {
	if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
		return "", false
	}
	var id asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(name.Bytes, &id)
	if err != nil || !id.Equal(oidBundleEID) {
		return "", false
	}
	var box, text asn1.RawValue
	if _, err := asn1.Unmarshal(rest, &box); err != nil || box.Class != asn1.ClassContextSpecific || box.Tag != 0 {
		return "", false
	}
	if _, err := asn1.Unmarshal(box.Bytes, &text); err != nil || text.Tag != asn1.TagIA5String && text.Tag != asn1.TagUTF8String {
		return "", false
	}
	return string(text.Bytes), true
}
