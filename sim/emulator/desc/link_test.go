package desc

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const full = `
listen: 127.0.0.1:9330
to: 127.0.0.1:7330
network: udp
seed: 18446744073709551615
delays: [{at: 0s, delay: 1.2s}, {at: 10m, delay: 1.3s}]
delays_repeat: true
jitter: 2ms
loss: 1%
burst: 10
reorder: 0.1%
reorder_by: 30ms
duplicate: 0.2%
corrupt: 0.01%
trace: lte.down
queue: 64KiB
overhead: 48
mtu: 1500
contacts: {every: 2h, for: 40m, start: 2030-01-02T00:00:00Z}
rebind_every: 5m
return:
  delay: 1.25s
  rate: 256kbit
  loss: 0
events:
- {at: 30s, for: 10s, every: 1m, do: half-open, direction: down}
- {at: 2m, do: rebind}
`

// files serves one trace.
func files(path string) ([]byte, error) {
	if path != "lte.down" {
		return nil, fmt.Errorf("no file %q", path)
	}
	return []byte("1\n2\n"), nil
}

func mustParse(t *testing.T, text string) Link {
	t.Helper()
	l, err := Parse("link.yaml", []byte(text), files)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParseFull(t *testing.T) {
	l := mustParse(t, full)
	trace, _ := ParseTrace("lte.down", []byte("1\n2\n"))
	want := Profile{
		Delays: Delays{[]DelayPoint{{0, 1200 * time.Millisecond}, {10 * time.Minute, 1300 * time.Millisecond}}, true},
		Jitter: 2 * time.Millisecond, Loss: 0.01, Burst: 10, Reorder: 0.001, ReorderBy: 30 * time.Millisecond,
		Duplicate: 0.002, Corrupt: 0.0001, Trace: trace, Queue: 65536, Overhead: 48, MTU: 1500,
		Contacts: Schedule{time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC), 2 * time.Hour, 40 * time.Minute},
	}
	if !reflect.DeepEqual(l.Up, want) {
		t.Errorf("up %+v\nwant %+v", l.Up, want)
	}
	back := want
	back.Delays, back.Delay, back.Trace, back.Rate, back.Loss = Delays{}, 1250*time.Millisecond, nil, 256000, 0
	if !reflect.DeepEqual(l.Down, back) {
		t.Errorf("down %+v\nwant %+v", l.Down, back)
	}
	if l.Listen != "127.0.0.1:9330" || l.To != "127.0.0.1:7330" || l.Network != "udp" || l.Seed != 1<<64-1 || l.RebindEvery != 5*time.Minute {
		t.Errorf("%+v", l)
	}
	if len(l.Events) != 2 || l.Events[0] != (Event{30 * time.Second, time.Minute, 10 * time.Second, HalfOpen, Down}) {
		t.Errorf("events %+v", l.Events)
	}
	// What it writes, it reads back, as JSON is YAML.
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustParse(t, string(text)); !reflect.DeepEqual(again, l) {
		t.Errorf("%s\nread back: %+v\nwant %+v", text, again, l)
	}
}

func TestDefaults(t *testing.T) {
	l := mustParse(t, "delay: 1s")
	if l.Up.Overhead != 28 || l.Down.Delay != time.Second || l.Network != "both" || l.Seed != 1 {
		t.Errorf("%+v", l)
	}
}

