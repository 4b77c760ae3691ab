package emulator

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
)

// api opens a link and serves its API on a real socket.
func api(t *testing.T, text string) (l *Link, c *Control, url string) {
	t.Helper()
	d, err := desc.Parse("test", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Listen = "127.0.0.1:0"
	if d.To == "" {
		d.To = "127.0.0.1:7330"
	}
	l = openLink(t, ConfigOf(d))
	c = NewControl(l, d, func(path string) ([]byte, error) { return []byte("1\n"), nil })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l, c, "http://" + ln.Addr().String()
}

// answer is what a test reads of an answer.
type answer struct {
	Code   int
	Error  string
	Key    string
	Faults []struct{ Key, Error string }
	Link   map[string]any
	Stats  Stats
}

func call(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Code: resp.StatusCode}
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatalf("%s %s: %v in %s", method, url, err, data)
	}
	return a
}

func TestAPIShowsAndChanges(t *testing.T) {
	l, _, url := api(t, "{delay: 1ms, rate: 50Mbit, return: {rate: 256kbit}}")
	a := call(t, "GET", url+"/v1/link", "")
	if a.Code != 200 || a.Link["delay"] != "1ms" || a.Link["rate"] != "50Mbit" || !a.Stats.Up.Open || a.Stats.Down.State != StateOpen {
		t.Errorf("%+v", a)
	}
	a = call(t, "PATCH", url+"/v1/link", "{\"loss\": \"1%\",\t\"burst\": 10, \"return\": {\"rate\": null, \"delay\": \"2ms\"}}")
	if a.Code != 200 || a.Link["loss"] != "1%" || !reflect.DeepEqual(a.Link["return"], map[string]any{"delay": "2ms"}) {
		t.Errorf("%+v", a)
	}
	up, down := l.udp.up.shape.p, l.udp.down.shape.p
	if up.Loss != 0.01 || up.Burst != 10 || up.Delay != ms || down.Rate != 50e6 || down.Delay != 2*ms || down.Overhead != 28 {
		t.Errorf("up %+v\ndown %+v", up, down)
	}
	if a = call(t, "PATCH", url+"/v1/link", `{"trace": "somewhere", "rebind_every": "1h"}`); a.Code != 200 || a.Link["trace"] != "somewhere" || a.Link["rebind_every"] != "1h" {
		t.Errorf("%+v", a)
	}
}

func TestAPIActions(t *testing.T) {
	_, _, url := api(t, "network: both")
	for _, c := range []struct {
		path     string
		up, down State
	}{
		{"cut", StateCut, StateCut},
		{"half-open?direction=up", StateCut, StateOpen},
		{"half-open?direction=down", StateOpen, StateCut},
		{"blackhole", StateBlackhole, StateBlackhole},
		{"rebind", StateBlackhole, StateBlackhole},
		{"heal", StateOpen, StateOpen},
	} {
		a := call(t, "POST", url+"/v1/link/"+c.path, "")
		if a.Code != 200 || a.Stats.Up.State != c.up || a.Stats.Down.State != c.down {
			t.Errorf("%s: %d, up %v, down %v", c.path, a.Code, a.Stats.Up.State, a.Stats.Down.State)
		}
	}
}

func TestAPIRefuses(t *testing.T) {
	l, _, url := api(t, "delay: 1ms")
	for _, c := range []struct {
		method, path, body string
		code               int
		key, want          string
	}{
		{"PATCH", "", `{"los": "1%"}`, 400, "los", "there is no such key"},
		{"PATCH", "", `{"delay": "9s", "return": {"loss": "5"}}`, 400, "return.loss", `write "5%"`},
		{"PATCH", "", `{"to": "127.0.0.1:1"}`, 400, "to", "cannot change"},
		{"PATCH", "", `{"delay": "25h"}`, 400, "delay", "is not between"},
		{"PATCH", "", `{"delay": "9s", "delay": "8s"}`, 400, "delay", "given twice"},
		{"PATCH", "", `{"delay": "9s"} x`, 400, "", "not JSON"},
		{"PATCH", "", `delay: 9s`, 400, "", "not JSON"},
		{"PATCH", "", ``, 400, "", "not JSON"},
		{"PATCH", "", `[1]`, 400, "", "not a mapping"},
		{"PATCH", "", `null`, 400, "", "not a mapping"},
		{"PATCH", "", `{"delay": "9s", "x": "` + strings.Repeat("x", maxBody) + `"}`, 413, "", "more than"},
		{"PATCH", "?delay=9s", `{"delay": "9s"}`, 400, "delay", "no parameters"},
		{"GET", "?verbose=1", "", 400, "verbose", "no parameters"},
		{"POST", "", "", 405, "", "use GET or PATCH"},
		{"GET", "/cut", "", 405, "", "use POST"},
		{"POST", "/half-open", "", 400, "direction", "?direction=up"},
		{"POST", "/half-open?direction=left", "", 400, "direction", "?direction=up"},
		{"POST", "/half-open?direction=up&for=1s", "", 400, "direction", "nothing else"},
		{"POST", "/cut?direction=up", "", 400, "direction", "no parameters"},
		{"POST", "/explode", "", 404, "", "there is GET"},
	} {
		a := call(t, c.method, url+"/v1/link"+c.path, c.body)
		if a.Code != c.code || a.Key != c.key || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s %s %.60s: %d %q %s", c.method, c.path, c.body, a.Code, a.Key, a.Error)
		}
	}
	if p := l.udp.up.shape.p; p.Delay != ms || l.udp.up.shape.state != StateOpen {
		t.Errorf("half of a refused change was applied: %+v", p)
	}
	a := call(t, "PATCH", url+"/v1/link", `{"delay": "x", "loss": "y"}`)
	if len(a.Faults) != 2 || a.Faults[0].Key != "delay" || a.Faults[1].Key != "loss" {
		t.Errorf("faults %+v", a.Faults)
	}
}

