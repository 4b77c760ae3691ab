package mux

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCarry carries a TCP connection over a stream, as a service is: three
// hops over loopback. cpu-s/GiB is of all of it, source and sink too.
func BenchmarkCarry(b *testing.B) {
	near, far := pair(b, usual(), usual())
	src, in := tcpPair(b)
	out, sink := tcpPair(b)
	up := must[*Stream](near.OpenStream(b.Context()))(b)
	const size = 64 << 20
	b.SetBytes(size)
	go func() {
		p := make([]byte, 63<<10)
		_, _ = io.CopyBuffer(struct{ io.Writer }{up}, struct{ io.Reader }{in}, p)
	}()
	go func() {
		st, err := far.AcceptStream(b.Context())
		if err == nil {
			pour(out, st)
		}
	}()
	before := processorTime(b)
	chunk, got := make([]byte, 256<<10), make([]byte, 256<<10)
	for b.Loop() {
		go func() {
			for left := size; left > 0; {
				n, err := src.Write(chunk[:min(left, len(chunk))])
				if left -= n; err != nil {
					return
				}
			}
		}()
		for left := size; left > 0; {
			n, err := sink.Read(got[:min(left, len(got))])
			if left -= n; err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric((processorTime(b)-before).Seconds()*(1<<30)/float64(size)/float64(b.N), "cpu-s/GiB")
}

func pour(out net.Conn, st *Stream) {
	if w, ok := any(st).(io.WriterTo); ok {
		_, _ = w.WriteTo(out)
		return
	}
	p := make([]byte, 63<<10)
	_, _ = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{st}, p)
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
