package salvo

import (
	"errors"
	"math"

	"github.com/farhop/farhop/node/salvo/packet"
)

// Drops counts packets that were dropped, by packet.Drop.
type Drops [packet.NumDrops]int64

// count counts the reason that err is, and returns it.
func (d *Drops) count(err error) error {
	if reason, ok := errors.AsType[packet.Drop](err); ok && reason < packet.NumDrops {
		d[reason]++
	}
	return err
}

// SenderStats counts what a sender did in its association.
type SenderStats struct {
	Blocks      int // under way
	Trains      int // sent and not known to be complete, or about to be sent
	TrainsMade  int64
	Packets     int64
	Bytes       int64 // of UDP payload
	Symbols     int64
	Repeated    int64 // of them in answer to reports
	Repairs     int64 // answers to reports, by train
	Reports     int64
	ReportBytes int64 // of UDP payload
	Asks        int64 // questions for a report that did not come by itself
	Released    int64
	Lost        int64 // bytes that a receiver did not remember
	Full        int64 // blocks refused for MaxBlocks
	Halvings    int64 // of the rate, for too much loss
	RateShare   float64
	Loss        float64 // measured of late
	Room        int64   // bytes of buffer at the receiver, as last told
	Drops       Drops
}

// ReceiverStats counts what a receiver did in its association.
type ReceiverStats struct {
	Blocks      int   // of which there is something, or that wait to be accepted
	Open        int   // trains of which there is something
	Used        int64 // bytes of buffer
	MaxUsed     int64
	Packets     int64
	Bytes       int64 // of UDP payload
	Reports     int64
	ReportBytes int64
	Symbols     int64
	Duplicates  int64 // symbols that were there, or not needed any more
	Repaired    int64 // trains completed with parity
	Trains      int64 // trains completed
	Delivered   int64
	Accepted    int64

	Evicted    int64 // trains dropped for more urgent ones, Buffer being full
	NoRoom     int64 // symbols dropped, Buffer being full
	NoTrain    int64 // symbols dropped, too many trains or gaps between them
	NoBlock    int64 // trains dropped, too many blocks or gaps in one
	Nonsense   int64 // symbols and pieces that contradict others, or the limits
	Repeated   int64 // pieces of blocks that are complete or gone
	Withdrawn  int64 // blocks that the sender gave up
	Unreported int64 // ranges of blocks that a report had no room for
	Drops      Drops
}

// Stats counts what happened in this association.
func (s *Sender) Stats() SenderStats {
	st := s.stats
	st.Blocks = len(s.blocks)
	st.RateShare = s.breaker.share
	st.Loss = s.breaker.measured()
	st.Halvings = s.breaker.halvings
	st.Room = max(s.room, 0)
	for c := range s.lanes {
		st.Trains += len(s.lanes[c].table)
	}
	if s.room < 0 {
		st.Room = math.MaxInt64
	}
	return st
}
