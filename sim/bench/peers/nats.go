package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/farhop/farhop/sim/bench/durable"
)

// patience bounds waits for a server in this process.
const patience = 2 * time.Minute

// perConnection is how many producers share a connection.
const perConnection = 256

// jet is a NATS server in this process with streams on disk, and connections
// to it that need no sockets. A subject is a destination.
type jet struct {
	s      *server.Server
	conns  []*nats.Conn
	js     []jetstream.JetStream
	topics [durable.Queues]string
	bufs   sync.Pool
}

func openNATS(dir string, producers int, always bool, streams int) (_ durable.Sink, err error) {
	s, err := server.NewServer(&server.Options{
		DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30, SyncAlways: always, MaxPayload: 2 << 20, MaxPending: 1 << 30,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	j := &jet{s: s}
	if !s.ReadyForConnections(patience) {
		return nil, errors.Join(errors.New("nats: not ready"), j.Close())
	}
	for range (producers + perConnection - 1) / perConnection {
		if err := j.connect(); err != nil {
			return nil, errors.Join(fmt.Errorf("nats: %w", err), j.Close())
		}
	}
	if err := j.create(streams); err != nil {
		return nil, errors.Join(fmt.Errorf("nats: %w", err), j.Close())
	}
	return j, nil
}

func (j *jet) connect() error {
	nc, err := nats.Connect("", nats.InProcessServer(j.s), nats.Timeout(patience))
	if err != nil {
		return err
	}
	j.conns = append(j.conns, nc)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(perConnection), jetstream.WithPublishAsyncTimeout(patience))
	j.js = append(j.js, js)
	return err
}

// create makes the streams: one for all destinations, or one for each.
func (j *jet) create(streams int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range j.topics {
		j.topics[i] = fmt.Sprintf("q.%d.%d", i%streams, i)
	}
	for i := range streams {
		_, err := j.js[0].CreateStream(ctx, jetstream.StreamConfig{
			Name: fmt.Sprintf("Q%d", i), Subjects: []string{fmt.Sprintf("q.%d.*", i)}, Storage: jetstream.FileStorage,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Put implements durable.Sink, without gone: see cycles.
func (j *jet) Put(producer int, b durable.Bundle, _ durable.Item) (durable.Item, error) {
	buf, _ := j.bufs.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = append(append((*buf)[:0], b.Frozen...), b.Payload...)
	f, err := j.js[producer/perConnection].PublishAsync(j.topics[b.Queue], *buf)
	if err != nil {
		return durable.Item{}, err
	}
	select {
	case ack := <-f.Ok():
		j.bufs.Put(buf)
		return durable.Item{Queue: b.Queue, Seq: ack.Sequence}, nil
	case err := <-f.Err():
		return durable.Item{}, err
	}
}

// Close implements durable.Sink.
func (j *jet) Close() error {
	for _, nc := range j.conns {
		nc.Close()
	}
	j.s.Shutdown()
	j.s.WaitForShutdown()
	return nil
}
