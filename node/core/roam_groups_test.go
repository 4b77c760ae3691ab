package core_test

import (
	"strings"
	"testing"
)

// apart is a mesh of two nodes where clients connect, and one between them.
const apart = `
	node a
	node b
	node p
	link p a delay=5ms
	link p b delay=5ms
	connect a dev
`

// TestRoamWithFilterAndGroup: what a session got for a filter of its own and
// for a group stays its own where it is next.
func TestRoamWithFilterAndGroup(t *testing.T) {
	e := newEnv()
	e.script(apart + `
		subscribe a dev plant/# qos=1 id=7
		subscribe a dev $share/g/plant/# qos=1 id=8
		tick 1s
		disconnect a dev expiry=1000000
		tick 1s
		publish p plant/1 m
		tick 1s
	`)
	e.do("connect b dev")
	if out := e.do("tick 5s"); !strings.Contains(out, "b delivers m to dev qos=1 packet=28693 ids=[7 8]") {
		t.Errorf("want the identifiers of both filters:\n%s", out)
	}
	e.script(`
		disconnect b dev expiry=1000000
		connect b other clean auto
		subscribe b other $share/g/plant/# qos=1
		tick 5s
	`)
	e.do("connect b dev")
	if out := e.do("tick 5s"); !strings.Contains(out, "b delivers m to dev") {
		t.Errorf("want that it is still there:\n%s", out)
	}
}

// TestRoamInVainForAGroup: what follows a session that is over was for its
// group, which has other members.
func TestRoamInVainForAGroup(t *testing.T) {
	e := newEnv()
	e.script(apart + `
		subscribe a dev $share/g/plant/# qos=1
		tick 1s
		disconnect a dev expiry=1000000
		tick 1s
		publish p plant/1 m
		tick 1s
		connect b dev
	`)
	out := ""
	for range 40 { // until the message has set out
		if out = e.do("tick 1ms"); strings.Contains(out, "a -> p transfer telemetry") {
			break
		}
	}
	e.script(`
		connect b dev clean
		connect a other clean auto
		subscribe a other $share/g/plant/# qos=1
	`)
	if out += e.do("tick 30s"); !strings.Contains(out, "a delivers m to other") {
		t.Errorf("want that the other member gets it:\n%s", out)
	}
}
