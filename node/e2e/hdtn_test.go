//go:build linux

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/node/admin"
)

// someFiles makes files of 1 kB, and one of each of the larger sizes. HDTN's
// application overlooks names without an extension.
func someFiles(n int, larger ...int) map[string][]byte {
	noise := rand.NewChaCha8(sha256.Sum256([]byte("files")))
	out := make(map[string][]byte, n+len(larger))
	add := func(name string, size int) {
		b := make([]byte, size)
		_, _ = noise.Read(b)
		out[name] = b
	}
	for i := range n {
		add(fmt.Sprintf("small-%04d.bin", i), 1000)
	}
	for _, size := range larger {
		add(fmt.Sprintf("large-%d.bin", size), size)
	}
	return out
}

// publishFiles publishes each as HDTN's application for files understands it.
func publishFiles(d *daemon, files map[string][]byte) {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "payload")
	for name, data := range files {
		if err := os.WriteFile(path, hdtnFile(name, data), 0o600); err != nil {
			d.t.Fatal(err)
		}
		mosquitto(d.t, "mosquitto_pub", d, nil, "-t", "plant/"+name, "-q", "1", "-f", path).done()
	}
}

// filesAt waits until a folder holds the files, and checks them and that
// HDTN's application got none twice.
func filesAt(t *testing.T, folder, log string, want map[string][]byte) {
	t.Helper()
	var same int
	until(t, func() string { return fmt.Sprintf("%d files at HDTN's application, %d are there", len(want), same) }, func() bool {
		same = 0
		for name, data := range want {
			if got, err := os.ReadFile(filepath.Join(folder, name)); err == nil && bytes.Equal(got, data) {
				same++
			}
		}
		return same == len(want)
	})
	if all, _ := os.ReadDir(folder); len(all) != len(want) {
		t.Errorf("%d files are there, want %d", len(all), len(want))
	}
	said, _ := os.ReadFile(log)
	for _, word := range []string{"already exists", "duplicate"} {
		if bytes.Contains(said, []byte(word)) {
			t.Errorf("a file came twice: HDTN's application says %q", word)
		}
	}
}

// filesFrom waits until the subscriber has all files, and checks that each
// came once and as it was.
func filesFrom(sub *client, want map[string][]byte) {
	sub.t.Helper()
	until(sub.t, func() string { return fmt.Sprintf("%d files from HDTN, %d came", len(want), len(sub.lines())) },
		func() bool { return len(sub.lines()) >= len(want) })
	left := maps.Clone(want)
	for _, p := range sub.payloads() {
		name, data, err := openHDTNFile(p)
		switch {
		case err != nil:
			sub.t.Error(err)
		case left[name] == nil:
			sub.t.Errorf("%s came, which was not sent or came before", name)
		case !bytes.Equal(left[name], data):
			sub.t.Errorf("%s came changed", name)
		}
		delete(left, name)
	}
	if len(left) > 0 {
		sub.t.Errorf("%d files did not come", len(left))
	}
}

// TestHDTN: MQTT at our node, HDTN's applications beyond HDTN, both ways; over
// two sessions, one dialled by each end, and over one that HDTN dials.
func TestHDTN(t *testing.T) {
	for _, c := range []struct {
		name   string
		weDial bool
	}{{"both dial", true}, {"HDTN dials", false}} {
		t.Run(c.name, func(t *testing.T) {
			door, sink := freePort(t), freePort(t)
			h := newHDTN(t, hdtnSettings{segmentMRU: 200_000, maxBundle: 10_000_000, next: map[int]string{hdtnSink: sink, ourNumber: door}})
			folder, log := h.receive(sink)
			dial := ""
			if c.weDial {
				dial = h.induct
			}
			earth := hdtnNeighbour(t, door, dial)
			sub := watch(earth, "historian", "from/#", 1)
			files := someFiles(200, 1, 100_000, 1_000_000)
			h.send(fmt.Sprintf("ipn:%d.5", ourNumber), files)
			publishFiles(earth, files)
			filesFrom(sub, files)
			filesAt(t, folder, log, files)
			earth.wait("empty queues", func(s admin.Status) bool { return len(s.Queues) == 0 })
		})
	}
}

