//go:build linux

package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

func waited() <-chan time.Time { return time.After(patience) }

// missing skips the test, or fails it where all must be there.
func missing(t *testing.T, what, how string) {
	t.Helper()
	if os.Getenv("FARHOP_E2E") == "require" {
		t.Fatalf("%s is missing: %s", what, how)
	}
	t.Skip("no client of its kind was tried: "+what+" is missing: ", how)
}

func brokerOnly(t *testing.T) *daemon {
	t.Helper()
	d := newDaemon(t, "alone")
	d.runArgs = []string{"--standalone", "--mqtt", d.mqtt, "--admin", d.admin}
	d.run()
	return d
}

// TestClients has clients of four libraries that share no line, in both
// versions, publish to each other with each QoS: every message comes once, in
// order, with its QoS.
func TestClients(t *testing.T) {
	d := brokerOnly(t)
	all := agents(t, d, 4, 5)
	for _, a := range all {
		a.connect(true, "")
		a.subscribe("m/#", 2)
	}
	const n = 40
	want := make(map[string][]string)
	for _, a := range all {
		for qos := range byte(3) {
			topic := fmt.Sprintf("m/%s/%d", a.name, qos)
			want[topic] = numbered(topic, n)
			a.publish(topic, qos, want[topic]...)
		}
	}
	for _, a := range all {
		until(t, text(a.name+" to have all"), func() bool { return len(a.received()) >= n*len(want) })
		for topic, sent := range want {
			if got := a.payloads(topic); !slices.Equal(got, sent) {
				t.Errorf("%s has of %s %.300q", a.name, topic, got)
			}
		}
		for _, e := range a.received() {
			if qos := e.Topic[len(e.Topic)-1] - '0'; e.QoS != qos || e.Retain {
				t.Fatalf("%s: %+v", a.name, e)
			}
		}
	}
}

// TestClientsSessions loses the connection of every client, and messages wait
// for it: they come with the session, once and in order.
func TestClientsSessions(t *testing.T) {
	d := brokerOnly(t)
	for _, a := range agents(t, d, 4, 5) {
		t.Run(a.name, func(t *testing.T) {
			a.t = t
			topic := "only/" + a.name
			a.connect(false, "")
			a.subscribe(topic, 2)
			a.back.kill()
			until(t, text("the connection to end"), func() bool { return d.status().MQTT.Clients == 0 })
			var sent []string
			for qos := range 3 {
				part := numbered(fmt.Sprint("q", qos), 50*qos)
				sent = append(sent, part...)
				publish(d, topic, qos, part...)
			}
			if !a.connect(false, "") {
				t.Error("no session was there")
			}
			until(t, text("what waited"), func() bool { return len(a.received()) >= len(sent) })
			publish(d, topic, 2, "last")
			until(t, text("the last"), func() bool { return len(a.received()) > len(sent) })
			if got := a.payloads(""); !slices.Equal(got, append(sent, "last")) {
				t.Errorf("%.500q", got)
			}
			a.do(order{Do: "disconnect"})
			a.back.kill()
			until(t, text("the connection to end"), func() bool { return d.status().MQTT.Clients == 0 })
		})
	}
}

// TestClientsWills kills each client; another hears of it once.
func TestClientsWills(t *testing.T) {
	d := brokerOnly(t)
	watch := mosquitto(t, "mosquitto_sub", d, nil, "-i", "watch", "-t", "will/#", "-q", "1")
	d.knowsOwn("will/#")
	var want []string
	for _, a := range agents(t, d, 4, 5) {
		before := d.status().MQTT.Clients
		a.connect(true, "will/"+a.name)
		a.subscribe("x", 1)
		a.back.kill()
		want = append(want, "gone")
		until(t, text("the will of "+a.name), func() bool { return len(watch.lines()) >= len(want) })
		until(t, text("the end"), func() bool { return d.status().MQTT.Clients == before })
	}
	if got := watch.lines(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestClientsRequests has every MQTT 5 client ask every other: the question
// arrives with its properties, and so does the answer.
func TestClientsRequests(t *testing.T) {
	d := brokerOnly(t)
	all := agents(t, d, 5)
	for _, a := range all {
		a.connect(true, "")
		a.subscribe("to/"+a.name+"/#", 1)
	}
	user := [][2]string{{"kind", "test"}, {"unit", "°C"}}
	for _, from := range all {
		for _, to := range all {
			if from == to {
				continue
			}
			question := order{Do: "publish", Topic: "to/" + to.name + "/" + from.name, QoS: 1, Payloads: []string{"?"}, Response: "to/" + from.name + "/answer", Correlation: "c-" + to.name, User: user}
			asked := len(to.received())
			from.do(question)
			until(t, text("the question at "+to.name), func() bool { return len(to.received()) > asked })
			q := to.received()[asked]
			if q.Response != question.Response || q.Correlation != question.Correlation || !slices.Equal(q.User, user) || q.Topic != question.Topic {
				t.Errorf("%s asked %s: %+v", from.name, to.name, q)
			}
			answered := len(from.received())
			to.do(order{Do: "publish", Topic: q.Response, QoS: 1, Payloads: []string{"!"}, Correlation: q.Correlation})
			until(t, text("the answer at "+from.name), func() bool { return len(from.received()) > answered })
			if e := from.received()[answered]; e.Correlation != "c-"+to.name || e.Payload != "!" {
				t.Errorf("%s answered %s: %+v", to.name, from.name, e)
			}
		}
	}
}

// TestClientsShare has all clients share the work of one group: each message
// goes to one of them, and none goes without.
func TestClientsShare(t *testing.T) {
	d := brokerOnly(t)
	all := agents(t, d, 4, 5)
	for _, a := range all {
		a.connect(true, "")
		a.subscribe("$share/crew/job/#", 1)
	}
	sent := numbered("job", 40*len(all))
	publish(d, "job/1", 1, sent...)
	count := func() (n int) {
		for _, a := range all {
			n += len(a.received())
		}
		return n
	}
	until(t, text("every job to be taken"), func() bool { return count() >= len(sent) })
	var got []string
	for _, a := range all {
		if part := a.payloads(""); len(part) == 0 {
			t.Errorf("%s has nothing to do", a.name)
		} else if !slices.IsSorted(part) {
			t.Errorf("%s has its jobs out of order: %q", a.name, part)
		} else {
			got = append(got, part...)
		}
	}
	if slices.Sort(got); !slices.Equal(got, sent) {
		t.Errorf("%d jobs of %d were taken", len(got), len(sent))
	}
}
