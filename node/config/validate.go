package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
)

// Limits of one file.
const (
	maxPeers     = maxList
	maxAdvertise = 16
	maxPacket    = 255 << 20 // bytes; MQTT packets end just below 256 MiB (MQTT 5, 2.1.4)
	maxOWLT      = 24 * time.Hour
	maxLoss      = 50 * percent
	maxBurst     = 1000             // packets
	minMTU       = 256              // bytes of an IP packet
	maxMTU       = 1480             // the socket is QUIC's too, which reads 1452 bytes behind IP and UDP
	maxBatch     = 1 << 20          // bytes of one batch; a link must not be taken for long by one bundle
	maxBatchWait = 10 * time.Second // its publisher may wait as long for the acknowledgement
)

// Validate says what is wrong with c, joining every Fault with its field.
func (c Config) Validate() error {
	var f faults
	c.validate(&f)
	return f.err()
}

// Validate says what is wrong with l.
func (l Log) Validate() error {
	var f faults
	l.validate(&f)
	return f.err()
}

func (l Log) validate(f *faults) {
	oneOf(f, "log.level", l.Level, LogLevels())
	oneOf(f, "log.format", l.Format, LogFormats())
}

func (c Config) validate(f *faults) {
	if c.Node.Name.IsZero() {
		f.add("node.name", "is missing; run farhop init or farhop join, which write it")
	}
	if c.Node.Region.IsZero() {
		f.add("node.region", "is missing; run farhop init or farhop join, which write it")
	}
	taken := make(bindings)
	c.MQTT.validate(f, taken, c.Node.Name)
	c.validateListeners(f)
	c.validatePeers(f)
	c.validateLimits(f)
	taken.add(f, "mesh.listen", c.Node.Name, c.Mesh.Listen)
	taken.addUDP(f, "mesh.listen", c.Node.Name, c.Mesh.Listen)
	taken.add(f, "admin.listen", c.Node.Name, c.Admin.Listen)
	c.Resources.validate(f, taken, func(e Endpoint) (addr.Node, bool) {
		if e.Node.IsZero() {
			return c.Node.Name, true
		}
		return e.Node, true
	})
	c.DTN.validate(f, taken, c.Node.Name)
}

func (c Config) validateListeners(f *faults) {
	if c.Mesh.Listen == "" {
		f.add("mesh.listen", "is missing; write :7330 or an address of this machine")
	}
	switch {
	case c.Admin.Listen == "":
		f.add("admin.listen", "is missing; write 127.0.0.1:7331, the commands speak to it")
	case !c.Admin.Listen.Loopback() && !c.Admin.Remote:
		f.add("admin.listen", "%s can be reached from other machines; write 127.0.0.1:%d, or set admin.remote: true if its token shall be the only guard", c.Admin.Listen, c.Admin.Listen.Port())
	}
	listenable(f, "mesh.listen", c.Mesh.Listen)
	listenable(f, "admin.listen", c.Admin.Listen)
	if len(c.Mesh.Advertise) > maxAdvertise {
		f.add("mesh.advertise", "has %d addresses, more than %d; keep those that others can reach", len(c.Mesh.Advertise), maxAdvertise)
	}
	for i, a := range c.Mesh.Advertise {
		dialable(f, fmt.Sprintf("mesh.advertise[%d]", i), a)
	}
}

func (c Config) validatePeers(f *faults) {
	if len(c.Peers) > maxPeers || len(c.Links) > maxPeers {
		f.add("peers", "%d peers and %d links, more than %d; a node needs only its neighbours", len(c.Peers), len(c.Links), maxPeers)
		return
	}
	addresses, pinned := make(map[HostPort][]int), make(map[uplinkOf]int)
	for i, p := range c.Peers {
		field := fmt.Sprintf("peers[%d]", i)
		p.beside(f, field, c.Peers, addresses[p.Address])
		addresses[p.Address] = append(addresses[p.Address], i)
		dialable(f, field+".address", p.Address)
		if !p.Node.IsZero() {
			at := uplinkOf{p.Node, p.Name}
			if first, dup := pinned[at]; dup && p.Name != "" {
				f.add(field+".link", "%s is what peers[%d] calls its link to %s already; give each link a name of its own", p.Name, first, p.Node)
			}
			pinned[at] = i
			notSelf(f, field+".node", p.Node, c.Node.Name)
		}
		p.Uplink.validate(f, field)
		p.LinkProps.validate(f, field)
		validSource(f, field+".from", p.From)
	}
	linked := make(map[uplinkOf]int)
	for i, l := range c.Links {
		field, at := fmt.Sprintf("links[%d]", i), uplinkOf{l.Node, l.Name}
		if l.Node.IsZero() {
			f.add(field+".node", "is missing; write the name of the node that dials us")
		} else if first, dup := linked[at]; dup {
			f.add(field+".node", "%s is links[%d] already; remove one, or give each a link of its own", l.Node, first)
		} else if p, dup := pinned[at]; dup && c.Peers[p].LinkProps != (LinkProps{}) {
			f.add(field+".node", "%s has its link properties in peers[%d]; keep them in one place", l.Node, p)
		}
		linked[at] = i
		notSelf(f, field+".node", l.Node, c.Node.Name)
		l.Uplink.validate(f, field)
		l.LinkProps.validate(f, field)
	}
}

