package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Profiles of the disk.
const (
	native  = "native"
	sync5ms = "sync5ms"   // 5 ms are added to every fsync, fdatasync and msync
	write10 = "write10mb" // 10 MB/s reach the disk
)

// writeCap is the rate of the profile write10, in bytes a second.
const writeCap = 10_000_000

// profile says how a measurement is begun.
type profile struct {
	name string
	why  string // it cannot be had here; "" when it can

	prefix  []string // of the command
	args    []string // after "one"
	cleanup func() error
}

// begin sets a profile up.
func begin(name, dir string) (p profile, err error) {
	p = profile{name: name, cleanup: func() error { return nil }}
	switch name {
	case native:
	case sync5ms:
		strace, err := exec.LookPath("strace")
		if err != nil {
			p.why = "strace is not installed (apt-get install strace)"
			return p, nil
		}
		// Only the three calls stop the process, so the rest runs at full speed.
		p.prefix = []string{
			strace, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync,msync",
			"-e", "inject=fdatasync,fsync,msync:delay_exit=5000",
		}
	case write10:
		return p, p.throttle(dir)
	default:
		return p, fmt.Errorf("profile: %q, want %s, %s or %s", name, native, sync5ms, write10)
	}
	return p, nil
}

// throttle makes a cgroup whose processes write 10 MB/s to the disk of dir.
// What fsync writes is written by the process that calls it, so it counts; what
// the system writes back by itself does not.
func (p *profile) throttle(dir string) error {
	disk, err := diskOf(dir)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("farhop-bench-%d", os.Getpid())
	limit := func(group, file, text string) error {
		err := limitDisk(group, file, text)
		if err == nil {
			p.args = []string{"-cgroup", group}
			p.cleanup = func() error { return removeGroup(group) }
		}
		return err
	}
	v1 := limit(filepath.Join("/sys/fs/cgroup/blkio", name), "blkio.throttle.write_bps_device", fmt.Sprintf("%s %d", disk, writeCap))
	if v1 == nil {
		return nil
	}
	v2 := limit(filepath.Join("/sys/fs/cgroup", name), "io.max", fmt.Sprintf("%s wbps=%d", disk, writeCap))
	if v2 == nil {
		return nil
	}
	p.why = fmt.Sprintf("no cgroup limits the writes of disk %s here: as root, with the blkio controller (v1: %v) or with io (v2: %v)", disk, v1, v2)
	return nil
}

// removeGroup removes a cgroup once the last process has gone.
func removeGroup(group string) error {
	var err error
	for range 100 {
		if err = os.Remove(group); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// diskOf names the whole disk under a folder as MAJOR:MINOR.
func diskOf(dir string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	dev := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	at, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", dev))
	if err != nil {
		return dev, nil // no disk: the cgroup will say so
	}
	if _, err := os.Stat(filepath.Join(at, "partition")); err != nil {
		return dev, nil
	}
	whole, err := os.ReadFile(filepath.Join(filepath.Dir(at), "dev"))
	return strings.TrimSpace(string(whole)), err
}

// limitOf is how long a measurement has to take so that several groups of all
// producers fit in. flights is the bytes that all producers have under way.
func limitOf(name string, flights int) time.Duration {
	switch name {
	case sync5ms:
		return 800 * time.Millisecond
	case write10:
		group := time.Duration(flights) * time.Second / writeCap
		return max(1200*time.Millisecond, 3*group)
	}
	return 600 * time.Millisecond
}

// heavy reports whether a group takes so long that only the floor and the
// engines of farhop are measured.
func heavy(name string, flights int) bool {
	return name == write10 && flights > 32<<20
}

func itoa(n int) string { return strconv.Itoa(n) }
