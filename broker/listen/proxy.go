package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
)

// The PROXY protocol, version 2, as HAProxy's proxy-protocol.txt section 2.2
// has it:
//
//	signature 12 | version and command 1 | family and protocol 1 | length 2 | addresses | TLVs
//
// A TLV is type 1 | length 2 | value. All numbers are big endian.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyHead      = 16          // bytes before the addresses
	maxProxy       = 16 << 10    // bytes of all of it; TLVs may carry a certificate
	maxCommonName  = 256         // bytes; RFC 5280 allows 64 characters
	proxyV1        = "PROXY "    // how a header of version 1 begins
	tlvChecksum    = 0x03        // PP2_TYPE_CRC32C
	tlvSSL         = 0x20        // PP2_TYPE_SSL
	tlvSSLName     = 0x22        // PP2_SUBTYPE_SSL_CN
	sslClient      = 1           // PP2_CLIENT_SSL
	sslCertificate = 1<<1 | 1<<2 // PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS
)

// proxied is what a PROXY header says of a client.
type proxied struct {
	from netip.AddrPort // zero for a health check of the proxy itself, and for clients that have no address
	cn   string         // common name of the client's certificate, if the proxy verified it
}

// readProxy reads a header and not one byte more.
func readProxy(r io.Reader) (proxied, error) {
	buf := make([]byte, proxyHead, 256)
	// A header of version 1 may be shorter than the head of one of version 2.
	if _, err := io.ReadFull(r, buf[:len(proxySignature)]); err != nil {
		return proxied{}, err
	}
	if bytes.HasPrefix(buf, []byte(proxyV1)) {
		return proxied{}, refuse(causeProxyV1, errors.New("a PROXY header of version 1; configure the proxy for version 2"))
	}
	if string(buf[:len(proxySignature)]) != proxySignature {
		return proxied{}, refuse(causeProxy, errors.New("no PROXY header from an address that must send one"))
	}
	if _, err := io.ReadFull(r, buf[len(proxySignature):]); err != nil {
		return proxied{}, err
	}
	size := proxyHead + int(binary.BigEndian.Uint16(buf[14:]))
	if size > maxProxy {
		return proxied{}, refusef(causeProxy, "a PROXY header of %d bytes, at most %d", size, maxProxy)
	}
	buf = append(buf, make([]byte, size-proxyHead)...)
	if _, err := io.ReadFull(r, buf[proxyHead:]); err != nil {
		return proxied{}, err
	}
	p, err := parseProxy(buf)
	if err != nil {
		return proxied{}, refuse(causeProxy, err)
	}
	return p, nil
}

// parseProxy reads one whole header.
func parseProxy(b []byte) (proxied, error) {
	if len(b) < proxyHead || string(b[:len(proxySignature)]) != proxySignature {
		return proxied{}, errors.New("no PROXY header")
	}
	if v := b[12] >> 4; v != 2 {
		return proxied{}, fmt.Errorf("PROXY header of version %d, want 2", v)
	}
	if n := int(binary.BigEndian.Uint16(b[14:])); n != len(b)-proxyHead {
		return proxied{}, fmt.Errorf("PROXY header says %d bytes follow, %d do", n, len(b)-proxyHead)
	}
	command := b[12] & 0xF
	if command > 1 {
		return proxied{}, fmt.Errorf("PROXY command %d, want LOCAL or PROXY", command)
	}
	if command == 0 { // LOCAL: the proxy speaks for itself; what follows is not for us (2.2)
		return proxied{}, nil
	}
	from, rest, err := proxyAddress(b[13], b[proxyHead:])
	if err != nil {
		return proxied{}, err
	}
	p := proxied{from: from}
	err = eachTLV(rest, func(kind byte, at int, value []byte) error {
		switch kind {
		case tlvChecksum:
			return checkProxySum(b, len(b)-len(rest)+at, value)
		case tlvSSL:
			cn, err := sslName(value)
			p.cn = cn
			return err
		}
		return nil
	})
	if err != nil {
		return proxied{}, err
	}
	return p, nil
}

// proxyAddress reads the source address and returns the bytes behind the block
// of addresses.
func proxyAddress(family byte, b []byte) (netip.AddrPort, []byte, error) {
	var size int
	switch family {
	case 0x00: // unknown to the proxy: the connection's own address stands
	case 0x11: // TCP over IPv4
		size = 4 + 4 + 2 + 2
	case 0x21: // TCP over IPv6
		size = 16 + 16 + 2 + 2
	case 0x31: // a unix socket, which tells nothing about a client
		size = 108 + 108
	default:
		return netip.AddrPort{}, nil, fmt.Errorf("PROXY family and protocol %#02x are no stream's", family)
	}
	if len(b) < size {
		return netip.AddrPort{}, nil, fmt.Errorf("PROXY addresses have %d bytes, want %d", len(b), size)
	}
	var from netip.AddrPort
	switch family {
	case 0x11:
		from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:]))
	case 0x21:
		from = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[32:]))
	}
	return from, b[size:], nil
}

// eachTLV calls f for every TLV of b; its value begins at b[at].
func eachTLV(b []byte, f func(kind byte, at int, value []byte) error) error {
	for at := 0; at < len(b); {
		if len(b)-at < 3 {
			return errors.New("PROXY header ends within a TLV")
		}
		kind, n := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		at += 3
		if n > len(b)-at {
			return fmt.Errorf("PROXY TLV %#02x says %d bytes, %d are left", kind, n, len(b)-at)
		}
		if err := f(kind, at, b[at:at+n]); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// sslName reads a PP2_TYPE_SSL: client bits 1 | verify 4 | TLVs. The name
// counts only if the client showed a certificate and it passed (2.2.6).
func sslName(b []byte) (string, error) {
	if len(b) < 5 {
		return "", fmt.Errorf("PROXY TLV of TLS has %d bytes, want 5 or more", len(b))
	}
	verified := b[0]&sslClient != 0 && b[0]&sslCertificate != 0 && binary.BigEndian.Uint32(b[1:]) == 0
	var cn string
	err := eachTLV(b[5:], func(kind byte, _ int, value []byte) error {
		if kind != tlvSSLName || !verified {
			return nil
		}
		if len(value) > maxCommonName {
			return fmt.Errorf("PROXY common name of %d bytes, at most %d", len(value), maxCommonName)
		}
		cn = string(value)
		return nil
	})
	if err != nil {
		return "", err
	}
	return cn, nil
}

// checkProxySum compares the CRC32C of header b with the sum at b[at], which
// itself counts as zero (2.2.3).
func checkProxySum(b []byte, at int, sum []byte) error {
	if len(sum) != 4 {
		return fmt.Errorf("PROXY checksum has %d bytes, want 4", len(sum))
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	got := crc32.Update(0, table, b[:at])
	got = crc32.Update(got, table, make([]byte, 4))
	got = crc32.Update(got, table, b[at+4:])
	if want := binary.BigEndian.Uint32(sum); got != want {
		return fmt.Errorf("PROXY checksum %08x, want %08x", want, got)
	}
	return nil
}
