package broker

// What one connection may have done in a turn of its loop, before the others
// have theirs. A loop whose clients are quiet lets one go on for as long as it
// likes, nearly; one with many that have always more gives each less.
const (
	turnBytes  = 32 << 10 // read from one that is not alone
	aloneWork  = 65_536   // units of one that is nearly alone, see conn.work: some milliseconds
	turnWork   = 4_096    // of all together, where there are more: a millisecond or two
	leastWork  = 128      // of one, however many there are
	fewBusy    = 2        // connections that get all they ask for
	flushTurns = 4        // writes of flushBytes to one
)

// turns shares the turns of a loop out.
type turns struct {
	busy int // connections of this turn that had more than they were given
	last int // of the turn before
}

// next begins a turn.
func (t *turns) next() { t.last, t.busy = t.busy, 0 }

// bytes is how much may be read from one connection that has kept so many: the
// rest of a large packet costs nothing but a copy.
func (t *turns) bytes(kept int) int {
	if t.last > fewBusy && kept < turnBytes {
		return turnBytes
	}
	return readBuffer
}

// work is what may be done for one connection.
func (t *turns) work() int {
	if t.last <= fewBusy {
		return aloneWork
	}
	return max(leastWork, turnWork/t.last)
}
