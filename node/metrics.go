package node

import (
	"context"
	"math"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// coreMetrics shows the counters of the core. It asks the loop at each scrape.
type coreMetrics struct {
	n                                                   *Node
	submitted, own, ended, refused                      *prometheus.Desc
	arrived, relayed, transfers, handedOn, delivered    *prometheus.Desc
	duplicates, outOfOrder, heldBack, gaps, volatile    *prometheus.Desc
	messages, storeBytes, fileBytes, damaged, forgotten *prometheus.Desc
	regrouped                                           *prometheus.Desc
	retained, wills, words, roaming, echoes, watching   *prometheus.Desc
	queued, queuedBytes, room                           *prometheus.Desc
}

func newCoreMetrics(n *Node) *coreMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("farhop_"+name, help, labels, nil)
	}
	return &coreMetrics{
		n:           n,
		submitted:   d("submitted_total", "Messages published here by clients and other stacks, by verdict.", "reason"),
		own:         d("own_submitted_total", "Messages of the node itself by verdict: receipts, states of regions, what nodes tell each other.", "reason"),
		ended:       d("ended_total", "Messages that ended other than by delivery, by reason.", "reason"),
		refused:     d("refused_total", "Bundles of peers whose custody was not taken, by reason.", "reason"),
		arrived:     d("arrived_total", "Messages handed to recipients here."),
		relayed:     d("relayed_total", "Bundles taken in for other nodes."),
		transfers:   d("transfers_total", "Bundles offered to peers."),
		handedOn:    d("handed_on_total", "Bundles whose custody a peer took."),
		delivered:   d("delivered_total", "Deliveries acknowledged by devices and services."),
		duplicates:  d("duplicates_total", "Copies that were dropped."),
		outOfOrder:  d("out_of_order_total", "Messages that came after their gap was given up."),
		heldBack:    d("held_back_total", "Messages that waited for what was sent before them."),
		gaps:        d("gaps_given_up_total", "Messages that are no longer waited for."),
		volatile:    d("volatile_total", "QoS 0 bundles sent on."),
		messages:    d("store_messages", "Messages in the store."),
		storeBytes:  d("store_bytes", "Bytes of the messages in the store."),
		fileBytes:   d("store_file_bytes", "Bytes the store takes on disk."),
		room:        d("store_room_bytes", "Bytes of new messages the disk still takes; near 0 they are refused as store-full."),
		damaged:     d("store_damaged", "Places where the disk returned other bytes than were written, since the start."),
		forgotten:   d("keys_forgotten_total", "Keys of outside work forgotten before their time, for want of room."),
		regrouped:   d("group_messages_moved_total", "Messages of shared subscriptions that went on to another member."),
		retained:    d("retained_total", "What happened to retained messages of other nodes: stale, refused for want of room, ahead of our clock, given by comparing, doubted after a long time out of touch; and steps of comparisons.", "what"),
		wills:       d("mqtt_wills_total", "Wills: published, cancelled because their clients are not lost, refused for want of room or by a quota.", "what"),
		words:       d("receipts_total", "What publishers asked to hear of their messages: words given, unheard because the publisher is gone, messages not followed for too much was asked, reports lost for want of room, and late ones; requests whose origin was forgotten; regions whose state is not told.", "what"),
		roaming:     d("sessions_moved_total", "Sessions that follow their clients: claims sent, times that too many waited for a node, which is told of all sessions instead; sessions released to another node, adopted from one, over before what another had of them came; messages sent on to where their session is; bundles that nodes tell each other; filters left behind, leads to where a session is, and watches for repeats ended, for want of room.", "what"),
		echoes:      d("pings_total", "Pings through the mesh: questions of other nodes answered, answers to questions of this one, and questions dropped because there were too many, no room, or nobody known who asked.", "what"),
		watching:    d("links_watched_total", "How links are watched: times that one fell silent, probes sent, times that this node was woken late and so judged no one.", "what"),
		queued:      d("queue_bundles", "Bundles that wait, by class.", "class"),
		queuedBytes: d("queue_bytes", "Bytes that wait, by class.", "class"),
	}
}

// Describe implements prometheus.Collector. One Desc stands for all: collecting
// needs the loop, which does not run yet when this is registered.
func (m *coreMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.arrived }

