package packet

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const howNPM = "run make clients, or set FARHOP_NPM to a folder with mqtt-packet"

// TestSecondCodec holds the parsers against mqtt-packet of npm, which shares no
// line with ours, over packets that are whole, nearly whole and not at all:
// what is accepted here is accepted there, with the same fields.
func TestSecondCodec(t *testing.T) {
	dir := os.Getenv("FARHOP_NPM")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin", "tools", "npm")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if _, gone := os.Stat(filepath.Join(dir, "node_modules", "mqtt-packet")); err != nil || gone != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatal("mqtt-packet is missing: " + howNPM)
		}
		t.Skip("no second codec judged ours: run make clients, or set FARHOP_NPM to a folder with mqtt-packet")
	}
	inputs := packetsFor(rand.New(rand.NewPCG(1, 2)), 30_000)
	var text strings.Builder
	for _, in := range inputs {
		fmt.Fprintf(&text, "%d %x\n", in.version, in.bytes)
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/second.js", dir)
	cmd.Stdin, cmd.Stderr = strings.NewReader(text.String()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(inputs) {
		t.Fatalf("%d verdicts on %d packets", len(lines), len(inputs))
	}
	var tl verdicts
	for i, in := range inputs {
		tl.judge(t, in, lines[i])
	}
	t.Logf("%d packets: %d accepted by both, %d refused by both, %d refused here alone: %v", len(inputs), tl.both, tl.neither, len(inputs)-tl.both-tl.neither, tl.here)
	if tl.both < len(inputs)/5 || tl.neither < len(inputs)/20 {
		t.Error("the packets do not ask much")
	}
}

// verdicts counts how the codecs agree.
type verdicts struct {
	both, neither, faults int
	here                  map[string]int // refused here alone
}

func (v *verdicts) judge(t *testing.T, in input, line string) {
	t.Helper()
	var theirs map[string]any
	numbers := json.NewDecoder(strings.NewReader(line))
	numbers.UseNumber() // a float has them as 1e+09
	if err := numbers.Decode(&theirs); err != nil {
		t.Fatal(err)
	}
	why, refused := theirs["error"]
	if _, part := theirs["part"]; part {
		why, refused = "incomplete", true
	}
	ours, err := fieldsOf(in)
	switch {
	case err != nil && refused:
		v.neither++
	case err != nil:
		if v.here == nil {
			v.here = make(map[string]int)
		}
		v.here[err.Error()]++
	case refused:
		if v.faults++; v.faults < 20 {
			t.Errorf("version %d, %x: accepted here as %v, refused there: %v", in.version, in.bytes, ours, why)
		}
	default:
		v.both++
		for _, k := range slices.Sorted(maps.Keys(ours)) {
			if a, b := fmt.Sprint(ours[k]), fmt.Sprint(theirs[k]); a != b {
				if v.faults++; v.faults < 20 {
					t.Errorf("version %d, %x: %s is %s here, %s there", in.version, in.bytes, k, a, b)
				}
			}
		}
	}
}

// fieldsOf parses a packet into the names that testdata/second.js gives.
func fieldsOf(in input) (map[string]any, error) {
	f, size, whole, err := Cut(in.bytes, limits)
	if err == nil && (!whole || size != len(in.bytes)) {
		err = fmt.Errorf("incomplete, or more than one")
	}
	if err != nil {
		return nil, err
	}
	m := map[string]any{"cmd": map[byte]string{
		TypeConnect: "connect", TypePublish: "publish", TypePuback: "puback", TypePubrec: "pubrec", TypePubrel: "pubrel", TypePubcomp: "pubcomp",
		TypeSubscribe: "subscribe", TypeUnsubscribe: "unsubscribe", TypePingreq: "pingreq", TypeDisconnect: "disconnect", TypeAuth: "auth",
	}[f.Type]}
	switch f.Type {
	case TypeConnect:
		return m, connectFields(m, f)
	case TypePublish:
		var p Publish
		if err := ParsePublish(&p, f, in.version); err != nil {
			return nil, err
		}
		m["topic"], m["payload"], m["pid"], m["qos"], m["retain"], m["dup"] = hexed(p.Topic), hexed(p.Payload), p.ID, p.QoS, p.Retain, p.Dup
		m["alias"], m["expiry"], m["type"], m["response"], m["correlation"] = p.Alias, p.Expiry, hexed(p.ContentType), hexed(p.ResponseTopic), hexed(p.CorrelationData)
		var users []Property
		p.EachUser(func(k, v []byte) { users = append(users, Property{string(k), string(v)}) })
		m["users"] = userFields(users)
		return m, nil
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		a, err := ParseAck(f, in.version)
		m["pid"], m["code"] = a.ID, a.Code
		return m, err
	case TypeSubscribe:
		s, err := ParseSubscribe(f, in.version)
		if err != nil {
			return nil, err
		}
		var fs []string
		for _, x := range s.Filters {
			fs = append(fs, fmt.Sprintf("%x,%d,%t,%t,%d", x.Filter, x.QoS, x.NoLocal, x.RetainAsPublished, x.RetainHandling))
		}
		m["pid"], m["sid"], m["filters"] = s.ID, s.SubscriptionID, strings.Join(fs, ";")
		return m, nil
	case TypeUnsubscribe:
		u, err := ParseUnsubscribe(f, in.version)
		if err != nil {
			return nil, err
		}
		var fs []string
		for _, x := range u.Filters {
			fs = append(fs, hexed(x))
		}
		m["pid"], m["filters"] = u.ID, strings.Join(fs, ";")
		return m, nil
	case TypeDisconnect:
		d, err := ParseDisconnect(f, in.version)
		if err == nil && d.Strange {
			err = &Fault{CodeProtocol, "a reason code that clients do not send"} // what the broker answers is its matter
		}
		m["code"], m["expiry"] = d.Code, d.Expiry
		return m, err
	case TypeAuth:
		a, err := ParseAuth(f, in.version)
		m["code"], m["method"], m["data"] = a.Code, hexed(a.Method), hexed(a.Data)
		return m, err
	}
	return m, nil
}

func connectFields(m map[string]any, f Frame) error {
	c, err := ParseConnect(f)
	if err != nil {
		return err
	}
	m["version"], m["id"], m["clean"], m["keep"], m["user"], m["pass"] = c.Version, hexed(c.Client), c.Clean, c.KeepAlive, hexed(c.User), hexed(c.Password)
	m["expiry"], m["window"], m["max"], m["alias"] = c.SessionExpiry, c.ReceiveMax, c.MaxPacket, c.AliasMax
	m["method"], m["data"], m["will"] = hexed(c.AuthMethod), hexed(c.AuthData), ""
	if w := c.Will; w != nil {
		m["will"] = fmt.Sprintf("%x,%x,%d,%t", w.Topic, w.Payload, w.QoS, w.Retain)
		if props := fmt.Sprintf("%d,%d,%x,%x,%x,%s", w.Delay, w.Expiry, w.ContentType, w.ResponseTopic, w.CorrelationData, userFields(w.User)); props != "0,0,,,," {
			m["wprops"] = props // there, none and empty are one
		}
	}
	return nil
}

// userFields is "KEY:VALUE+VALUE;..." in hexadecimal, sorted by key. Empty values
// are left out: the second codec forgets one that another of its key follows.
func userFields(list []Property) string {
	values := make(map[string][]string)
	for _, p := range list {
		if values[p.Key] = slices.Grow(values[p.Key], 1); p.Value != "" {
			values[p.Key] = append(values[p.Key], hexed(p.Value))
		}
	}
	var out []string
	for k, v := range values {
		out = append(out, hexed(k)+":"+strings.Join(v, "+"))
	}
	slices.Sort(out)
	return strings.Join(out, ";")
}

func hexed[T string | []byte](v T) string { return hex.EncodeToString([]byte(v)) }
