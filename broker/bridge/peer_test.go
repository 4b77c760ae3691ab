package bridge

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// peer is a broker of MQTT 5 that does what a test says and Mosquitto does not:
// it refuses messages, and it lives in virtual time at the end of a long path.
// It knows one client and holds it to what the standard asks of clients.
type peer struct {
	t      *testing.T
	code   func(topic string, nth int) byte  // answer to the nth copy of a topic's message, from 1; nil = 0
	grant  func(filter string, nth int) byte // answer to the nth subscription to it, from 1; nil = QoS 2
	window int                               // its Receive Maximum

	mu    sync.Mutex
	known bool // it has the session
	taken []string
	tries map[string]int
	held  map[uint16]bool // QoS 2 ids between PUBREC and PUBREL
	queue []*sending      // to the client
	conns int
}

// sending is a message on its way to the client.
type sending struct {
	topic       string
	qos         byte
	sent, done  bool
	id          uint16
	payload     []byte
	receivedOne bool // PUBREC came
}

func newPeer(t *testing.T) *peer {
	return &peer{t: t, window: 65535, tries: map[string]int{}, held: map[uint16]bool{}}
}

// send queues messages for the client's next connection.
func (p *peer) send(topic string, qos byte, payloads ...string) {
	for _, s := range payloads {
		p.queue = append(p.queue, &sending{topic: topic, qos: qos, payload: []byte(s), id: uint16(len(p.queue) + 1)})
	}
}

// next puts another message of the same text under the id of one that is done.
// The client has seen nothing of it, though it was sent if lost is set.
func (p *peer) next(id uint16, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.queue[id-1]
	p.queue[id-1] = &sending{topic: old.topic, qos: old.qos, payload: old.payload, id: id, sent: lost}
}

// settled reports whether the client has answered for all of the queue.
func (p *peer) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(p.queue, func(s *sending) bool { return !s.done })
}

func (p *peer) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.taken)
}

// serve plays the broker on a connection until it ends. A client that says
// nothing for one and a half times the keepalive it named is cut off.
func (p *peer) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	keep := time.Hour
	for {
		dead := time.AfterFunc(keep+keep/2, func() {
			p.t.Errorf("the client was silent for more than %s", keep+keep/2)
			conn.Close()
		})
		pk, err := readFromClient(r)
		dead.Stop()
		if err != nil {
			return
		}
		if pk.FixedHeader.Type == packets.Connect {
			keep = time.Duration(pk.Connect.Keepalive) * time.Second
		}
		if !p.answer(conn, pk) {
			return
		}
	}
}

func readFromClient(r *bufio.Reader) (*packets.Packet, error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	size, err := readLength(r)
	if err != nil {
		return nil, err
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	pk := &packets.Packet{ProtocolVersion: 5}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return nil, err
	}
	pk.FixedHeader.Remaining = size
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk, pk.ConnectDecode(body)
	case packets.Subscribe:
		return pk, pk.SubscribeDecode(body)
	case packets.Pingreq, packets.Disconnect:
		return pk, nil
	}
	return pk, decode(pk, body)
}

// answer does what a packet asks for; false ends the connection.
func (p *peer) answer(conn net.Conn, pk *packets.Packet) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, code := pk.PacketID, byte(0)
	switch pk.FixedHeader.Type {
	case packets.Connect:
		present := byte(0)
		if p.known {
			present = 1
		}
		p.known = true
		p.conns++
		p.write(conn, []byte{0x20, 6, present, 0, 3, 0x21, byte(p.window >> 8), byte(p.window)})
	case packets.Subscribe:
		p.write(conn, append([]byte{0x90, byte(3 + len(pk.Filters)), byte(id >> 8), byte(id), 0}, p.grants(pk.Filters)...))
		for _, s := range p.queue {
			p.deliver(conn, s)
		}
	case packets.Pingreq:
		p.write(conn, []byte{0xd0, 0})
	case packets.Publish:
		kind := byte(packets.Puback)
		if pk.FixedHeader.Qos == 2 {
			kind = packets.Pubrec
		}
		if !p.held[id] {
			code = p.take(pk)
		}
		if pk.FixedHeader.Qos > 0 {
			p.held[id] = pk.FixedHeader.Qos == 2 && code == 0
			p.write(conn, []byte{kind << 4, 3, byte(id >> 8), byte(id), code})
		}
	case packets.Pubrel:
		delete(p.held, id)
		p.write(conn, []byte{0x70, 2, byte(id >> 8), byte(id)})
	case packets.Puback, packets.Pubcomp:
		p.queue[id-1].done = true
	case packets.Pubrec:
		p.queue[id-1].receivedOne = true
		p.write(conn, []byte{0x62, 2, byte(id >> 8), byte(id)})
	case packets.Disconnect:
		return false
	}
	return true
}

func (p *peer) grants(filters packets.Subscriptions) []byte {
	codes := bytes.Repeat([]byte{2}, len(filters))
	for i, f := range filters {
		if p.tries["subscribe "+f.Filter]++; p.grant != nil {
			codes[i] = p.grant(f.Filter, p.tries["subscribe "+f.Filter])
		}
	}
	return codes
}

func (p *peer) take(pk *packets.Packet) byte {
	key := pk.TopicName + " " + string(pk.Payload)
	p.tries[key]++
	if p.code != nil {
		if code := p.code(pk.TopicName, p.tries[key]); code != 0 {
			return code
		}
	}
	p.taken = append(p.taken, key)
	return 0
}

