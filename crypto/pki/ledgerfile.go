package pki

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// ErrLedger is the cause of every refusal of a ledger file.
var ErrLedger = errors.New("not a valid ledger")

const (
	// LedgerFile is the ledger in an authority's key directory.
	LedgerFile    = "ledger.json"
	ledgerVersion = 1
	// maxLedger bounds the file, in bytes: MaxTickets and MaxIssued of the
	// longest entries stay below it.
	maxLedger = 64 << 20
)

// ledgerFile is the JSON form. encoding/json sorts map keys, so equal ledgers
// are equal bytes.
type ledgerFile struct {
	Version int                      `json:"version"`
	Mesh    string                   `json:"mesh"`
	Tickets map[TicketID]ticketEntry `json:"tickets"`
	Names   map[addr.Node]nameEntry  `json:"names"`
}

// OpenLedger reads the ledger at path. A missing one is an error
// (fs.ErrNotExist) and not an empty one: an authority that forgot its names
// would give them out twice.
func OpenLedger(a *Authority, path string) (*Ledger, error) {
	data, err := identity.ReadPublic(path, maxLedger)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	l, err := UnmarshalLedger(a, data, fileSaver(path))
	if err != nil {
		return nil, fmt.Errorf("open ledger: %s: %w", path, err)
	}
	return l, nil
}

// UnmarshalLedger reads what Marshal wrote for the same authority.
func UnmarshalLedger(a *Authority, data []byte, save func([]byte) error) (*Ledger, error) {
	var f ledgerFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLedger, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its end", ErrLedger)
	}
	switch {
	case f.Version != ledgerVersion:
		return nil, fmt.Errorf("%w: version %d, this farhop knows %d", ErrLedger, f.Version, ledgerVersion)
	case f.Mesh != a.trust.Mesh.String():
		return nil, fmt.Errorf("%w: it is of mesh %s, the authority of %s", ErrLedger, clip(f.Mesh), a.trust.Mesh)
	case len(f.Tickets) > MaxTickets || len(f.Names) > MaxIssued:
		return nil, fmt.Errorf("%w: %d tickets and %d names, limits %d and %d", ErrLedger, len(f.Tickets), len(f.Names), MaxTickets, MaxIssued)
	}
	l := NewLedger(a, save)
	for id, t := range f.Tickets {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("%w: ticket %s: %w", ErrLedger, id, err)
		}
		l.tickets[id] = t
	}
	for name, n := range f.Names {
		if name.IsZero() || n.Region.IsZero() || n.Key == (Hash{}) {
			return nil, fmt.Errorf("%w: name %q: incomplete", ErrLedger, name)
		}
		l.names[name] = n
	}
	return l, nil
}

func (t ticketEntry) check() error {
	used := t.UsedBy != Hash{}
	if t.SecretHash == (Hash{}) || t.Region.IsZero() || t.Expires.IsZero() {
		return errors.New("incomplete")
	}
	if used != (len(t.Cert) > 0) || used == t.Name.IsZero() || len(t.Cert) > MaxCert {
		return errors.New("neither open nor used")
	}
	return nil
}

// Marshal returns the ledger as JSON; equal ledgers are equal bytes.
func (l *Ledger) Marshal() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marshal()
}

func (l *Ledger) marshal() ([]byte, error) {
	return json.MarshalIndent(ledgerFile{
		Version: ledgerVersion,
		Mesh:    l.authority.trust.Mesh.String(),
		Tickets: l.tickets,
		Names:   l.names,
	}, "", " ")
}

// Issued is a name that the authority has given to a key.
type Issued struct {
	Name    addr.Node   `json:"name"`
	Region  addr.Region `json:"region"`
	Key     Hash        `json:"key"` // identity.DualPublic.Hash
	Issued  time.Time   `json:"issued"`
	Expires time.Time   `json:"expires"`
}

// Issued lists the names given out, by name.
func (l *Ledger) Issued() []Issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Issued, 0, len(l.names))
	for name, n := range l.names {
		out = append(out, Issued{Name: name, Region: n.Region, Key: n.Key, Issued: n.Issued, Expires: n.Expires})
	}
	slices.SortFunc(out, func(a, b Issued) int { return a.Name.Compare(b.Name) })
	return out
}

// Invited is a ticket the authority remembers; UsedBy is zero while it is open.
type Invited struct {
	ID      TicketID    `json:"id"`
	Region  addr.Region `json:"region"`
	Expires time.Time   `json:"expires"`
	UsedBy  addr.Node   `json:"usedBy,omitzero"`
}

// Invited lists the tickets, soonest expiry first.
func (l *Ledger) Invited() []Invited {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Invited, 0, len(l.tickets))
	for id, t := range l.tickets {
		out = append(out, Invited{ID: id, Region: t.Region, Expires: t.Expires, UsedBy: t.Name})
	}
	slices.SortFunc(out, func(a, b Invited) int {
		if c := a.Expires.Compare(b.Expires); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	return out
}

// MarshalText implements encoding.TextMarshaler: 64 hex digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(b []byte) error { return unhex(h[:], b) }

// MarshalText implements encoding.TextMarshaler: 32 hex digits.
func (id TicketID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *TicketID) UnmarshalText(b []byte) error { return unhex(id[:], b) }

// unhex fills dst from exactly as many hex digits.
func unhex(dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%d hex digits, want %d", len(text), hex.EncodedLen(len(dst)))
	}
	_, err := hex.Decode(dst, text)
	return err
}
