package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/farhop/farhop/node/core"
)

// silence is one that the core noticed, and when.
type silence struct {
	at time.Time
	core.Silence
}

// logSilences says which peers fell silent, and which are heard again, until
// ctx ends. It is not the loop's business: a log may be a file, whose disk may
// be busy just then, and everything that goes another way waits for the loop.
func (l *loop) logSilences(ctx context.Context) {
	l.silences.each(ctx, func(s silence) {
		level, text := slog.LevelInfo, "a silent link carries again"
		if !s.Over {
			level, text = slog.LevelWarn, "a link fell silent; what it would carry goes another way where there is one"
		}
		if !l.log.Enabled(ctx, level) {
			return
		}
		r := slog.NewRecord(s.at, level, text, 0)
		r.Add("peer", s.Node, "link", s.Link)
		if after := time.Duration(s.For) * time.Millisecond; s.Over {
			r.Add("silent", after)
		} else {
			r.Add("heard", after, "rtt_ms", s.RTT, "slowest_ms", s.Slowest)
		}
		_ = l.log.Handler().Handle(ctx, r) // as slog does: a log that fails is nobody's error
	})
}
