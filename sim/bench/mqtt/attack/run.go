package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tellEvery is how often the counts are written.
const tellEvery = 250 * time.Millisecond

// Counts are what an attack did so far.
type Counts struct {
	Connects uint64 `json:"connects"` // CONNACKs that let it in
	Refused  uint64 `json:"refused"`  // connections refused: no CONNACK, or one with a code
	Packets  uint64 `json:"packets"`  // sent after CONNECT
	Bytes    uint64 `json:"bytes"`    // sent
	Cut      uint64 `json:"cut"`      // connections that the broker ended later
	Denied   uint64 `json:"denied"`   // filters and publishes that were answered with a failure
}

// kind is one attack: clients that run side by side, each in a loop of its own
// until ctx ends. An error begins the client anew.
type kind struct {
	name    string
	clients int
	client  func(ctx context.Context, a *attacker, i int) error
}

// Names returns all attacks.
func Names() []string {
	var out []string
	for _, k := range kinds() {
		out = append(out, k.name)
	}
	return out
}

// pause follows a client's end by an error: one that is refused at once must
// not become another attack.
const pause = 20 * time.Millisecond

// attacker is what the clients of one attack share.
type attacker struct {
	addr string
	run  string // tells the names of this run from those of others

	connects, refused, packets, bytes, cut, denied atomic.Uint64
}

func (a *attacker) counts() Counts {
	return Counts{a.connects.Load(), a.refused.Load(), a.packets.Load(), a.bytes.Load(), a.cut.Load(), a.denied.Load()}
}

// Run attacks the broker at addr until ctx ends and writes its Counts to out,
// one line of JSON after the other.
func Run(ctx context.Context, name, addr string, out io.Writer) error {
	all := kinds()
	at := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
	if at < 0 {
		return fmt.Errorf("attack: %q, want one of %v", name, Names())
	}
	a := &attacker{addr: addr, run: fmt.Sprintf("%x", time.Now().UnixNano()&0xFFFFFF)}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range all[at].clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := all[at].client(ctx, a, i); err == nil {
					continue
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	to := json.NewEncoder(out)
	for {
		select {
		case <-tick.C:
			if err := to.Encode(a.counts()); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
