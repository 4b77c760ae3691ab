package conformance

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// TestEncode: fields become the bytes of the standards.
func TestEncode(t *testing.T) {
	for _, tt := range []struct {
		version byte
		packet  string
		fields  string
		want    string
	}{
		{4, "CONNECT", "id=ab", "10 0e 00044d515454 04 02 003c 00026162"},
		{4, "CONNECT", "id=a clean=0 keep=1 user=u pass=x:00 will=w will-payload=p will-qos=1 will-retain=1", "10 19 00044d515454 04 ec 0001 000161 000177 000170 000175 000100"},
		{5, "CONNECT", "id=a session-expiry=1", "10 13 00044d515454 05 02 003c 05 1100000001 000161"},
		{5, "CONNECT", "id=a will=w will.will-delay=1", "10 19 00044d515454 05 06 003c 00 000161 05 1800000001 000177 0000"},
		{4, "CONNECT", "protocol=X level=9 connect-flags=1 flags=5 id=", "15 09 000158 09 01 003c 0000"},
		{4, "PUBLISH", "topic=t payload=x:ff", "30 04 000174 ff"},
		{5, "PUBLISH", "topic=t qos=2 dup=1 retain=1 pid=258 alias=1 subscription-id=128", "3d 0c 000174 0102 06 230001 0b8001"},
		{4, "PUBREL", "pid=1", "62 02 0001"},
		{5, "PUBACK", "pid=1 code=0x10", "40 03 0001 10"},
		{5, "PUBACK", "pid=1 reason-string=r", "40 08 0001 00 04 1f000172"},
		{5, "SUBSCRIBE", "pid=1 filter=a,1,nl,rap,rh=2 filter=b", "82 0b 0001 00 000161 2d 000162 00"},
		{4, "UNSUBSCRIBE", "pid=1 filter=a", "a2 05 0001 000161"},
		{5, "DISCONNECT", "", "e0 00"},
		{5, "DISCONNECT", "code=4", "e0 01 04"},
		{5, "AUTH", "code=0x18 auth-method=m auth-data=x:01", "f0 0a 18 08 1500016d 16000101"},
		{5, "PINGREQ", "", "c0 00"},
		{5, "PUBLISH", "topic=t user-property=k:v", "30 0b 000174 07 2600016b000176"},
	} {
		fs, err := fields(strings.Fields(tt.fields))
		if err != nil {
			t.Fatal(err)
		}
		got, err := encode(tt.version, tt.packet, fs)
		want, _ := hex.DecodeString(strings.ReplaceAll(tt.want, " ", ""))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s %s: %x, %v, want %x", tt.packet, tt.fields, got, err, want)
		}
	}
	for _, bad := range []string{"PUBLISH pid=x", "PUBLISH nothing=1", "SUBSCRIBE filter=a,1,xx", "CONNECT user-property=k", "NONE a=1"} {
		words := strings.Fields(bad)
		fs, err := fields(words[1:])
		if err != nil {
			t.Fatal(err)
		}
		if b, err := encode(5, words[0], fs); err == nil {
			t.Errorf("%s: no error but %x", bad, b)
		}
	}
}

// TestRaw: bytes and lengths as they are written.
func TestRaw(t *testing.T) {
	for words, want := range map[string]string{
		"30 0a0b":             "300a0b",
		"'ab' t'ab'":          "000261626162",
		"30 [ 'a' ( 01 ) ]":   "30060001610001" + "01",
		"70*3":                "707070",
		"[ 00*200 ]":          "c801" + strings.Repeat("00", 200),
		"30 [ 00 [ 01 02 ] ]": "300400020102",
	} {
		got, err := rawBytes(strings.Fields(words))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v, want %s", words, got, err, want)
		}
	}
	for _, bad := range []string{"]", "[", "[ )", "3", "zz", "0000*2", "70*x", "'a"} {
		if b, err := rawBytes(strings.Fields(bad)); err == nil {
			t.Errorf("%s: no error but %x", bad, b)
		}
	}
}

// TestParse: mistakes in case files are found when they are read.
func TestParse(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{`{"cases":[{"name":"a","clauses":{"MQTT5":["1.5.4-1"]},"steps":["a connect"]}]}`, ""},
		{`{"cases":[{"name":"a","clauses":{"MQTT6":["1.5.4-1"]},"steps":["a connect"]}]}`, "no standard"},
		{`{"cases":[{"name":"a","steps":["a connect"]}]}`, "it needs a name"},
		{`{"cases":[{"name":"a","practice":"x","versions":[5],"steps":["a jump"]}]}`, "no operation"},
		{`{"cases":[{"name":"a","practice":"x","versions":[5],"steps":["a < JUMP"]}]}`, "name of a packet"},
		{`{"cases":[{"name":"a","practice":"x","versions":[5],"steps":["a < PUBACK pid=$p"]}]}`, "bound by no step"},
		{`{"cases":[{"name":"a","practice":"x","versions":[5],"steps":["v4 a connect"]}]}`, "no steps"},
		{`{"cases":[{"name":"a","practice":"x","versions":[5],"steps":["a"]}]}`, "needs a connection"},
		{`{"cases":[{"name":"a","practice":"x","versions":[5],"steps":["a ping"]},{"name":"a","practice":"x","versions":[5],"steps":["a ping"]}]}`, "two cases"},
		{`{"cases":[{"nome":"a"}]}`, "unknown field"},
	} {
		_, err := Parse("x", []byte(tt.src))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.src, err, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(byte(5), byte(0x32), []byte("\x00\x01t\x00\x01\x03\x23\x00\x01x"))
	f.Add(byte(5), byte(0x20), []byte("\x00\x00\x06\x22\x00\x0a\x21\x00\x14"))
	f.Add(byte(4), byte(0x90), []byte("\x00\x01\x00\x80"))
	f.Add(byte(5), byte(0xe0), []byte("\x82\x05\x11\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, version, first byte, body []byte) {
		p, breach := decode(version, first, 2, body)
		if p.size != len(body)+2 {
			t.Errorf("size %d of %d bytes", p.size, len(body))
		}
		if breach == nil && typeNames[p.kind] == "" {
			t.Errorf("type %d is no packet of a server", p.kind)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`{"cases":[{"name":"a","clauses":{"MQTT5":["1.5.4-1"]},"steps":["a raw 30 [ 'x' ]", "a connect n=2 id=$c -> present=?p"]}]}`)
	f.Fuzz(func(t *testing.T, src string) {
		cases, err := Parse("x", []byte(src))
		if err != nil {
			return
		}
		for _, c := range cases {
			if len(c.steps) == 0 || c.Name == "" {
				t.Errorf("case %q has %d steps", c.Name, len(c.steps))
			}
		}
	})
}
