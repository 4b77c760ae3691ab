package emulator

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes one waiting goroutine at a set time. On Linux it is a timerfd in
// the runtime's poller. Runtime timers of an idle process are late by up to a
// millisecond, the grain of the poller's own timeout; a blocking sleep in the
// kernel is fine-grained but may keep a processor from other goroutines.
type alarm struct {
	file *os.File
	raw  syscall.RawConn
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create timer: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("create timer: %w", err)
	}
	return &alarm{file: f, raw: raw}, nil
}

// set rings after d, at once if d is not positive, and forgets any earlier
// setting. It has no effect on a closed alarm.
func (a *alarm) set(d time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))} // 0 would disarm
	_ = a.raw.Control(func(fd uintptr) { _ = unix.TimerfdSettime(int(fd), 0, &spec, nil) })
}

// wait blocks until the alarm rings; false means it was closed.
func (a *alarm) wait() bool {
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return err == nil
}

// close ends wait. Closing again is a no-op.
func (a *alarm) close() { a.file.Close() }