func TestAPIRefusesWebPages(t *testing.T) {
	_, _, url := api(t, "delay: 1ms")
	for _, c := range []struct {
		header, value string
		code          int
	}{
		{"Origin", "http://127.0.0.1:8080", 403},
		{"Host", "evil.example", 403},
		{"Host", "evil.example:80", 403},
		{"Host", "localhost:1", 200},
		{"Host", "[::1]:1", 200},
		{"Host", "127.0.0.1", 200},
	} {
		if a := call(t, "POST", url+"/v1/link/heal", "", c.header, c.value); a.Code != c.code {
			t.Errorf("%s %s: %d %s", c.header, c.value, a.Code, a.Error)
		}
	}
}

func TestEventsHappen(t *testing.T) {
	d, err := desc.Parse("test", []byte(`
events:
- {at: 0s, do: cut}
- {at: 20ms, do: half-open, direction: down}
rebind_every: 30ms
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Listen, d.To = "127.0.0.1:0", echoUDP(t).String()
	l := openLink(t, ConfigOf(d))
	eventually(t, "half-open", func() bool {
		s := l.Stats()
		return s.Up.State == StateOpen && s.Down.State == StateCut
	})
	c := dialUDP(t, l.Addr())
	mustWrite(t, c, []byte("a flow to rebind"))
	eventually(t, "three rebindings", func() bool { return l.Stats().Rebound >= 3 })
	l.SetRebindEvery(0)
	if err := l.Do(desc.Step{Do: desc.Heal}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer after the last rebinding", func() bool {
		mustWrite(t, c, []byte("hello"))
		_ = c.SetReadDeadline(time.Now().Add(100 * ms))
		n, err := c.Read(make([]byte, 100))
		return err == nil && n == len("hello")
	})
	if l.Do(desc.Step{Do: "explode"}) == nil {
		t.Error("an unknown step was accepted")
	}
}

func TestConfigNamesBadEvents(t *testing.T) {
	c := Config{Listen: "127.0.0.1:0", To: "127.0.0.1:1", RebindEvery: -time.Second, Events: []desc.Event{{Do: "explode"}}}
	for _, want := range []string{"Events[0]: do", "RebindEvery"} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// FuzzPatch feeds bodies to what PATCH does before the link is touched.
func FuzzPatch(f *testing.F) {
	for _, s := range []string{
		`{"delay": "1s"}`, `{"return": {"rate": null, "loss": 0.5}}`, `{"trace": "x"}`, `{"delays": [{"at": "0s", "delay": "1s"}]}`,
		`{"contacts": {"every": "2h", "for": "1h"}}`, `{"seed": 1}`, `null`, `{"rebind_every": "1s", "burst": 2.5, "loss": "30%"}`,
	} {
		f.Add([]byte(s))
	}
	base := desc.New()
	base.Listen, base.To = "127.0.0.1:0", "127.0.0.1:1"
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > maxBody {
			return
		}
		d, no := patched(base, body, func(string) ([]byte, error) { return []byte("1\n2\n"), nil })
		if no != nil {
			if no.code < 400 || no.code >= 500 || no.Error == "" || !reflect.DeepEqual(d, base) {
				t.Fatalf("%q: %+v", body, no)
			}
			return
		}
		if err := ConfigOf(d).Validate(); err != nil {
			t.Fatalf("%q gives a link that does not open: %v", body, err)
		}
		text, err := json.Marshal(d)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%q: %s, %v", body, text, err)
		}
	})
}
