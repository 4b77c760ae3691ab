package broker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxEvents = 512
	tickEvery = 500 * time.Millisecond // how exact keep-alives are
)

// poller is a loop that serves many sockets on one goroutine: it reads what is
// there, handles it, and writes to all that got something, one write for each.
// An idle socket costs its conn and nothing else: no goroutine, no buffer.
//
// The epoll descriptor itself is in the runtime's poller, so that an idle loop
// holds no thread.
type poller struct {
	b      *Broker
	fd     int // epoll's
	epoll  *os.File
	raw    syscall.RawConn
	wakeFD int
	events [maxEvents]unix.EpollEvent
	found  int                // events of the last look
	look   func(uintptr) bool // for raw.Read, made once
	buf    []byte
	box    batch
	byFD   []*descriptor
	wheel  wheel
	doors  doors
	turns  turns
	began  time.Time
	now    time.Time
	ticked time.Time

	sleeping atomic.Bool
	mu       sync.Mutex // guards what follows
	work     []*polled  // woken, or with something to write
	spare    []*polled
	ending   bool
}

func newPoller(b *Broker) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime polls it
		_ = unix.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &poller{b: b, fd: fd, epoll: os.NewFile(uintptr(fd), "epoll"), buf: make([]byte, readBuffer), began: time.Now()}
	l.now, l.ticked = l.began, l.began
	l.wheel.last = slotOf(l.moment())
	if l.raw, err = l.epoll.SyscallConn(); err != nil {
		_ = l.epoll.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		_ = l.epoll.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, l.wakeFD, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wakeFD)}); err != nil {
		l.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l.look = func(fd uintptr) bool {
		n, err := unix.EpollWait(int(fd), l.events[:], 0)
		l.found = max(n, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	}
	return l, nil
}

func (l *poller) close() {
	_ = unix.Close(l.wakeFD)
	_ = l.epoll.Close()
}

// run serves until end was called and the last connection has ended.
func (l *poller) run() {
	for {
		l.wait()
		l.now = time.Now()
		for i := range l.events[:l.found] {
			l.onEvent(&l.events[i])
		}
		l.doWork()
		l.turns.next()
		if l.now.Sub(l.ticked) >= tickEvery {
			l.ticked = l.now
			l.wheel.tick(l.moment(), l.onTime)
			l.doors.tick()
		}
		l.mu.Lock()
		over := l.ending && l.wheel.count == 0 && len(l.work) == 0
		l.mu.Unlock()
		if over {
			l.close()
			return
		}
		runtime.Gosched() // the node's own loop shares these processors
	}
}

// wait looks for events and sleeps when there is neither one nor work.
func (l *poller) wait() {
	if l.look(uintptr(l.fd)) || l.hasWork() {
		return
	}
	l.sleeping.Store(true)
	defer l.sleeping.Store(false)
	if l.hasWork() {
		return
	}
	_ = l.epoll.SetReadDeadline(l.ticked.Add(tickEvery))
	l.found = 0
	_ = l.raw.Read(l.look)
}

// hasWork reports whether there is a reason not to sleep; to end is one.
func (l *poller) hasWork() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.work) > 0 || l.ending && l.wheel.count == 0
}

// add leaves work for the loop and wakes it up.
func (l *poller) add(p *polled) {
	l.mu.Lock()
	l.work = append(l.work, p)
	l.mu.Unlock()
	l.rouse()
}

func (l *poller) rouse() {
	if l.sleeping.CompareAndSwap(true, false) {
		one := [8]byte{1} // little endian, or a large number: either wakes
		_, _ = unix.Write(l.wakeFD, one[:])
	}
}

// end has run return once every connection has ended.
func (l *poller) end() {
	l.mu.Lock()
	l.ending = true
	l.mu.Unlock()
	l.rouse()
}

// doWork serves those that were left for the loop: by others, and by its own
// handling of events, so that all of one turn goes out in one write each.
func (l *poller) doWork() {
	l.mu.Lock()
	work := l.work
	l.work = l.spare[:0]
	l.mu.Unlock()
	for _, p := range work {
		p.queued.Store(false)
		p.serve()
	}
	clear(work)
	l.spare = work
}

func (l *poller) onEvent(e *unix.EpollEvent) {
	if int(e.Fd) == l.wakeFD {
		var drop [8]byte
		_, _ = unix.Read(l.wakeFD, drop[:])
		return
	}
	if e.Pad == doorGeneration {
		l.doors.open(e.Fd)
		return
	}
	if d := l.byFD[e.Fd]; d != nil && d.gen == e.Pad { // else it was closed in this very turn
		d.p.onEvents(e.Events)
	}
}

// moment is now.
func (l *poller) moment() moment { return moment(l.began.UnixNano()).add(l.now.Sub(l.began)) }

func (l *poller) onTime(p *polled) { p.onTime() }
