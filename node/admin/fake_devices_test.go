package admin

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/farhop/farhop/routing/addr"
)

func (f *fake) Sessions(_ context.Context, r SessionsRequest) (Sessions, error) {
	hour := int64(3600)
	s := Session{
		Client: "plc-7", Connected: true, Since: noon(), Remote: "192.0.2.7:50112", Listener: "tls", User: "plc", Names: []string{"plc-7.example"},
		Version: "5", KeepAliveS: 60, Persistent: true, ExpiryS: &hour, Subscriptions: 1, Queued: 3, Bytes: 42, InFlight: 2, Window: 32,
		Oldest: noon().Add(-time.Minute), Inbound: 1,
	}
	if r.Subscriptions {
		s.Filters = []Subscription{{Filter: "cmd/7/#", QoS: 1, NoLocal: true, RetainAsPublished: true, ID: 4}}
	}
	return Sessions{Now: noon(), More: true, Sessions: []Session{s, {Client: "$dtn", Since: noon(), Expires: noon(), Node: true}}}, f.err()
}

func (f *fake) KickSession(context.Context, SessionRequest) (Kicked, error) {
	return Kicked{Connected: true}, f.err()
}

func (f *fake) EndSession(context.Context, SessionRequest) (EndedSession, error) {
	return EndedSession{Found: true, Messages: 3, Bytes: 42}, f.err()
}

func (f *fake) Retained(_ context.Context, r RetainedRequest) (Retained, error) {
	m := RetainedMessage{
		Topic: "plant/1/state", State: "message", Stamp: "128", Published: noon(), Node: addr.MustNode("luna-1"), Expires: noon().Add(time.Hour), Size: 2,
	}
	if r.Values {
		m.Content = &Publication{Topic: m.Topic, QoS: 1, Retain: true, Payload: []byte("on")}
	}
	return Retained{Now: noon(), Messages: []RetainedMessage{m}, More: true}, f.err()
}

func (f *fake) RemoveRetained(context.Context, RetainedRequest) (RemovedRetained, error) {
	return RemovedRetained{Removed: 2, Failed: map[string]int{"store-full": 1}}, f.err()
}

func (f *fake) Tap(ctx context.Context, r TapRequest, tell func(TapEvent) error) error {
	if err := f.err(); err != nil {
		return err
	}
	if err := tell(TapEvent{At: noon(), Event: "open", Topic: r.Filter, Node: addr.MustNode("luna-1")}); err != nil {
		return err
	}
	if r.Count == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return tell(TapEvent{At: noon(), Event: "accepted", Reason: "ok", Topic: "plant/1", Client: "plc-7", QoS: 1, Size: 4, To: []string{"node earth-1"}, Live: 2, Lost: 1})
}

func (f *fake) Ping(_ context.Context, r PingRequest, tell func(PingEvent) error) error {
	if err := f.err(); err != nil {
		return err
	}
	return tell(PingEvent{At: noon(), Event: PingOpen, Node: r.Node, Class: "alarm", Path: &Way{Up: true, Hops: 1, NextHop: r.Node, Layer: "quic", PatienceMS: 2000}})
}

func (f *fake) Netcheck(_ context.Context, r NetcheckRequest, tell func(Netcheck) error) error {
	if err := f.err(); err != nil {
		return err
	}
	return tell(Netcheck{Address: r.Peers[0], UDP: NetcheckUDP{OK: true}})
}

func (f *fake) ExportBundles(_ context.Context, r ExportRequest, w io.Writer) error {
	if err := f.err(); err != nil {
		return err
	}
	_, err := io.WriteString(w, "file for "+r.To)
	return err
}

func (f *fake) ImportBundles(_ context.Context, file io.Reader) (Imported, error) {
	data, err := io.ReadAll(file)
	return Imported{Bundles: len(data), Refused: map[string]int{}}, errors.Join(err, f.err())
}

func (f *fake) ReleaseBundles(_ context.Context, file io.Reader) (HandedOver, error) {
	data, err := io.ReadAll(file)
	return HandedOver{Named: len(data)}, errors.Join(err, f.err())
}
