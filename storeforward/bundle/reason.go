package bundle

import "strconv"

// Reason says why custody of a bundle ended, or why it was never taken. One
// enum serves wire codes, metric labels, logs and reports; its numbers are on
// the wire and never change meaning.
type Reason uint8

// The reasons.
const (
	OK            Reason = 0  // delivered, or handed on with custody
	Expired       Reason = 1  // its own lifetime ended first
	NoSubscriber  Reason = 2  // nobody wants it and no route stores it
	StoreFull     Reason = 3  // no room left; refused before the acknowledgement
	QuotaExceeded Reason = 4  // a limit of its client, topic or peer
	NoRoute       Reason = 5  // nowhere to go, and its route says drop
	TooLarge      Reason = 6  // over the frame or message limit
	HopLimit      Reason = 7  // went round more often than any path is long
	Malformed     Reason = 8  // could not be parsed
	NotAllowed    Reason = 9  // an access rule or missing credentials
	DiskFailed    Reason = 10 // the store could not make it durable
	Duplicate     Reason = 11 // custody was here already
	SessionEnded  Reason = 12 // the session it waited for expired or was cleaned
	Purged        Reason = 13 // an operator ended it
	ShuttingDown  Reason = 14 // the node drains
	Damaged       Reason = 15 // the disk returned other bytes than were written
	Displaced     Reason = 16 // newer work took its room, as its route allows
	NumReasons           = 17
)

var reasonNames = [NumReasons]string{
	"ok", "expired", "no-subscriber", "store-full", "quota-exceeded", "no-route", "too-large", "hop-limit",
	"malformed", "not-allowed", "disk-failed", "duplicate", "session-ended", "purged", "shutting-down",
	"damaged", "displaced",
}

// String returns the metric label of the reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "reason-" + strconv.Itoa(int(r))
}
