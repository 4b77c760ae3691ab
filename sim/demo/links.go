package demo

import (
	_ "embed" // for the links
	"errors"
	"fmt"
	"time"

	"github.com/farhop/farhop/node/config"
	"github.com/farhop/farhop/sim/emulator/desc"
)

//go:embed links.yaml
var ownLinks []byte

// links are those of the world: the nodes on the Moon and on the ground dial the
// relay, so their end comes first.
type links struct{ moon, ground desc.Named }

// links returns what is built in, with what the configuration gives in its
// place, or all that the demo cannot honour of it.
func (c Config) links() (l links, err error) {
	all, err := desc.ParseLinks("built-in links", ownLinks, nil)
	var errs []error
	for _, n := range append(all, c.Links...) {
		var to *desc.Named
		switch n.Between {
		case [2]string{relay, luna}, [2]string{relay, earth}:
			n = n.Turned()
		}
		switch n.Between {
		case [2]string{luna, relay}:
			to = &l.moon
		case [2]string{earth, relay}:
			to = &l.ground
		default:
			errs = append(errs, n.Fault("between", fmt.Errorf("the demo has links between %s and %s, and between %s and %s", luna, relay, relay, earth)))
			continue
		}
		*to = n
	}
	return l, errors.Join(append(errs, err, c.checkMoon(l.moon), c.checkGround(l.ground))...)
}

// unplayed are keys of a description that the demo does not honour, and why.
func unplayed() map[string]string {
	return map[string]string{
		"listen": "the demo takes free ports; leave it out", "to": "the demo takes free ports; leave it out",
		"network": "links of the demo carry what the nodes send; leave it out", "seed": "the seed of the demo is --seed; leave it out",
	}
}

// Bounds of what nodes may be told of a link, and of what fits into a run.
const (
	leastMTU  = 1280 // that QUIC needs, with headers
	mostLoss  = 0.5  // that salvo plans for
	mostBurst = 1000 // packets
	lightRuns = 15   // a run is at least so many light times
	pauseMost = 0.4  // of the run: by then the first pause is over
	pauseFrom = 0.1  // of the run: until then the first contact lasts
	lossUnits = 1e9  // of config.Share
)

// check reports what the demo cannot honour of either link.
func (c Config) check(n desc.Named) []error {
	errs := []error{n.Refuse(unplayed())}
	bad := func(is bool, key, format string, args ...any) {
		if is {
			errs = append(errs, n.Fault(key, fmt.Errorf(format, args...)))
		}
	}
	limit := c.Duration / lightRuns
	for _, way := range []struct {
		prefix string
		*desc.Profile
	}{{"", &n.Up}, {"return.", &n.Down}} {
		here := func(is bool, key, format string, args ...any) {
			if way.prefix == "" || n.Gives(way.prefix+key) { // else it was told
				bad(is, way.prefix+key, format, args...)
			}
		}
		_, most := light(way.Profile)
		const far = "light takes %v, and in a run of %v there is time for %v at most; take a longer --duration"
		here(most > limit && len(way.Delays.Points) > 0, "delays", far, most, c.Duration, limit.Round(10*time.Millisecond))
		here(most > limit && len(way.Delays.Points) == 0, "delay", far, most, c.Duration, limit.Round(10*time.Millisecond))
		here(way.MTU > 0 && way.MTU < leastMTU, "mtu", "%d bytes are less than QUIC needs, %d", way.MTU, leastMTU)
		here(way.Loss > mostLoss, "loss", "more than %g %% is not what the nodes can be told", 100*mostLoss)
		here(way.Burst > mostBurst, "burst", "more than %d packets in a row is not what the nodes can be told", mostBurst)
	}
	return errs
}

func (c Config) checkMoon(n desc.Named) error {
	errs := c.check(n)
	bad := func(is bool, key, format string, args ...any) {
		if is {
			errs = append(errs, n.Fault(key, fmt.Errorf(format, args...)))
		}
	}
	bad(n.Up.Trace != nil, "trace", "the demo tells its nodes one rate, which salvo needs on this link; give rate")
	bad(n.Down.Trace != nil && n.Down.Trace != n.Up.Trace, "return.trace", "the demo tells its nodes one rate, which salvo needs on this link; give rate")
	bad(n.Up.Trace == nil && n.Up.Rate == 0, "rate", "the demo shows salvo on this link, which needs a rate")
	bad(n.Down.Trace == nil && n.Down.Rate == 0 && n.Up.Rate != 0, "return.rate", "the demo shows salvo on this link, which needs a rate")
	at := n.Up.Contacts
	bad(at != n.Down.Contacts, "return.contacts", "both ends of the demo have one plan: give contacts for both directions")
	bad(!at.Start.IsZero(), "contacts", "the demo begins now: leave start out, contacts count from its begin")
	least, most := time.Duration(pauseFrom*float64(c.Duration)), time.Duration(pauseMost*float64(c.Duration))
	bad(!at.Always() && (at.For >= at.Every || at.For < least || at.Every > most), "contacts", "a first contact of %v and a next one after %v: in a run of %v the first has to last %v at least, and the next to begin after %v at most", at.For, at.Every, c.Duration, least, most)
	return errors.Join(errs...)
}

func (c Config) checkGround(n desc.Named) error {
	errs := c.check(n)
	for _, key := range []string{"contacts", "return.contacts"} {
		if n.Gives(key) {
			errs = append(errs, n.Fault(key, errors.New("the nodes on the ground are told no plan; give contacts to the link of luna")))
		}
	}
	return errors.Join(errs...)
}

// light is the least and the most light time of one direction.
func light(p *desc.Profile) (least, most time.Duration) {
	least, most = p.Delay, p.Delay
	for i, at := range p.Delays.Points {
		if i == 0 {
			least = at.Delay
		}
		least, most = min(least, at.Delay), max(most, at.Delay)
	}
	return least, most
}

// least is the least light time of a link, in either direction.
func least(n *desc.Named) time.Duration {
	up, _ := light(&n.Up)
	down, _ := light(&n.Down)
	return min(up, down)
}

// props is what a node is told of a link that it sends on by out, and that
// brings back what it hears.
func props(out, back *desc.Profile, plan *config.Contacts) config.LinkProps {
	_, there := light(out)
	_, here := light(back)
	p := config.LinkProps{
		Layer: "salvo", OWLT: config.Duration(max(there, here)), Rate: config.Rate(out.Rate),
		Loss: config.Share(out.Loss*lossUnits + 0.5), Burst: int(out.Burst + 0.5), Contacts: plan,
	}
	if back.Rate != out.Rate {
		p.ReturnRate = config.Rate(back.Rate)
	}
	return p
}

// anchored begins the contacts of a link at a time.
func anchored(n desc.Named, at desc.Schedule) desc.Named {
	n.Up.Contacts, n.Down.Contacts = at, at
	return n
}
