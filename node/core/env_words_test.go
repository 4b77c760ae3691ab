package core_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/farhop/farhop/node/core"
	"github.com/farhop/farhop/storeforward/bundle"
)

// runWords notes the words that publishers are to hear, and shows the states of
// regions.
func (n *enode) runWords(eff *core.Effects) {
	for _, w := range eff.Words {
		n.e.printf("%s says %s", n.name, n.e.wordText(w))
		if n.e.onWord != nil {
			n.e.onWord(n, w)
		}
		n.words = append(n.words, w)
	}
	for _, r := range eff.Regions {
		if !n.e.show["regions"] {
			continue
		}
		text := fmt.Sprintf("%s sees %s %s, %d of %d nodes", n.name, r.Region, r.Reach, r.Up, r.Known)
		if r.Gone {
			text = fmt.Sprintf("%s sees %s no more", n.name, r.Region)
		}
		if !r.Gone {
			text += fmt.Sprintf(", since %s", time.UnixMilli(r.Since).Sub(epoch))
		}
		if r.Next != 0 {
			text += fmt.Sprintf(", opens at %s", time.UnixMilli(r.Next).Sub(epoch))
		}
		n.e.printf("%s", text)
	}
}

func (e *env) wordText(w core.Word) string {
	if w.Answer {
		return fmt.Sprintf("no responder for %s to %s at %s: %s", e.label(w.Message), w.Client, w.Topic, w.Reason)
	}
	text := fmt.Sprintf("%s %s in %s to %s at %s", e.label(w.Message), w.State, w.Region, w.Client, w.Topic)
	text += fmt.Sprintf(" (%d delivered, %d expired, %d refused", w.Delivered, w.Expired, w.Refused)
	if w.Reason != bundle.OK {
		text += ", " + w.Reason.String()
	}
	if !w.Node.IsZero() {
		text += ", by " + w.Node.String()
	}
	if w.Last {
		text += ", the last"
	}
	return text + ")"
}

// tellWords submits what runWords noted, as the driver does.
func (n *enode) tellWords() bool {
	words := n.words
	n.words = nil
	for _, w := range words {
		label := fmt.Sprintf("word:%s:%s", n.e.label(w.Message), strings.ReplaceAll(w.Region.String(), "/", "."))
		if w.Answer {
			label = "answer:" + n.e.label(w.Message)
		}
		n.core.Submit(n.now(), []core.Submission{{
			Topic: w.Topic, Service: core.ServiceMQTT, Class: bundle.Interactive, QoS: 1, Own: w.Client, Word: &w, Blob: blob(label, w.Topic, 0),
		}})
		n.pump()
	}
	return len(words) > 0
}