// beside checks a peer against others at its address: each has its own from, and
// its own name.
func (p Peer) beside(f *faults, field string, all []Peer, others []int) {
	for _, i := range others {
		switch {
		case p.Address == "":
		case all[i].From == p.From:
			f.add(field+".address", "%s is peers[%d] already; remove one, or give each a from and a link of its own", p.Address, i)
			return
		case all[i].Name == p.Name:
			f.add(field+".link", "%s is what peers[%d] calls its link to the same address already; give each link a name of its own", quote(p.Name), i)
			return
		}
	}
}

// sourceName is what an interface may be called.
var sourceName = regexp.MustCompile(`^[^\s/:%]{1,15}$`)

// validSource checks what packets are to leave by.
func validSource(f *faults, field, from string) {
	if ip, err := netip.ParseAddr(from); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() {
			f.add(field, "%s is no address of a machine; write one of this machine's, or the name of an interface", from)
		}
	} else if from != "" && !sourceName.MatchString(from) {
		f.add(field, "%s is neither an IP address nor the name of an interface; write one of this machine's, such as 10.1.0.2 or wwan0", quote(from))
	}
}

// uplinkOf names a link.
type uplinkOf struct {
	node addr.Node
	name string
}

func (u Uplink) validate(f *faults, field string) {
	if !uplinkName.MatchString(u.Name) {
		f.add(field+".link", "%s is no name; write at most 32 letters, digits, and any of - _ . after the first", quote(u.Name))
	}
	inRange(f, field+".cost", u.Cost, 0, maxCost)
	for i, c := range u.Classes {
		at := fmt.Sprintf("%s.classes[%d]", field, i)
		if c == "" {
			f.add(at, "is empty; write one of control, alarm, interactive, telemetry, bulk")
		} else if first := slices.Index(u.Classes, c); first < i {
			f.add(at, "%s is classes[%d] already; remove one", c, first)
		}
	}
}

