package near

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Words that Part knows.
const (
	partServer = "server" // ADDR: the server behind a pair
	partTrips  = "trips"  // ADDR TIME: a client, prints a sample
	partBulk   = "bulk"   // ADDR TIME: likewise
	partEnter  = "enter"  // TCP-ADDR QUIC-ADDR DIR: from a client into stock quic-go
	partLeave  = "leave"  // QUIC-ADDR TCP-ADDR DIR: out of it
)

// Part is one helping process of a run, as Run starts it.
func Part(ctx context.Context, words []string, out io.Writer) error {
	if len(words) == 0 {
		return fmt.Errorf("a part is one of %s, %s, %s, %s, %s", partServer, partTrips, partBulk, partEnter, partLeave)
	}
	what, words := words[0], words[1:]
	switch {
	case what == partServer && len(words) == 1:
		return server(ctx, words[0])
	case what == partEnter && len(words) == 3:
		return enter(ctx, words[0], words[1], words[2])
	case what == partLeave && len(words) == 3:
		return leave(ctx, words[0], words[1], words[2])
	case (what == partTrips || what == partBulk) && len(words) == 2:
		d, err := time.ParseDuration(words[1])
		if err != nil {
			return err
		}
		measure := trips
		if what == partBulk {
			measure = bulk
		}
		s, err := measure(ctx, words[0], d)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(s)
	}
	return fmt.Errorf("part %s does not take %d words", what, len(words))
}
