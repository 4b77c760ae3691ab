package dtn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/storeforward/bundle"
)

// recorder relays one TCP connection and writes what passes as a capture.
type recorder struct {
	mu   sync.Mutex
	pcap []byte
	seq  [2]uint32
	at   uint32
}

// record listens and relays each connection to target.
func record(t testing.TB, target string) (*recorder, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	r := &recorder{}
	// The head of a capture file of raw IP packets, microseconds.
	r.pcap = binary.LittleEndian.AppendUint32(r.pcap, 0xa1b2c3d4)
	for _, v := range []uint32{2 | 4<<16, 0, 0, 1 << 18, 101} {
		r.pcap = binary.LittleEndian.AppendUint32(r.pcap, v)
	}
	go func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				_ = from.Close()
				continue
			}
			r.relay(from, to)
		}
	}()
	return r, ln.Addr().String()
}

func (r *recorder) relay(a, b net.Conn) {
	r.mu.Lock()
	r.seq = [2]uint32{1000, 2000}
	r.packet(0, 0x02, nil) // SYN
	r.packet(1, 0x12, nil)
	r.packet(0, 0x10, nil)
	r.mu.Unlock()
	one := func(dir int, from, to net.Conn) {
		buf := make([]byte, 1400)
		for {
			n, err := from.Read(buf)
			r.mu.Lock()
			if n > 0 {
				r.packet(dir, 0x18, buf[:n])
			}
			if err != nil {
				r.packet(dir, 0x11, nil)
			}
			r.mu.Unlock()
			if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
				_ = from.Close()
				_ = to.Close()
				return
			}
		}
	}
	go one(0, a, b)
	go one(1, b, a)
}

// packet appends an IPv4 packet with a TCP segment; direction 0 goes to port
// 4556.
func (r *recorder) packet(dir int, flags byte, data []byte) {
	be := binary.BigEndian
	ports := [2]uint16{40000, 4556}
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, byte(1 + dir), 10, 0, 0, byte(2 - dir)}
	be.PutUint16(ip[2:], uint16(40+len(data)))
	ip = be.AppendUint16(be.AppendUint16(ip, ports[dir]), ports[1-dir])
	ip = be.AppendUint32(be.AppendUint32(ip, r.seq[dir]), r.seq[1-dir])
	ip = append(ip, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	r.at += 1000
	for _, v := range []uint32{r.at / 1e6, r.at % 1e6, uint32(len(ip) + len(data)), uint32(len(ip) + len(data))} {
		r.pcap = binary.LittleEndian.AppendUint32(r.pcap, v)
	}
	r.pcap = append(append(r.pcap, ip...), data...)
	r.seq[dir] += uint32(len(data))
	if flags&0x03 != 0 {
		r.seq[dir]++
	}
}

// tshark runs Debian's dissector over the capture.
func (r *recorder) tshark(t *testing.T, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "capture.pcap")
	r.mu.Lock()
	err := os.WriteFile(file, r.pcap, 0o600)
	r.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", append([]string{"-n", "-r", file}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.Bytes())
	}
	return string(out)
}

// TestTshark lets an independent dissector read everything a door can say.
func TestTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatal("tshark is not installed: nobody else reads what a door says")
		}
		t.Skip("nobody else reads what a door says: install tshark (Debian: apt-get install tshark)")
	}
	sa, sb := newSink(), newSink()
	sb.answer = func(n int, _ Received) bundle.Reason {
		return []bundle.Reason{bundle.OK, bundle.StoreFull, bundle.OK, bundle.OK, bundle.OK}[n]
	}
	b, stopB := start(t, Config{
		Node: eid(t, "ipn:2.0"), Sink: sb, Keepalive: time.Second, Drain: 5 * time.Second,
		Listeners: []Listener{{Kind: TCPCL, Address: "127.0.0.1:0", TLS: TLSNone}},
		Peers:     []Peer{{Name: "a", Kind: TCPCL, Node: eid(t, "dtn://a/"), TLS: TLSNone}},
	})
	rec, address := record(t, b.Addresses()[0])
	a, _ := start(t, Config{
		Node: eid(t, "dtn://a/"), Sink: sa, Drain: 5 * time.Second, Limits: Limits{Segment: 10_000},
		Peers: []Peer{{Name: "b", Kind: TCPCL, Address: address, TLS: TLSNone}},
	})
	sa.until(t, "the session", func() bool { return sa.up["b"] == 1 })
	for i, size := range []int{10, 100, 1000, 50_000} {
		raw := makeBundle(t, "dtn://a/x", "ipn:2.9", uint64(i), make([]byte, size))
		if err := a.Send(t.Context(), "b", [][]byte{raw}); err != nil && !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
	}
	if err := b.Send(t.Context(), "a", [][]byte{makeBundle(t, "ipn:2.9", "dtn://a/x", 1, []byte("back"))}); err != nil {
		t.Fatal(err)
	}
	sa.until(t, "a keepalive", func() bool { return a.Peers()[0].MessagesIn > 12 })
	stopB()
	sa.until(t, "the end", func() bool { return sa.up["b"] == 0 })

	if bad := rec.tshark(t, "-Y", `_ws.malformed || _ws.expert.group == "Malformed" || (_ws.expert.group == "Protocol" && _ws.expert.severity >= "Warning")`, "-V"); bad != "" {
		t.Errorf("tshark complains:\n%s", bad)
	}
	if un := rec.tshark(t, "-2", "-Y", "tcp.len > 0 && !tcpcl && !tcp.reassembled_in", "-T", "fields", "-e", "frame.number"); un != "" {
		t.Errorf("frames that tshark does not read as TCPCL: %s", strings.Fields(un))
	}
	types := rec.tshark(t, "-Y", "tcpcl.v4.mhdr.type", "-T", "fields", "-E", "occurrence=a", "-e", "tcpcl.v4.mhdr.type")
	seen := map[string]int{}
	for _, f := range strings.FieldsFunc(types, func(r rune) bool { return r == ',' || r == '\n' }) {
		seen[f]++
	}
	for _, want := range []string{"0x01", "0x02", "0x03", "0x04", "0x05", "0x07"} {
		if seen[want] == 0 {
			t.Errorf("tshark saw no message of type %s: %v", want, seen)
		}
	}
	bundles := rec.tshark(t, "-Y", "bpv7", "-T", "fields", "-E", "occurrence=a", "-e", "bpv7.primary.dst_uri")
	if n := strings.Count(bundles, "ipn:2.9"); n != 4 {
		t.Errorf("tshark read %d bundles for ipn:2.9, want 4:\n%s", n, bundles)
	}
}