var uplinkName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,31})?$`)

func notSelf(f *faults, field string, n, self addr.Node) {
	if n == self && !n.IsZero() {
		f.add(field, "%s is this node itself; write the name of the other one", n)
	}
}

func (p LinkProps) validate(f *faults, field string) {
	wordOr(f, field+".profile", p.Profile, LinkProfiles())
	if p.Profile == "scheduled" && p.Contacts == nil {
		f.add(field+".profile", "scheduled needs contacts: without them nobody knows when the link carries; write them, or leave profile out")
	}
	wordOr(f, field+".layer", p.Layer, LinkLayers())
	if p.Layer == "salvo" && p.Rate == 0 {
		f.add(field+".layer", "salvo needs rate: it sends as fast as it is told and finds out nothing; write the rate of the link, such as rate: 50Mbit")
	}
	if p.Layer == "tls" {
		for _, k := range []struct {
			key string
			set bool
		}{{".loss", p.Loss != 0}, {".burst", p.Burst != 0}, {".mtu", p.MTU != 0}} {
			if k.set {
				f.add(field+k.key, "is for salvo, and layer tls runs over TCP; leave it out, or take layer auto")
			}
		}
	}
	inRange(f, field+".owlt", p.OWLT, 0, Duration(maxOWLT))
	if p.Rate < 0 {
		f.add(field+".rate", "is negative; leave it out to find it by measurement")
	}
	if p.ReturnRate < 0 {
		f.add(field+".return_rate", "is negative; leave it out where both ways are alike")
	}
	inRange(f, field+".loss", p.Loss, 0, maxLoss)
	rangeIfSet(f, field+".burst", p.Burst, 1, maxBurst)
	if p.MTU > maxMTU {
		f.add(field+".mtu", "%d is more than %d: salvo shares the socket of QUIC, which reads no longer packets; write at most that", p.MTU, maxMTU)
	} else {
		rangeIfSet(f, field+".mtu", p.MTU, minMTU, maxMTU)
	}
	if c := p.Contacts; c != nil {
		c.validate(f, field+".contacts")
	}
}

// rangeIfSet is inRange for what has a default: 0 is no value where the file
// says it.
func rangeIfSet(f *faults, field string, v, low, high int) {
	if _, said := f.lines[field]; said || v != 0 {
		inRange(f, field, v, low, high)
	}
}

func (c Contacts) validate(f *faults, field string) {
	if c.Start.IsZero() {
		f.add(field+".start", "is missing; write the start of one contact, such as 2026-01-01T00:00:00Z, the same at both ends")
	}
	switch {
	case c.Every <= 0:
		f.add(field+".every", "is missing; write the time from one start to the next, such as 2h")
	case c.For <= 0:
		f.add(field+".for", "is missing; write how long a contact lasts, such as 40m")
	case c.For >= c.Every:
		f.add(field+".for", "%s is not shorter than every %s; leave contacts out for a link that is always up", c.For, c.Every)
	}
}

func (c Config) validateLimits(f *faults) {
	if c.Store.Engine != "" {
		oneOf(f, "store.engine", c.Store.Engine, StoreEngines())
	}
	inRange(f, "store.max_bytes", c.Store.MaxBytes, 1<<20, 1<<50)
	inRange(f, "store.max_messages", c.Store.MaxMessages, 1, 1_000_000_000)
	inRange(f, "store.max_retained", c.Store.MaxRetained, 1, 1_000_000_000)
	inRange(f, "store.max_retained_bytes", c.Store.MaxRetainedBytes, 1<<10, 1<<50)
	inRange(f, "delivery.ttl", c.Delivery.TTL, Duration(time.Second), Duration(policy.MaxTTL))
	inRange(f, "delivery.order_wait", c.Delivery.OrderWait, 0, Duration(policy.MaxTTL))
	inRange(f, "delivery.retained_horizon", c.Delivery.Horizon, Duration(time.Hour), Duration(policy.MaxTTL))
	inRange(f, "delivery.max_message", c.Delivery.MaxMessage, 1, maxPacket)
	if c.Delivery.MaxMessage > c.Store.MaxBytes {
		f.add("delivery.max_message", "%s is more than store.max_bytes %s; make the store larger", c.Delivery.MaxMessage, c.Store.MaxBytes)
	}
	batch := c.Delivery.Batch
	inRange(f, "delivery.batch.max_bytes", batch.MaxBytes, 0, maxBatch)
	inRange(f, "delivery.batch.wait.alarm", batch.Wait.Alarm, 0, Duration(maxBatchWait))
	inRange(f, "delivery.batch.wait.interactive", batch.Wait.Interactive, 0, Duration(maxBatchWait))
	inRange(f, "delivery.batch.wait.telemetry", batch.Wait.Telemetry, 0, Duration(maxBatchWait))
	inRange(f, "delivery.batch.wait.bulk", batch.Wait.Bulk, 0, Duration(maxBatchWait))
	c.Log.validate(f)
}

func inRange[T interface {
	~int | ~int64
}](f *faults, field string, v, low, high T) {
	switch {
	case v < low:
		f.add(field, "%v is less than %v; write at least that", v, low)
	case v > high:
		f.add(field, "%v is more than %v; write at most that", v, high)
	}
}

func oneOf(f *faults, field, v string, words []string) {
	if slices.Contains(words, v) {
		return
	}
	if near := closest(v, words); near != "" {
		f.add(field, "unknown value %s; did you mean %s?", quote(v), near)
		return
	}
	f.add(field, "unknown value %s; write one of %s", quote(v), strings.Join(words, ", "))
}

// listenable refuses what cannot be listened at. Empty is allowed.
func listenable(f *faults, field string, a HostPort) {
	if err := new(HostPort).UnmarshalText([]byte(a)); err != nil {
		f.add(field, "%v", err)
	}
}

// dialable refuses addresses that only a listener can have.
func dialable(f *faults, field string, a HostPort) {
	switch err := new(HostPort).UnmarshalText([]byte(a)); {
	case a == "":
		f.add(field, "is missing; write HOST:PORT, such as 192.0.2.7:7330")
	case err != nil:
		f.add(field, "%v", err)
	case a.any():
		f.add(field, "%s names no machine; write the host to connect to", a)
	case a.Port() == 0:
		f.add(field, "%s has port 0; write the port to connect to", a)
	}
}
