package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// device is an MQTT 3.1.1 client with its memory.
type device struct {
	s        *stress
	id       string
	filter   string
	durable  bool // its session outlives the connection
	restless bool // it breaks off
	rng      *rand.Rand
	conn     net.Conn
	r        *bufio.Reader
	held     map[uint16]bool // QoS 2 deliveries between PUBLISH and PUBREL

	open []sent // publishes that are not over, oldest first
	last uint16 // packet id

	mu   sync.Mutex
	seen map[string]*record // by publisher, topic, QoS; guarded by mu
}

type sent struct {
	id       uint16
	packet   []byte
	received bool // PUBREC came
}

type devicePacket struct {
	first byte
	body  []byte
}

var errNoConnack = errors.New("no CONNACK")

// connect opens a connection, over TCP or within the process, and reports
// whether the session goes on.
func (d *device) connect(clean bool) (present bool) {
	flags := byte(0)
	if clean {
		flags = 2
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0}, deviceText(d.id)...)
	for end := time.Now().Add(stressPatience); ; time.Sleep(time.Millisecond) {
		var err error
		if d.rng.IntN(2) == 0 {
			d.conn, err = d.s.n.broker.Connect()
		} else {
			d.conn, err = net.Dial("tcp", d.s.n.broker.Addr().String())
		}
		if err == nil {
			d.r = bufio.NewReader(d.conn)
			d.write(frame(0x10, body))
			var p devicePacket
			if p, err = d.next(); err == nil && p.first == 0x20 && p.body[1] == 0 {
				return p.body[0] == 1
			}
			_ = d.conn.Close()
		}
		if time.Now().After(end) {
			d.s.t.Errorf("%s: %v", d.id, errors.Join(errNoConnack, err))
			return false
		}
	}
}

func (d *device) subscribe(filter string, qos byte) {
	body := append([]byte{0, 1}, deviceText(filter)...)
	d.write(frame(0x82, append(body, qos)))
	for {
		p, err := d.next()
		if err != nil {
			return
		}
		if p.first == 0x90 {
			return
		}
		d.answer(p) // a delivery may come before the SUBACK
	}
}

// answer handles a delivery and its handshake.
func (d *device) answer(p devicePacket) {
	qos := p.first >> 1 & 3
	switch p.first >> 4 {
	case 3:
		n := int(binary.BigEndian.Uint16(p.body))
		topic, rest := string(p.body[2:2+n]), p.body[2+n:]
		if qos == 0 {
			d.got(topic, 0, string(rest))
			return
		}
		id := binary.BigEndian.Uint16(rest)
		if qos == 1 || !d.held[id] {
			d.got(topic, qos, string(rest[2:]))
		}
		if qos == 2 {
			d.held[id] = true
		}
		d.write(frame(0x30+qos*0x10, rest[:2])) // PUBACK 0x40, PUBREC 0x50
	case 6:
		delete(d.held, binary.BigEndian.Uint16(p.body))
		d.write(frame(0x70, p.body))
	}
}

// publisher sends its messages in bursts and waits for their acknowledgements.
// A restless one breaks off instead now and then, and sends again what is open.
func (d *device) publisher() {
	numbers := map[string]int{}
	d.connect(true)
	_ = d.conn.Close()
	d.connect(false)
	for n := 0; n < stressMessages; {
		for range min(1+d.rng.IntN(stressBurst), stressMessages-n) {
			topic, qos := fmt.Sprint("t/", n%stressTopics), byte(n/stressTopics%3)
			key := fmt.Sprint(topic, qos)
			d.publish(topic, qos, fmt.Sprint(d.id, " ", numbers[key]))
			numbers[key]++
			n++
		}
		for len(d.open) > 0 {
			if d.restless && d.rng.IntN(30) == 0 {
				d.again()
			}
			if p, err := d.next(); err == nil {
				d.acknowledged(p)
			} else if d.again(); !d.restless {
				d.s.t.Errorf("%s: %v", d.id, err)
				return
			}
		}
	}
	_ = d.conn.Close()
}

func (d *device) publish(topic string, qos byte, payload string) {
	body := deviceText(topic)
	if qos > 0 {
		d.last = d.last%60000 + 1
		body = binary.BigEndian.AppendUint16(body, d.last)
	}
	p := frame(0x30|qos<<1, append(body, payload...))
	if qos > 0 {
		d.open = append(d.open, sent{id: d.last, packet: p})
	}
	d.write(p)
}

// again connects anew and repeats what is open, in order (MQTT 3.1.1, 4.4).
func (d *device) again() {
	_ = d.conn.Close()
	if !d.connect(false) {
		d.s.t.Errorf("%s: the session is gone", d.id)
	}
	for i := range d.open {
		o := &d.open[i]
		if o.received {
			d.write(frame(0x62, binary.BigEndian.AppendUint16(nil, o.id)))
			continue
		}
		o.packet[0] |= 8
		d.write(o.packet)
	}
}

func (d *device) acknowledged(p devicePacket) {
	id := binary.BigEndian.Uint16(p.body)
	for i := range d.open {
		o := &d.open[i]
		if o.id != id {
			continue
		}
		switch p.first >> 4 {
		case 5:
			o.received = true
			d.write(frame(0x62, p.body))
		case 4, 7:
			d.open = append(d.open[:i], d.open[i+1:]...)
		}
		return
	}
}

// write sends a packet. What it cannot write, the next read finds out.
func (d *device) write(p []byte) { _, _ = d.conn.Write(p) }

// next reads a packet; a device that waits looks whether the test is over.
func (d *device) next() (devicePacket, error) {
	stop := make(chan struct{})
	defer close(stop)
	_ = d.conn.SetReadDeadline(time.Now().Add(stressPatience))
	if d.r.Buffered() == 0 {
		conn := d.conn
		go func() {
			select {
			case <-d.s.quit:
				_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			case <-stop:
			}
		}()
	}
	return readPacket(d.r)
}

func readPacket(r *bufio.Reader) (devicePacket, error) {
	first, err := r.ReadByte()
	if err != nil {
		return devicePacket{}, err
	}
	n, err := binary.ReadUvarint(r) // the same form
	if err != nil {
		return devicePacket{}, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return devicePacket{first, body}, err
}

func frame(first byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

func deviceText(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}
