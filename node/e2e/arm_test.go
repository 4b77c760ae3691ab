//go:build linux

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/farhop/farhop/node/admin"
)

// TestArm runs the binaries for small machines, emulated, beside one for this
// machine: init, join, and a message across a link after a SIGKILL.
func TestArm(t *testing.T) {
	full(t)
	const install = "install the user-mode emulators: apt-get install qemu-user-static"
	for _, c := range []struct {
		name, emulator string
		platform       []string
	}{
		{"arm64", "qemu-aarch64-static", []string{"GOOS=linux", "GOARCH=arm64"}},
		{"armv7", "qemu-arm-static", []string{"GOOS=linux", "GOARCH=arm", "GOARM=7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			emulator := need(t, c.emulator, install)
			binary := filepath.Join(t.TempDir(), "farhop-"+c.name)
			if err := build(binary, c.platform...); err != nil {
				t.Fatal(err)
			}
			earth, luna := newDaemon(t, "earth-1"), newDaemon(t, "luna-1")
			earth.prefix = []string{emulator, binary}
			luna.prefix = earth.prefix
			earth.init("earth")
			earth.run()
			link := wire(t, earth, 1, far)
			luna.join(earth.invite("luna", link.Addr().String()))
			luna.run()
			luna.linked(true, earth)

			sub := subscribe(earth, "historian", "plant/#", 1)
			luna.knows(earth, "plant/#")
			link.Cut(true)
			publish(luna, "plant/1/temp", 1, "survivor")
			luna.kill()
			link.Cut(false)
			luna.run()
			sub.once([]string{"survivor"})
			luna.wait("an empty store", func(s admin.Status) bool { return s.Store.Messages == 0 })
		})
	}
}
