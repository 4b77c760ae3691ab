package salvo

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkTransfer is what sender and receiver take of one core for blocks of
// 16 MiB of which one packet in a hundred is lost: reading, parity, sealing,
// opening, repair, one copy of the bytes at the end.
func BenchmarkTransfer(b *testing.B) {
	const size = 16 << 20
	data, sink := random(1, size), make([]byte, size)
	for _, c := range []struct {
		name string
		mtu  int
		loss float64
	}{{"mtu1280", 1280, 0.01}, {"mtu1500", 1500, 0.01}, {"clean", 1280, 0}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				transfer(b, data, sink, Config{Rate: 1e9, OWLT: time.Millisecond, Loss: c.loss, MTU: c.mtu})
			}
		})
	}
}

func transfer(b *testing.B, data, sink []byte, cfg Config) {
	w := &world{t: b, contact: 1}
	now := begin
	send, err := NewSender(now, cfg, w.keys(), SenderState{})
	if err != nil {
		b.Fatal(err)
	}
	recv, err := NewReceiver(now, cfg, w.keys(), ReceiverState{})
	if err != nil {
		b.Fatal(err)
	}
	if err := send.Offer(now, Block{ID: 1, Class: 3, Length: int64(len(data)), Data: bytes.NewReader(data)}); err != nil {
		b.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var buf [MaxMTU]byte
	for released := false; !released; now = now.Add(100 * time.Microsecond) {
		for p := send.Next(now, buf[:]); p != nil; p = send.Next(now, buf[:]) {
			if rnd.Float64() < cfg.Loss {
				continue
			}
			if err := recv.Receive(now, p); err != nil {
				b.Fatal(err)
			}
			e := recv.Take()
			for _, k := range e.Keep {
				copy(sink[k.Offset:], k.Bytes)
			}
			for _, d := range e.Deliver {
				recv.Accepted(now, d.ID)
			}
		}
		for p := recv.Next(now, buf[:]); p != nil; p = recv.Next(now, buf[:]) {
			if err := send.Receive(now, p); err != nil {
				b.Fatal(err)
			}
		}
		released = len(send.Take().Released) > 0
	}
	if !bytes.Equal(data, sink) {
		b.Fatal("other bytes")
	}
}
