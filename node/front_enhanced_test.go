package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/farhop/farhop/node/config"
)

// TestFrontEnhanced: a method in the file is passed on to the server in the
// file, and others are refused.
func TestFrontEnhanced(t *testing.T) {
	t.Parallel()
	asks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Method string
			Data   []byte
			Round  int
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"result":"allow","data":%q}`, "d2VsY29tZQ==") // welcome
	}))
	defer asks.Close()
	dir := filepath.Join(t.TempDir(), "node")
	if _, err := Init(t.Context(), InitOptions{Dir: dir, Region: "local"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, config.FileName)
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.MQTT.Auth.HTTP = config.AuthHTTP{URL: asks.URL, Methods: []string{"m"}}
	if err := config.Save(path, c); err != nil {
		t.Fatal(err)
	}
	n, err := Open(dir, Options{Log: testLog(t), Version: "test", Standalone: &Standalone{MQTT: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-n.broker.Listening()
	for method, want := range map[string]byte{"m": 0, "other": 0x8C} {
		conn, err := n.broker.Connect()
		if err != nil {
			t.Fatal(err)
		}
		d := device{conn: conn, r: bufio.NewReader(conn)}
		props := append([]byte{0x15}, deviceText(method)...)
		body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, byte(len(props))}, props...)
		d.write(frame(0x10, append(body, deviceText("c")...)))
		_ = conn.SetReadDeadline(time.Now().Add(stressPatience))
		p, err := readPacket(d.r)
		if err != nil || p.first != 0x20 || p.body[1] != want {
			t.Fatalf("%s: %+v, %v, want CONNACK 0x%02X", method, p, err, want)
		}
		if proof := append(append([]byte{0x15}, deviceText("m")...), append([]byte{0x16}, deviceText("welcome")...)...); want == 0 && !bytes.Contains(p.body, proof) {
			t.Errorf("CONNACK % x has no % x", p.body, proof)
		}
		_ = conn.Close()
	}
}
