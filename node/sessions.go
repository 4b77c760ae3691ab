package node

import (
	"cmp"
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/farhop/farhop/node/admin"
	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
	"github.com/farhop/farhop/storeforward/store"
)

// What an operator does with MQTT sessions. The core knows all of them, the
// broker those that are connected.

// Sessions implements admin.Backend.
func (b backend) Sessions(ctx context.Context, r admin.SessionsRequest) (admin.Sessions, error) {
	if r.Limit < 0 || r.Limit > admin.MaxSessions {
		return admin.Sessions{}, admin.Invalid("ask again with after, for those behind", "limit %d: want 1 to %d", r.Limit, admin.MaxSessions)
	}
	limit := cmp.Or(r.Limit, admin.MaxSessions)
	var views []core.SessionView
	more := false
	err := b.n.loop.call(ctx, func(_ time.Time, c *core.Core) {
		if r.Exact {
			if v, ok := c.Session(r.Client); ok {
				views = append(views, v)
			}
			return
		}
		views, more = c.Sessions(func(client string) bool { return r.Client == "" || globs(r.Client, client) }, r.After, limit)
	})
	if err != nil { // the loop may still write them
		return admin.Sessions{}, err
	}
	out := admin.Sessions{Now: b.n.loop.clock.now().UTC(), More: more}
	for i := range views {
		s, err := b.session(&views[i])
		if err != nil {
			return admin.Sessions{}, err
		}
		if r.Subscriptions {
			for _, sub := range views[i].Subscriptions {
				s.Filters = append(s.Filters, admin.Subscription{
					Filter: sub.Filter, QoS: int(sub.QoS), NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished, ID: sub.ID,
				})
			}
		}
		out.Sessions = append(out.Sessions, s)
	}
	return out, nil
}

// session puts together what core, broker and store know.
func (b backend) session(v *core.SessionView) (admin.Session, error) {
	s := admin.Session{
		Client: v.Client, Connected: v.Conn != 0, Since: utc(v.Since), Persistent: v.Durable, Subscriptions: len(v.Subscriptions),
		Queued: v.Queued, Bytes: v.Bytes, InFlight: v.InFlight, Window: v.Window, Inbound: v.Inbound, Node: v.Client == exportClient,
	}
	if v.Durable && v.Expiry != core.NeverExpires {
		seconds := int64(v.Expiry)
		s.ExpiryS = &seconds
	}
	if v.Ends != 0 {
		s.Expires = utc(v.Ends)
	}
	if !v.At.IsZero() {
		s.At = v.At.String()
	}
	if c, ok := b.n.broker.Connection(v.Client); ok && c.Conn == v.Conn {
		s.Remote, s.Listener, s.User, s.Names, s.Version = c.Remote, c.Transport, c.User, c.Names, c.Version
		s.KeepAliveS = int64(c.KeepAlive / time.Second)
		s.Queued, s.Bytes, s.InFlight = s.Queued+c.Queued+c.InFlight, s.Bytes+int64(c.Bytes), s.InFlight+c.InFlight
	}
	oldest, err := v.Oldest, error(nil)
	if v.Queued > 0 && oldest == 0 { // it is not in a window
		oldest, err = b.oldestOf(v.Client)
	}
	if oldest != 0 {
		s.Oldest = utc(oldest)
	}
	return s, err
}

// oldestOf reads when the oldest message of a session arrived, 0 for none.
func (b backend) oldestOf(client string) (oldest int64, err error) {
	for class := range bundle.Class(bundle.NumClasses) {
		items, err := b.n.store.Scan(store.Queue{Kind: store.ToSession, Name: client, Class: class}, 0, 1)
		if err != nil {
			return 0, err
		}
		if len(items) > 0 && !items[0].Damaged && (oldest == 0 || items[0].Header.Received < oldest) {
			oldest = items[0].Header.Received
		}
	}
	return oldest, nil
}

// KickSession implements admin.Backend.
func (b backend) KickSession(ctx context.Context, r admin.SessionRequest) (admin.Kicked, error) {
	if r.Client == "" {
		return admin.Kicked{}, admin.Invalid("farhop sessions", "no client is named")
	}
	was, err := b.n.broker.Kick(ctx, r.Client, nil)
	if was {
		b.n.log.Info("a client was disconnected by an operator", "client", r.Client)
	}
	return admin.Kicked{Connected: was}, err
}

// EndSession implements admin.Backend.
func (b backend) EndSession(ctx context.Context, r admin.SessionRequest) (out admin.EndedSession, err error) {
	switch r.Client {
	case "":
		return out, admin.Invalid("farhop sessions", "no client is named")
	case exportClient:
		return out, admin.NotHere("remove the exports from farhop.yaml and start the node again", "%s is the node's own, for what it exports", exportClient)
	}
	list, err := b.Sessions(ctx, admin.SessionsRequest{Client: r.Client, Exact: true})
	if err != nil || len(list.Sessions) == 0 {
		return out, err
	}
	s := list.Sessions[0]
	out = admin.EndedSession{Found: true, Connected: s.Connected, Messages: s.Queued, Bytes: s.Bytes}
	if r.DryRun {
		return out, nil
	}
	_, err = b.n.broker.Kick(ctx, r.Client, func() error {
		reply, err := b.n.loop.ask(ctx, func(now time.Time, c *core.Core, token uint64) { c.EndSession(now, token, r.Client) })
		return reasonErr(reply, err)
	})
	if err != nil {
		return admin.EndedSession{}, err
	}
	b.n.log.Info("a session was ended by an operator", "client", r.Client, "count", out.Messages)
	return out, nil
}

// globs reports whether a text is as a pattern says: * is any text, ? any one
// character. It needs no more than the product of the lengths.
func globs(pattern, text string) bool {
	star, from := -1, 0 // the last * and where what follows it was tried
	p, t := 0, 0
	for t < len(text) {
		_, width := utf8.DecodeRuneInString(text[t:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			t += width
		case strings.HasPrefix(pattern[p:], text[t:t+width]):
			p += width
			t += width
		case star >= 0: // * takes one more
			_, width = utf8.DecodeRuneInString(text[from:])
			from += width
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
