package main

import (
	"sync"
	"time"

	"github.com/farhop/farhop/sim/bench/durable"
)

// job is a put that waits for the group's commit.
type job struct {
	producer int
	b        durable.Bundle
	gone     durable.Item
	item     durable.Item
}

// group is group commit for a peer that has none, or whose own is slower: one
// goroutine commits all that waits.
type group struct {
	commit func([]*job) error // durable when it returns; sets item
	close  func() error
	waits  []chan error // by producer, capacity 1

	mu    sync.Mutex // guards what follows
	work  *sync.Cond
	queue []*job
	over  bool
	ended sync.WaitGroup
}

func newGroup(producers int, commit func([]*job) error, closer func() error) *group {
	g := &group{commit: commit, close: closer}
	g.work = sync.NewCond(&g.mu)
	for range producers {
		g.waits = append(g.waits, make(chan error, 1))
	}
	g.ended.Go(g.run)
	return g
}

// Put implements durable.Sink.
func (g *group) Put(producer int, b durable.Bundle, gone durable.Item) (durable.Item, error) {
	j := &job{producer: producer, b: b, gone: gone}
	g.mu.Lock()
	g.queue = append(g.queue, j)
	if len(g.queue) == 1 {
		g.work.Signal()
	}
	g.mu.Unlock()
	err := <-g.waits[producer]
	return j.item, err
}

func (g *group) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

func (g *group) run() {
	told, took := 0, time.Duration(0)
	for {
		durable.Gather(told, g.waiting, took)
		g.mu.Lock()
		for len(g.queue) == 0 && !g.over {
			g.work.Wait()
		}
		jobs := g.queue
		g.queue = nil
		g.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		begin := time.Now()
		err := g.commit(jobs)
		took = time.Since(begin)
		for _, j := range jobs {
			g.waits[j.producer] <- err
		}
		told = len(jobs)
	}
}

// Close implements durable.Sink.
func (g *group) Close() error {
	g.mu.Lock()
	g.over = true
	g.work.Signal()
	g.mu.Unlock()
	g.ended.Wait()
	return g.close()
}
