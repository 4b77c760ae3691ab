package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/sim/emulator"
)

// started waits for what a pattern finds in a log.
func started(t *testing.T, log *lockedBuffer, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		if m := re.FindStringSubmatch(log.String()); m != nil {
			return m[1]
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s never came:\n%s", pattern, log.String())
		case <-time.After(time.Millisecond):
		}
	}
}

// linkStatus calls the API of a link, which has to agree.
func linkStatus(t *testing.T, method, url, body string) (s emulator.Stats) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
	answer := struct{ Stats *emulator.Stats }{&s}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSimLinkChangesLive carries datagrams and a TCP connection through the
// command, cuts and heals it through its API, and reads its figures.
func TestSimLinkChangesLive(t *testing.T) {
	dst, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out, log lockedBuffer
	done := make(chan int, 1)
	args := []string{"sim", "link", "--listen", "127.0.0.1:0", "--to", dst.LocalAddr().String(), "--delay", "2ms", "--json"}
	go func() { done <- run(ctx, args, nil, &out, &log) }()
	defer cancel()
	api := started(t, &log, `(http://[0-9.:]+/v1/link)\n`)
	addr := started(t, &log, `both at ([0-9.:]+) to`)

	src, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	status := func(method, path, body string) emulator.Stats { return linkStatus(t, method, api+path, body) }
	send := func(text string) {
		t.Helper()
		if _, err := src.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(want string) {
		t.Helper()
		buf := make([]byte, 100)
		n, err := dst.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("got %q, %v; want %q", buf[:n], err, want)
		}
	}
	send("one")
	receive("one")
	status("POST", "/cut", "")
	send("lost")
	for status("GET", "", "").Up.Dropped.Cut == 0 {
		time.Sleep(time.Millisecond)
	}
	status("POST", "/heal", "")
	status("PATCH", "", `{"duplicate": "100%"}`)
	send("two")
	receive("two")
	receive("two")
	cancel()
	if code := <-done; code != 0 {
		t.Fatalf("ended with %d:\n%s", code, log.String())
	}
	var s emulator.Stats
	if err := json.Unmarshal([]byte(out.String()), &s); err != nil || s.Up.Duplicated != 1 || s.Up.Dropped.Cut != 1 || s.Up.Offered != 3 {
		t.Errorf("%v in %s", err, out.String())
	}
}

// TestSimLinkOfSeveral takes one link of a file with several, from either end.
func TestSimLinkOfSeveral(t *testing.T) {
	const two = "links:\n- {between: [luna, relay], delay: 1s, return: {delay: 2s}}\n- {between: [relay, earth], delay: 15ms}\n"
	for _, c := range []struct {
		between, file string
		delay         time.Duration
		wrong         string
	}{
		{"luna,relay", two, time.Second, ""},
		{"relay,luna", two, 2 * time.Second, ""},
		{"", "links: [{between: [a, b], delay: 3s}]", 3 * time.Second, ""},
		{"", "delay: 4s", 4 * time.Second, ""},
		{"", two, 0, "name one with --between, of luna,relay relay,earth"},
		{"luna,mars", two, 0, "name one with --between"},
		{"luna,relay", "delay: 1s", 0, "leave --between out"},
		{"luna,relay", "links: 3", 0, "f.yaml:1: links: not a list"},
	} {
		l := linkFlags{file: "f.yaml", between: c.between}
		d, err := l.choose([]byte(c.file), nil)
		if c.wrong == "" && (err != nil || d.Up.Delay != c.delay) {
			t.Errorf("%q of %q: delay %v, %v", c.between, c.file, d.Up.Delay, err)
		}
		if c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%q of %q: got %v, want %q", c.between, c.file, err, c.wrong)
		}
	}
}
