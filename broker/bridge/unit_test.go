package bridge

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestValidate(t *testing.T) {
	three := 3
	all := []Rule{{Direction: Both, Filter: "#"}}
	for _, c := range []struct {
		name string
		edit func(c *Config)
		want string // of the error, "" = valid
	}{
		{"least", func(*Config) {}, ""},
		{"name", func(c *Config) { c.Name = "a b" }, "name "},
		{"no domain", func(c *Config) { c.Domain = "" }, "domain "},
		{"one domain twice", func(c *Config) { c.Remote.Domain = "here" }, "remote.domain "},
		{"remote domain from the URL", func(c *Config) { c.Remote.Domain, c.Remote.URL = "", "mqtts://[::1]" }, ""},
		{"share", func(c *Config) { c.Share = "a/b" }, "share "},
		{"window", func(c *Config) { c.Window = 65536 }, "window "},
		{"retry_min beyond retry_max", func(c *Config) { c.RetryMin = time.Hour }, "retry_min "},
		{"retry", func(c *Config) { c.RetryMax = time.Millisecond }, "retry_max "},
		{"scheme", func(c *Config) { c.Remote.URL = "http://x" }, "remote.url "},
		{"no host", func(c *Config) { c.Remote.URL = "mqtt://" }, "remote.url "},
		{"user in the URL", func(c *Config) { c.Remote.URL = "mqtt://a:secret@x" }, "remote.username"},
		{"TLS without encryption", func(c *Config) { c.Remote.TLS.CA = "ca.pem" }, "remote.tls"},
		{"half a certificate", func(c *Config) { c.Remote.URL, c.Remote.TLS.Cert = "mqtts://x", "c.pem" }, "remote.tls"},
		{"version", func(c *Config) { c.Remote.Version = "4" }, "remote.version "},
		{"mark with MQTT 5", func(c *Config) { c.Remote.Mosquitto = true }, "remote.mosquitto"},
		{"QoS", func(c *Config) { c.Remote.MaxQoS = &three }, "remote.max_qos "},
		{"two passwords", func(c *Config) { c.Local.Password, c.Local.PasswordFile = "a", "b" }, "local.password "},
		{"no rules", func(c *Config) { c.Rules = nil }, "rules: "},
		{"direction", func(c *Config) { c.Rules = []Rule{{Direction: "up", Filter: "#"}} }, "rules[0].direction "},
		{"filter", func(c *Config) { c.Rules = []Rule{{Direction: Out, Filter: "a#"}} }, "rules[0].filter "},
		{"group that goes round", func(c *Config) {
			c.Share, c.Remote.Version, c.Rules = "g", V311, []Rule{{Direction: Both, Filter: "a/#"}}
		}, `share "g": rules that bring back`},
		{"own group", func(c *Config) { c.Rules = []Rule{{Direction: Out, Filter: "$share/g/a"}} }, "rules[0].filter "},
		{"prefix without slash", func(c *Config) { c.Rules = []Rule{{Direction: Out, Filter: "a", LocalPrefix: "x"}} }, "rules[0].local_prefix "},
		{"prefix with wildcard", func(c *Config) { c.Rules = []Rule{{Direction: Out, Filter: "a", RemotePrefix: "+/"}} }, "rules[0].remote_prefix "},
		{"rule QoS", func(c *Config) { c.Rules = []Rule{{Direction: Out, Filter: "a", QoS: &three}} }, "rules[0].qos "},
		{"twice out", func(c *Config) {
			c.Rules = []Rule{{Direction: Out, Filter: "a/#"}, {Direction: Both, Filter: "+/b"}}
		}, "carried twice"},
		{"two remote prefixes of one filter", func(c *Config) {
			c.Rules = []Rule{{Direction: In, Filter: "#", RemotePrefix: "x/"}, {Direction: In, Filter: "#", RemotePrefix: "y/"}}
		}, ""},
		{"grows at each turn", func(c *Config) {
			c.Rules = []Rule{{Direction: Out, Filter: "#", RemotePrefix: "up/"}, {Direction: In, Filter: "#", LocalPrefix: "down/"}}
		}, "under another topic"},
		{"same prefixes back", func(c *Config) {
			c.Rules = []Rule{{Direction: Out, Filter: "a/#", LocalPrefix: "l/", RemotePrefix: "r/"}, {Direction: In, Filter: "a/+", LocalPrefix: "l/", RemotePrefix: "r/"}}
		}, ""},
		{"same prefixes, written otherwise", func(c *Config) {
			c.Rules = []Rule{{Direction: Out, Filter: "b/#", LocalPrefix: "l/a/", RemotePrefix: "r/a/"}, {Direction: In, Filter: "#", LocalPrefix: "l/", RemotePrefix: "r/"}}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Name: "b", Domain: "here", Remote: Remote{URL: "mqtt://x", Domain: "there"}, Rules: all}
			c.edit(&cfg)
			err := cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Error("the error shows the password")
			}
		})
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"#", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "+", true},
		{"a/#", "b/#", false},
		{"a/+/c", "a/b/+", true},
		{"a/+/c", "a/b/d", false},
		{"a/+", "a/b/c", false},
		{"+/+", "a/#", true},
		{"a", "a/b", false},
		{"#", "$SYS/#", false},
		{"$SYS/#", "$SYS/x", true},
	} {
		if overlap(c.a, c.b) != c.want || overlap(c.b, c.a) != c.want {
			t.Errorf("overlap(%q, %q) is not %v both ways", c.a, c.b, c.want)
		}
	}
}

