package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// input is a packet for one version of the protocol, perhaps damaged.
type input struct {
	version byte
	bytes   []byte
}

// packetsFor makes n packets of the kinds that clients send, of both versions.
// A third is whole, the others have one or two faults.
func packetsFor(r *rand.Rand, n int) []input {
	out := make([]input, n)
	for i := range out {
		w := writer{r: r, version: 4 + byte(r.IntN(2))}
		w.packet()
		if i%3 > 0 {
			w.damage(i % 3)
		}
		out[i] = input{w.version, w.b}
	}
	return out
}

// writer makes one packet.
type writer struct {
	r       *rand.Rand
	version byte
	b       []byte
}

func (w *writer) chance(percent int) bool { return w.r.IntN(100) < percent }

func (w *writer) num16(v int) { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }

func (w *writer) data(b []byte) {
	w.num16(len(b))
	w.b = append(w.b, b...)
}

func (w *writer) text() {
	words := []string{"a", "a/b", "plant/1/temp", "", "+", "a/+/c", "#", "a/#", "$share/g/a", "°C/ü", "$SYS/x", "a//b", "/", "long/" + string(slices.Repeat([]byte("x"), 200))}
	w.data([]byte(words[w.r.IntN(len(words))]))
}

func (w *writer) bytes() { w.data(slices.Repeat([]byte{byte(w.r.Uint32())}, w.r.IntN(20))) }

// properties writes some of those that are given by identifier.
func (w *writer) properties(ids ...byte) {
	if w.version < 5 {
		return
	}
	outer := w.b
	w.b = nil
	for _, id := range ids {
		times := w.r.IntN(2)
		if id == 0x26 && times == 1 {
			times = 1 + w.r.IntN(3)
		}
		for range times {
			w.b = append(w.b, id)
			w.value(id)
		}
	}
	inner := w.b
	w.b = append(binary.AppendUvarint(outer, uint64(len(inner))), inner...)
}

func (w *writer) value(id byte) {
	switch id {
	case 0x01, 0x17, 0x19:
		w.b = append(w.b, byte(w.r.IntN(2)))
	case 0x02, 0x11, 0x18, 0x27:
		w.b = binary.BigEndian.AppendUint32(w.b, w.r.Uint32()|1)
	case 0x0B:
		w.b = binary.AppendUvarint(w.b, uint64(1+w.r.IntN(1<<28-1)))
	case 0x21, 0x22, 0x23:
		w.num16(1 + w.r.IntN(100))
	case 0x26:
		w.text()
		w.text()
	case 0x09, 0x16:
		w.bytes()
	case 0x08:
		w.data([]byte("answer/here"))
	default:
		w.text()
	}
}

// packet writes one that is right, but for topics and filters that may not be.
func (w *writer) packet() {
	var first byte
	switch kind := w.r.IntN(12); kind {
	case 0, 1:
		first = 0x10
		w.connect()
	case 2, 3, 4:
		first = 0x30 | byte(w.r.IntN(3))<<1 | byte(w.r.IntN(2))
		w.publish(first)
	case 5, 6:
		first = []byte{0x40, 0x50, 0x62, 0x70}[w.r.IntN(4)]
		w.num16(1 + w.r.IntN(1<<16-1))
		if w.version == 5 && w.chance(60) {
			w.b = append(w.b, []byte{0, 0, 0x92}[w.r.IntN(3)])
			if w.chance(50) {
				w.properties(0x1F, 0x26)
			}
		}
	case 7, 8:
		first = 0x82
		w.num16(1 + w.r.IntN(1<<16-1))
		w.properties(0x0B, 0x26)
		for range 1 + w.r.IntN(3) {
			w.text()
			w.b = append(w.b, byte(w.r.IntN(3)))
		}
	case 9:
		first = 0xA2
		w.num16(1 + w.r.IntN(1<<16-1))
		w.properties(0x26)
		for range 1 + w.r.IntN(3) {
			w.text()
		}
	case 10:
		first = 0xC0
	default:
		first = w.end()
	}
	w.b = append(binary.AppendUvarint([]byte{first}, uint64(len(w.b))), w.b...)
}

func (w *writer) end() byte {
	if w.version == 5 && w.chance(30) {
		w.b = append(w.b, 0x18)
		w.properties(0x15, 0x16, 0x1F, 0x26)
		return 0xF0
	}
	if w.version == 5 && w.chance(60) {
		w.b = append(w.b, []byte{0, 4, 0x8E}[w.r.IntN(3)])
		w.properties(0x11, 0x1F, 0x26)
	}
	return 0xE0
}

func (w *writer) publish(first byte) {
	w.text()
	if first&6 != 0 {
		w.num16(1 + w.r.IntN(1<<16-1))
	}
	w.properties(0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26)
	w.b = append(w.b, slices.Repeat([]byte{'x'}, w.r.IntN(30))...)
}

func (w *writer) connect() {
	w.data([]byte("MQTT"))
	var flags byte
	for _, f := range []byte{flagClean, flagWill, flagUser} {
		if w.chance(50) {
			flags |= f
		}
	}
	if flags&flagWill != 0 {
		flags |= byte(w.r.IntN(3))<<3 | byte(w.r.IntN(2))<<5
	}
	if flags&flagUser != 0 || w.version == 5 && w.chance(30) {
		flags |= flagPassword
	}
	w.b = append(w.b, w.version, flags)
	w.num16(w.r.IntN(1 << 16))
	w.properties(0x11, 0x21, 0x27, 0x22, 0x17, 0x19, 0x15, 0x26)
	w.data([]byte("client"))
	if flags&flagWill != 0 {
		w.properties(0x18, 0x01, 0x02, 0x03, 0x08, 0x09, 0x26)
		w.data([]byte("will/topic"))
		w.bytes()
	}
	if flags&flagUser != 0 {
		w.text()
	}
	if flags&flagPassword != 0 {
		w.bytes()
	}
}

// damage makes n faults. Half of the time the length is set right again, so
// that the fault is in the body and not in its size.
func (w *writer) damage(n int) {
	for range n {
		at := w.r.IntN(len(w.b))
		switch w.r.IntN(5) {
		case 0:
			w.b[at] ^= 1 << w.r.IntN(8)
		case 1:
			w.b[at] = byte(w.r.Uint32())
		case 2:
			w.b = slices.Insert(w.b, at, byte(w.r.Uint32()))
		case 3:
			w.b = slices.Delete(w.b, at, at+1)
		default:
			w.b = w.b[:at]
		}
		if len(w.b) < 2 {
			w.b = append(w.b, 0, 0)
		}
	}
	if _, digits, err := length(w.b[1:]); err == nil && digits > 0 && w.chance(70) {
		body := w.b[1+digits:]
		w.b = append(binary.AppendUvarint([]byte{w.b[0]}, uint64(len(body))), body...)
	}
}
