package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNews has attempts fail for one reason, then for another, each with a port
// of its own: the log has each reason once in an outage, and says how long it
// was.
func TestNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := 0
		b := newBetween(t, slog.New(slog.NewTextHandler(&log, nil)), []Rule{{Direction: Out, Filter: "#"}},
			func(ctx context.Context, wg *sync.WaitGroup, there *peer) (net.Conn, time.Duration, error) {
				n++
				from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000 + n}
				switch {
				case n > 2 && n <= 10:
					return nil, 0, &net.OpError{Op: "dial", Net: "tcp", Source: from, Err: errors.New("connection reset")}
				case n > 10 && n <= 15:
					return nil, 0, fmt.Errorf("no route")
				}
				return dialPath(ctx, wg, there, time.Millisecond, 0)
			})
		b.start(t)
		for range 2 { // the second time it is back at once
			time.Sleep(time.Second)
			(<-b.links).Close()
		}
		time.Sleep(time.Hour)
		b.end()
		for text, want := range map[string]int{
			"level=WARN msg=\"bridge is down\"": 4, "connection reset": 1, "no route": 1, "msg=\"bridge is up\"": 3, "was_down=": 2,
		} {
			if got := strings.Count(log.String(), text); got != want {
				t.Errorf("%q is in the log %d times, want %d", text, got, want)
			}
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
}
