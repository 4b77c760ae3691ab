package pki

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/farhop/farhop/routing/addr"
)

// What can be wrong with the text of a ticket. Whether a well-formed one is
// still good only the authority knows: see Ledger.Redeem.
var (
	ErrTicketPrefix    = errors.New("not a farhop ticket")
	ErrTicketTruncated = errors.New("ticket is incomplete")
	ErrTicketTypo      = errors.New("ticket was copied wrongly")
	ErrTicketContent   = errors.New("ticket holds an invalid value")
)

// Limits of a ticket.
const (
	MaxTicketText      = 4096 // characters
	MaxTicketAddresses = 8
	MaxTicketAddress   = 255 // bytes of one host:port
)

const (
	ticketPrefix = "farhop1."
	ticketFrame  = 2 + 4 // length before, checksum after
)

// TicketID names a ticket; it is no secret.
type TicketID [16]byte

// String returns 32 hex digits.
func (id TicketID) String() string { return hex.EncodeToString(id[:]) }

// Secret is what makes the holder of a ticket its owner. It never prints.
type Secret [32]byte

// Format hides the secret, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(secret)") }

// Ticket invites one node into a mesh. It is not signed: it holds a secret
// that the authority gave out, and reaches the new node by the operator's hand.
type Ticket struct {
	ID        TicketID
	Secret    Secret
	Authority Hash        // Trust.Hash of the mesh: pins the server that is asked to join
	Region    addr.Region // where the node will live
	Issuer    addr.Node   // the node that redeems the ticket
	Addresses []string    // where to reach it, host:port
	IssuedAt  time.Time   // whole seconds; the first floor of a node without a clock
	Expires   time.Time   // whole seconds
}

// Expired reports whether the ticket has run out at a time. Advice for the
// holder: the authority decides by its own clock.
func (t *Ticket) Expired(now time.Time) bool { return now.After(t.Expires) }

// String names the ticket without its secret, for logs.
func (t *Ticket) String() string {
	return fmt.Sprintf("ticket %s for region %s from %s", t.ID, t.Region, t.Issuer)
}

// Validate reports every value that would make the ticket useless.
func (t *Ticket) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrTicketContent}, args...)...))
	}
	if t.Region.IsZero() {
		bad("no region")
	}
	if t.Issuer.IsZero() {
		bad("no issuer")
	}
	if n := len(t.Addresses); n == 0 || n > MaxTicketAddresses {
		bad("%d addresses, want 1 to %d (host:port, where the new node can reach %s)", n, MaxTicketAddresses, t.Issuer)
	}
	for _, a := range t.Addresses {
		if err := checkAddress(a); err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrTicketContent, err))
		}
	}
	if !wholeSecond(t.IssuedAt) || !wholeSecond(t.Expires) || !t.Expires.After(t.IssuedAt) {
		bad("valid from %v to %v", t.IssuedAt, t.Expires)
	}
	return errors.Join(errs...)
}

// wholeSecond reports whether t survives the ticket's time format: UTC seconds
// of 1970 to 9999.
func wholeSecond(t time.Time) bool {
	return t.Nanosecond() == 0 && t.Unix() >= 0 && t.Unix() < 253402300800
}

func checkAddress(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil || len(a) > MaxTicketAddress {
		return fmt.Errorf("address %s: want host:port", clip(a))
	}
	for i := range len(host) {
		if c := host[i]; c <= ' ' || c >= 0x7f {
			return fmt.Errorf("address %s: host is not printable ASCII", clip(a))
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" {
		return fmt.Errorf("address %s: want a host and a port from 1 to %d", clip(a), math.MaxUint16)
	}
	return nil
}

// Text returns the ticket for its holder: "farhop1." and base64url of
//
//	length of body (2) | body | CRC-32C of length and body (4)
//
// The checksum is no protection; it tells a mistyped ticket from a forged one.
// Text holds the secret. The ticket must be valid; an invalid one gives "".
func (t *Ticket) Text() string {
	if t.Validate() != nil {
		return ""
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddBytes(t.ID[:])
		b.AddBytes(t.Secret[:])
		b.AddBytes(t.Authority[:])
		addString(b, t.Region.String())
		addString(b, t.Issuer.String())
		b.AddUint8(uint8(len(t.Addresses)))
		for _, a := range t.Addresses {
			addString(b, a)
		}
		b.AddUint64(uint64(t.IssuedAt.Unix()))
		b.AddUint64(uint64(t.Expires.Unix()))
	})
	body := b.BytesOrPanic() // Validate has bounded every part
	body = binary.BigEndian.AppendUint32(body, checksum(body))
	return ticketPrefix + base64.RawURLEncoding.EncodeToString(body)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// ParseTicket reads the text of a ticket; space around it is ignored. The
// errors tell what to do: it is something else (ErrTicketPrefix), copy all of
// it (ErrTicketTruncated), copy it again (ErrTicketTypo), or ask for a new one
// (ErrTicketContent).
func ParseTicket(text string) (*Ticket, error) {
	body, err := unwrapTicket(strings.TrimSpace(text))
	if err != nil {
		return nil, err
	}
	t := new(Ticket)
	s := cryptobyte.String(body)
	var region, issuer string
	var count uint8
	var from, to uint64
	ok := s.CopyBytes(t.ID[:]) && s.CopyBytes(t.Secret[:]) && s.CopyBytes(t.Authority[:]) &&
		readString(&s, &region) && readString(&s, &issuer) && s.ReadUint8(&count) && count <= MaxTicketAddresses
	for i := 0; ok && i < int(count); i++ {
		var a string
		if ok = readString(&s, &a); ok {
			t.Addresses = append(t.Addresses, a)
		}
	}
	if !ok || !s.ReadUint64(&from) || !s.ReadUint64(&to) || !s.Empty() || from > math.MaxInt64 || to > math.MaxInt64 {
		return nil, fmt.Errorf("%w: its parts do not fit together; it was not made by farhop invite", ErrTicketContent)
	}
	t.IssuedAt, t.Expires = time.Unix(int64(from), 0).UTC(), time.Unix(int64(to), 0).UTC()
	if t.Region, err = addr.ParseRegion(region); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTicketContent, err)
	}
	if t.Issuer, err = addr.ParseNode(issuer); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTicketContent, err)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// unwrapTicket takes off prefix, base64, length and checksum.
