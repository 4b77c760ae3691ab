package desc

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxPoints bounds a table of delays.
const MaxPoints = 10_000

// Delays is a light time that varies, such as that of a moving relay: straight
// lines between points. Before the first point the delay is the first one's,
// after the last it is the last one's, or the table begins again.
type Delays struct {
	Points []DelayPoint
	Repeat bool // begin again at the last point's At
}

// DelayPoint is the delay at one time.
type DelayPoint struct {
	At    time.Duration // since the opening of the link
	Delay time.Duration
}

// Validate reports what is wrong with the table; an empty one is in order.
func (d Delays) Validate() error {
	n := len(d.Points)
	if n > MaxPoints {
		return fmt.Errorf("%d points; a table has at most %d", n, MaxPoints)
	}
	for i, p := range d.Points {
		switch {
		case p.Delay < 0 || p.Delay > MaxDelay:
			return fmt.Errorf("point %d: delay %v is not between 0 and %v", i, p.Delay, MaxDelay)
		case p.At < 0:
			return fmt.Errorf("point %d: at %v is negative", i, p.At)
		case i > 0 && p.At <= d.Points[i-1].At:
			return fmt.Errorf("point %d: at %v does not come after %v", i, p.At, d.Points[i-1].At)
		}
	}
	if d.Repeat && (n == 0 || d.Points[n-1].At == 0) {
		return errors.New("to repeat, a table needs a last point later than 0s")
	}
	return nil
}

// At is the delay at t, which counts like the points. The table is valid and
// not empty.
func (d Delays) At(t time.Duration) time.Duration {
	last := d.Points[len(d.Points)-1]
	if d.Repeat && t > last.At {
		t %= last.At
	}
	i, _ := slices.BinarySearchFunc(d.Points, t, func(p DelayPoint, t time.Duration) int {
		if p.At <= t { // the first point behind t
			return -1
		}
		return 1
	})
	switch {
	case i == 0:
		return d.Points[0].Delay
	case i == len(d.Points):
		return last.Delay
	}
	a, b := d.Points[i-1], d.Points[i]
	share := float64(t-a.At) / float64(b.At-a.At)
	return a.Delay + time.Duration(share*float64(b.Delay-a.Delay))
}

// String is the range for people: "1.2s to 1.4s".
func (d Delays) String() string {
	if len(d.Points) == 0 {
		return "none"
	}
	byDelay := func(a, b DelayPoint) int { return int(a.Delay - b.Delay) }
	least, most := slices.MinFunc(d.Points, byDelay), slices.MaxFunc(d.Points, byDelay)
	return shortDuration(least.Delay) + " to " + shortDuration(most.Delay)
}