func TestParseNamesFileLineAndKey(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "delay: 1s\nlos: 1%", "link.yaml:2: los: there is no such key; there are listen, "},
		{"unknown key of return", "return:\n  seed: 1", "link.yaml:2: return.seed: there is no such key; there are delay, "},
		{"value", "delay: 1s\nloss: 5", `link.yaml:2: loss: loss "5": write "5%"`},
		{"value of return", "return:\n  rate: 5", `link.yaml:2: return.rate: rate "5": unit`},
		{"number without unit", "delay: 5", `link.yaml:1: delay: "5" is not a duration`},
		{"negative", "delay: -5s", `link.yaml:1: delay: "-5s"`},
		{"validated", "\ndelay: 25h", "link.yaml:2: delay: 25h0m0s is not between"},
		{"validated in return", "return: {mtu: 20}", "link.yaml:1: return.mtu: 20 bytes leave no room"},
		{"bursts", "loss: 60%\nburst: 1", "link.yaml:2: burst: bursts of 1 with"},
		{"burst", "burst: 1e3", `burst: "1e3" is not a number`},
		{"twice", "delay: 1s\ndelay: 2s", "link.yaml:2: delay: it is given twice"},
		{"two bottlenecks", "rate: 1Mbit\ntrace: lte.down", "link.yaml:2: trace: give rate or trace, not both"},
		{"two delays", "delays: [{at: 0s, delay: 1s}]\ndelay: 1s", "link.yaml:2: delay: give delay or delays, not both"},
		{"repeat of nothing", "delays_repeat: true", "delays: to repeat"},
		{"point", "delays:\n- {at: 0s, delay: 1s}\n- {at: 1s, delay: x}", `link.yaml:3: delays[1].delay: "x" is not a duration`},
		{"point key", "delays: [{at: 0s, owlt: 1s}]", "delays[0].owlt: there is no such key"},
		{"trace", "trace: other", `link.yaml:1: trace: no file "other"`},
		{"contacts", "contacts: {every: 2h}", "link.yaml:1: contacts: contacts \"every=2h\": every needs for"},
		{"contacts key", "contacts: {often: 2h}", "unknown key \"often\""},
		{"network", "network: sctp", `network: "sctp" is not udp`},
		{"seed", "seed: -1", `seed: "-1" is not a whole number`},
		{"queue", "queue: 64", `queue: size "64" is not a number with a unit`},
		{"queue of half a byte", "queue: 0.5B", "not a whole number"},
		{"queue too large", "queue: 2GiB", "above the limit of 1GiB"},
		{"mtu", "mtu: -1", `mtu: "-1" is not a number of bytes`},
		{"rebind", "rebind_every: 1ms", "rebind_every: 1ms is less than 10ms"},
		{"list for a mapping", "- delay", "link.yaml:1: not a mapping"},
		{"text for a mapping", "return: fast", "link.yaml:1: return: not a mapping"},
		{"mapping for text", "delay: {a: 1}", "delay: not a single value"},
		{"alias", "delay: &a 1s\njitter: *a", "link.yaml:2: jitter: aliases"},
		{"merge", "a: &a {delay: 1s}\n<<: *a", "aliases"},
		{"two documents", "delay: 1s\n---\ndelay: 2s", "a second YAML document"},
		{"empty", "# nothing", "it is empty"},
		{"no YAML", "delay: [", "link.yaml: yaml: "},
		{"event", "events: [{at: 1s, do: explode}]", `link.yaml:1: events[0]: do: "explode" is not cut`},
		{"event without direction", "events: [{at: 1s, do: half-open}]", "events[0]: direction: half-open needs one"},
		{"event with direction", "events: [{at: 1s, do: cut, direction: up}]", "events[0]: direction: half-open needs one"},
		{"event that does not last", "events: [{at: 1s, do: rebind, for: 1s}]", "for: rebind does not last"},
		{"event that does not end", "events: [{at: 1s, do: cut, for: 1s, every: 1s}]", "would not end"},
		{"event key", "events:\n- {at: 1s, do: cut}\n- {at: 1s, todo: cut}", "link.yaml:3: events[1].todo: there is no such key"},
		{"events", "events: cut", "events: not a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("link.yaml", []byte(c.text), files)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if f := (*Fault)(nil); !errors.As(err, &f) || f.File != "link.yaml" {
				t.Errorf("not a fault with its file: %#v", err)
			}
		})
	}
	if _, err := Parse("link.yaml", make([]byte, MaxFile+1), nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too large: %v", err)
	}
}

func TestAllFaultsAreTold(t *testing.T) {
	_, err := Parse("l", []byte("delay: x\nloss: y\nreturn: {rate: z}"), nil)
	for _, want := range []string{"l:1: delay", "l:2: loss", "l:3: return.rate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	_, err = Parse("l", []byte("loss: 60%\nburst: 1"), nil)
	if err == nil || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("what return has from the other way is told twice:\n%v", err)
	}
}

