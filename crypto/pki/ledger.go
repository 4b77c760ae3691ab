package pki

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

// Why the authority does not redeem a ticket.
var (
	ErrTicketUnknown = errors.New("ticket is unknown here")
	ErrTicketSecret  = errors.New("ticket is forged: its secret is wrong")
	ErrTicketUsed    = errors.New("ticket was already used by another node")
	ErrTicketExpired = errors.New("ticket has expired")
	ErrTicketRegion  = errors.New("ticket is for another region")
	ErrNameTaken     = errors.New("name belongs to another node")
	ErrLedgerFull    = errors.New("ledger is full")
)

// Limits of a ledger and its tickets.
const (
	MaxTickets  = 10_000 // open and recently used
	MaxIssued   = 50_000 // names; a larger mesh needs issuers per region
	DefaultLife = 24 * time.Hour
	MaxLife     = 366 * 24 * time.Hour
	// ticketMemory is how long after its expiry a ticket is remembered: so
	// long its holder learns why it is refused, or gets its certificate again.
	ticketMemory = 30 * 24 * time.Hour
)

// Ledger is the memory of an authority: which tickets are out or used, which
// name belongs to which key. Every change is saved before its effect leaves
// the ledger, so a power cut never lets a ticket be used twice. It keeps only
// hashes of the tickets' secrets. Safe for concurrent use.
type Ledger struct {
	authority *Authority
	save      func([]byte) error // durable once it returns nil

	mu      sync.Mutex // guards what follows
	tickets map[TicketID]ticketEntry
	names   map[addr.Node]nameEntry
}

// ticketEntry: open while UsedBy is zero, then used for ever.
type ticketEntry struct {
	SecretHash Hash        `json:"secretHash"`
	Region     addr.Region `json:"region"`
	Expires    time.Time   `json:"expires"`
	UsedBy     Hash        `json:"usedBy,omitzero"` // identity.DualPublic.Hash
	Name       addr.Node   `json:"name,omitzero"`
	Cert       []byte      `json:"cert,omitempty"` // DER
}

type nameEntry struct {
	Key     Hash        `json:"key"` // identity.DualPublic.Hash
	Region  addr.Region `json:"region"`
	Issued  time.Time   `json:"issued"`
	Expires time.Time   `json:"expires"`
}

// NewLedger makes an empty ledger. save is called with the whole ledger on
// every change and must be durable once it returns nil.
func NewLedger(a *Authority, save func([]byte) error) *Ledger {
	return &Ledger{
		authority: a,
		save:      save,
		tickets:   map[TicketID]ticketEntry{},
		names:     map[addr.Node]nameEntry{},
	}
}

// Invitation says what a new ticket is for.
type Invitation struct {
	Region    addr.Region
	Issuer    addr.Node     // the node that will redeem it
	Addresses []string      // where that node is reached, host:port
	Life      time.Duration // 0: DefaultLife; at most MaxLife
}

// Invite makes a ticket. The secret exists only in the result.
func (l *Ledger) Invite(inv Invitation, now time.Time) (*Ticket, error) {
	if now.Before(earliest()) {
		return nil, fmt.Errorf("invite: %w: it says %s", ErrClock, now.UTC().Format(time.DateTime))
	}
	if inv.Life == 0 {
		inv.Life = DefaultLife
	}
	if inv.Life < time.Second || inv.Life > MaxLife {
		return nil, fmt.Errorf("invite: a life of %v, want 1s to %v", inv.Life, MaxLife)
	}
	start := now.UTC().Truncate(time.Second)
	t := &Ticket{
		ID:        newTicketID(),
		Secret:    newSecret(),
		Authority: l.authority.trust.Hash(),
		Region:    inv.Region,
		Issuer:    inv.Issuer,
		Addresses: inv.Addresses,
		IssuedAt:  start,
		Expires:   start.Add(inv.Life.Truncate(time.Second)),
	}
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now)
	if len(l.tickets) >= MaxTickets {
		return nil, fmt.Errorf("invite: %w: %d tickets; cancel some or wait for their expiry", ErrLedgerFull, len(l.tickets))
	}
	l.tickets[t.ID] = ticketEntry{SecretHash: sha256.Sum256(t.Secret[:]), Region: t.Region, Expires: t.Expires}
	if err := l.commit(); err != nil {
		delete(l.tickets, t.ID)
		return nil, fmt.Errorf("invite: %w", err)
	}
	return t, nil
}

// Redeem trades a ticket for a certificate (DER). A ticket serves one key, and
// serves it again with the same certificate, even after its expiry: the answer
// may have been lost on a bad link. A zero req.Name gets the region's last
// part and the start of the key's hash, such as luna-3fa9.
//
// Errors: ErrTicketUnknown, ErrTicketSecret, ErrTicketUsed, ErrTicketExpired,
// ErrTicketRegion, ErrNameTaken, ErrRequest, ErrLedgerFull, ErrClock, or that
// of saving; then nothing has changed and the ticket can be tried again.
func (l *Ledger) Redeem(id TicketID, proof Proof, req *Request, now time.Time) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cert, err := l.redeem(id, proof, req, now)
	if err != nil {
		return nil, fmt.Errorf("redeem ticket %s: %w", id, err)
	}
	return cert, nil
}