func TestMapTopic(t *testing.T) {
	one := 1
	rules := []Rule{
		{Direction: Out, Filter: "up/#", LocalPrefix: "l/", RemotePrefix: "far/off/"},
		{Direction: In, Filter: "#", RemotePrefix: "all/", QoS: &one},
	}
	for _, c := range []struct {
		from        side
		topic, want string
		qos         byte
	}{
		{local, "l/up/x", "far/off/up/x", 2},
		{local, "l/up", "far/off/up", 2},
		{local, "up/x", "", 0},
		{remote, "all/x/y", "x/y", 1},
		{remote, "far/off/up/x", "", 0},
	} {
		got, qos, ok := mapTopic(rules, c.from, c.topic)
		if got != c.want || qos != c.qos || ok != (c.want != "") {
			t.Errorf("%s %q becomes %q QoS %d (%v), want %q QoS %d", c.from, c.topic, got, qos, ok, c.want, c.qos)
		}
	}
	if got := mapResponse(rules, local, "x/y"); got != "all/x/y" {
		t.Errorf("a response topic x/y goes out as %q", got)
	}
}

func TestOriginOf(t *testing.T) {
	message := func() *packets.Packet {
		return &packets.Packet{TopicName: "a/b", Payload: []byte("p"), Properties: packets.Properties{User: []packets.UserProperty{{Key: "k", Val: "v"}, {Key: OriginProperty, Val: "id-1"}}}}
	}
	pk := message()
	o, ok := originOf(pk)
	if !ok || o.id != "id-1" || o.path != nil {
		t.Fatalf("a bare id reads as %+v, %v", o, ok)
	}
	o.path, o.check = []string{"here", "there:1883"}, check(pk)
	stamp(pk, o)
	if len(pk.Properties.User) != 2 || pk.Properties.User[0].Key != "k" {
		t.Errorf("stamped: %+v", pk.Properties.User)
	}
	got, ok := originOf(pk)
	if !ok || got.String() != o.String() {
		t.Errorf("read %+v, want %+v", got, o)
	}
	for name, edit := range map[string]func(){
		"moved under a prefix": func() { pk.TopicName = "x/y/b" },
		"other payload":        func() { pk.Payload = []byte("q") },
		"other last level":     func() { pk.TopicName = "a/c" },
	} {
		old := *pk
		edit()
		if _, ok := originOf(pk); ok != (name == "moved under a prefix") {
			t.Errorf("%s: taken for the same message: %v", name, ok)
		}
		*pk = old
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"id", "id;0123;a", "id;0123;a,b:1883", ";x;", "id;;a", "id;c;a,,b", strings.Repeat("x", maxOrigin+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseOrigin(s)
		if err != nil {
			return
		}
		if o.id == "" || len(s) > maxOrigin {
			t.Fatalf("%q reads as %+v", s, o)
		}
		if o.check != "" && o.String() != s {
			t.Fatalf("%q is written back as %q", s, o.String())
		}
	})
}

