package sim

import (
	"fmt"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/sim/oracle"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Report is the verdict on a run.
type Report struct {
	Name           string  `json:"name"`
	Seed           uint64  `json:"seed"`
	LogHash        string  `json:"log_hash"`
	Nodes          int     `json:"nodes"`
	Links          int     `json:"links"`
	VirtualSeconds float64 `json:"virtual_seconds"`
	WallSeconds    float64 `json:"wall_seconds"`
	Events         uint64  `json:"events"`

	Published        uint64 `json:"published"`         // PUBLISH packets that reached a node
	Acknowledged     uint64 `json:"acknowledged"`      // messages whose PUBACK or PUBCOMP reached the device
	RefusedPublishes uint64 `json:"refused_publishes"` // refused before the acknowledgement
	Expected         uint64 `json:"expected"`          // deliveries due: acknowledged messages × matching subscribers
	Delivered        uint64 `json:"delivered"`         // of those, delivered
	Lost             uint64 `json:"lost"`              // of those, neither delivered, expired nor still stored
	Pending          uint64 `json:"pending"`           // of those, still in a store at the end
	Duplicates       uint64 `json:"duplicates"`        // delivered again without need
	Redelivered      uint64 `json:"redelivered"`       // delivered again as MQTT asks for: DUP set, or published again
	OutOfOrder       uint64 `json:"out_of_order"`
	Late             uint64 `json:"late"`    // out of order, after their gap was given up
	Expired          uint64 `json:"expired"` // of those expected, ended by their lifetime or their session

	Crashes        uint64  `json:"crashes"`
	Cuts           uint64  `json:"cuts"`
	Faults         uint64  `json:"faults"` // all, crashes and cuts among them
	TornBatches    uint64  `json:"torn_batches"`
	LostBatches    uint64  `json:"lost_batches"` // given to a store and lost in a crash, nobody told
	FailedCommits  uint64  `json:"failed_commits"`
	Transfers      uint64  `json:"transfers"`
	WireDuplicates uint64  `json:"wire_duplicates"` // copies that nodes dropped
	Early          uint64  `json:"early"`           // bundles that came before a session, and once more
	WireCopies     uint64  `json:"wire_copies"`     // bundles that reached a node which had them before
	HeldBack       uint64  `json:"held_back"`
	GapsGivenUp    uint64  `json:"gaps_given_up"`
	LinkBytes      uint64  `json:"link_bytes"`
	Silences       uint64  `json:"silences"`   // peers that a node found silent
	LinksDown      int     `json:"links_down"` // at the end, of those that could carry
	Purges         uint64  `json:"purges"`
	Retries        uint64  `json:"retries"`
	OutOfTurn      uint64  `json:"out_of_turn"`     // of a class that was passed over too often
	Purged         uint64  `json:"purged"`          // entries
	Damaged        uint64  `json:"damaged"`         // entries
	Displaced      uint64  `json:"displaced"`       // entries
	OverQuota      uint64  `json:"over_quota"`      // submissions and transfers refused by a quota
	StoreFull      uint64  `json:"store_full"`      // refused because the store was full
	Batches        uint64  `json:"batches"`         // stored
	OpenAtCrash    uint64  `json:"open_at_crash"`   // messages in a batch that was not closed when their node crashed
	KeysKnown      uint64  `json:"keys_known"`      // submissions known by their Key
	EndedElse      uint64  `json:"ended_otherwise"` // of those expected, ended by an operator, by damage or for newer work
	Live           uint64  `json:"live"`            // given to devices whose session does not outlive them
	Stored         int     `json:"stored"`          // entries in stores at the end
	MeanLatency    float64 `json:"mean_latency_seconds"`

	Broken []oracle.Violation `json:"broken,omitempty"` // the first of them
	broken int
	err    error
}

// NodeHours returns how long all nodes of the world lived, together.
func (r *Report) NodeHours() float64 { return float64(r.Nodes) * r.VirtualSeconds / 3600 }

// Violations says which laws the run broke; empty is good.
func (r *Report) Violations() []string {
	var out []string
	sum := func(n uint64, what string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	sum(r.Lost, "acknowledged messages were lost")
	sum(r.Duplicates, "messages were delivered twice")
	sum(r.OutOfOrder, "messages were delivered out of order")
	for _, v := range r.Broken {
		out = append(out, v.String())
	}
	if more := r.broken - len(r.Broken); more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return out
}

// fill takes over what the oracle counted.
func (r *Report) fill(o *oracle.Oracle) {
	t := &o.Tally
	r.Expected, r.Delivered, r.Pending, r.Lost, r.Expired = t.Expected, t.Delivered, t.Pending, t.Lost, t.Expired
	r.Duplicates, r.Redelivered, r.OutOfOrder, r.Late = t.Duplicates, t.Redelivered, t.OutOfOrder, t.Late
	r.WireCopies, r.EndedElse = t.WireCopies, t.Ended
	r.Purged, r.Damaged, r.Displaced = t.Ends[bundle.Purged], t.Ends[bundle.Damaged], t.Ends[bundle.Displaced]
	r.OverQuota, r.StoreFull = t.Refusals[bundle.QuotaExceeded], t.Refusals[bundle.StoreFull]
	r.Batches, r.OpenAtCrash, r.KeysKnown = t.Batches, t.OpenCrash, t.Repeats
	if t.First > 0 {
		r.MeanLatency = (t.Latency / time.Duration(t.First)).Seconds()
	}
	r.Broken, r.broken = o.Violations(), t.Violations
}

func add(a, b core.Stats) core.Stats {
	for i := range a.Submitted {
		a.Submitted[i] += b.Submitted[i]
		a.Own[i] += b.Own[i]
		a.Ended[i] += b.Ended[i]
		a.Refused[i] += b.Refused[i]
	}
	a.Arrived += b.Arrived
	a.Relayed += b.Relayed
	a.Transfers += b.Transfers
	a.HandedOn += b.HandedOn
	a.Delivered += b.Delivered
	a.Volatile += b.Volatile
	a.Duplicates += b.Duplicates
	a.OutOfOrder += b.OutOfOrder
	a.HeldBack += b.HeldBack
	a.GapsGivenUp += b.GapsGivenUp
	return a
}
