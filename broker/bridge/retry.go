package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errRefused is wrapped where a broker refuses a message for now.
var errRefused = errors.New("publish refused for now")

// retries are the messages of a flow that the destination refused for now.
// They are sent again on the same link, after pauses that grow while nothing
// of them is taken, and the others go on meanwhile: those of the window, for
// the source must be answered in order (MQTT 5, 4.6).
type retries struct {
	wake  chan struct{} // due is not empty
	due   []again       // under flow.mu
	held  int           // under flow.mu: bytes of packets kept for another attempt
	round int           // under flow.mu: rounds since one was taken
}

type again struct {
	id   uint16
	fl   *flight // what id meant then
	code byte
}

func newRetries() retries { return retries{wake: make(chan struct{}, 1)} }

// keep holds a packet until it is acknowledged, within Config.Buffer.
func (f *flow) keep(w waiting) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl, size := f.flights[w.pk.PacketID], weight(w.pk)
	if fl != nil && f.retries.held+size <= f.b.cfg.Buffer {
		fl.kept = &w
		f.retries.held += size
	}
}

// accepted lets the packet go that the destination has. The caller holds mu.
func (f *flow) accepted(fl *flight) {
	if fl.refused {
		f.retries.round = 0
	}
	if fl.kept != nil {
		f.retries.held -= weight(fl.kept.pk)
		fl.kept = nil
	}
}

// refused decides about a message that the destination does not take. What
// lies in the message is dropped, counted and told. What can change, such as a
// quota, is tried again. The caller holds mu.
func (f *flow) refused(id uint16, fl *flight, pk *packets.Packet) error {
	code := pk.ReasonCode
	text := reason(code, pk.Properties.ReasonString)
	log := f.b.log.With("bridge", f.b.cfg.Name, "broker", f.dst.side.String(), "topic", fl.topic, "code", fmt.Sprintf("0x%02x", code), "text", text)
	switch code {
	case packets.ErrNotAuthorized.Code, packets.ErrTopicNameInvalid.Code, packets.ErrPayloadFormatInvalid.Code, packets.ErrPacketTooLarge.Code:
		f.way.counts.drop(causeRefused)
		log.Warn("broker refuses a message of the bridge")
		f.dst.box.settled()
		f.accepted(fl)
		f.over(id, fl)
		return nil
	}
	if fl.kept == nil {
		return fmt.Errorf("%w: %s broker, packet id %d: code 0x%02x %s", errRefused, f.dst.side, id, code, text)
	}
	if f.retries.round == 0 && len(f.retries.due) == 0 { // once, not for each of a window
		log.Warn("broker refuses a message of the bridge for now; it is tried again")
	}
	f.b.warn(fmt.Sprintf("the %s broker refuses messages for now: code 0x%02x %s", f.dst.side, code, text))
	f.dst.box.settled()
	fl.refused = true
	f.retries.due = append(f.retries.due, again{id, fl, code})
	select {
	case f.retries.wake <- struct{}{}:
	default:
	}
	return nil
}

// retry sends again what was refused, until ctx ends.
func (f *flow) retry(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.retries.wake:
		}
		f.mu.Lock()
		f.retries.round++
		pause := f.b.cfg.pause(f.retries.round, f.b.rtt.get())
		f.mu.Unlock()
		if !sleep(ctx, pause) {
			return
		}
		f.mu.Lock()
		due := f.retries.due
		f.retries.due, f.moved = nil, time.Now()
		for _, a := range due {
			if f.flights[a.id] != a.fl || a.fl.kept == nil {
				continue
			}
			if a.code == packets.ErrPacketIdentifierInUse.Code {
				f.dst.box.send(ack(packets.Pubrel, a.id, f.dst.version)) // by a handshake of which the source knows nothing
			}
			a.fl.kept.pk.FixedHeader.Dup = false // a refusal ends the handshake (MQTT 5, 4.3)
			f.way.counts.retried.Add(1)
			f.dst.box.again(*a.fl.kept)
		}
		f.mu.Unlock()
	}
}