func FuzzReadPacket(f *testing.F) {
	for _, hex := range []string{
		"\x20\x02\x00\x01", "\x20\x03\x00\x00\x00", "\x20\x06\x01\x00\x03\x21\x00\x0a", "\x30\x04\x00\x01ax",
		"\x32\x08\x00\x01a\x00\x01\x00xy", "\x40\x02\x00\x01", "\x50\x04\x00\x01\x97\x00", "\x62\x02\x00\x01", "\x70\x02\x00\x01",
		"\x90\x04\x00\x01\x00\x02", "\xd0\x00", "\xe0\x02\x8e\x00", "\x30\xff\xff\xff\x7f", "\x3b\x00",
	} {
		f.Add([]byte(hex), true)
		f.Add([]byte(hex), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, five bool) {
		version := byte(4)
		if five {
			version = 5
		}
		const limit = 1 << 16
		pk, err := readPacket(bufio.NewReader(bytes.NewReader(data)), version, limit)
		if err != nil {
			return
		}
		if len(pk.Payload) > limit {
			t.Fatalf("%d bytes of payload", len(pk.Payload))
		}
		if pk.FixedHeader.Type == packets.Publish {
			var b bytes.Buffer
			if err := encode(&b, pk); err != nil {
				t.Fatalf("%x was read but not written: %v", data, err)
			}
			back, err := readPacket(bufio.NewReader(&b), version, 2*limit)
			if err != nil || back.TopicName != pk.TopicName || !bytes.Equal(back.Payload, pk.Payload) || back.PacketID != pk.PacketID || len(back.Properties.User) != len(pk.Properties.User) {
				t.Fatalf("%x changed on its way: %v", data, err)
			}
		}
	})
}

func TestTable(t *testing.T) {
	tb := newTable[int](8, time.Minute)
	tb.add(1)
	tb.add(1)
	for i, want := range []bool{true, true, false} {
		if tb.take(1) != want {
			t.Errorf("take %d of what was added twice: not %v", i+1, want)
		}
	}
	for i := range 100 {
		tb.add(i)
	}
	if n := len(tb.young) + len(tb.old); n > 8 || !tb.has(99) || tb.has(50) || tb.lost() == 0 {
		t.Errorf("holds %d of 100, forgot %d early", n, tb.lost())
	}
	tb.pass(29 * time.Second)
	if !tb.has(99) {
		t.Error("forgot within its time")
	}
	tb.pass(30 * time.Second)
	tb.pass(30 * time.Second)
	if tb.has(99) {
		t.Error("remembers beyond its time")
	}
}

func TestOrder(t *testing.T) {
	var o order
	for id := range uint16(4) {
		o.push(id)
	}
	for _, c := range []struct {
		done uint16
		due  []uint16
	}{{2, nil}, {0, []uint16{0}}, {1, []uint16{1, 2}}, {3, []uint16{3}}} {
		if got := o.done(c.done); !slices.Equal(got, c.due) {
			t.Errorf("after %d due are %v, want %v", c.done, got, c.due)
		}
	}
	if len(o.due)+len(o.ready) != 0 {
		t.Errorf("left over: %+v", o)
	}
}

