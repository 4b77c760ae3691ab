package listen

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// header builds a PROXY header of version 2.
func header(command, family byte, body ...[]byte) []byte {
	all := slices.Concat(body...)
	b := append([]byte(proxySignature), 2<<4|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	return append(b, all...)
}

func tlv(kind byte, value ...byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// tlsTLV is a PP2_TYPE_SSL with a common name.
func tlsTLV(client byte, verify uint32, cn string) []byte {
	v := binary.BigEndian.AppendUint32([]byte{client}, verify)
	v = append(v, tlv(0x21, []byte("TLSv1.3")...)...)
	return tlv(tlvSSL, append(v, tlv(tlvSSLName, []byte(cn)...)...)...)
}

// summed puts the right checksum into the header's last TLV.
func summed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

var (
	v4 = []byte{203, 0, 113, 9, 10, 0, 0, 1, 0xC3, 0x50, 0x07, 0x5B}
	v6 = slices.Concat(netip.MustParseAddr("2001:db8::9").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice(), []byte{0xC3, 0x50, 0x07, 0x5B})
)

func TestParseProxy(t *testing.T) {
	short := header(1, 0x11, v4)
	short[15] = 8 // says 8, 12 follow
	cut := header(1, 0x11, v4, tlv(4, 1, 2, 3))
	cut = cut[:len(cut)-1]
	binary.BigEndian.PutUint16(cut[14:], uint16(len(cut)-proxyHead))
	inner := tlsTLV(7, 0, "pump-7")
	inner[len(inner)-8]++ // the name's length reaches beyond the TLV
	version := header(1, 0x11, v4)
	version[12] = 0x31
	for _, tt := range []struct {
		name string
		in   []byte
		from string
		cn   string
		err  string
	}{
		{"ipv4", header(1, 0x11, v4), "203.0.113.9:50000", "", ""},
		{"ipv6", header(1, 0x21, v6), "[2001:db8::9]:50000", "", ""},
		{"unix", header(1, 0x31, make([]byte, 216)), "", "", ""},
		{"unknown", header(1, 0x00), "", "", ""},
		{"local", header(0, 0x00), "", "", ""},
		{"local with an address that is not for us", header(0, 0x11, v4), "", "", ""},
		{"tlvs that are not for us", header(1, 0x11, v4, tlv(4, 1, 2, 3), tlv(0xEE)), "203.0.113.9:50000", "", ""},
		{"certificate of this connection", header(1, 0x11, v4, tlsTLV(3, 0, "pump-7")), "203.0.113.9:50000", "pump-7", ""},
		{"certificate of the session", header(1, 0x11, v4, tlsTLV(5, 0, "pump-7")), "203.0.113.9:50000", "pump-7", ""},
		{"certificate that failed", header(1, 0x11, v4, tlsTLV(3, 1, "pump-7")), "203.0.113.9:50000", "", ""},
		{"name without certificate", header(1, 0x11, v4, tlsTLV(1, 0, "pump-7")), "203.0.113.9:50000", "", ""},
		{"name without TLS", header(1, 0x11, v4, tlsTLV(2, 0, "pump-7")), "203.0.113.9:50000", "", ""},
		{"right checksum", summed(header(1, 0x11, v4, tlv(4, 9), tlv(3, 0, 0, 0, 0))), "203.0.113.9:50000", "", ""},
		{"wrong checksum", header(1, 0x11, v4, tlv(3, 0, 0, 0, 1)), "", "", "checksum"},
		{"short checksum", header(1, 0x11, v4, tlv(3, 0)), "", "", "checksum"},
		{"length that lies", short, "", "", "says 8 bytes follow, 12 do"},
		{"address cut short", header(1, 0x21, v4), "", "", "want 36"},
		{"tlv cut short", cut, "", "", "says 3 bytes, 2 are left"},
		{"tlv without length", header(1, 0x11, v4, []byte{4, 0}), "", "", "ends within a TLV"},
		{"tlv of TLS cut short", header(1, 0x11, v4, tlv(tlvSSL, 1, 0)), "", "", "want 5 or more"},
		{"name that lies", header(1, 0x11, v4, inner), "", "", "are left"},
		{"name too long", header(1, 0x11, v4, tlsTLV(3, 0, strings.Repeat("x", 257))), "", "", "at most 256"},
		{"datagrams", header(1, 0x12, v4), "", "", "no stream's"},
		{"family of nobody", header(1, 0x41, v4), "", "", "no stream's"},
		{"command of nobody", header(2, 0x11, v4), "", "", "command 2"},
		{"version 3", version, "", "", "version 3"},
		{"empty", nil, "", "", "no PROXY header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseProxy(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %+v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			var want netip.AddrPort
			if tt.from != "" {
				want = netip.MustParseAddrPort(tt.from)
			}
			if err != nil || got.from != want || got.cn != tt.cn {
				t.Errorf("got %v %q, %v; want %v %q", got.from, got.cn, err, want, tt.cn)
			}
		})
	}
}

// TestProxy sends headers from an address that must send one.
func TestProxy(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := start(t, Config{URL: "tcp://127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Registerer: reg})

	c := dial(t, l)
	// The first MQTT bytes may come with the header, and must not be lost.
	if _, err := c.Write(append(header(1, 0x11, v4, tlsTLV(3, 0, "pump-7")), "hello"...)); err != nil {
		t.Fatal(err)
	}
	s := accepted(t, l)
	p := peerOf(t, s)
	if p.Remote.String() != "203.0.113.9:50000" || p.Transport != TCP || !slices.Equal(p.Names, []string{"pump-7"}) || s.RemoteAddr().String() != "203.0.113.9:50000" {
		t.Errorf("peer %+v at %v", p, s.RemoteAddr())
	}
	buf := make([]byte, 5)
	if _, err := s.Read(buf); err != nil || string(buf) != "hello" {
		t.Errorf("after the header came %q, %v", buf, err)
	}

	c = dial(t, l)
	if _, err := c.Write(header(0, 0)); err != nil {
		t.Fatal(err)
	}
	if p := peerOf(t, accepted(t, l)); p.Remote.String() != c.LocalAddr().String() {
		t.Errorf("a LOCAL connection comes from %v, want %v", p.Remote, c.LocalAddr())
	}

	long := header(1, 0x11, v4)
	binary.BigEndian.PutUint16(long[14:], 0xFFFF)
	for _, tt := range []struct{ name, cause, in string }{
		{"version 1", causeProxyV1, "PROXY TCP4 203.0.113.9 10.0.0.1 50000 1883\r\n"},
		{"version 1, short", causeProxyV1, "PROXY UNKNOWN\r\n"},
		{"no header", causeProxy, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"},
		{"too long", causeProxy, string(long)},
		{"broken", causeProxy, string(header(1, 0x21, v4))},
		{"half a header", causeGone, proxySignature},
		{"nothing", causeGone, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := refusals(t, reg, tt.cause)
			c := dial(t, l)
			if _, err := c.Write([]byte(tt.in)); err != nil {
				t.Fatal(err)
			}
			if tt.cause == causeGone {
				_ = c.Close()
			} else {
				ended(t, c)
			}
			until(t, "refused for "+tt.cause, func() bool { return refusals(t, reg, tt.cause) == before+1 })
		})
	}
}

// TestProxyBeforeTLS wants the header before the handshake, and a certificate
// shown to us before one that a proxy tells of.
func TestProxyBeforeTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key, names := a.device()
	l := start(t, Config{URL: "tls://127.0.0.1:0", TLS: a.server(false), Proxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	for _, tt := range []struct {
		name  string
		conf  *tls.Config
		names []string
	}{
		{"shown to the proxy", a.client("", ""), []string{"of-the-proxy"}},
		{"shown to us", a.client(cert, key), names},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, l)
			if _, err := c.Write(header(1, 0x21, v6, tlsTLV(3, 0, "of-the-proxy"))); err != nil {
				t.Fatal(err)
			}
			go func() { _ = tls.Client(c, tt.conf).Handshake() }()
			if p := peerOf(t, accepted(t, l)); p.String() != "tls://[2001:db8::9]:50000" || !slices.Equal(p.Names, tt.names) {
				t.Errorf("peer %v with %q, want %q", p, p.Names, tt.names)
			}
		})
	}
}

// TestProxyOfOthers serves those who are no proxy as they are, and does not
// believe what they say.
func TestProxyOfOthers(t *testing.T) {
	l := start(t, Config{URL: "tcp://127.0.0.1:0", Proxy: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	c := dial(t, l)
	head := header(1, 0x11, v4, tlsTLV(3, 0, "pump-7"))
	if _, err := c.Write(head); err != nil {
		t.Fatal(err)
	}
	s := accepted(t, l)
	if p := peerOf(t, s); p.Remote.String() != c.LocalAddr().String() || len(p.Names) > 0 {
		t.Errorf("peer %+v, want %v without names", p, c.LocalAddr())
	}
	got := make([]byte, len(head))
	if _, err := s.Read(got); err != nil || !bytes.Equal(got, head) {
		t.Errorf("read %q, %v: a stranger's header is his first bytes", got, err)
	}
}

func FuzzParseProxy(f *testing.F) {
	f.Add(header(1, 0x11, v4, tlsTLV(3, 0, "pump-7")))
	f.Add(summed(header(1, 0x21, v6, tlv(3, 0, 0, 0, 0))))
	f.Add(header(0, 0))
	f.Add([]byte("PROXY TCP4 203.0.113.9 10.0.0.1 50000 1883\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProxy(b)
		if err != nil && (p.from.IsValid() || p.cn != "") {
			t.Errorf("%v, and yet %+v", err, p)
		}
		if len(p.cn) > maxCommonName {
			t.Errorf("a name of %d bytes", len(p.cn))
		}
		// What the reader takes is what the parser takes, and not one byte more.
		r := bytes.NewReader(append(slices.Clone(b), "MQTT"...))
		got, rerr := readProxy(r)
		if err == nil && len(b) <= maxProxy && (rerr != nil || got != p || r.Len() != 4) {
			t.Errorf("read %+v, %v with %d bytes left; parsed %+v", got, rerr, r.Len(), p)
		}
	})
}
