package core

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/farhop/farhop/routing"
	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/storeforward"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// Keys of the durable state.
const (
	StatePrefix    = "x/" // the node's own, through SetState
	RetainedPrefix = "r/" // + topic: see ParseRetained
	doubtPrefix    = "d/" // + topic: its message is in doubt
	stampPrefix    = "h/"
	stampKey       = "h/c" // bound of the stamps drawn
	awayKey        = "h/a" // time, and nodes out of touch: since when
	bootKey        = "b"   // number of the last boot
	recountKey     = "r"   // there: quotas count records that were lost, until the next boot
	numbersKey     = "n"   // last bundle and message counters per class
	countPrefix    = "l/"  // + kind/class/name: last DSeq
	hopsPrefix     = "w/"  // + origin/hops: dedup window of bundles passing through
	messagePrefix  = "m/"  // + origin: dedup window of messages
	legPrefix      = "o/"  // + origin: next DSeq and dedup window
	sessionPrefix  = "s/"  // + client: savedSession
	willPrefix     = "y/"  // + client: its Will
	willDuePrefix  = "z/"  // + client: when it fires, ms; sorts after the will
	inboundPrefix  = "q/"  // + client: QoS 2 packet ids
	overlapPrefix  = "v/"  // + client: of one that moved, see overlapKey
	fencePrefix    = "f/"  // + node: its fences, see roam_fence.go
	claimPrefix    = "c/"  // + node: sessions up to this epoch were claimed there
	advertPrefix   = "a/"  // + node: its newest advert
	usagePrefix    = "u/"  // + account of a quota: bytes, count
	docketPrefix   = "p/"  // + message: docket
	seenPrefix     = "k/"  // + Key in hex: when it is forgotten, ms
)

// dirtySet remembers which durable keys changed since the last batch, in the
// order of their first change.
type dirtySet struct {
	set   map[dirtyKey]bool
	order []dirtyKey
}

type dirtyKind uint8

const (
	dirtyHops dirtyKind = iota
	dirtyMessages
	dirtyLeg
	dirtySession
	dirtyInbound
	dirtyFloor
	dirtyNotes
	dirtyBefore
)

type dirtyKey struct {
	kind   dirtyKind
	name   string
	hop    hopKey
	origin originKey
}

func (d *dirtySet) add(k dirtyKey) {
	if !d.set[k] {
		d.set[k] = true
		d.order = append(d.order, k)
	}
}

// encodeDirty writes what changed into the batch.
func (c *Core) encodeDirty() {
	for _, k := range c.dirty.order {
		key, value := c.encode(k)
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: key, Value: value})
	}
	clear(c.dirty.set)
	c.dirty.order = c.dirty.order[:0]
	c.encodeUsage()
	c.encodeNumbers()
	c.encodeStamps()
}

// encodeNumbers writes the counters that were drawn from.
func (c *Core) encodeNumbers() {
	if c.drawn {
		c.drawn = false
		var value []byte
		for i := range c.bundles {
			value = binary.AppendUvarint(binary.AppendUvarint(value, c.bundles[i]), c.msgs[i])
		}
		c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: numbersKey, Value: value})
	}
	for _, d := range c.changed {
		set := store.Set{Key: fmt.Sprintf("%s%d/%d/%s", countPrefix, d.queue.Kind, d.queue.Class, d.queue.Name)}
		if d.changed = false; d.last > 0 {
			set.Value = binary.AppendUvarint(nil, d.last)
		} else {
			delete(c.dests, d.queue) // a session that ended
		}
		c.m.Batch.Sets = append(c.m.Batch.Sets, set)
	}
	clear(c.changed)
	c.changed = c.changed[:0]
}

func (c *Core) encode(k dirtyKey) (key string, value []byte) {
	switch k.kind {
	case dirtyHops:
		o := originKey{k.hop.node, k.hop.inc, k.hop.class}
		return hopsPrefix + originText(o) + "/" + strconv.Itoa(int(k.hop.hops)), c.hops[k.hop].AppendBinary(nil)
	case dirtyMessages:
		return messagePrefix + originText(k.origin), c.messages[k.origin].AppendBinary(nil)
	case dirtyLeg:
		g := c.legs[k.origin]
		value = binary.AppendUvarint(nil, g.next)
		for _, r := range g.missing {
			value = binary.AppendUvarint(binary.AppendUvarint(value, r.lo), r.hi)
		}
		value = binary.AppendUvarint(value, g.high)
		return legPrefix + originText(k.origin), value
	case dirtySession:
		if s := c.sessions[k.name]; s != nil && (s.durable() || s.lent) {
			value, s.stored = s.save(), true
		}
		return sessionPrefix + k.name, value
	case dirtyFloor, dirtyNotes, dirtyBefore:
		return c.encodeOverlap(k)
	default: // dirtyInbound
		if s := c.sessions[k.name]; s != nil && s.durable() {
			for _, p := range slices.Sorted(maps.Keys(s.inbound)) {
				value = binary.BigEndian.AppendUint16(value, p)
			}
		}
		return inboundPrefix + k.name, value
	}
}

