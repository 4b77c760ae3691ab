package pki

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farhop/farhop/crypto/identity"
	"github.com/farhop/farhop/routing/addr"
)

func TestRedeem(t *testing.T) {
	m := newMesh(t)
	ticket := m.invite(t, "luna/south")
	id := identity.New()
	cert, err := redeemSecret(m.ledger, ticket.ID, ticket.Secret, request(t, id, "luna-1", "luna/south", ticket.ID), start())
	if err != nil {
		t.Fatal(err)
	}
	mat, err := NewMaterial(id, cert, m.Trust())
	if err != nil {
		t.Fatal(err)
	}
	if p := mat.Self(); p.Node.String() != "luna-1" || p.Region.String() != "luna/south" {
		t.Errorf("issued to %+v", p)
	}
	// The answer was lost; the node asks again, after a restart it may even
	// ask for another name, and a week later the ticket has long expired.
	for _, c := range []struct {
		name string
		now  time.Time
	}{{"luna-1", start()}, {"", start()}, {"luna-2", start()}, {"luna-1", start().Add(7 * 24 * time.Hour)}} {
		again, err := redeemSecret(m.ledger, ticket.ID, ticket.Secret, request(t, id, c.name, "luna/south", ticket.ID), c.now)
		if err != nil || !bytes.Equal(again, cert) {
			t.Errorf("redeemed again as %q: another certificate, %v", c.name, err)
		}
	}
	if got := m.ledger.Issued(); len(got) != 1 || got[0].Name.String() != "luna-1" || !got[0].Expires.Equal(mat.Leaf().NotAfter) {
		t.Errorf("Issued = %+v", got)
	}
	if got := m.ledger.Invited(); len(got) != 1 || got[0].UsedBy.String() != "luna-1" {
		t.Errorf("Invited = %+v", got)
	}
}

func TestRedeemRefuses(t *testing.T) {
	m := newMesh(t)
	gw := m.node(t, "gw-1", "earth")
	used := m.invite(t, "luna")
	if _, err := redeemSecret(m.ledger, used.ID, used.Secret, request(t, identity.New(), "luna-1", "luna", used.ID), start()); err != nil {
		t.Fatal(err)
	}
	open := m.invite(t, "luna")
	me := identity.New()
	tampered := request(t, me, "luna-2", "luna", open.ID)
	tampered.Name = addr.MustNode("luna-3")
	for _, c := range []struct {
		name   string
		id     TicketID
		secret Secret
		req    *Request
		after  time.Duration
		want   error
	}{
		{"unknown ticket", TicketID{1}, open.Secret, request(t, me, "", "luna", TicketID{1}), 0, ErrTicketUnknown},
		{"wrong secret", open.ID, Secret{1}, request(t, me, "", "luna", open.ID), 0, ErrTicketSecret},
		{"secret of another ticket", open.ID, used.Secret, request(t, me, "", "luna", open.ID), 0, ErrTicketSecret},
		{"used by another key", used.ID, used.Secret, request(t, me, "luna-2", "luna", used.ID), 0, ErrTicketUsed},
		{"expired", open.ID, open.Secret, request(t, me, "luna-2", "luna", open.ID), DefaultLife + time.Second, ErrTicketExpired},
		{"other region", open.ID, open.Secret, request(t, me, "luna-2", "earth", open.ID), 0, ErrTicketRegion},
		{"region below", open.ID, open.Secret, request(t, me, "luna-2", "luna/south", open.ID), 0, ErrTicketRegion},
		{"name of a node", open.ID, open.Secret, request(t, me, "gw-1", "luna", open.ID), 0, ErrNameTaken},
		{"name from a ticket", open.ID, open.Secret, request(t, me, "luna-1", "luna", open.ID), 0, ErrNameTaken},
		{"request for another ticket", open.ID, open.Secret, request(t, me, "luna-2", "luna", used.ID), 0, ErrRequest},
		{"request changed", open.ID, open.Secret, tampered, 0, ErrRequest},
		{"unsigned request", open.ID, open.Secret, &Request{Keys: me.Public(), Region: addr.MustRegion("luna"), Ticket: open.ID}, 0, ErrRequest},
		{"empty request", open.ID, open.Secret, &Request{Ticket: open.ID}, 0, ErrRequest},
		{"authority in 1970", open.ID, open.Secret, request(t, me, "luna-2", "luna", open.ID), -60 * 365 * 24 * time.Hour, ErrClock},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, _ := m.ledger.Marshal()
			cert, err := redeemSecret(m.ledger, c.id, c.secret, c.req, start().Add(c.after))
			if cert != nil || !errors.Is(err, c.want) {
				t.Fatalf("error = %v, want %v", err, c.want)
			}
			if after, _ := m.ledger.Marshal(); !bytes.Equal(before, after) {
				t.Error("a refusal changed the ledger")
			}
		})
	}
	// After all these refusals the ticket still serves its owner.
	if _, err := redeemSecret(m.ledger, open.ID, open.Secret, request(t, me, "luna-2", "luna", open.ID), start().Add(DefaultLife)); err != nil {
		t.Errorf("honest redemption in the last second: %v", err)
	}
	// The same key may be certified again under its name, by a new ticket.
	again := m.invite(t, "luna")
	if _, err := redeemSecret(m.ledger, again.ID, again.Secret, request(t, gw.Identity, "gw-1", "luna", again.ID), start()); err != nil {
		t.Errorf("same key, same name, new ticket: %v", err)
	}
}

