package packet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

var limits = Limits{Publish: 1 << 20, Other: 4096}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		name, in string // hex
		typ      byte
		size     int
		whole    bool
		code     byte
	}{
		{"nothing", "", 0, 0, false, 0},
		{"one byte", "30", 0, 0, false, 0},
		{"length goes on", "3080", 0, 0, false, 0},
		{"body missing", "300501", 0, 7, false, 0},
		{"pingreq", "c000", TypePingreq, 2, true, 0},
		{"pingreq and more", "c000c000", TypePingreq, 2, true, 0},
		{"two bytes of length", "308001" + strings.Repeat("00", 128), TypePublish, 131, true, 0},
		{"length of five bytes", "30ffffffff01", 0, 0, false, CodeMalformed},
		{"length of five bytes, begun", "30ffffffff", 0, 0, false, CodeMalformed},
		{"length with a useless byte", "308000", 0, 0, false, CodeMalformed},
		{"publish too large", "3081808001", 0, 0, false, CodeTooLarge},
		{"other too large", "828020", 0, 0, false, CodeTooLarge},
		{"type 0", "0000", 0, 0, false, CodeProtocol},
		{"qos 3", "36", 0, 0, false, CodeMalformed},
		{"dup with qos 0", "38", 0, 0, false, CodeMalformed},
		{"subscribe flags", "80", 0, 0, false, CodeMalformed},
		{"pubrel flags", "60", 0, 0, false, CodeMalformed},
		{"pingreq flags", "c1", 0, 0, false, CodeMalformed},
		{"connect flags", "11", 0, 0, false, CodeMalformed},
		{"a packet of servers", "21", 0, 0, false, CodeProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, size, whole, err := Cut(unhex(t, c.in), limits)
			if got := codeOf(err); got != c.code || size != c.size || whole != c.whole || whole && f.Type != c.typ {
				t.Errorf("type %d, size %d, whole %v, code 0x%02X (%v)", f.Type, size, whole, got, err)
			}
		})
	}
}

const connect5 = "00044d515454 05 02 003c "

