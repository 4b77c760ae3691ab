package sim

import (
	"slices"
	"strings"

	"github.com/farhop/farhop/sim/oracle"
)

// fault is one that worlds find in the core and that is not mended yet.
type fault struct {
	law  oracle.Law
	text string // of the violation
	why  string
}

// knownFaults lists them. The laws stay as they are and say so in each run;
// an entry goes when its fault does. Nothing else that they say is excused.
func knownFaults() []fault {
	return []fault{
		{oracle.Quota, "that ended as damaged", "of a record that cannot be read nobody knows the accounts, so they keep it for ever"},
	}
}

// withoutKnown takes known faults out of a report and returns those it met,
// each once.
func withoutKnown(r *Report) (met []string) {
	r.Broken = slices.DeleteFunc(r.Broken, func(v oracle.Violation) bool {
		for _, k := range knownFaults() {
			if v.Law == k.law && strings.Contains(v.Text, k.text) {
				if r.broken--; !slices.Contains(met, k.why) {
					met = append(met, k.why)
				}
				return true
			}
		}
		return false
	})
	return met
}
