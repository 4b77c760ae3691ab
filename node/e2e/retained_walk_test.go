//go:build linux

package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// raw is a client of MQTT 3.1.1 that does nothing by itself.
type raw struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func mqttText(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

// packet puts the head before a packet.
func packet(first byte, body string) string {
	return string(binary.AppendUvarint([]byte{first}, uint64(len(body)))) + body // a remaining length is a varint
}

func dialRaw(d *daemon, id string, clean bool) *raw {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.mqtt)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		d.t.Fatal(err)
	}
	r := &raw{d.t, conn, bufio.NewReader(conn)}
	r.send(packet(0x10, mqttText("MQTT")+"\x04"+map[bool]string{true: "\x02", false: "\x00"}[clean]+"\x00\x00"+mqttText(id)))
	r.expect(0x20, 1)
	return r
}

func (r *raw) send(packets string) {
	r.t.Helper()
	if _, err := io.WriteString(r.conn, packets); err != nil {
		r.t.Fatal(err)
	}
}

// expect reads n packets of a kind.
func (r *raw) expect(first byte, n int) {
	r.t.Helper()
	for range n {
		got, err := r.in.ReadByte()
		if err == nil && got != first {
			err = fmt.Errorf("packet 0x%02x", got)
		}
		var size uint64
		if err == nil {
			size, err = binary.ReadUvarint(r.in)
		}
		if err == nil {
			_, err = r.in.Discard(int(size))
		}
		if err != nil {
			r.t.Fatalf("want packet 0x%02x: %v", first, err)
		}
	}
}

// TestRetainedPromised: a session that has its SUBACK gets all retained
// messages, each once, though the node dies at once, and again on the way.
func TestRetainedPromised(t *testing.T) {
	const count, window = 20_000, 1000
	d := newDaemon(t, "earth-1")
	d.init("earth")
	d.run()
	all := numbered("many", count)
	setter := dialRaw(d, "setter", true)
	for i := 0; i < count; i += window {
		burst := ""
		for k := range window {
			burst += packet(0x33, mqttText(fmt.Sprintf("many/%d/%d", k%7, i+k))+string(binary.BigEndian.AppendUint16(nil, uint16(1+k)))+all[i+k])
		}
		setter.send(burst)
		setter.expect(0x40, window)
	}
	s := dialRaw(d, "promised", false)
	s.send(packet(0x82, "\x00\x01"+mqttText("many/#")+"\x01"))
	s.expect(0x90, 1)
	d.kill()
	d.run()
	time.Sleep(50 * time.Millisecond) // some of them are queued, likely
	d.kill()
	d.run()
	c := mosquitto(t, "mosquitto_sub", d, nil, "-c", "-i", "promised", "-q", "1", "-t", "none")
	if r := c.receive(all); r.repeats > 0 || len(r.foreign) > 0 {
		t.Errorf("%s", r)
	}
}