// TestHDTNSegments: bundles of 1 MB both ways on one session, in segments of
// what the other end takes.
func TestHDTNSegments(t *testing.T) {
	for _, mru := range []int{200_000, 20_000} {
		t.Run(fmt.Sprint(mru), func(t *testing.T) {
			sink, door := freePort(t), freePort(t)
			p := newTap(t, door, uint64(mru)) // HDTN is told that we take no more
			h := newHDTN(t, hdtnSettings{segmentMRU: mru, maxBundle: 10_000_000, next: map[int]string{hdtnSink: sink, ourNumber: p.addr}})
			folder, log := h.receive(sink)
			earth := hdtnNeighbour(t, door, "")
			sub := watch(earth, "historian", "from/#", 1)
			files := someFiles(2, 199_000, 1_000_000)
			h.send(fmt.Sprintf("ipn:%d.5", ourNumber), files)
			publishFiles(earth, files)
			filesFrom(sub, files)
			filesAt(t, folder, log, files)
			until(t, text("all acknowledgements"), func() bool {
				return !slices.ContainsFunc(p.all(), func(x transfer) bool { return !x.acked })
			})
			for name, back := range map[string]bool{"from HDTN": false, "to HDTN": true} {
				checkSegments(t, name, slices.DeleteFunc(p.all(), func(x transfer) bool { return x.back != back }), mru)
			}
		})
	}
}

func checkSegments(t *testing.T, name string, all []transfer, mru int) {
	t.Helper()
	most := 0
	for _, x := range all {
		for _, n := range x.segments {
			if n > mru {
				t.Errorf("%s: a segment of %d bytes, more than %d", name, n, mru)
			}
		}
		most = max(most, len(x.segments))
	}
	if most < 1_000_000/mru {
		t.Errorf("%s: %d segments at most, which is too few for 1 MB", name, most)
	}
	t.Logf("%s: %d bundles, %d segments at most", name, len(all), most)
}

// numberIn is the number that HDTN's generator puts into each payload.
func numberIn(payload []byte) uint64 {
	if len(payload) < 8 {
		return 1 << 63
	}
	return binary.LittleEndian.Uint64(payload)
}

// TestHDTNReceiverKilled kills our node twice while HDTN streams to it and the
// device that wants it is away: what we acknowledged is delivered once. What
// HDTN loses of what it took from its source is told, not judged.
func TestHDTNReceiverKilled(t *testing.T) {
	full(t)
	const size, rate, seconds = 1000, 1000, 12
	door := freePort(t)
	p := newTap(t, door, 0)
	h := newHDTN(t, hdtnSettings{segmentMRU: 200_000, maxBundle: 10_000_000, next: map[int]string{ourNumber: p.addr}})
	earth := hdtnNeighbour(t, door, "")
	watch(earth, "historian", "from/#", 1).kill()
	_, log := h.program("bpgen-async", append(h.source(fmt.Sprintf("ipn:%d.5", ourNumber)),
		fmt.Sprintf("--bundle-size=%d", size), fmt.Sprintf("--bundle-rate=%d", rate), fmt.Sprintf("--duration=%d", seconds))...)
	for kills := range 2 {
		before := p.acked()
		until(t, text("bundles before a kill"), func() bool { return p.acked() > before+rate*seconds/6 || kills > 0 && generated(log) > 0 })
		if p.acked() == before {
			t.Log("after a kill HDTN offers nothing in the new session")
		}
		earth.kill()
		earth.run()
	}
	until(t, func() string { return "HDTN's generator to end:\n" + tail(log, 20) }, func() bool { return generated(log) > 0 })
	settle(t, p)
	sub := watch(earth, "historian", "from/#", 1)
	until(t, func() string { return fmt.Sprintf("%d publications, %d came", p.acked(), len(sub.lines())) },
		func() bool { return len(sub.lines()) >= p.acked() })
	earth.wait("an empty store", func(s admin.Status) bool { return s.Store.Messages == 0 })
	weighKilled(t, p.all(), sub.payloads(), generated(log))
}