// bodies are packets with the code each is refused with, 0 for none.
var bodies = []struct {
	name    string
	first   byte
	version byte
	body    string
	code    byte
}{
	{"connect 3.1.1", 0x10, 0, "00044d515454 04 02 003c 0001 61", 0},
	{"connect 3.1", 0x10, 0, "00064d514973 6470 03 02 003c 0001 61", 0},
	{"connect 5", 0x10, 0, connect5 + "00 0001 61", 0},
	{"connect 6", 0x10, 0, "00044d515454 06 02 003c 00 0001 61", CodeVersion},
	{"connect of a stranger", 0x10, 0, "00044d515455 05 02 003c 00 0001 61", CodeProtocol},
	{"connect with the reserved flag", 0x10, 0, "00044d515454 05 03 003c 00 0001 61", CodeMalformed},
	{"connect with will qos 3", 0x10, 0, "00044d515454 05 1e 003c 00 0001 61 00 0001 62 0000", CodeMalformed},
	{"connect with will retain, no will", 0x10, 0, "00044d515454 05 22 003c 00 0001 61", CodeMalformed},
	{"connect with an empty will payload", 0x10, 0, "00044d515454 05 06 003c 00 0001 61 00 0001 62 0000", 0},
	{"connect 3.1.1, password alone", 0x10, 0, "00044d515454 04 42 003c 0001 61 0001 62", CodeMalformed},
	{"connect 5, password alone", 0x10, 0, "00044d515454 05 42 003c 00 0001 61 0001 62", 0},
	{"connect that ends early", 0x10, 0, connect5, CodeMalformed},
	{"connect with bytes behind", 0x10, 0, connect5 + "00 0001 61 00", CodeMalformed},
	{"connect with a surrogate", 0x10, 0, connect5 + "00 0003 eda080", CodeMalformed},
	{"connect with a NUL", 0x10, 0, connect5 + "00 0001 00", CodeMalformed},
	{"receive maximum 0", 0x10, 0, connect5 + "03 210000 0001 61", CodeProtocol},
	{"receive maximum twice", 0x10, 0, connect5 + "06 210001 210001 0001 61", CodeProtocol},
	{"maximum packet size 0", 0x10, 0, connect5 + "05 2700000000 0001 61", CodeProtocol},
	{"topic alias in a connect", 0x10, 0, connect5 + "03 230001 0001 61", CodeProtocol},
	{"unknown property", 0x10, 0, connect5 + "02 7f00 0001 61", CodeMalformed},
	{"authentication data alone", 0x10, 0, connect5 + "04 16000161 0001 61", CodeProtocol},
	{"request problem information 2", 0x10, 0, connect5 + "02 1702 0001 61", CodeProtocol},

	{"publish", 0x30, 4, "0001 61 62", 0},
	{"publish without a topic", 0x30, 4, "0000", CodeProtocol},
	{"publish with packet id 0", 0x32, 4, "0001 61 0000", CodeProtocol},
	{"publish 5 with an alias alone", 0x30, 5, "0000 03 230001", 0},
	{"publish 5 with alias 0", 0x30, 5, "0001 61 03 230000", CodeBadAlias},
	{"publish 5 with a subscription identifier", 0x30, 5, "0001 61 02 0b01", CodeProtocol},
	{"publish with a wildcard", 0x30, 4, "0003 612f2b", CodeMalformed},
	{"publish with a control character", 0x30, 4, "0001 1f", CodeMalformed},
	{"publish with a non-character", 0x30, 4, "0003 efbfbf", CodeMalformed},
	{"publish 5 with an empty response topic", 0x30, 5, "0001 61 03 080000", CodeProtocol},
	{"subscribe to an empty filter", 0x82, 4, "0001 0000 01", CodeMalformed},
	{"subscribe to a share of nothing", 0x82, 4, "0001 0008 2473686172652f67 01", CodeProtocol},
	{"publish 5 with payload format 2", 0x30, 5, "0001 61 02 0102", CodeProtocol},
	{"publish 5, properties too long", 0x30, 5, "0001 61 09 0101", CodeMalformed},
	{"publish 5, property cut", 0x30, 5, "0001 61 03 020000", CodeMalformed},

	{"puback", 0x40, 4, "0001", 0},
	{"puback 0", 0x40, 4, "0000", CodeProtocol},
	{"puback 3.1.1 with a code", 0x40, 4, "0001 00", CodeMalformed},
	{"puback 5 with a code", 0x40, 5, "0001 10", 0},
	{"puback 5 with a foreign code", 0x40, 5, "0001 92", CodeProtocol},
	{"pubrel 5 with its code", 0x62, 5, "0001 92 00", 0},
	{"puback 5, reason string twice", 0x40, 5, "0001 00 08 1f000161 1f000161", CodeProtocol},

	{"subscribe", 0x82, 4, "0001 0001 61 01", 0},
	{"subscribe to nothing", 0x82, 4, "0001", CodeProtocol},
	{"subscribe 3.1.1, qos 3", 0x82, 4, "0001 0001 61 03", CodeMalformed},
	{"subscribe 3.1.1, reserved bits", 0x82, 4, "0001 0001 61 04", CodeMalformed},
	{"subscribe 5, reserved bits", 0x82, 5, "0001 00 0001 61 40", CodeMalformed},
	{"subscribe 5, retain handling 3", 0x82, 5, "0001 00 0001 61 30", CodeProtocol},
	{"subscribe 5, options missing", 0x82, 5, "0001 00 0001 61", CodeMalformed},
	{"subscribe 5, identifier 0", 0x82, 5, "0001 02 0b00 0001 61 00", CodeProtocol},
	{"subscribe, packet id 0", 0x82, 4, "0000 0001 61 01", CodeProtocol},
	{"unsubscribe from nothing", 0xA2, 5, "0001 00", CodeProtocol},
	{"unsubscribe", 0xA2, 5, "0001 00 0001 61", 0},

	{"disconnect 3.1.1 with a body", 0xE0, 4, "00", CodeMalformed},
	{"disconnect 5", 0xE0, 5, "", 0},
	{"disconnect 5 with will", 0xE0, 5, "04", 0},
	{"disconnect 5 with a server's code", 0xE0, 5, "8e", 0},
	{"disconnect 5 with an expiry", 0xE0, 5, "00 05 1100000001", 0},
	{"auth before 5", 0xF0, 4, "", CodeMalformed},
	{"auth without method", 0xF0, 5, "18 00", CodeProtocol},
	{"auth", 0xF0, 5, "18 04 15000161", 0},
	{"auth, code of a server", 0xF0, 5, "00 04 15000161", CodeProtocol},
}

func TestVerdicts(t *testing.T) {
	for _, c := range bodies {
		t.Run(c.name, func(t *testing.T) {
			f := Frame{Type: c.first >> 4, Flags: c.first & 15, Body: unhex(t, c.body)}
			if err := checkFlags(f.Type, f.Flags); err != nil {
				t.Fatal(err)
			}
			if err := parse(f, c.version); codeOf(err) != c.code {
				t.Errorf("%v, want code 0x%02X", err, c.code)
			}
		})
	}
}