func TestMadeNames(t *testing.T) {
	m := newMesh(t)
	key := Hash(identity.New().Public().Hash())
	want := "south-" + key.String()[:4]
	region := addr.MustRegion("luna/south")
	name, err := m.ledger.makeName(region, key)
	if err != nil || name.String() != want {
		t.Fatalf("name = %s, %v; want %s", name, err, want)
	}
	m.ledger.names[name] = nameEntry{Key: key}
	if again, _ := m.ledger.makeName(region, key); again != name {
		t.Errorf("the same key is named %s, then %s", name, again)
	}
	m.ledger.names[name] = nameEntry{Key: Hash{1}}
	longer, err := m.ledger.makeName(region, key)
	if err != nil || longer.String() != "south-"+key.String()[:8] {
		t.Errorf("name beside a taken one = %s, %v", longer, err)
	}
	long, err := m.ledger.makeName(addr.MustRegion(strings.Repeat("x", addr.MaxName)), key)
	if err != nil || len(long.String()) != addr.MaxName {
		t.Errorf("name in a region of longest name: %s, %v", long, err)
	}
}

func TestOneTicketOneNode(t *testing.T) {
	m := newMesh(t)
	ticket := m.invite(t, "luna")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		req := request(t, identity.New(), "", "luna", ticket.ID)
		wg.Go(func() { _, errs[i] = redeemSecret(m.ledger, ticket.ID, ticket.Secret, req, start()) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrTicketUsed) {
			t.Errorf("loser: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d nodes joined with one ticket", won)
	}
}

func TestRedeemIsDurableFirst(t *testing.T) {
	m := newMesh(t)
	var disk []byte
	var full error
	m.ledger = NewLedger(m.Authority, func(data []byte) error {
		if full == nil {
			disk = bytes.Clone(data)
		}
		return full
	})
	ticket := m.invite(t, "luna")
	id := identity.New()
	req := request(t, id, "luna-1", "luna", ticket.ID)
	full = errors.New("no space left")
	if cert, err := redeemSecret(m.ledger, ticket.ID, ticket.Secret, req, start()); cert != nil || !errors.Is(err, full) {
		t.Fatalf("full disk: certificate %v, %v", cert != nil, err)
	}
	if _, err := m.ledger.Invite(Invitation{Region: addr.MustRegion("luna"), Issuer: addr.MustNode("gw-1"), Addresses: []string{"h:1"}}, start()); !errors.Is(err, full) {
		t.Errorf("invite on a full disk: %v", err)
	}
	if err := m.ledger.Cancel(ticket.ID); !errors.Is(err, full) {
		t.Errorf("cancel on a full disk: %v", err)
	}
	if now, _ := m.ledger.Marshal(); !bytes.Equal(now, disk) {
		t.Error("what could not be saved stayed in memory")
	}
	full = nil
	cert, err := redeemSecret(m.ledger, ticket.ID, ticket.Secret, req, start())
	if err != nil {
		t.Fatal(err)
	}
	// Power cut right after: the disk alone must know the ticket is used.
	restarted, err := UnmarshalLedger(m.Authority, disk, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	again, err := redeemSecret(restarted, ticket.ID, ticket.Secret, req, start())
	if err != nil || !bytes.Equal(again, cert) {
		t.Errorf("same key after restart: %v", err)
	}
	if _, err := redeemSecret(restarted, ticket.ID, ticket.Secret, request(t, identity.New(), "x", "luna", ticket.ID), start()); !errors.Is(err, ErrTicketUsed) {
		t.Errorf("another key after restart: %v", err)
	}
}

func TestInviteAndCancel(t *testing.T) {
	m := newMesh(t)
	inv := Invitation{Region: addr.MustRegion("luna"), Issuer: addr.MustNode("gw-1"), Addresses: []string{"h:1"}}
	for _, c := range []struct {
		name   string
		change func(*Invitation)
		now    time.Time
		want   error
	}{
		{"clock in 1970", func(*Invitation) {}, time.Unix(0, 0), ErrClock},
		{"no address", func(i *Invitation) { i.Addresses = nil }, start(), ErrTicketContent},
		{"no region", func(i *Invitation) { i.Region = addr.Region{} }, start(), ErrTicketContent},
		{"for ever", func(i *Invitation) { i.Life = MaxLife + 1 }, start(), nil},
		{"for no time", func(i *Invitation) { i.Life = -time.Hour }, start(), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := inv
			c.change(&bad)
			if tk, err := m.ledger.Invite(bad, c.now); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("ticket %v, error %v", tk, err)
			}
		})
	}
	tk, err := m.ledger.Invite(inv, start().Add(123*time.Millisecond)) // not a whole second
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseTicket(tk.Text()); err != nil || got.Authority != m.Trust().Hash() {
		t.Errorf("ticket does not survive its text: %v", err)
	}
	if err := m.ledger.Cancel(tk.ID); err != nil {
		t.Fatal(err)
	}
	if err := m.ledger.Cancel(tk.ID); !errors.Is(err, ErrTicketUnknown) {
		t.Errorf("cancel twice: %v", err)
	}
	if _, err := m.ledger.Invite(inv, start()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ledger.Invite(inv, start().Add(ticketMemory+DefaultLife+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := len(m.ledger.Invited()); n != 1 {
		t.Errorf("%d tickets remembered, want the new one only", n)
	}
}

func TestLedgerFile(t *testing.T) {
	m := newMesh(t)
	path := filepath.Join(keyDir(t), LedgerFile)
	if _, err := OpenLedger(m.Authority, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing ledger: %v", err)
	}
	l, err := CreateLedger(m.Authority, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLedger(m.Authority, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a ledger over another: %v", err)
	}
	m.ledger = l
	ticket := m.invite(t, "luna")
	m.node(t, "gw-1", "earth")
	again, err := OpenLedger(m.Authority, path)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := l.Marshal()
	b, _ := again.Marshal()
	if !bytes.Equal(a, b) || len(again.Issued()) != 1 {
		t.Errorf("the ledger changed on its way through the disk:\n%s\n%s", a, b)
	}
	if bytes.Contains(a, []byte(hex.EncodeToString(ticket.Secret[:]))) || bytes.Contains(a, []byte(base64.StdEncoding.EncodeToString(ticket.Secret[:]))) {
		t.Error("the ledger holds a ticket's secret")
	}
	if _, err := OpenLedger(newMesh(t).Authority, path); !errors.Is(err, ErrLedger) {
		t.Errorf("another authority's ledger: %v", err)
	}
}

func FuzzUnmarshalLedger(f *testing.F) {
	a, err := NewAuthority(addr.MustRegion("earth"), start())
	if err != nil {
		f.Fatal(err)
	}
	l := NewLedger(a, func([]byte) error { return nil })
	if _, err := l.Admit(IssueRequest{Name: addr.MustNode("n"), Region: addr.MustRegion("earth"), Keys: identity.New().Public(), Now: start()}); err != nil {
		f.Fatal(err)
	}
	data, _ := l.Marshal()
	f.Add(data)
	f.Add([]byte(`{"version":1,"tickets":{"00":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := UnmarshalLedger(a, data, func([]byte) error { return nil })
		if err != nil {
			return
		}
		once, err := got.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := UnmarshalLedger(a, once, nil)
		if err != nil {
			t.Fatalf("its own output is refused: %v\n%s", err, once)
		}
		if twice, _ := back.Marshal(); !bytes.Equal(once, twice) {
			t.Errorf("%s\n%s", once, twice)
		}
	})
}
