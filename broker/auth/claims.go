package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/farhop/farhop/routing/policy"
)

// Limits of what a token or an HTTP server says about a client.
const (
	maxAttributes = 32
	maxAttribute  = 256 // bytes of a key or a value
	maxGrants     = 64  // rules
)

// claims are those of a token, by the exact names of the JSON object: package
// json alone would take EXP for exp.
type claims map[string]json.RawMessage

func parseClaims(data []byte) (claims, error) {
	var c claims
	if err := json.Unmarshal(data, &c); err != nil || c == nil {
		return nil, errors.New("its claims are no JSON object")
	}
	return c, nil
}

// text returns a claim that is a string, "" if there is none.
func (c claims) text(name string) (string, error) {
	raw, ok := c[name]
	if !ok {
		return "", nil
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil || len(*s) > maxAttribute {
		return "", fmt.Errorf("claim %s is no string of at most %d bytes", name, maxAttribute)
	}
	return *s, nil
}

// list returns a claim that is a string or a list of strings.
func (c claims) list(name string) ([]string, error) {
	raw, ok := c[name]
	if !ok {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil && list != nil {
		return list, nil
	}
	s, err := c.text(name)
	if err != nil {
		return nil, fmt.Errorf("claim %s is neither a string nor a list of strings", name)
	}
	return []string{s}, nil
}

// time returns a claim that is a NumericDate (RFC 7519, 2): seconds since
// 1970, with a fraction perhaps.
func (c claims) time(name string) (time.Time, bool, error) {
	raw, ok := c[name]
	if !ok {
		return time.Time{}, false, nil
	}
	var v *float64
	if json.Unmarshal(raw, &v) != nil || v == nil || math.Abs(*v) > 1<<40 { // about 36,000 years
		return time.Time{}, false, fmt.Errorf("claim %s is no time in seconds since 1970", name)
	}
	sec, frac := math.Modf(*v)
	return time.Unix(int64(sec), int64(frac*1e9)), true, nil
}

// parseAttributes reads an object whose values are texts, numbers or booleans.
func parseAttributes(raw json.RawMessage) (map[string]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var values map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&values); err != nil {
		return nil, errors.New("want an object with a text for each attribute")
	}
	if len(values) > maxAttributes {
		return nil, fmt.Errorf("%d attributes, more than %d", len(values), maxAttributes)
	}
	out := make(map[string]string, len(values))
	for name, v := range values {
		var s string
		switch v := v.(type) {
		case string:
			s = v
		case json.Number:
			s = v.String()
		case bool:
			s = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("attribute %.80q is no text", name)
		}
		if name == "" || len(name) > maxAttribute || len(s) > maxAttribute || !utf8.ValidString(s) {
			return nil, fmt.Errorf("attribute %.80q: want 1 to %d bytes of name and at most %d of text", name, maxAttribute, maxAttribute)
		}
		out[name] = s
	}
	return out, nil
}

// grant is one rule about the client itself, as tokens and HTTP servers write
// it.
type grant struct {
	Action    policy.Action `json:"action"`
	Publish   []string      `json:"publish"`
	Subscribe []string      `json:"subscribe"`
}

// parseGrants compiles a list of grants, nil for none at all.
func parseGrants(raw json.RawMessage) (*policy.Access, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var list []grant
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("want a list of rules with action, publish and subscribe: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after the list of rules")
	}
	if len(list) == 0 { // would an empty list allow all, or nothing?
		return nil, errors.New("the list of rules is empty; leave it out, or deny \"#\"")
	}
	if len(list) > maxGrants {
		return nil, fmt.Errorf("%d rules, more than %d", len(list), maxGrants)
	}
	rules := make([]policy.AccessRule, len(list))
	for i, g := range list {
		rules[i] = policy.AccessRule{
			Name: fmt.Sprintf("own rule %d", i+1), Action: g.Action, From: []string{"*"},
			Publish: g.Publish, Subscribe: g.Subscribe,
		}
	}
	return policy.NewAccess(rules)
}
