package bridge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// Bridge is one bridge between the local broker and a remote one.
type Bridge struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	dial func(context.Context) (net.Conn, time.Duration, error) // of the remote
	cond condition
	rtt  roundTrip
	slow [2]slowness // by side
	news news

	seen   *table[presence]
	echoes *table[uint64] // digests of what an MQTT 3.1.1 remote will send back
	epoch  string         // of the identities this process gives

	// The rest belongs to Run and to the link it runs.
	out, in *way
	old     bool            // the remote speaks MQTT 3.1.1 alone
	hungUp  int             // connections in a row that it closed on CONNECT
	late    int             // attempts in a row that ran out of time
	barren  int             // links in a row on which the remote acknowledged nothing that was sent
	asked   bool            // subscriptions were asked for in this process
	kept    bool            // there is a session at the local broker
	ahead   map[string]bool // filters it got before the remote was reached, see reserve

	mu     sync.Mutex
	serial uint64 // under mu: of the last identity
}

// presence is a message that has been seen at a side.
type presence struct {
	at side
	id string
}

// New makes a bridge. Run connects it.
func New(cfg Config, deps Deps) (*Bridge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	if deps.Local == nil {
		return nil, errors.New("bridge: no way to the local broker")
	}
	cfg = cfg.withDefaults(deps.Node)
	b := &Bridge{cfg: cfg, deps: deps, log: deps.Log, dial: cfg.Remote.Dial, old: cfg.Remote.Version == V311}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.seen = newTable[presence](cfg.Remember, cfg.RememberFor)
	b.echoes = newTable[uint64](cfg.Remember, cfg.RememberFor)
	b.out, b.in = newWay(local), newWay(remote)
	var epoch [8]byte
	_, _ = rand.Read(epoch[:]) // never fails
	b.epoch = hex.EncodeToString(epoch[:])
	b.cond.s = Status{Name: cfg.Name, Remote: cfg.Remote.URL, State: Stopped, Since: time.Now()}
	if deps.Reg != nil {
		if err := deps.Reg.Register(newCollector(b)); err != nil {
			return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
		}
	}
	return b, nil
}

func newWay(from side) *way { return &way{from: from, memos: make(map[uint16]memo)} }

// newID makes the identity of a message that has none.
func (b *Bridge) newID() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serial++
	return b.cfg.Name + "." + b.epoch + "." + strconv.FormatUint(b.serial, 36)
}
