//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// retain publishes a retained message; "" deletes it.
func retain(d *daemon, topic string, qos int, message string) {
	d.t.Helper()
	args := []string{"-r", "-t", topic, "-q", fmt.Sprint(qos), "-m", message}
	if message == "" {
		args = append(args[:5], "-n")
	}
	mosquitto(d.t, "mosquitto_pub", d, nil, args...).done()
}

// retained is what a device that subscribes now gets at once.
func retained(d *daemon, filter string) []string {
	d.t.Helper()
	c := mosquitto(d.t, "mosquitto_sub", d, nil, "--retained-only", "-W", "1", "-t", filter, "-F", "%t=%p")
	<-c.ended
	got := c.lines()
	slices.Sort(got)
	return got
}

// agrees waits until a node has just these retained messages.
func agrees(d *daemon, filter string, want ...string) {
	d.t.Helper()
	var got []string
	until(d.t, func() string { return fmt.Sprintf("%s to have %v, has %v", d.name, want, got) }, func() bool {
		got = retained(d, filter)
		return slices.Equal(got, want)
	})
}

// TestRetained: retained messages reach who subscribes late, at another node;
// what was deleted and replaced on both sides of a partition is so on both
// sides when it is over, and after a restart.
func TestRetained(t *testing.T) {
	m := newMesh(t)
	for i, v := range []string{"one", "two", "three", "four"} {
		retain(m.luna, fmt.Sprintf("plant/%d", i+1), 1, v)
	}
	retain(m.luna, "other/1", 1, "unwanted")
	retain(m.luna, "plant/5", 0, "short")
	retain(m.luna, "plant/5", 1, "")

	// A device that waits gets them as they come, as retained.
	all := []string{"plant/1=one", "plant/2=two", "plant/3=three", "plant/4=four"}
	late := mosquitto(t, "mosquitto_sub", m.earth, nil, "-c", "-i", "late", "-q", "1", "-t", "plant/#", "-F", "%r %t=%p")
	until(t, func() string { return fmt.Sprintf("4 messages for the late device, has %v", late.lines()) }, func() bool { return len(late.lines()) >= 4 })
	got := late.lines()
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], "1 ")
	}
	if slices.Sort(got); !slices.Equal(got, all) {
		t.Errorf("the late device got %v, want %v, as retained", got, all)
	}
	agrees(m.earth, "plant/#", all...)

	m.toLuna.Cut(true)
	retain(m.earth, "plant/1", 1, "")
	retain(m.earth, "plant/2", 1, "of earth")
	retain(m.luna, "plant/2", 1, "of luna, later")
	retain(m.luna, "plant/3", 1, "of luna")
	retain(m.earth, "plant/3", 1, "")
	retain(m.luna, "plant/4", 1, "")
	agrees(m.earth, "plant/#", "plant/2=of earth", "plant/4=four")
	m.earth.kill()
	m.earth.run()
	m.toLuna.Cut(false)

	want := []string{"plant/2=of luna, later"}
	agrees(m.earth, "plant/#", want...)
	agrees(m.luna, "plant/#", want...)
	agrees(m.relay, "plant/#", want...) // nobody wanted them there before
	agrees(m.relay, "other/+", "other/1=unwanted")
	for _, d := range []*daemon{m.earth, m.luna, m.relay} {
		if d.logged("level=ERROR") || d.logged("panic") {
			t.Errorf("%s has errors in its log:\n%s", d.name, tail(d.logs, 40))
		}
	}
}
