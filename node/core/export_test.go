package core

import "github.com/farhop/farhop/storeforward"

// HeldLegs returns how many legs the core watches for gaps.
func (c *Core) HeldLegs() int { return len(c.held) }

// Queues returns how many queues the core knows.
func (c *Core) Queues() (n int) {
	c.m.Queues(func(*storeforward.Queue) { n++ })
	return n
}