func (l *Ledger) redeem(id TicketID, proof Proof, req *Request, now time.Time) ([]byte, error) {
	t, ok := l.tickets[id]
	if !ok {
		return nil, fmt.Errorf("%w: never made by this authority, cancelled, or expired long ago; ask for a new one", ErrTicketUnknown)
	}
	if err := req.Keys.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	// The proof first: who does not know the secret learns nothing else, and
	// costs us no signature check.
	if want := prove(t.SecretHash, req); subtle.ConstantTimeCompare(want[:], proof[:]) != 1 {
		return nil, ErrTicketSecret
	}
	if err := req.Verify(); err != nil {
		return nil, err
	}
	if req.Ticket != id {
		return nil, fmt.Errorf("%w: it was made for ticket %s", ErrRequest, req.Ticket)
	}
	key := Hash(req.Keys.Hash())
	switch {
	case t.UsedBy == key:
		return t.Cert, nil
	case t.UsedBy != Hash{}:
		return nil, fmt.Errorf("%w (%s); ask for a new one", ErrTicketUsed, t.Name)
	case now.After(t.Expires):
		return nil, fmt.Errorf("%w at %s; ask for a new one", ErrTicketExpired, t.Expires.UTC().Format(time.DateTime))
	case req.Region != t.Region:
		return nil, fmt.Errorf("%w: %s, not %s", ErrTicketRegion, t.Region, req.Region)
	}
	name := req.Name
	if name.IsZero() {
		var err error
		if name, err = l.makeName(t.Region, key); err != nil {
			return nil, err
		}
	}
	return l.admit(IssueRequest{Name: name, Region: t.Region, Keys: req.Keys, Now: now}, func(cert []byte) func() {
		used := t
		used.UsedBy, used.Name, used.Cert = key, name, cert
		l.tickets[id] = used
		return func() { l.tickets[id] = t }
	})
}

// Admit certifies a node without a ticket, by the rules of names: the
// authority's own node at init. Errors as for Redeem.
func (l *Ledger) Admit(req IssueRequest) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cert, err := l.admit(req, func([]byte) func() { return func() {} })
	if err != nil {
		return nil, fmt.Errorf("admit: %w", err)
	}
	return cert, nil
}

// admit issues, records the name and whatever record adds, saves, and takes it
// all back if saving fails.
func (l *Ledger) admit(req IssueRequest, record func(cert []byte) (undo func())) ([]byte, error) {
	if err := req.validate(); err != nil {
		return nil, err
	}
	key := Hash(req.Keys.Hash())
	old, known := l.names[req.Name]
	if known && old.Key != key {
		return nil, fmt.Errorf("%w: %s, issued to key %s on %s; choose another --name", ErrNameTaken,
			req.Name, old.Key, old.Issued.UTC().Format(time.DateOnly))
	}
	if !known && len(l.names) >= MaxIssued {
		return nil, fmt.Errorf("%w: %d nodes", ErrLedgerFull, len(l.names))
	}
	cert, err := l.authority.Issue(req)
	if err != nil {
		return nil, err
	}
	issued := req.Now.UTC().Truncate(time.Second)
	l.names[req.Name] = nameEntry{Key: key, Region: req.Region, Issued: issued, Expires: l.authority.leafEnd(req.Now)}
	undo := record(cert)
	if err := l.commit(); err != nil {
		undo()
		delete(l.names, req.Name)
		if known {
			l.names[req.Name] = old
		}
		return nil, err
	}
	return cert, nil
}

// makeName finds a name for a key in a region. It takes more digits of the
// key's hash only while another node has the name.
func (l *Ledger) makeName(region addr.Region, key Hash) (addr.Node, error) {
	digits := hex.EncodeToString(key[:])
	for n := 4; n <= 16; n += 4 {
		name, err := addr.ParseNode(clipTo(region.Last(), addr.MaxName-1-n) + "-" + digits[:n])
		if err != nil {
			return addr.Node{}, err
		}
		if e, taken := l.names[name]; !taken || e.Key == key {
			return name, nil
		}
	}
	return addr.Node{}, fmt.Errorf("%w: no free name like %s-%s", ErrNameTaken, region.Last(), digits[:4])
}

// Cancel withdraws an open ticket. ErrTicketUnknown, ErrTicketUsed.
func (l *Ledger) Cancel(id TicketID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.tickets[id]
	switch {
	case !ok:
		return fmt.Errorf("cancel ticket %s: %w", id, ErrTicketUnknown)
	case t.UsedBy != Hash{}:
		return fmt.Errorf("cancel ticket %s: %w (%s)", id, ErrTicketUsed, t.Name)
	}
	delete(l.tickets, id)
	if err := l.commit(); err != nil {
		l.tickets[id] = t
		return fmt.Errorf("cancel ticket %s: %w", id, err)
	}
	return nil
}

// forget drops tickets that expired long ago. The next commit saves it.
func (l *Ledger) forget(now time.Time) {
	for id, t := range l.tickets {
		if now.After(t.Expires.Add(ticketMemory)) {
			delete(l.tickets, id)
		}
	}
}

func (l *Ledger) commit() error {
	data, err := l.marshal()
	if err != nil {
		return fmt.Errorf("save ledger: %w", err)
	}
	if err := l.save(data); err != nil {
		return fmt.Errorf("save ledger: %w", err)
	}
	return nil
}

// CreateLedger puts an empty ledger at path, a file in a key directory.
// fs.ErrExist: there is one already.
func CreateLedger(a *Authority, path string) (*Ledger, error) {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return nil, fmt.Errorf("create ledger: %s: %w", path, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	l := NewLedger(a, fileSaver(path))
	if err := l.commit(); err != nil {
		return nil, err
	}
	return l, nil
}

func fileSaver(path string) func([]byte) error {
	return func(data []byte) error { return identity.WriteFile(path, data) }
}
