package load

import (
	"bytes"
	"strings"
	"testing"
)

func TestNext(t *testing.T) {
	long := AppendPublish(nil, "t", 1, 7, make([]byte, 200))
	for _, c := range []struct {
		name  string
		in    string
		first byte
		size  int
		err   string
	}{
		{"nothing", "", 0, 0, ""},
		{"a first byte", "\x30", 0, 0, ""},
		{"a length that goes on", "\x30\x80", 0, 0, ""},
		{"a body that goes on", "\x40\x02\x00", 0, 0, ""},
		{"a PUBACK and more", "\x40\x02\x00\x01\x40", 0x40, 4, ""},
		{"no body", "\xd0\x00", 0xd0, 2, ""},
		{"two bytes of length", string(long), 0x32, len(long), ""},
		{"five bytes of length", "\x30\x80\x80\x80\x80\x01", 0, 0, "five bytes"},
		{"too long", "\x30\xff\xff\xff\x7f", 0, 0, "packet of 268435455 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			first, _, size, err := Next([]byte(c.in))
			if first != c.first || size != c.size || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got 0x%02x, %d bytes, %v; want 0x%02x, %d, %q", first, size, err, c.first, c.size, c.err)
			}
		})
	}
}

func TestParseMessage(t *testing.T) {
	payload := append([]byte{0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 0}, "more"...)
	for qos := range byte(3) {
		first, body, _, err := Next(AppendPublish(nil, "a/b", qos, 9, payload))
		if err != nil {
			t.Fatal(err)
		}
		want := message{qos: qos, from: 3, no: 256}
		if qos > 0 {
			want.id = 9
		}
		if m, err := parseMessage(first, body); err != nil || m != want {
			t.Errorf("got %+v, %v; want %+v", m, err, want)
		}
	}
	for _, bad := range []string{"", "\x00", "\x00\x09ab", "\x00\x01a\x00\x01short"} {
		if m, err := parseMessage(Publish|2, []byte(bad)); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, m)
		}
	}
	if _, err := parseMessage(0x36, append([]byte{0, 1, 'a'}, make([]byte, 20)...)); err == nil {
		t.Error("QoS 3 is taken")
	}
}

func TestAppendConnect(t *testing.T) {
	for persistent, want := range map[bool]string{
		false: "\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me",
		true:  "\x10\x0e\x00\x04MQTT\x04\x00\x00\x3c\x00\x02me",
	} {
		if got := AppendConnect(nil, "me", 60, persistent); string(got) != want {
			t.Errorf("got % x, want % x", got, want)
		}
	}
}

// FuzzNext: what is cut off is a part of what came, and a message in it is
// read without a panic.
func FuzzNext(f *testing.F) {
	f.Add([]byte("\x40\x02\x00\x01\x40"))
	f.Add(AppendPublish(nil, "a/b", 1, 9, make([]byte, MinPayload)))
	f.Add([]byte("\x30\x80\x80\x80\x80\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, body, size, err := Next(b)
		if err != nil || size == 0 {
			return
		}
		if size > len(b) || first != b[0] || !bytes.HasSuffix(b[:size], body) {
			t.Fatalf("% x: first byte 0x%02x, body % x, %d bytes", b, first, body, size)
		}
		m, err := parseMessage(first, body)
		if err == nil && (m.qos > 2 || len(body) < MinPayload) {
			t.Fatalf("% x: %+v", body, m)
		}
	})
}