// acked is how many bundles were acknowledged.
func (p *tap) acked() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.transfers {
		if x.acked {
			n++
		}
	}
	return n
}

// settle waits until HDTN has offered nothing for a while: nobody tells when
// it has given up.
func settle(t *testing.T, p *tap) {
	t.Helper()
	last, since := -1, time.Now()
	until(t, text("silence of HDTN"), func() bool {
		p.mu.Lock()
		n := len(p.transfers)
		p.mu.Unlock()
		if n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 8*time.Second
	})
}

// weighKilled compares what HDTN offered, what we acknowledged and what came.
func weighKilled(t *testing.T, all []transfer, came [][]byte, taken int) {
	t.Helper()
	offered, acked, got := map[uint64]int{}, map[uint64]int{}, map[uint64]int{}
	for _, x := range all {
		n := numberIn(x.payload())
		offered[n]++
		if x.acked {
			acked[n]++
		}
	}
	for _, p := range came {
		got[numberIn(p)]++
	}
	again := 0
	for _, times := range offered {
		if times > 1 {
			again++
		}
	}
	t.Logf("HDTN took %d from its source and offered %d of them, %d more than once; acknowledged were %d, delivered %d; %d never came",
		taken, len(offered), again, len(acked), len(got), taken-len(got))
	for n := range acked {
		if got[n] != 1 {
			t.Errorf("bundle %d was acknowledged and came %d times", n, got[n])
		}
	}
	for n, times := range got {
		if times != 1 || offered[n] == 0 {
			t.Errorf("bundle %d came %d times and was offered %d times", n, times, offered[n])
		}
	}
}

// generated is how many bundles HDTN's generator says that it sent.
func generated(log string) (n int) {
	said, _ := os.ReadFile(log)
	for line := range strings.SplitSeq(string(said), "\n") {
		if _, rest, ok := strings.Cut(line, "bundle_count: "); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

// TestHDTNRefused: a bundle that our node does not want is refused, with the
// reason that says so, and what HDTN offers after it is taken.
func TestHDTNRefused(t *testing.T) {
	door := freePort(t)
	p := newTap(t, door, 0)
	h := newHDTN(t, hdtnSettings{segmentMRU: 200_000, maxBundle: 10_000_000, next: map[int]string{ourNumber: p.addr}})
	earth := hdtnNeighbour(t, door, "")
	sub := watch(earth, "historian", "from/#", 1)
	h.send(fmt.Sprintf("ipn:%d.99", ourNumber), someFiles(1))
	until(t, text("a refusal"), func() bool {
		return slices.ContainsFunc(p.all(), func(x transfer) bool { return x.refused == 4 }) // NOT_ACCEPTABLE
	})
	files := someFiles(100)
	h.send(fmt.Sprintf("ipn:%d.5", ourNumber), files)
	until(t, text("a bundle after it"), func() bool { return p.acked() > 0 })
	settle(t, p)
	accepted := 0
	for _, x := range p.all() {
		switch {
		case x.refused < 0 && x.acked:
			accepted++
		case x.refused != 4 || x.acked:
			t.Errorf("a bundle of %d bytes: acknowledged: %t, refused: %d", len(x.data), x.acked, x.refused)
		}
	}
	t.Logf("after a refusal HDTN offers %d of %d bundles", accepted, len(files))
	if n := len(sub.lines()); n != accepted {
		t.Errorf("%d bundles were delivered, %d acknowledged", n, accepted)
	}
}