// originText is NODE/INCARNATION/CLASS; originName, without the class, names
// the queue of messages held back.
func originText(o originKey) string { return originName(o) + "/" + strconv.Itoa(int(o.class)) }

func originName(o originKey) string {
	return o.node.String() + "/" + strconv.FormatUint(uint64(o.inc), 16)
}

func parseOrigin(name string, class bundle.Class) (originKey, bool) {
	node, inc, _ := strings.Cut(name, "/")
	n, err := addr.ParseNode(node)
	i, err2 := strconv.ParseUint(inc, 16, 32)
	return originKey{n, uint32(i), class}, err == nil && err2 == nil && class < bundle.NumClasses
}

func heldRegion(q store.Queue) (addr.Region, bool) {
	if q.Kind != store.ToRegion {
		return addr.Region{}, false
	}
	r, err := addr.ParseRegion(q.Name)
	return r, err == nil
}

// Persistent is what Restore reads of a store.
type Persistent interface {
	Summary() (store.Summary, error)
	State(prefix string, f func(key string, value []byte) error) error
	Scan(q store.Queue, after uint64, n int) ([]store.Item, error)
}

// Restore takes back what a store holds. Call it once, before any event. A
// store.LostState says that some of it is gone: the core goes on without.
func (c *Core) Restore(now time.Time, p Persistent) error {
	c.at(now)
	var boot uint64
	recount := false
	err := p.State("", func(key string, value []byte) error {
		var err error
		if key == recountKey {
			recount = true
		} else if key == bootKey {
			boot, err = uvarint(value)
		} else if prefix, rest, ok := strings.Cut(key, "/"); ok || key == numbersKey {
			err = c.restoreKey(prefix, rest, value)
		}
		if err != nil {
			return fmt.Errorf("state %q: %w", key, err)
		}
		return nil
	})
	var lost *store.LostState
	if err != nil && !errors.As(err, &lost) {
		return err
	}
	err = p.State(inboundPrefix, func(key string, value []byte) error { // after the sessions, whose keys sort later
		if s := c.sessions[strings.TrimPrefix(key, inboundPrefix)]; s != nil {
			s.restoreInbound(value)
		}
		return nil
	})
	if err != nil && !errors.As(err, new(*store.LostState)) { // told already
		return err
	}
	sum, err := p.Summary()
	if err != nil {
		return err
	}
	c.m.Restore(sum)
	if recount {
		if err := c.recount(p, sum); err != nil {
			return err
		}
	}
	if err := c.restoreSent(p); err != nil {
		return err
	}
	for _, q := range sum.Queues {
		if key, ok := parseOrigin(q.Queue.Name, q.Queue.Class); ok && q.Queue.Kind == store.ToOrder {
			c.leg(key, 1).loading = true
		}
		if isHeldFor(q.Queue) {
			c.holding[q.Queue.Name] = true
		}
	}
	if err := c.restoredRetained(p); err != nil {
		return err
	}
	c.restoredRoaming()
	boot++
	c.advert.Seq = boot << 32
	c.bootLSN, c.bootSeq = c.m.Batch.LSN, c.m.LastSeq()
	c.m.Batch.Sets = append(c.m.Batch.Sets, store.Set{Key: bootKey, Value: binary.AppendUvarint(nil, boot)})
	c.pathsDirty, c.heldDirty = true, true
	c.endLent()
	if lost != nil {
		return lost
	}
	return nil
}

func (s *session) restoreInbound(value []byte) {
	for ; len(value) >= 2; value = value[2:] {
		if s.inbound == nil {
			s.inbound = map[uint16]bool{}
		}
		s.inbound[binary.BigEndian.Uint16(value)] = true
	}
}

// Boot returns the number of this boot, from 1.
func (c *Core) Boot() uint64 { return c.advert.Seq >> 32 }

