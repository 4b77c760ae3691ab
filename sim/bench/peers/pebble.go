package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/farhop/farhop/sim/bench/durable"
)

// lsm is pebble. A bundle's key is its destination and a number; arrival order
// or this, it is all the same to it.
type lsm struct {
	db  *pebble.DB
	seq atomic.Uint64
}

func newLSM(dir string) (*lsm, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		Logger:       quiet{},
		MemTableSize: 64 << 20, // its default of 4 MiB stalls writers of large bundles
	})
	return &lsm{db: db}, err
}

// quiet is a pebble.Logger.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("pebble: "+format, args...)) // it may not go on
}

func key(i durable.Item) []byte {
	k := binary.BigEndian.AppendUint16(make([]byte, 0, 10), uint16(i.Queue))
	return binary.BigEndian.AppendUint64(k, i.Seq)
}

// add puts one bundle into a batch, and removes the one that is gone.
func (s *lsm) add(batch *pebble.Batch, b durable.Bundle, gone durable.Item) (durable.Item, error) {
	item := durable.Item{Queue: b.Queue, Seq: s.seq.Add(1)}
	op := batch.SetDeferred(10, b.Size())
	copy(op.Key, key(item))
	copy(op.Value[copy(op.Value, b.Frozen):], b.Payload)
	err := op.Finish()
	if err == nil && gone.Seq != 0 {
		err = batch.Delete(key(gone), nil)
	}
	return item, err
}

// pebbleSink lets every producer commit its own batch: pebble groups them.
type pebbleSink struct{ *lsm }

func openPebble(dir string) (durable.Sink, error) {
	s, err := newLSM(dir)
	if err != nil {
		return nil, err
	}
	return pebbleSink{s}, nil
}

// Put implements durable.Sink.
func (s pebbleSink) Put(_ int, b durable.Bundle, gone durable.Item) (durable.Item, error) {
	batch := s.db.NewBatch()
	item, err := s.add(batch, b, gone)
	if err == nil {
		err = batch.Commit(pebble.Sync)
	}
	return item, errors.Join(err, batch.Close())
}

// Close implements durable.Sink.
func (s pebbleSink) Close() error { return s.db.Close() }

// openPebbleGroup lets one goroutine commit a batch of all that waits.
func openPebbleGroup(dir string, producers int) (durable.Sink, error) {
	s, err := newLSM(dir)
	if err != nil {
		return nil, err
	}
	return newGroup(producers, func(jobs []*job) error {
		batch := s.db.NewBatch()
		for _, j := range jobs {
			var err error
			if j.item, err = s.add(batch, j.b, j.gone); err != nil {
				return errors.Join(err, batch.Close())
			}
		}
		return errors.Join(batch.Commit(pebble.Sync), batch.Close())
	}, s.db.Close), nil
}