// parse parses anything.
func parse(f Frame, version byte) (err error) {
	switch f.Type {
	case TypeConnect:
		_, err = ParseConnect(f)
	case TypePublish:
		var p Publish
		err = ParsePublish(&p, f, version)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		_, err = ParseAck(f, version)
	case TypeSubscribe:
		_, err = ParseSubscribe(f, version)
	case TypeUnsubscribe:
		_, err = ParseUnsubscribe(f, version)
	case TypeDisconnect:
		_, err = ParseDisconnect(f, version)
	case TypeAuth:
		_, err = ParseAuth(f, version)
	}
	return err
}

func TestConnectFields(t *testing.T) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 5}
	pk.Connect = packets.ConnectParams{
		ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: "c", Keepalive: 30, UsernameFlag: true, Username: []byte("u"),
		PasswordFlag: true, Password: []byte("p"), WillFlag: true, WillTopic: "w", WillPayload: []byte("x"), WillQos: 2, WillRetain: true,
	}
	pk.Connect.WillProperties = packets.Properties{
		WillDelayInterval: 7, MessageExpiryInterval: 8, ContentType: "t", User: []packets.UserProperty{{Key: "k", Val: "v"}},
	}
	pk.Properties = packets.Properties{SessionExpiryInterval: 9, SessionExpiryIntervalFlag: true, ReceiveMaximum: 10, MaximumPacketSize: 11, TopicAliasMaximum: 12}
	var buf bytes.Buffer
	if err := pk.ConnectEncode(&buf); err != nil {
		t.Fatal(err)
	}
	f, _, whole, err := Cut(buf.Bytes(), limits)
	if err != nil || !whole {
		t.Fatal(whole, err)
	}
	c, err := ParseConnect(f)
	if err != nil {
		t.Fatal(err)
	}
	clear(buf.Bytes()) // nothing may alias it
	w := c.Will
	if c.Version != 5 || !c.Clean || c.Client != "c" || c.KeepAlive != 30 || c.User != "u" || string(c.Password) != "p" ||
		c.SessionExpiry != 9 || c.ReceiveMax != 10 || c.MaxPacket != 11 || c.AliasMax != 12 {
		t.Errorf("%+v", c)
	}
	if w == nil || w.Topic != "w" || string(w.Payload) != "x" || w.QoS != 2 || !w.Retain || w.Delay != 7 || w.Expiry != 8 ||
		w.ContentType != "t" || len(w.User) != 1 || w.User[0] != (Property{"k", "v"}) {
		t.Errorf("will %+v", w)
	}
}

// FuzzParse holds every parser against the codec it stands before: what is
// accepted here, the codec reads without a panic and to the same fields.
func FuzzParse(f *testing.F) {
	f.Add(byte(0x30), byte(5), []byte("\x00\x01a\x00x"))
	f.Add(byte(0x32), byte(5), []byte("\x00\x01a\x00\x01\x0a\x26\x00\x01k\x00\x01v\x01\x01\x01x"))
	f.Add(byte(0x82), byte(5), []byte("\x00\x01\x02\x0b\x05\x00\x01a\x01"))
	f.Add(byte(0x10), byte(0), []byte("\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"))
	f.Add(byte(0xE0), byte(5), []byte("\x00\x05\x11\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, first, version byte, body []byte) {
		version = 3 + version%3
		fr := Frame{Type: first >> 4, Flags: first & 15, Body: body}
		if checkFlags(fr.Type, fr.Flags) != nil || parse(fr, version) != nil || fr.Type != TypePublish {
			return
		}
		var p Publish
		if err := ParsePublish(&p, fr, version); err != nil {
			t.Fatal(err)
		}
		pk := packets.Packet{FixedHeader: header(fr), ProtocolVersion: version}
		if err := pk.PublishDecode(body); err != nil {
			t.Fatalf("the codec refuses what passed: %v", err)
		}
		if string(p.Topic) != pk.TopicName || !bytes.Equal(p.Payload, pk.Payload) || p.ID != pk.PacketID ||
			p.Alias != pk.Properties.TopicAlias || p.Expiry != pk.Properties.MessageExpiryInterval || p.Users != len(pk.Properties.User) {
			t.Fatalf("%+v, the codec says %+v", p, pk)
		}
		n := 0
		p.EachUser(func(k, v []byte) {
			if u := pk.Properties.User[n]; u.Key != string(k) || u.Val != string(v) {
				t.Fatalf("user property %d: %q %q, the codec says %+v", n, k, v, u)
			}
			n++
		})
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func codeOf(err error) byte {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Code
	}
	if err != nil {
		return 0xFF
	}
	return 0
}
