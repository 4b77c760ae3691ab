package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/routing/addr"
)

// running serves a fake until the test ends, or stop is called.
func running(t *testing.T) (c *Client, f *fake, stop func() error) {
	t.Helper()
	dir, f := dataDir(t, "127.0.0.1:0"), &fake{}
	s, err := New(Config{Listen: "127.0.0.1:0", Dir: dir, Backend: f, Gatherer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = func() error { cancel(); err := <-ended; ended <- err; return err }
	t.Cleanup(func() { _ = stop() })
	c, err = Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, f, stop
}

// A tap tells one event after the other as they come, and ends when there were
// enough, when its reader has enough, and with the server.
func TestTapStreams(t *testing.T) {
	c, f, stop := running(t)
	var got []string
	note := func(e TapEvent) error { got = append(got, e.Event+" "+e.Topic); return nil }
	if err := c.Tap(t.Context(), TapRequest{Filter: "plant/#", Count: 1}, note); err != nil || strings.Join(got, ", ") != "open plant/#, accepted plant/1" {
		t.Errorf("%v: %q", err, got)
	}
	enough := errors.New("enough")
	if err := c.Tap(t.Context(), TapRequest{Filter: "a"}, func(TapEvent) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("a reader that has enough: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Tap(ctx, TapRequest{Filter: "a"}, func(TapEvent) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that is stopped: %v", err)
	}
	f.fail(NotHere("close another", "8 taps are open"))
	var e *Error
	if err := c.Tap(t.Context(), TapRequest{Filter: "a"}, note); !errors.As(err, &e) || e.Code != http.StatusConflict || e.Hint != "close another" {
		t.Errorf("a tap too many: %v", err)
	}
	f.fail(nil)
	err := c.Tap(t.Context(), TapRequest{Filter: "a"}, func(TapEvent) error {
		go func() { _ = stop() }()
		return nil
	})
	if err != nil {
		t.Errorf("a server that ends: %v", err)
	}
}

// A tap is for those who have the token.
func TestTapNeedsTheToken(t *testing.T) {
	s, _ := newServer(t)
	w := ask(s, "POST", "/api/v1/tap", `{"filter": "a", "count": 1}`, func(r *http.Request) { r.Header.Del("Authorization") })
	if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "open") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(s, "POST", "/api/v1/tap", `{"filter": "a", "count": 1, "paylaod": true}`, nil); w.Code != http.StatusBadRequest {
		t.Errorf("an unknown key is answered %d", w.Code)
	}
}

// A ping is a stream like a tap, and what is wrong with it is said in its place.
func TestPingStreams(t *testing.T) {
	c, f, _ := running(t)
	var got []PingEvent
	note := func(e PingEvent) error { got = append(got, e); return nil }
	r := PingRequest{Node: addr.MustNode("luna-1"), Count: 1}
	if err := c.Ping(t.Context(), r, note); err != nil || len(got) != 1 || got[0].Node != r.Node || got[0].Path.Layer != "quic" {
		t.Errorf("%v: %+v", err, got)
	}
	var passes []Netcheck
	err := c.Netcheck(t.Context(), NetcheckRequest{Peers: []string{"a:1"}}, func(n Netcheck) error { passes = append(passes, n); return nil })
	if err != nil || len(passes) != 1 || passes[0].Address != "a:1" || !passes[0].UDP.OK {
		t.Errorf("%v: %+v", err, passes)
	}
	f.fail(NotHere("farhop nodes", "no such node"))
	if err := c.Ping(t.Context(), r, note); err == nil || err.Error() != "no such node" {
		t.Errorf("an unknown node: %v", err)
	}
}

// Files go in and out as they are, and what is wrong is said in their place.
func TestFilesOfBundles(t *testing.T) {
	c, f, _ := running(t)
	var out strings.Builder
	if err := c.ExportBundles(t.Context(), ExportRequest{To: "earth-1"}, &out); err != nil || out.String() != "file for earth-1" {
		t.Errorf("%v: %q", err, out.String())
	}
	in, err := c.ImportBundles(t.Context(), strings.NewReader(strings.Repeat("x", 100_000)))
	if err != nil || in.Bundles != 100_000 {
		t.Errorf("%v: %+v", err, in)
	}
	if over, err := c.ReleaseBundles(t.Context(), strings.NewReader("x")); err != nil || over.Named != 1 {
		t.Errorf("%v: %+v", err, over)
	}
	f.fail(NotHere("wait", "another file is read"))
	if err := c.ExportBundles(t.Context(), ExportRequest{}, &out); err == nil || err.Error() != "another file is read" {
		t.Errorf("%v", err)
	}
	s, _ := newServer(t)
	if w := ask(s, "POST", "/api/v1/bundles/import", "{}", nil); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("JSON in the place of a file is answered %d", w.Code)
	}
}