func unwrapTicket(text string) ([]byte, error) {
	if len(text) > MaxTicketText {
		return nil, fmt.Errorf("%w: %d characters, limit %d", ErrTicketPrefix, len(text), MaxTicketText)
	}
	coded, ok := strings.CutPrefix(text, ticketPrefix)
	switch {
	case ok:
	case text != "" && strings.HasPrefix(ticketPrefix, text):
		return nil, fmt.Errorf("%w: it ends after %q", ErrTicketTruncated, text)
	case strings.HasPrefix(text, "farhop") && strings.Contains(clipTo(text, 12), "."):
		return nil, fmt.Errorf("%w that this version reads: it begins with %.12q, want %q; update this node", ErrTicketPrefix, text, ticketPrefix)
	default:
		return nil, fmt.Errorf("%w: it begins with %.12q, want %q", ErrTicketPrefix, text, ticketPrefix)
	}
	for i := range len(coded) {
		if !isBase64URL(coded[i]) {
			return nil, fmt.Errorf("%w: character %d is %q, want a-z A-Z 0-9 - _ in one line", ErrTicketTypo, len(ticketPrefix)+i+1, coded[i])
		}
	}
	// A cut may fall inside a group of four characters. What is before it still
	// decodes, and says how long the whole should be.
	head, _ := base64.RawURLEncoding.DecodeString(coded[:len(coded)/4*4])
	if len(head) < 2 {
		return nil, fmt.Errorf("%w: it ends after %d characters", ErrTicketTruncated, len(text))
	}
	length := int(binary.BigEndian.Uint16(head))
	if want := base64.RawURLEncoding.EncodedLen(length + ticketFrame); len(coded) < want {
		return nil, fmt.Errorf("%w: %d of %d characters; copy all of it", ErrTicketTruncated, len(text), len(ticketPrefix)+want)
	} else if len(coded) > want {
		return nil, fmt.Errorf("%w: %d characters too many", ErrTicketTypo, len(coded)-want)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(coded)
	if err != nil {
		return nil, fmt.Errorf("%w: its last character is wrong", ErrTicketTypo)
	}
	body, sum := data[:2+length], data[2+length:]
	if binary.BigEndian.Uint32(sum) != checksum(body) {
		return nil, fmt.Errorf("%w: its checksum does not match; copy it again, do not type it", ErrTicketTypo)
	}
	return body[2:], nil
}

func isBase64URL(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func clipTo(s string, n int) string { return s[:min(n, len(s))] }

func newTicketID() (id TicketID) {
	rand.Read(id[:])
	return id
}

// Proof shows that the maker of a request holds the ticket's secret, without
// showing the secret: any node of the mesh may carry a request to the issuer
// and cannot join in the newcomer's place.
type Proof [32]byte

// Prove ties the secret to one request.
func (s Secret) Prove(req *Request) Proof { return prove(sha256.Sum256(s[:]), req) }

func prove(secretHash Hash, req *Request) (p Proof) {
	mac := hmac.New(sha256.New, secretHash[:])
	mac.Write([]byte("farhop join v1\x00"))
	mac.Write(req.Encode())
	mac.Sum(p[:0])
	return p
}

func newSecret() (s Secret) {
	rand.Read(s[:])
	return s
}

// addString and readString carry a text of at most 255 bytes.
func addString(b *cryptobyte.Builder, s string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func readString(s *cryptobyte.String, out *string) bool {
	var v cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&v) {
		return false
	}
	*out = string(v)
	return true
}
