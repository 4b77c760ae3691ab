package pki

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

func sampleTicket() *Ticket {
	return &Ticket{
		ID:        TicketID{1, 2, 3},
		Secret:    Secret{4, 5, 6},
		Authority: Hash{7, 8, 9},
		Region:    addr.MustRegion("luna/south"),
		Issuer:    addr.MustNode("gw-1"),
		Addresses: []string{"gw.example.org:7330", "[2001:db8::1]:7330", "192.0.2.7:7331"},
		IssuedAt:  start(),
		Expires:   start().Add(DefaultLife),
	}
}

func TestTicketRoundTrip(t *testing.T) {
	want := sampleTicket()
	text := want.Text()
	if !strings.HasPrefix(text, "farhop1.") || strings.ContainsAny(text, " =+/\n") {
		t.Errorf("text = %s", text)
	}
	for _, s := range []string{text, "  " + text + "\r\n"} {
		got, err := ParseTicket(s)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ParseTicket = %+v, %v", got, err)
		}
	}
	if want.Expired(start()) || !want.Expired(start().Add(DefaultLife+time.Second)) {
		t.Error("Expired is wrong")
	}
}

func TestTicketHidesItsSecret(t *testing.T) {
	tk := sampleTicket()
	for _, verb := range []string{"%v", "%+v", "%s", "%x", "%d", "%#v"} {
		out := fmt.Sprintf(verb+" "+verb, tk, tk.Secret)
		if strings.Contains(out, "4 5 6") || strings.Contains(out, "040506") || strings.Contains(out, "0x4, 0x5") {
			t.Errorf("%s prints the secret: %s", verb, out)
		}
	}
}

func TestParseTicketTellsWhatIsWrong(t *testing.T) {
	text := sampleTicket().Text()
	swap := func(i int, c byte) string {
		b := []byte(text)
		if b[i] == c {
			c++
		}
		b[i] = c
		return string(b)
	}
	for _, c := range []struct {
		name, text string
		want       error
		says       string
	}{
		{"empty", "", ErrTicketPrefix, "begins with"},
		{"a topic", "plant/1/temp", ErrTicketPrefix, `want "farhop1."`},
		{"a later version", "farhop9." + text[8:], ErrTicketPrefix, "update this node"},
		{"huge", text + strings.Repeat("A", MaxTicketText), ErrTicketPrefix, "limit"},
		{"half a prefix", "farhop1", ErrTicketTruncated, "ends after"},
		{"prefix alone", "farhop1.", ErrTicketTruncated, "ends after"},
		{"half", text[:len(text)/2], ErrTicketTruncated, "copy all of it"},
		{"last character lost", text[:len(text)-1], ErrTicketTruncated, fmt.Sprintf("%d of %d characters", len(text)-1, len(text))},
		{"one character more", text + "A", ErrTicketTypo, "too many"},
		{"two tickets", text + text[8:], ErrTicketTypo, "too many"},
		{"wrong letter", swap(60, 'Q'), ErrTicketTypo, "checksum"},
		{"wrong letter in the secret", swap(40, 'Q'), ErrTicketTypo, "checksum"},
		{"space inside", text[:50] + " " + text[50:], ErrTicketTypo, "character 51"},
		{"line break inside", text[:50] + "\n" + text[50:], ErrTicketTypo, "character 51"},
		{"quote kept", text + `"`, ErrTicketTypo, "in one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseTicket(c.text)
			if !errors.Is(err, c.want) {
				t.Fatalf("error = %v, want %v", err, c.want)
			}
			mentions(t, err, c.says)
			if len(err.Error()) > 300 {
				t.Errorf("error of %d characters", len(err.Error()))
			}
		})
	}
}

// reseal makes a ticket text of any body: a forgery with a right checksum.
func reseal(body []byte) string {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(body)))
	b = append(b, body...)
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	return ticketPrefix + base64.RawURLEncoding.EncodeToString(b)
}

func TestForgedTicketForms(t *testing.T) {
	good, err := unwrapTicket(sampleTicket().Text())
	if err != nil {
		t.Fatal(err)
	}
	end := len(good) - 8
	for _, c := range []struct {
		name string
		body []byte
		says string
	}{
		{"empty", nil, "fit together"},
		{"a byte more", append(slices.Clip(good), 0), "fit together"},
		{"a byte less", good[:len(good)-1], "fit together"},
		{"no addresses", append(good[:80+11+5:80+11+5], append([]byte{0}, good[len(good)-16:]...)...), "0 addresses"},
		{"expires before it begins", append(good[:end:end], make([]byte, 8)...), "valid from"},
		{"expires never", append(good[:end:end], 255, 255, 255, 255, 255, 255, 255, 255), "fit together"},
		{"bad region", append(good[:81:81], append([]byte("LUNA"), good[85:]...)...), "region"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseTicket(reseal(c.body))
			if !errors.Is(err, ErrTicketContent) {
				t.Fatalf("error = %v, want ErrTicketContent", err)
			}
			mentions(t, err, c.says)
		})
	}
}

func TestTicketValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Ticket)
		says   string
	}{
		{"no region", func(t *Ticket) { t.Region = addr.Region{} }, "no region"},
		{"no issuer", func(t *Ticket) { t.Issuer = addr.Node{} }, "no issuer"},
		{"no address", func(t *Ticket) { t.Addresses = nil }, "0 addresses"},
		{"nine addresses", func(t *Ticket) { t.Addresses = make([]string, 9) }, "9 addresses"},
		{"no port", func(t *Ticket) { t.Addresses = []string{"gw-1"} }, "host:port"},
		{"port 0", func(t *Ticket) { t.Addresses = []string{"gw-1:0"} }, "port from 1"},
		{"named port", func(t *Ticket) { t.Addresses = []string{"gw-1:mqtt"} }, "port from 1"},
		{"no host", func(t *Ticket) { t.Addresses = []string{":7330"} }, "want a host"},
		{"control character", func(t *Ticket) { t.Addresses = []string{"a\x1b[2J:1"} }, "address"},
		{"long address", func(t *Ticket) { t.Addresses = []string{strings.Repeat("h", 255) + ":1"} }, "host:port"},
		{"no time", func(t *Ticket) { t.Expires = t.IssuedAt }, "valid from"},
		{"part of a second", func(t *Ticket) { t.Expires = t.Expires.Add(1) }, "valid from"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tk := sampleTicket()
			c.change(tk)
			err := tk.Validate()
			if !errors.Is(err, ErrTicketContent) || tk.Text() != "" {
				t.Fatalf("error = %v, text %q", err, tk.Text())
			}
			mentions(t, err, c.says)
		})
	}
}

func FuzzParseTicket(f *testing.F) {
	tk := sampleTicket()
	f.Add(tk.Text())
	f.Add(tk.Text()[:30])
	f.Add("farhop1.")
	f.Add(reseal([]byte("nonsense")))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTicket(text)
		if err != nil {
			return
		}
		if got.Text() != strings.TrimSpace(text) {
			t.Errorf("two texts of one ticket: %q, %q", got.Text(), text)
		}
	})
}

// FuzzTicketBody gets past the checksum, which FuzzParseTicket rarely does.
func FuzzTicketBody(f *testing.F) {
	body, err := unwrapTicket(sampleTicket().Text())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 3000 {
			return
		}
		text := reseal(body)
		if got, err := ParseTicket(text); err == nil && got.Text() != text {
			t.Errorf("two texts of one ticket: %q, %q", got.Text(), text)
		}
	})
}
