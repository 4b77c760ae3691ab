package virtual_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farhop/farhop/node/link"
	"github.com/farhop/farhop/node/wire"
	"github.com/farhop/farhop/sim/virtual"
	"github.com/farhop/farhop/storeforward/bundle"
)

// TestSpoolOnAFullDisk plays a far end whose disk has no room for what waits for
// what was before it: the session ends and says why, nothing that was not whole
// is delivered, and the next session carries.
func TestSpoolOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("farhop", disk, "tmpfs", 0, "size=512k"); err != nil {
		if os.Getenv("FARHOP_E2E") == "require" {
			t.Fatalf("mount a small file system: %v: run as root", err)
		}
		t.Skipf("mount a small file system: %v: run as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// As with TestManyPasses, not in every run something has to go to disk.
	full := false
	for seed := uint64(3); !full && seed < 15; seed++ {
		synctest.Test(t, func(t *testing.T) { full = fillSpool(t, disk, seed) })
	}
	if !full {
		t.Error("no disk was ever full: the runs say nothing")
	}
}

// fillSpool is one run. It reports whether the disk was full.
func fillSpool(t *testing.T, disk string, seed uint64) bool {
	const n, size = 64 << 20, 1 << 20
	c := virtual.Config{Seed: seed, Way: virtual.Way{Delay: mars, Rate: rate, Loss: 0.02}}
	w := newFarWorldOn(t, disk, c, link.Properties{OWLT: mars, Rate: rate}, n)
	defer w.stop()
	<-w.far.ups
	hop := bundle.Hop{HopLimit: 9, HopCount: 1, Age: time.Second}
	for xid := uint64(1); xid <= n/size; xid++ {
		frozen, payload := farBundle(xid, size)
		again := func() ([]byte, error) { return payload, nil }
		if !w.s.Await(t.Context(), bundle.Bulk) || !w.s.SendTransfer(bundle.Bulk, xid, frozen, payload, hop, again) {
			t.Fatal("the session ended before anything could be back")
		}
	}
	select {
	case <-time.After(9 * mars): // several repairs: nothing had to go to disk
		if w.far.left > 0 {
			t.Errorf("%d bytes have not come, and the disk was not full", w.far.left)
		}
		return false
	case why := <-w.far.downs:
		if why.Cause != link.Overflow || !strings.Contains(why.Err.Error(), "free space on the disk of "+disk) {
			t.Errorf("the session ended with %v: %v", why.Cause, why.Err)
		}
	}
	if w.far.left <= 0 {
		t.Error("all was delivered, and the disk was full")
	}
	next := <-w.far.ups
	time.Sleep(4 * mars)
	select {
	case why := <-w.far.downs:
		t.Errorf("the next session ended: %v", why.Err)
	default:
	}
	if !next.Send(wire.Ping{}) {
		t.Error("the next session does not carry")
	}
	return true
}
