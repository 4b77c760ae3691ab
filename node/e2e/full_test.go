//go:build linux

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/config"
)

// small puts the data directory of a daemon on a file system of its own, of so
// many bytes.
func small(t *testing.T, d *daemon, size int) {
	t.Helper()
	disk := filepath.Dir(d.dir)
	if err := syscall.Mount("farhop", disk, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatalf("mount a small file system: %v: run as root", err)
		}
		t.Skipf("mount a small file system: %v: run as root", err)
	}
	t.Cleanup(func() {
		d.kill()
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	d.logs = filepath.Join(t.TempDir(), d.name+".log") // not on that disk
}

// device is an MQTT 5 client that publishes with QoS 1 and says what became
// of each message.
type device struct {
	t    *testing.T
	conn net.Conn
	id   uint16
}

func dialDevice(t *testing.T, d *daemon) *device {
	t.Helper()
	conn, err := net.Dial("tcp", d.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &device{t: t, conn: conn}
	p.write([]byte("\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03plc"))
	if kind, body := p.read(); kind != 0x20 || len(body) < 2 || body[1] != 0 {
		t.Fatalf("CONNACK %x % x", kind, body)
	}
	return p
}

func (p *device) write(b []byte) {
	p.t.Helper()
	_ = p.conn.SetDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *device) read() (kind byte, body []byte) {
	p.t.Helper()
	head := make([]byte, 1)
	_, err := io.ReadFull(p.conn, head)
	n := uint64(0)
	if err == nil {
		n, err = binary.ReadUvarint(byteReader{p.conn})
	}
	body = make([]byte, min(n, 1<<20))
	if _, err2 := io.ReadFull(p.conn, body); errors.Join(err, err2) != nil {
		p.t.Fatal(errors.Join(err, err2))
	}
	return head[0], body
}

type byteReader struct{ r io.Reader }

func (b byteReader) ReadByte() (byte, error) {
	var one [1]byte
	_, err := io.ReadFull(b.r, one[:])
	return one[0], err
}

// codes of PUBACK (MQTT 5, 3.4.2.1).
const (
	acknowledged  = 0x00
	quotaExceeded = 0x97
)

// publish sends a group of messages at once and returns those that were
// acknowledged, and how many were refused for want of room.
func (p *device) publish(topic string, messages ...string) (acked []string, refused int) {
	p.t.Helper()
	first := p.id
	for _, m := range messages {
		p.id++
		rest := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
		rest = binary.BigEndian.AppendUint16(append(rest, topic...), p.id)
		rest = append(append(rest, 0), m...) // no properties
		p.write(append(binary.AppendUvarint([]byte{0x32}, uint64(len(rest))), rest...))
	}
	for range messages {
		kind, body := p.read()
		if kind != 0x40 || len(body) < 2 {
			p.t.Fatalf("packet %x % x, want PUBACK", kind, body)
		}
		code := byte(acknowledged)
		if len(body) > 2 {
			code = body[2]
		}
		switch code {
		case acknowledged:
			acked = append(acked, messages[binary.BigEndian.Uint16(body)-first-1])
		case quotaExceeded:
			refused++
		default:
			p.t.Fatalf("PUBACK with %#x", code)
		}
	}
	return acked, refused
}

// TestFullDisk fills the disk of a node, by what is published and by a foreign
// file. The node refuses what is new and runs on; what it acknowledged comes,
// once; and as soon as there is room again it takes messages.
func TestFullDisk(t *testing.T) {
	full(t)
	for _, engine := range []string{"journal", "bbolt"} {
		t.Run(engine, func(t *testing.T) { fillDisk(t, engine) })
	}
}

func fillDisk(t *testing.T, engine string) {
	d := newDaemon(t, "earth-1")
	small(t, d, 64<<20)
	d.init("earth")
	d.edit(func(c *config.Config) { c.Store.Engine = engine })
	d.run()
	subscribe(d, "historian", "plant/#", 2).kill()
	f := &filler{t: t, d: d, p: dialDevice(t, d)}
	if stored := f.fill(1<<30) * fillBytes; stored < 16<<20 || f.refused == 0 {
		t.Errorf("%d bytes of 64 MB are stored, %d messages refused", stored, f.refused)
	}
	f.check("full")
	if !d.logged("level=WARN", "the disk is full") {
		t.Errorf("the log does not say that the disk is full:\n%s", tail(d.logs, 20))
	}
	if _, body := d.get("/metrics"); !strings.Contains(body, "\nfarhop_store_room_bytes ") {
		t.Error("/metrics does not say how much room is left")
	}
	f.drain()
	until(t, text("room after the queue was drained"), func() bool { return f.fill(1) > 0 })
	f.check("drained")

	// Somebody else takes all there is, to the last block.
	foreign := filepath.Join(filepath.Dir(d.dir), "foreign")
	file, err := os.Create(foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	f.fill(1 << 30)
	f.check("filled by a foreign file")
	if engine == "journal" { // it gives back what it had reserved: a start needs a few blocks
		d.kill()
		d.run()
		f.p, f.before = dialDevice(t, d), f.refused
		f.fill(1 << 30)
		f.check("started on a full disk")
	}
	f.drain()
	f.check("drained on a disk that is full")
	if err := errors.Join(file.Close(), os.Remove(foreign)); err != nil {
		t.Fatal(err)
	}
	until(t, text("room after the foreign file has gone"), func() bool { return f.fill(100) >= 100 })
	until(t, text("the log to say that there is room"), func() bool { return d.logged("level=INFO", "the disk has room again") })
	f.check("free again")
	f.drain()
	d.stop()
}

// fillBytes is the size of the messages of a filler, about.
const fillBytes = 8000

// filler publishes as long as it is let, and keeps the books.
type filler struct {
	t       *testing.T
	d       *daemon
	p       *device
	n       int      // messages published
	sent    []string // acknowledged and not yet drained
	refused int
	before  int // of these, before the last start
}

// fill publishes until most messages are taken or many are refused, and
// returns how many were taken.
func (f *filler) fill(most int) (taken int) {
	for tries := 0; tries < 20 && taken < most; f.n += 20 {
		acked, refused := f.p.publish("plant/1", page(f.n, 20)...)
		f.sent, taken, f.refused = append(f.sent, acked...), taken+len(acked), f.refused+refused
		if refused > 0 {
			tries++
		}
	}
	return taken
}

// check compares the books with those of the node, which must run.
func (f *filler) check(when string) {
	f.t.Helper()
	select {
	case <-f.d.ended:
		f.t.Fatalf("%s: the node ended: %v\n%s", when, f.d.err, tail(f.d.logs, 20))
	default:
	}
	f.d.wait(when+": all that was acknowledged is stored, refusals are counted", func(s admin.Status) bool {
		return s.Store.Messages == len(f.sent) && s.Counters.Submitted["store-full"] == uint64(f.refused-f.before)
	})
}

// drain lets the subscriber come: it gets all that was acknowledged, once.
func (f *filler) drain() {
	f.t.Helper()
	sub := subscribe(f.d, "historian", "plant/#", 2)
	sub.once(f.sent)
	f.d.empty()
	sub.kill()
	f.sent = nil
}

// page makes n messages, numbered on.
func page(from, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("m-%07d-", from+i) + strings.Repeat("x", fillBytes)
	}
	return out
}