// Collect implements prometheus.Collector.
func (m *coreMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // of this machine alone
	defer cancel()
	v, err := m.n.loop.view(ctx)
	if err != nil {
		return // zeros would look like a restart
	}
	local := m.n.mqtt.local()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for r := range bundle.Reason(bundle.NumReasons) {
		count(m.submitted, v.Stats.Submitted[r]+local[r], r.String())
		count(m.own, v.Stats.Own[r], r.String())
		count(m.ended, v.Stats.Ended[r], r.String())
		count(m.refused, v.Stats.Refused[r], r.String())
	}
	s := v.Stats
	for _, c := range []struct {
		d *prometheus.Desc
		n uint64
	}{
		{m.arrived, s.Arrived},
		{m.relayed, s.Relayed},
		{m.transfers, s.Transfers},
		{m.handedOn, s.HandedOn},
		{m.delivered, s.Delivered},
		{m.duplicates, s.Duplicates},
		{m.outOfOrder, s.OutOfOrder},
		{m.heldBack, s.HeldBack},
		{m.gaps, s.GapsGivenUp},
		{m.volatile, s.Volatile},
		{m.forgotten, s.Forgotten},
		{m.regrouped, s.Regrouped},
	} {
		count(c.d, c.n)
	}
	m.kinds(s, count)
	for what, n := range map[string]uint64{"silences": v.Watching.Silences, "probes": v.Watching.Probes, "late-wakes": v.Watching.LateWakes, "renewals": v.Watching.Renewals, "damped": v.Watching.Damped} {
		count(m.watching, n, what)
	}
	st := m.n.store.stats()
	gauge(m.messages, int64(st.Messages))
	gauge(m.storeBytes, st.Bytes)
	gauge(m.fileBytes, st.FileBytes)
	gauge(m.damaged, int64(st.Damaged))
	if v.Room < math.MaxInt64 {
		gauge(m.room, v.Room)
	}
	var bundles, bytes [bundle.NumClasses]int64
	for _, q := range v.Queues {
		bundles[q.Queue.Class] += int64(q.Count)
		bytes[q.Queue.Class] += q.Bytes
	}
	for c := range bundle.Class(bundle.NumClasses) {
		gauge(m.queued, bundles[c], c.String())
		gauge(m.queuedBytes, bytes[c], c.String())
	}
}

// kinds counts what has a label of its own each.
func (m *coreMetrics) kinds(s core.Stats, count func(d *prometheus.Desc, n uint64, labels ...string)) {
	for what, n := range map[string]uint64{
		"stale": s.RetainedStale, "refused": s.RetainedRefused, "ahead": s.StampsAhead, "given": s.Given, "doubted": s.Doubted,
		"compared": s.Compared, "compare-dropped": s.CompareDropped,
	} {
		count(m.retained, n, what)
	}
	for what, n := range map[string]uint64{"answered": s.EchoesAnswered, "heard": s.EchoesHeard, "dropped": s.EchoesDropped} {
		count(m.echoes, n, what)
	}
	for what, n := range map[string]uint64{"published": s.Wills, "cancelled": s.WillsCancelled, "refused": s.WillsRefused} {
		count(m.wills, n, what)
	}
	for what, n := range map[string]uint64{
		"given": s.Words, "unheard": s.Unheard, "unfollowed": s.Unfollowed, "reports-lost": s.ReportsLost, "reports-late": s.ReportsLate,
		"requests-forgotten": m.n.mqtt.pins.dropped.Load(), "regions-hidden": s.RegionsHidden,
	} {
		count(m.words, n, what)
	}
	for what, n := range map[string]uint64{
		"claims": s.Claims, "claims-gathered": s.ClaimsGathered, "released": s.Released, "adopted": s.Adopted, "late": s.RoamLate,
		"messages": s.Moved, "told": s.RoamMessages, "filters-cut": s.RoamCut, "leads-ended": s.StubsEnded, "watches-ended": s.OverlapsEnded,
	} {
		count(m.roaming, n, what)
	}
}

// reachable guesses where others reach a listener: its own address, or every
// address of this machine when it listens on all.
func reachable(listen string) []string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return []string{listen}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out, loop []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || n.IP.IsLinkLocalUnicast():
		case n.IP.IsLoopback():
			loop = append(loop, net.JoinHostPort(n.IP.String(), port))
		default:
			out = append(out, net.JoinHostPort(n.IP.String(), port))
		}
	}
	if len(out) == 0 {
		return loop
	}
	return out[:min(len(out), 8)]
}
