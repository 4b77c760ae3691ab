package emulator

// Stats is a snapshot of what a link has done since it was opened.
type Stats struct {
	Up   DirStats `json:"up"`   // from the listening side to To
	Down DirStats `json:"down"` // from To back to the clients

	Flows   int    `json:"flows"`   // UDP clients with an upstream socket now
	Evicted uint64 `json:"evicted"` // flows closed because a newer client needed their place
	Rebound uint64 `json:"rebound"` // flows that got a new upstream port
	Conns   int    `json:"conns"`   // TCP connections now
	Refused uint64 `json:"refused"` // TCP connections reset because MaxFlows were there already
}

// DirStats counts one direction. For datagrams
//
//	Offered + Duplicated = Packets + InFlight + Dropped.Total()
//
// holds at any moment. TCP appears in StreamBytes only.
type DirStats struct {
	Offered       uint64  `json:"offered"` // datagrams received from the sender
	OfferedBytes  uint64  `json:"offeredBytes"`
	Packets       uint64  `json:"packets"` // datagrams carried to the receiver, copies included
	Bytes         uint64  `json:"bytes"`
	Duplicated    uint64  `json:"duplicated"`    // copies among Packets
	Reordered     uint64  `json:"reordered"`     // of Packets, those held back for ReorderBy
	Corrupted     uint64  `json:"corrupted"`     // of Packets, those with a bit flipped
	InFlight      int     `json:"inFlight"`      // datagrams queued or under way
	InFlightBytes int64   `json:"inFlightBytes"` // memory they hold, not payload
	Dropped       Dropped `json:"dropped"`
	StreamBytes   uint64  `json:"streamBytes"` // TCP payload carried to the receiver
	// Overrun counts datagrams that the kernel dropped before the emulator read
	// them, as far as it has told. They are not among Offered. When it is not
	// zero the emulation is not faithful.
	Overrun uint64 `json:"overrun"`
	State   State  `json:"state"` // open, cut or blackhole
	Open    bool   `json:"open"`  // state open, and inside a contact
}

// Dropped counts datagrams by the reason they ended.
type Dropped struct {
	Loss   uint64 `json:"loss"`   // the profile's Loss
	Queue  uint64 `json:"queue"`  // no room in the bottleneck queue
	Closed uint64 `json:"closed"` // no contact, or it ended before the last bit was sent
	Cut    uint64 `json:"cut"`    // the direction was cut
	// Blackhole counts what met a black hole, what was under way when it opened
	// included.
	Blackhole uint64 `json:"blackhole"`
	MTU       uint64 `json:"mtu"`     // larger than the MTU
	Rebound   uint64 `json:"rebound"` // an answer to a port that a rebinding had given up
	// Memory counts drops at Config.InFlight: the emulator's limit, not the
	// link's. When it is not zero the emulation is not faithful.
	Memory uint64 `json:"memory"`
	// Undelivered counts datagrams that crossed the link but that the receiving
	// socket refused: nobody listens there, or the flow was evicted meanwhile.
	Undelivered uint64 `json:"undelivered"`
}

// Total sums all reasons.
func (d Dropped) Total() uint64 {
	return d.Loss + d.Queue + d.Closed + d.Cut + d.Blackhole + d.MTU + d.Rebound + d.Memory + d.Undelivered
}
