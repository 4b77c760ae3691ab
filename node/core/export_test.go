package core

// HeldLegs returns how many legs the core watches for gaps.
func (c *Core) HeldLegs() int { return len(c.held) }
