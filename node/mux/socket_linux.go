package mux

import (
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setOptions tells the kernel to hold little that is not on its way, so that
// what is urgent does not wait behind it, and not to judge the peer: Idle does,
// and links may be silent for long. What a system refuses costs only that.
func setOptions(nc net.Conn, cfg Config) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tc.SetNoDelay(true)
	_ = tc.SetKeepAlive(false)
	control(tc, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, cfg.Unsent)
		patience := min(cfg.Idle/time.Millisecond, math.MaxInt32)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience))
	})
}

// segments returns counts of TCP.
func segments(nc net.Conn) (sent, received, again uint64) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return 0, 0, 0
	}
	control(tc, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			sent, received, again = uint64(info.Segs_out), uint64(info.Segs_in), uint64(info.Total_retrans)
		}
	})
	return sent, received, again
}

func control(tc *net.TCPConn, f func(fd int)) {
	if raw, err := tc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
