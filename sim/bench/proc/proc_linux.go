package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc/PID/stat: 1/USER_HZ, which is 100 on
// every platform Go knows (proc(5)).
const tick = time.Second / 100

// tmpfsMagic marks file systems in memory (statfs(2)).
const tmpfsMagic = 0x01021994

// Datasync is fdatasync(2).
func Datasync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// Allocate reserves blocks of a file up to size, which becomes its size. Where
// the file system cannot, it only sets the size.
func Allocate(f *os.File, size int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS):
			return f.Truncate(size)
		}
		return os.NewSyscallError("fallocate", err)
	}
}

// Forget drops the pages of a file from the page cache, as far as they are on
// disk, so that the next reader waits for the disk.
func Forget(f *os.File) error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// CPU returns the processor time of a process, user and system.
func CPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; after it, field 3 is next.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name, want 13 and more", pid, len(fields))
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// OwnCPU returns the processor time of this process.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// yielding is the nice value (setpriority(2)) of Yield: a third of the weight of
// others where processors are short.
const yielding = 5

// Yield has this process give way to others on this machine.
func Yield() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, yielding) }

// MemoryOf returns what a process holds.
func MemoryOf(pid int) (m Memory, err error) {
	if m.Resident, err = field(pid, "status", "VmRSS:"); err == nil {
		m.Anonymous, err = field(pid, "status", "RssAnon:")
	}
	if err == nil {
		m.Peak, err = field(pid, "status", "VmHWM:")
	}
	m.Resident, m.Anonymous, m.Peak = m.Resident<<10, m.Anonymous<<10, m.Peak<<10
	return m, err
}

// Written returns the bytes a process caused to be written to disks, in whole
// pages (proc(5), write_bytes).
func Written(pid int) (int64, error) { return field(pid, "io", "write_bytes:") }

func field(pid int, file, name string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", pid, file, name)
}

// InMemory reports whether a folder is on a file system without a disk.
func InMemory(dir string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && int64(st.Type) == tmpfsMagic
}

// FileSystem names the type of the file system that holds dir, such as ext4,
// "" when the system does not say.
func FileSystem(dir string) string {
	var st syscall.Stat_t
	if syscall.Stat(dir, &st) != nil {
		return ""
	}
	dev := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		mount, kind, ok := strings.Cut(line, " - ") // proc(5): a separator after optional fields
		if f := strings.Fields(mount); ok && len(f) > 2 && f[2] == dev {
			return strings.Fields(kind + " ?")[0]
		}
	}
	return ""
}

// DiskBytes counts the blocks that the files of a folder occupy, in bytes:
// what removing them would give back.
func DiskBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info os.FileInfo
			if info, err = d.Info(); err == nil {
				n += info.Sys().(*syscall.Stat_t).Blocks * 512 // stat(2): always of 512 bytes
			}
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed meanwhile
		}
		return err
	})
	return n, err
}