// TestTimes holds what follows from the round trip to what it is for.
func TestTimes(t *testing.T) {
	c := Config{Name: "x"}.withDefaults("")
	for _, v := range []struct {
		rtt    time.Duration
		window int
		keep   time.Duration
		first  time.Duration
	}{
		{200 * time.Microsecond, 256, 15 * time.Second, 100 * time.Millisecond},
		{100 * time.Millisecond, 2500, 15 * time.Second, 200 * time.Millisecond},
		{1300 * time.Millisecond, 32500, 39 * time.Second, 2600 * time.Millisecond},
		{2600 * time.Millisecond, 65000, time.Minute, 5200 * time.Millisecond},
		{10 * time.Minute, 65535, time.Minute, time.Minute},
	} {
		if w, k, p := c.window(v.rtt), c.silence(v.rtt), c.pause(1, v.rtt); w != v.window || k != v.keep || p != v.first {
			t.Errorf("%s: window %d, keepalive %s, pause %s; want %d, %s, %s", v.rtt, w, k, p, v.window, v.keep, v.first)
		}
	}
	for n := 1; n < 100; n++ {
		if p := c.pause(n, time.Millisecond); p > c.RetryMax || p < c.pause(n-1, time.Millisecond) {
			t.Fatalf("pause %d is %s", n, p)
		}
	}
	c.Window = 7
	if c.window(time.Hour) != 7 {
		t.Error("a configured window is not kept")
	}
	var r roundTrip
	for range 100 {
		r.add(time.Second)
	}
	if got, p := r.get(), r.patience(); got != time.Second || p < 5*time.Second || p > 6*time.Second {
		t.Errorf("round trip %s, patience %s", got, p)
	}
}

// TestOutbox keeps publishes within the broker's quota, control packets ahead,
// and ends those who wait when it closes.
func TestOutbox(t *testing.T) {
	o := newOutbox(5, 300, 1)
	pub := func(qos byte, id uint16) waiting {
		return waiting{pk: &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, ProtocolVersion: 5, TopicName: "t", PacketID: id, Payload: make([]byte, 100)}}
	}
	types := func() string {
		var b bytes.Buffer
		if _, err := o.take(&b); err != nil {
			t.Fatal(err)
		}
		var out []string
		for r := bufio.NewReader(&b); ; {
			pk, err := readPacket(r, 5, 1000)
			if err != nil {
				return strings.Join(out, " ")
			}
			out = append(out, fmt.Sprint(packets.PacketNames[pk.FixedHeader.Type], pk.PacketID))
		}
	}
	for id := uint16(1); id <= 2; id++ {
		if ok, err := o.publish(pub(1, id)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	o.send(ack(packets.Puback, 9, 5))
	if got := types(); got != "Puback9 Publish1" {
		t.Errorf("first come %s", got)
	}
	if got := types(); got != "" {
		t.Errorf("beyond the quota came %s", got)
	}
	o.settled()
	o.settled() // more than was taken
	if got := types(); got != "Publish2" {
		t.Errorf("after an acknowledgement came %s", got)
	}
	if o.quota > 1 {
		t.Errorf("quota %d", o.quota)
	}
	for o.bytes < o.limit {
		_, _ = o.publish(pub(2, 3))
	}
	if ok, err := o.publish(pub(0, 0)); ok || err != nil {
		t.Errorf("QoS 0 into a full box: %v, %v", ok, err)
	}
	done := make(chan error)
	go func() {
		_, err := o.publish(pub(1, 4))
		done <- err
	}()
	o.close()
	if err := <-done; err == nil {
		t.Error("a publish got into a closed box")
	}
}

// TestOutboxFlood has a broker cause answers without end and read none.
func TestOutboxFlood(t *testing.T) {
	o := newOutbox(5, 1<<10, 1)
	o.control.Write(make([]byte, minControl-100))
	for n := 0; o.failure() == nil; n++ {
		if n > 100 {
			t.Fatal("more and more answers wait for a broker that reads none")
		}
		o.send(ack(packets.Pubrel, uint16(n), 5))
	}
	if n := o.control.Len(); n > minControl+16 {
		t.Errorf("%d bytes wait", n)
	}
}