func (c *Core) restoreKey(prefix, rest string, value []byte) error {
	switch prefix + "/" {
	case numbersKey + "/":
		return c.restoreNumbers(value)
	case countPrefix:
		return c.restoreCount(rest, value)
	case hopsPrefix:
		origin, hops, ok := cutLast(rest)
		o, err := parseOriginText(origin)
		n, err2 := strconv.ParseUint(hops, 10, 8)
		w, err3 := storeforward.ParseWindow(value)
		if !ok || cmp.Or(err, err2, err3) != nil {
			return errDamaged
		}
		c.hops[hopKey{o.node, o.inc, o.class, uint8(n)}] = w
	case messagePrefix:
		o, err := parseOriginText(rest)
		w, err2 := storeforward.ParseWindow(value)
		if cmp.Or(err, err2) != nil {
			return errDamaged
		}
		c.messages[o] = w
	case legPrefix:
		return c.restoreLeg(rest, value)
	case seenPrefix:
		return c.restoreSeen(rest, value)
	case docketPrefix:
		return c.restoreDocket(rest, value)
	case usagePrefix:
		return c.restoreUsage(rest, value)
	case sessionPrefix:
		return c.restoreSession(rest, value)
	case willPrefix:
		return c.restoreWill(rest, value)
	case willDuePrefix:
		return c.restoreWillDue(rest, value)
	case RetainedPrefix:
		c.restoreRetained(rest, value)
	case stampPrefix:
		return c.restoreStamps(rest, value)
	case overlapPrefix:
		return c.restoreOverlap(rest, value)
	case fencePrefix:
		return c.restoreFences(rest, value)
	case claimPrefix:
		return c.restoreCursor(rest, value)
	case advertPrefix:
		a := &routing.Advert{}
		if err := json.Unmarshal(value, a); err != nil {
			return err
		}
		c.table.Apply(a)
	}
	return nil
}

func (c *Core) restoreNumbers(value []byte) error {
	for i := range c.bundles {
		for _, dst := range []*uint64{&c.bundles[i], &c.msgs[i]} {
			v, n := binary.Uvarint(value)
			if n <= 0 {
				return errDamaged
			}
			*dst, value = v, value[n:]
		}
	}
	return nil
}

func (c *Core) restoreLeg(rest string, value []byte) error {
	o, err := parseOriginText(rest)
	var numbers []uint64
	for len(value) > 0 {
		v, n := binary.Uvarint(value)
		if n <= 0 {
			return errDamaged
		}
		numbers, value = append(numbers, v), value[n:]
	}
	if err != nil || len(numbers) == 0 {
		return errDamaged
	}
	g := c.leg(o, 1)
	if g.next = numbers[0]; len(numbers)%2 == 0 { // since nodes note it
		g.high = numbers[len(numbers)-1]
		numbers = numbers[:len(numbers)-1]
	}
	for i := 1; i < len(numbers); i += 2 {
		g.missing.add(numbers[i], numbers[i+1])
	}
	return nil
}

func (c *Core) restoreCount(rest string, value []byte) error {
	kind, rest, ok1 := strings.Cut(rest, "/")
	class, name, ok2 := strings.Cut(rest, "/")
	k, err1 := strconv.ParseUint(kind, 10, 8)
	cl, err2 := strconv.ParseUint(class, 10, 8)
	v, err3 := uvarint(value)
	if !ok1 || !ok2 || cmp.Or(err1, err2, err3) != nil {
		return errDamaged
	}
	c.dest(store.Queue{Kind: store.Kind(k), Name: name, Class: bundle.Class(cl)}).last = v
	return nil
}

func (c *Core) restoreSession(client string, value []byte) error {
	var saved savedSession
	if err := json.Unmarshal(value, &saved); err != nil {
		return err
	}
	s := &session{
		id: client, expiry: saved.Expiry, purgedTo: saved.PurgedTo, since: c.now, stored: true,
		sentTo: saved.Sent, sentOld: saved.Sent, window: uint16(min(saved.Window, math.MaxUint16)),
	}
	s.epoch, s.began = saved.Epoch, saved.Since
	if err := c.restoreTrip(s, saved.Trip); err != nil {
		return err
	}
	c.seek(s)
	for _, sub := range saved.Subs {
		if s.moved() && s.trip.quiet != 0 {
			n := &subscription{sub, s}
			s.subs = append(s.subs, n)
			c.came(n)
			c.roam.quiet.Add(sub.Filter, n)
			continue
		}
		c.attach(s, sub)
	}
	if saved.Expiry != NeverExpires {
		// The time of the disconnect is lost with the crash: it counts from now.
		s.ends = c.now + int64(saved.Expiry)*1000
		c.away.add(s)
	}
	c.sessions[client] = s
	return nil
}

var errDamaged = fmt.Errorf("damaged value")

func uvarint(b []byte) (uint64, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, errDamaged
	}
	return v, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func parseOriginText(s string) (originKey, error) {
	name, class, ok := cutLast(s)
	cl, err := strconv.ParseUint(class, 10, 8)
	o, ok2 := parseOrigin(name, bundle.Class(cl))
	if !ok || !ok2 || err != nil {
		return o, errDamaged
	}
	return o, nil
}
