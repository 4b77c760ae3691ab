package virtual_test

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/sim/emulator/desc"
	"github.com/farhop/farhop/sim/virtual"
)

// trouble is the link that all who read descriptions play in their tests.
func trouble(t *testing.T) desc.Named {
	t.Helper()
	data, err := os.ReadFile("../emulator/desc/testdata/trouble.yaml")
	if err != nil {
		t.Fatal(err)
	}
	links, err := desc.ParseLinks("trouble.yaml", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return links[0]
}

// TestDescribed plays the link of a file: light time, contacts, losses in
// bursts, and another rate on the way back.
func TestDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		there, back, err := virtual.Ways(trouble(t))
		if err != nil {
			t.Fatal(err)
		}
		n, err := virtual.New(virtual.Config{Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Set(home(1), home(2), there); err != nil {
			t.Fatal(err)
		}
		if err := n.Set(home(2), home(1), back); err != nil {
			t.Fatal(err)
		}
		a, b := must(n.Listen(home(1))), must(n.Listen(home(2)))
		defer a.Close()
		began := time.Now()
		var lost [4000]bool
		for i := range lost {
			lost[i] = true
		}
		done := make(chan time.Duration)
		go func() {
			var first time.Duration
			for buf := make([]byte, 2000); ; {
				if _, _, err := b.ReadFrom(buf); err != nil {
					done <- first
					return
				}
				if first == 0 {
					first = time.Since(began)
				}
				lost[int(buf[0])<<8+int(buf[1])] = false
			}
		}()
		for i := range lost { // two seconds of ten are in each contact
			time.Sleep(time.Until(began.Add(time.Duration(i) * 5 * time.Millisecond)))
			_, _ = a.WriteTo(append([]byte{byte(i >> 8), byte(i)}, make([]byte, 98)...), b.LocalAddr())
		}
		time.Sleep(time.Second)
		b.Close()
		if first := <-done; first < 300*time.Millisecond {
			t.Errorf("the first datagram came after %v", first)
		}
		st := n.Stats()
		share := float64(st.Lost) / float64(st.Lost+st.Delivered)
		if st.Closed != 2000 || share < 0.05 || share > 0.15 {
			t.Errorf("%d outside of contacts, want 2000; %.3f of the rest lost, want about 0.1", st.Closed, share)
		}
		runs := 0
		for i := 1; i < len(lost); i++ {
			if open := time.Duration(i)*5*time.Millisecond%(4*time.Second) < 2*time.Second; open && lost[i] && !lost[i-1] {
				runs++
			}
		}
		if mean := float64(st.Lost) / float64(runs); mean < 3 || mean > 8 {
			t.Errorf("%.1f were lost in a row on average, want about 5", mean)
		}
		if back.Rate != 256_000 || back.Burst != 1 || there.Rate != 2_000_000 {
			t.Errorf("ways %+v and %+v", there, back)
		}
	})
}

// must returns a socket of hosts that nobody has.
func must(s *virtual.Socket, err error) *virtual.Socket {
	if err != nil {
		panic(err)
	}
	return s
}

// TestUndescribed: what a virtual network does not play is named with its line.
func TestUndescribed(t *testing.T) {
	links, err := desc.ParseLinks("f.yaml", []byte("links:\n- between: [a, b]\n  corrupt: 1%\n  return:\n    duplicate: 1%\n  overhead: 48\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = virtual.Ways(links[0])
	for _, want := range []string{"f.yaml:3: links[0].corrupt: ", "f.yaml:5: links[0].return.duplicate: ", "f.yaml:6: links[0].overhead: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