// deliver sends a message, again where it was sent before.
func (p *peer) deliver(conn net.Conn, s *sending) {
	switch {
	case s.done:
		return
	case s.receivedOne:
		p.write(conn, []byte{0x62, 2, byte(s.id >> 8), byte(s.id)})
		return
	}
	pk := &packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: s.qos, Dup: s.sent}, ProtocolVersion: 5,
		TopicName: s.topic, PacketID: s.id, Payload: s.payload,
	}
	s.sent = true
	var b bytes.Buffer
	if err := encode(&b, pk); err != nil {
		p.t.Error(err)
	}
	p.write(conn, b.Bytes())
}

func (p *peer) write(conn net.Conn, b []byte) { _, _ = conn.Write(b) } // who reads finds out what failed

// listen serves the peer on TCP until the end of the test.
func (p *peer) listen() (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn) })
		}
	})
	p.t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// path is one direction of a connection in memory that takes its time.
type path struct {
	delay  time.Duration
	rate   int // bytes/s, 0 = no limit
	mu     sync.Mutex
	moved  sync.Cond
	chunks []chunk
	closed bool
}

type chunk struct {
	data []byte
	due  time.Time
}

// pathConn is one end of it.
type pathConn struct {
	net.Conn // nil: deadlines and addresses are not asked for
	in, out  *path
}

// newPath makes a connection with a delay each way, and a rate.
func newPath(delay time.Duration, rate int) (a, b net.Conn) {
	one, two := &path{delay: delay, rate: rate}, &path{delay: delay, rate: rate}
	one.moved.L, two.moved.L = &one.mu, &two.mu
	return &pathConn{in: one, out: two}, &pathConn{in: two, out: one}
}

func (c *pathConn) Read(b []byte) (int, error) {
	p := c.in
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if len(p.chunks) > 0 {
			first := &p.chunks[0]
			if wait := time.Until(first.due); wait > 0 {
				t := time.AfterFunc(wait, p.moved.Broadcast)
				p.moved.Wait()
				t.Stop()
				continue
			}
			n := copy(b, first.data)
			if first.data = first.data[n:]; len(first.data) == 0 {
				p.chunks = p.chunks[1:]
			}
			return n, nil
		}
		if p.closed {
			return 0, io.EOF
		}
		p.moved.Wait()
	}
}

func (c *pathConn) Write(b []byte) (int, error) {
	p := c.out
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	for part := range slices.Chunk(bytes.Clone(b), 1000) {
		due := time.Now()
		if n := len(p.chunks); n > 0 && p.rate > 0 && p.chunks[n-1].due.After(due) {
			due = p.chunks[n-1].due.Add(-p.delay)
		}
		if p.rate > 0 {
			due = due.Add(time.Duration(len(part)) * time.Second / time.Duration(p.rate))
		}
		p.chunks = append(p.chunks, chunk{part, due.Add(p.delay)})
	}
	p.moved.Broadcast()
	return len(b), nil
}

func (c *pathConn) Close() error {
	for _, p := range []*path{c.in, c.out} {
		p.mu.Lock()
		p.closed = true
		p.moved.Broadcast()
		p.mu.Unlock()
	}
	return nil
}

func (c *pathConn) SetWriteDeadline(time.Time) error { return nil }

// dialPath connects to a peer over a path, and takes as long as TCP does.
func dialPath(ctx context.Context, wg *sync.WaitGroup, p *peer, delay time.Duration, rate int) (net.Conn, time.Duration, error) {
	if !sleep(ctx, 2*delay) {
		return nil, 0, fmt.Errorf("dial: %w", ctx.Err())
	}
	a, b := newPath(delay, rate)
	wg.Go(func() { p.serve(b) })
	return a, 2 * delay, nil
}

// between is a bridge between two peers in virtual time, as a user starts it.
type between struct {
	*Bridge
	here, there *peer
	links       chan net.Conn // those made to the remote
	end         func()        // the bridge, and with it both connections
}

// newBetween makes the bridge and its peers; way opens a connection to the
// remote.
func newBetween(t *testing.T, log *slog.Logger, rules []Rule, way func(ctx context.Context, wg *sync.WaitGroup, there *peer) (net.Conn, time.Duration, error)) *between {
	t.Helper()
	w := &between{here: newPeer(t), there: newPeer(t), links: make(chan net.Conn, 100)}
	var serving sync.WaitGroup
	var err error
	w.Bridge, err = New(Config{
		Name: "test", Domain: "here", Rules: rules, Remote: Remote{URL: "mqtt://far.test", Domain: "there"},
	}, Deps{Log: log, Local: func(ctx context.Context) (net.Conn, error) {
		conn, _, err := dialPath(ctx, &serving, w.here, 0, 0)
		return conn, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.dial = func(ctx context.Context) (net.Conn, time.Duration, error) {
		conn, took, err := way(ctx, &serving, w.there)
		if err == nil {
			w.links <- conn
		}
		return conn, took, err
	}
	w.end = serving.Wait
	return w
}

// start runs the bridge.
func (w *between) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done, served := make(chan error, 1), w.end
	go func() { done <- w.Run(ctx) }()
	w.end = func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		served()
	}
}
