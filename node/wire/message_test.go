package wire

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
)

func sampleMessages() map[string]Message {
	most := make([]UserProperty, MaxUserProperties)
	return map[string]Message{
		"smallest": {Topic: "a", Payload: []byte{}},
		"usual":    {Topic: "plant/1/temp", Payload: []byte("21.5"), QoS: 1, Client: "plc-7"},
		"all": {
			Topic: "plant/1/cmd", Payload: []byte(`{"on":true}`), QoS: 2, Retain: true, Expiry: true,
			PayloadFormat: FormatText, Client: "hmi", ContentType: "application/json", ResponseTopic: "reply/hmi",
			CorrelationData: []byte{1, 2, 3}, UserProperties: []UserProperty{{"severity", "alarm"}, {"severity", "high"}, {}},
			Flags: math.MaxUint32,
		},
		"bytes, said":              {Topic: "a", Payload: []byte{0xff}, PayloadFormat: FormatBytes},
		"correlation of no bytes":  {Topic: "a", Payload: []byte{}, CorrelationData: []byte{}},
		"user properties only":     {Topic: "a", Payload: []byte{}, UserProperties: []UserProperty{{"k", "v"}}},
		"as many as can be":        {Topic: "a", Payload: []byte{}, UserProperties: most},
		"longest strings":          {Topic: strings.Repeat("t", 65535), Payload: []byte{}, Client: strings.Repeat("c", 65535)},
		"with a stamp":             {Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true, Stamp: 1893456000000 << 16},
		"the last stamp":           {Topic: "a", Payload: []byte{}, Retain: true, Stamp: maxStamp, UserProperties: []UserProperty{{"k", "v"}}},
		"clearing a retained one":  {Topic: "a", Payload: []byte{}, Retain: true},
		"a topic of the mesh":      {Topic: "$mesh/reports/x", Payload: []byte("{}")},
		"response topic and no id": {Topic: "a", Payload: []byte{}, ResponseTopic: "b"},
	}
}

func TestMessages(t *testing.T) {
	for name, m := range sampleMessages() {
		t.Run(name, func(t *testing.T) {
			if err := m.Validate(); err != nil {
				t.Fatal(err)
			}
			b := m.Append([]byte("before"))[6:]
			got, err := ParseMessage(b)
			if err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%v\nread %+v\nsent %+v", err, got, m)
			}
			if topic, err := Topic(b); err != nil || topic != m.Topic {
				t.Errorf("topic %q, %v", topic, err)
			}
			for cut := 0; cut < min(len(b), 300); cut++ {
				if got, err := ParseMessage(b[:cut]); err == nil {
					t.Fatalf("%d of %d bytes read as %+v", cut, len(b), got)
				}
			}
		})
	}
	small := sampleMessages()["usual"]
	if n := len(small.Append(nil)) - len(small.Topic) - len(small.Payload) - len(small.Client); n > 6 {
		t.Errorf("%d bytes of overhead", n)
	}
}

// TestMessageOfLaterVersion has an item and a flag that this version does not
// know.
func TestMessageOfLaterVersion(t *testing.T) {
	b := enc(1, 1<<6|2, "a", []byte{0x41, 'x'}, "c", "", "", []byte{0xf6}, enc("k", "v"), 7, enc(1, 2))
	m, err := ParseMessage(b)
	want := Message{Topic: "a", Payload: []byte("x"), QoS: 2, Client: "c", UserProperties: []UserProperty{{"k", "v"}}, Stamp: 7}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%v %+v", err, m)
	}
}

func TestMessagesRefused(t *testing.T) {
	x := []byte{0x41, 'x'}
	many := make([]any, 2*MaxUserProperties+2)
	for i := range many {
		many[i] = ""
	}
	tests := []struct {
		name string
		in   []byte
		want string
	}{
		{"nothing", nil, "want an array"},
		{"another kind", enc(2, 0, "a", x), "kind 2"},
		{"QoS 3", enc(1, 3, "a", x), "QoS or payload format 3"},
		{"payload format 3", enc(1, 0x30, "a", x), "QoS or payload format 3"},
		{"many flags", enc(1, 1<<40, "a", x), "limit"},
		{"no topic", enc(1, 0, "", x), "topic: empty"},
		{"wildcard", enc(1, 0, "a/#", x), "wildcard"},
		{"NUL", enc(1, 0, "a\x00", x), "NUL"},
		{"topic not UTF-8", enc(1, 0, []byte{0x61, 0xff}, x), "UTF-8"},
		{"long topic", enc(1, 0, strings.Repeat("a", 65536), x), "limit of 65535"},
		{"payload as text", enc(1, 0, "a", "x"), "want a byte string"},
		{"long client id", enc(1, 0, "a", x, strings.Repeat("a", 65536)), "limit of 65535"},
		{"response topic with a wildcard", enc(1, 0, "a", x, "", "", "b/+"), "response topic"},
		{"half a user property", enc(1, 0, "a", x, "", "", "", []byte{0xf6}, enc("k")), "pairs"},
		{"many user properties", enc(1, 0, "a", x, "", "", "", []byte{0xf6}, enc(many...)), "at most 256 pairs"},
		{"a stamp of the far future", enc(1, 0, "a", x, "", "", "", []byte{0xf6}, enc("k", "v"), 1<<62), "limit"},
		{"a byte too many", append(enc(1, 0, "a", x), 0), "1 bytes after"},
	}
	for _, tt := range tests {
		m, err := ParseMessage(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, m, err, tt.want)
		}
	}
	if _, err := Topic(enc(1, 0, "a/#", x)); err == nil {
		t.Error("Topic passes a wildcard")
	}
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", 65536)
	bad := Message{
		Topic: "a/+", QoS: 3, PayloadFormat: 3, Stamp: maxStamp + 1, Client: "\xff", ContentType: long, ResponseTopic: "#",
		CorrelationData: make([]byte, 65536), UserProperties: make([]UserProperty, MaxUserProperties+1),
	}
	bad.UserProperties[0] = UserProperty{long, "\xff"}
	err := bad.Validate()
	if err == nil {
		t.Fatal("passes")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 11 {
		t.Errorf("%d faults:\n%v", len(lines), err)
	}
}

// FuzzMessage checks that what parses is valid and written back to the same.
func FuzzMessage(f *testing.F) {
	for _, m := range sampleMessages() {
		if b := m.Append(nil); len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Add(enc(1, 1<<6|2, "a", []byte{0x41, 'x'}, "c", "", "", []byte{0xf6}, enc("k", "v"), 7, enc(1, 2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		topic, terr := Topic(b)
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		if verr := m.Validate(); verr != nil || terr != nil || topic != m.Topic {
			t.Fatalf("%v, %v, %q: %+v", verr, terr, topic, m)
		}
		out := m.Append(nil)
		again, err := ParseMessage(out)
		if err != nil || !reflect.DeepEqual(again, m) || !bytes.Equal(again.Append(nil), out) {
			t.Fatalf("%v\nread %+v\nthen %+v", err, m, again)
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	m := sampleMessages()["usual"]
	var buf []byte
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = m.Append(buf[:0])
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseMessage(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
