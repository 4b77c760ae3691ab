package core

import "github.com/farhop/farhop/storeforward/bundle"

// Stats counts what happened since the core was made.
type Stats struct {
	Submitted   [bundle.NumReasons]uint64 // submissions by verdict, without those of the node itself
	Own         [bundle.NumReasons]uint64 // submissions of the node itself by verdict
	Ended       [bundle.NumReasons]uint64 // items that ended other than by delivery
	Refused     [bundle.NumReasons]uint64 // transfers whose custody was not taken
	Arrived     uint64                    // messages handed to recipients here
	Relayed     uint64                    // bundles taken in for other nodes
	Transfers   uint64                    // bundles offered to peers
	HandedOn    uint64                    // bundles whose custody a peer took
	Delivered   uint64                    // deliveries settled by devices and services
	Volatile    uint64                    // QoS 0 bundles sent on
	Duplicates  uint64                    // copies dropped
	Early       uint64                    // copies that came before their session
	OutOfOrder  uint64                    // messages that came after their gap was given up
	HeldBack    uint64                    // messages that waited for what came before
	GapsGivenUp uint64                    // messages no longer waited for
	Regrouped   uint64                    // messages handed on to another member of their group
	Forgotten   uint64                    // Keys forgotten before their time, for want of room

	Wills          uint64 // wills published
	WillsCancelled uint64 // wills whose devices took their leave, came back in time, or are elsewhere
	WillsRefused   uint64 // wills not taken with their CONNECT, or not published, for want of room or by a quota
	Words          uint64 // what publishers asked to hear, given
	RegionsHidden  uint64 // regions that are not told of, for there are too many, each time
	Unheard        uint64 // words whose publisher is gone, or subscribed to nothing
	Unfollowed     uint64 // messages whose publisher asked for more than is followed
	ReportsLost    uint64 // reports that found no room
	ReportsLate    uint64 // reports on what is not, or no longer, followed

	RetainedStale   uint64 // retained messages that came after a newer one
	RetainedRefused uint64 // retained messages of other nodes that found no room
	StampsAhead     uint64 // stamps too far in the future for our clock to follow
	Compared        uint64 // steps of comparisons sent
	CompareDropped  uint64 // steps of comparisons not taken, for too many waited
	Given           uint64 // retained messages that comparing brought
	RoamMessages    uint64 // bundles sent about sessions that move
	Claims          uint64 // sessions claimed, of each node that was told
	ClaimsGathered  uint64 // times that too many claims waited for a node, which is told of all sessions instead
	Released        uint64 // sessions given to another node
	Adopted         uint64 // sessions had from another node
	Moved           uint64 // messages sent on to where their session is
	RoamLate        uint64 // sessions had from another node that are over here
	RoamCut         uint64 // filters that did not move: too many
	StubsEnded      uint64 // sessions of which nothing is known any more where they were, for want of room
	OverlapsEnded   uint64 // sessions whose repeats are not watched for any more, for want of room

	EchoesAnswered uint64 // questions of farhop ping at other nodes, answered
	EchoesHeard    uint64 // answers to those of this node
	EchoesDropped  uint64 // questions that got none: too many, malformed, without room, or of nobody known

	Doubted uint64 // retained messages not given on after a long time out of touch
}

// LinkStats counts how links were watched since the core was made.
type LinkStats struct {
	Silences  uint64 // links whose peers fell silent
	Probes    uint64 // Pings sent
	Renewals  uint64 // times another session was asked for beside a silent one
	Damped    uint64 // times the mesh was not told at once that a link that came and went is back
	LateWakes uint64 // times this node was woken late, and so could not hear
}

// verdict counts what became of a submission.
func (c *Core) verdict(s *Submission, reason bundle.Reason) {
	if s.own() {
		c.stats.Own[reason]++
	} else {
		c.stats.Submitted[reason]++
	}
}

// LinkStats returns the counters of links.
func (c *Core) LinkStats() LinkStats { return c.watching }

// Stats returns the counters.
func (c *Core) Stats() Stats { return c.stats }
