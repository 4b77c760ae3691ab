package auth

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/farhop/farhop/routing/policy"
)

const maxACLFile = 16 << 20 // bytes

// parseACL reads a file in the style that mosquitto made known:
//
//	# lines before the first user: for clients without a user name
//	topic read public/#
//	user alice
//	topic readwrite home/#
//	topic deny home/safe
//	# for every client, wherever it stands: %c is its id, %u its user name
//	pattern write dev/%c/state
//
// read is to subscribe, write to publish; readwrite is the default. Each line
// becomes one rule, called by file and line. A ${attr.NAME} in a filter works
// as in other rules. name is used in errors and for the names of the rules.
func parseACL(name string, data []byte) ([]policy.AccessRule, error) {
	var rules []policy.AccessRule
	from, line := "user:", 0
	for text := range bytes.Lines(data) {
		line++
		s := strings.TrimSpace(string(text))
		if s == "" || s[0] == '#' {
			continue
		}
		at := fmt.Sprintf("%s:%d", name, line)
		word, rest := cutWord(s)
		if word == "user" {
			if rest == "" || strings.Contains(rest, "*") {
				return nil, fmt.Errorf("%s: want user NAME, one name without '*'; use pattern lines for every user", at)
			}
			from = "user:" + rest
			continue
		}
		r, err := parseACLLine(word, rest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		if r.Name, r.From = at, []string{from}; word == "pattern" {
			r.From[0] = "*"
		}
		if faults := policy.CheckAccess([]policy.AccessRule{r}); len(faults) > 0 {
			return nil, fmt.Errorf("%s: %s", at, faults[0].Problem)
		}
		if rules = append(rules, r); len(rules) > policy.MaxAccessRules {
			return nil, fmt.Errorf("%s: more than %d rules; use pattern lines", at, policy.MaxAccessRules)
		}
	}
	return rules, nil
}

// parseACLLine reads what follows topic or pattern: ACCESS FILTER, or FILTER.
// A filter may have spaces; then ACCESS has to be there.
func parseACLLine(word, rest string) (policy.AccessRule, error) {
	r := policy.AccessRule{Action: policy.Allow}
	if word != "topic" && word != "pattern" {
		return r, fmt.Errorf("starts with %.40q; want user NAME, topic [read|write|readwrite|deny] FILTER, or pattern likewise", word)
	}
	access, filter := cutWord(rest)
	if filter == "" {
		switch access {
		case "read", "write", "readwrite", "deny", "":
			return r, fmt.Errorf("has no filter; want %s [read|write|readwrite|deny] FILTER", word)
		}
		access, filter = "readwrite", access
	}
	if word == "pattern" {
		filter = strings.NewReplacer("%c", "${client.id}", "%u", "${user}").Replace(filter)
	}
	switch access {
	case "read":
		r.Subscribe = []string{filter}
	case "write":
		r.Publish = []string{filter}
	case "readwrite":
		r.Publish, r.Subscribe = []string{filter}, []string{filter}
	case "deny":
		r.Action, r.Publish, r.Subscribe = policy.Deny, []string{filter}, []string{filter}
	default:
		return r, fmt.Errorf("unknown access %.40q; want read, write, readwrite or deny, also where the filter has spaces", access)
	}
	return r, nil
}

// cutWord cuts the first word off.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}
