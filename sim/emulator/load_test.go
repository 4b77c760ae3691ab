package emulator

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkLoad sends datagrams of 1200 bytes at a steady pace through a link,
// sender and receiver in the same process, and reports how many came per
// second, how many the emulator lost by itself, and how much later than the
// light time they came. Run it with -benchtime 200000x or so.
func BenchmarkLoad(b *testing.B) {
	moon := Profile{Delay: 1280 * ms, Rate: 50e6, Overhead: 28, Queue: 4 << 20}
	for _, c := range []struct {
		name string
		p    Profile
		pace int // datagrams per second; 0 is as fast as the receiver takes them
	}{
		{"moon-50Mbit-5000", moon, 5000},
		{"20000", Profile{Delay: 1280 * ms}, 20_000},
		{"20000-short", Profile{Delay: ms}, 20_000},
		{"50000", Profile{Delay: 100 * ms}, 50_000},
		{"flood", Profile{Delay: ms}, 0},
	} {
		b.Run(c.name, func(b *testing.B) { loadLink(b, c.p, c.pace) })
	}
}

func loadLink(b *testing.B, p Profile, pace int) {
	dst, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer dst.Close()
	l, err := Open(Config{Listen: "127.0.0.1:0", To: dst.LocalAddr().String(), Up: p, InFlight: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() { _ = l.Run(b.Context()) }()
	src, err := net.DialUDP("udp", nil, l.Addr().(*net.UDPAddr))
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()

	sent := make([]time.Duration, b.N) // when, after start
	start := time.Now()
	var got atomic.Int64
	late := make(chan []time.Duration, 1)
	go func() { late <- receiveLoad(newSocket(dst), start, sent, p.Delay, &got) }()
	b.SetBytes(1200)
	b.ReportAllocs()
	b.ResetTimer()
	sendLoad(newSocket(src), start, sent, pace, &got)
	lates := <-late
	took := time.Since(start) - p.Delay
	s := l.Stats().Up
	own := s.Overrun + s.Dropped.Memory + s.Dropped.Undelivered
	b.ReportMetric(float64(len(lates))/took.Seconds(), "packets/s")
	b.ReportMetric(float64(own), "lost-by-itself")
	b.ReportMetric(float64(len(sent)-len(lates))-float64(own), "lost-elsewhere")
	if len(lates) > 0 {
		slices.Sort(lates)
		b.ReportMetric(lates[len(lates)/2].Seconds()*1e6, "late-p50-us")
		b.ReportMetric(lates[len(lates)*99/100].Seconds()*1e6, "late-p99-us")
	}
}

// sendLoad sends all datagrams, each with its number.
func sendLoad(src *socket, start time.Time, sent []time.Duration, pace int, got *atomic.Int64) {
	out, failed := newOutbox(), make([]bool, batch)
	ps := make([]*packet, batch)
	for i := range ps {
		ps[i] = sized(1200)
	}
	for at := 0; at < len(sent); {
		now := time.Since(start)
		n := min(batch, len(sent)-at)
		if pace > 0 {
			n = min(n, int(now.Seconds()*float64(pace))+1-at)
		} else if int64(at)-got.Load() > 2000 { // below every socket buffer
			n = 0
		}
		if n <= 0 {
			time.Sleep(200 * time.Microsecond)
			continue
		}
		for i := range n {
			putNumber(ps[i].data, at+i)
			sent[at+i] = now
		}
		out.send(src, ps[:n], func(*packet) *net.UDPAddr { return nil }, failed)
		at += n
	}
}

// receiveLoad reads until everything has come or nothing does for long, and
// returns how late each was.
func receiveLoad(dst *socket, start time.Time, sent []time.Duration, delay time.Duration, got *atomic.Int64) (late []time.Duration) {
	in, ps := newInbox(dst), make([]*packet, batch)
	for i := range ps {
		ps[i] = new(packet)
	}
	late = make([]time.Duration, 0, len(sent))
	for len(late) < len(sent) {
		_ = dst.SetReadDeadline(time.Now().Add(delay + 3*time.Second))
		n, _, err := in.read(ps)
		if err != nil {
			break
		}
		now := time.Since(start)
		for _, p := range ps[:n] {
			late = append(late, now-delay-sent[number(p.data)])
		}
		got.Add(int64(n))
	}
	return late
}

func putNumber(b []byte, n int) {
	for i := range 8 {
		b[i] = byte(n >> (8 * i))
	}
}

func number(b []byte) (n int) {
	for i := range 8 {
		n |= int(b[i]) << (8 * i)
	}
	return n
}