func TestPatch(t *testing.T) {
	base := mustParse(t, "{delay: 1s, rate: 50Mbit, loss: 1%, return: {rate: 256kbit}}")
	patch := func(text string) Link {
		t.Helper()
		l, err := base.Patch([]byte(text), files)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := patch(`{"delay": "2s", "rate": "1Mbit"}`); l.Up.Delay != 2*time.Second || l.Down.Delay != 2*time.Second || l.Up.Rate != 1e6 || l.Down.Rate != 256e3 {
		t.Errorf("return follows where it has nothing of its own: %+v", l)
	}
	if l := patch(`{"trace": "lte.down"}`); l.Up.Rate != 0 || l.Up.Trace == nil || l.Down.Trace != nil || l.Down.Rate != 256e3 {
		t.Errorf("a trace takes the place of a rate: %+v", l)
	}
	if l := patch(`{"return": {"rate": null}}`); l.Down.Rate != 50e6 {
		t.Errorf("null in return follows again: %+v", l.Down)
	}
	if l := patch(`{"return": {"trace": null, "rate": "1Mbit"}}`); l.Down.Rate != 1e6 {
		t.Errorf("a null beside a value: %+v", l.Down)
	}
	if l := patch(`{"return": null, "loss": null}`); l.Down.Rate != 50e6 || l.Up.Loss != 0 || l.Down.Loss != 0 {
		t.Errorf("null is the default: %+v", l)
	}
	if l := patch(`{"overhead": null}`); l.Up.Overhead != 28 {
		t.Errorf("overhead %d", l.Up.Overhead)
	}
	for _, text := range []string{`{"seed": 2}`, `{"to": "h:1"}`, `{"listen": "h:1"}`, `{"network": "udp"}`, `{"events": []}`} {
		if _, err := base.Patch([]byte(text), nil); err == nil || !strings.Contains(err.Error(), "cannot change") {
			t.Errorf("%s: %v", text, err)
		}
	}
	after, err := base.Patch([]byte(`{"delay": "9s", "loss": "x"}`), nil)
	if err == nil || !reflect.DeepEqual(after, base) {
		t.Errorf("half of a refused change was applied: %+v, %v", after, err)
	}
}

func TestSet(t *testing.T) {
	l, err := New().Set([]Setting{{"delay", "1.28s"}, {"return.rate", "256kbit"}, {"burst", "10"}, {"loss", "1%"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Up.Delay != 1280*time.Millisecond || l.Down.Rate != 256e3 || l.Up.Rate != 0 || l.Down.Burst != 10 {
		t.Errorf("%+v", l)
	}
	_, err = l.Set([]Setting{{"return.rate", "9"}}, nil)
	if f := (*Fault)(nil); !errors.As(err, &f) || f.Key != "return.rate" || f.Line != 0 {
		t.Errorf("%v", err)
	}
}

func TestNextStep(t *testing.T) {
	const s = time.Second
	events := []Event{
		{At: 10 * s, Every: 20 * s, For: 5 * s, Do: HalfOpen, Direction: Down},
		{At: 15 * s, Do: Rebind},
		{At: 30 * s, Do: Cut},
	}
	var got []string
	at, todo := NextStep(events, -1)
	for i := 0; len(todo) > 0 && i < 6; i++ {
		got = append(got, fmt.Sprint(at, todo))
		at, todo = NextStep(events, at)
	}
	want := "[10s [{half-open down}] 15s [{heal up} {rebind up}] 30s [{half-open down} {cut up}] 35s [{heal up}] 50s [{half-open down}] 55s [{heal up}]]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if _, todo := NextStep([]Event{{At: 0, Do: Cut}}, -1); len(todo) != 1 {
		t.Error("what is due at the opening was missed")
	}
	if _, todo := NextStep([]Event{{At: 0, Do: Cut}}, 0); len(todo) != 0 {
		t.Error("an event that is over came again")
	}
}

func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1024, 1500, 4 << 20, MaxQueue, 1_000_000} {
		if again, err := ParseSize(FormatSize(n)); err != nil || again != n {
			t.Errorf("%d -> %q -> %d, %v", n, FormatSize(n), again, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	for _, s := range []string{
		"{delay: 1s, return: {rate: 1kbit}}", "return: {loss: null}", "contacts: always", "events: [{at: 1s, do: cut, for: 2s}]",
		"delays: [{at: 0s, delay: 1s}]", "{trace: lte.down, mtu: 576, queue: 1.5KiB, burst: 2.5, loss: 0.3}", "&a [*a]", "{\"seed\": 3}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse("fuzz", data, files)
		if err != nil {
			return
		}
		if err := errors.Join(l.Up.Validate(), l.Down.Validate()); err != nil {
			t.Fatalf("accepted: %v", err)
		}
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again", text, files)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if second, _ := json.Marshal(again); string(second) != string(text) {
			t.Fatalf("%s\nread back as\n%s", text, second)
		}
		if patched, err := l.Patch([]byte(`{"jitter": null}`), files); err != nil || patched.Up.Jitter != 0 {
			t.Fatalf("%s: patch: %v", text, err)
		}
		for at, todo, i := time.Duration(-1), []Step{{}}, 0; len(todo) > 0 && i < 10; i++ {
			was := at
			if at, todo = NextStep(l.Events, was); len(todo) > 0 && at <= was {
				t.Fatalf("%s: a step at %v after %v", text, at, was)
			}
		}
	})
}
