package auth

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestDocument reads every example of docs/auth.md.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/auth.md")
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]func(*testing.T, []byte){
		"yaml config": documentConfig,
		"passwords": func(t *testing.T, b []byte) {
			p, err := parsePasswords("doc", b)
			if err != nil {
				t.Fatal(err)
			}
			for user, password := range map[string]string{"alice": "secret", "plc-7": "password"} {
				if h := p.users[user]; !h.matches([]byte(password)) {
					t.Errorf("%s has another password", user)
				}
			}
		},
		"json claims": documentClaims,
		"json question": func(t *testing.T, b []byte) {
			dec := json.NewDecoder(bytes.NewReader(b))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&question{}); err != nil {
				t.Error(err)
			}
		},
		"json enhanced question": func(t *testing.T, b []byte) {
			var q question
			dec := json.NewDecoder(bytes.NewReader(b))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&q); err != nil || string(q.Data) != "proof" {
				t.Errorf("%+v, %v", q, err)
			}
		},
		"json enhanced answer": func(t *testing.T, b []byte) {
			if a, err := parseAnswer(b, true); err != nil || string(a.data) != "challenge" || a.state == "" {
				t.Errorf("%+v, %v", a, err)
			}
		},
		"json answer": func(t *testing.T, b []byte) {
			if a, err := parseAnswer(b, false); err != nil || a.rules.Len() != 1 || a.attributes["site"] != "hall-3" {
				t.Errorf("%+v, %v", a, err)
			}
		},
		"acl": func(t *testing.T, b []byte) {
			if rules, err := parseACL("doc", b); err != nil || len(rules) != 5 {
				t.Errorf("%d rules, %v", len(rules), err)
			}
		},
	}
	for _, m := range regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$").FindAllSubmatch(doc, -1) {
		kind := string(m[1])
		if read[kind] == nil {
			t.Errorf("an example of kind %q, which no test reads", kind)
			continue
		}
		t.Run(kind, func(t *testing.T) { read[kind](t, m[2]) })
		delete(read, kind)
	}
	for kind := range read {
		t.Errorf("no example of kind %q", kind)
	}
}

func documentConfig(t *testing.T, b []byte) {
	var tree any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var c Config
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil || len(c.Access) != 2 {
		t.Errorf("%d rules, %v", len(c.Access), err)
	}
}

func documentClaims(t *testing.T, b []byte) {
	c, err := parseClaims(b)
	if err != nil {
		t.Fatal(err)
	}
	tokens := tokens{cfg: JWT{Issuer: "https://id.acme.example", Audience: "mqtt", ClientClaim: "devices"}, now: newFixture(t).clock}
	if _, err := tokens.checkTimes(c); err != nil {
		t.Error(err)
	}
	if err := tokens.checkParties(c); err != nil {
		t.Error(err)
	}
	if err := tokens.checkClient(c, "tablet-2"); err != nil {
		t.Error(err)
	}
	attr, err := parseAttributes(c["attr"])
	if err != nil || attr["shift"] != "2" {
		t.Errorf("%v, %v", attr, err)
	}
	if rules, err := parseGrants(c["acl"]); err != nil || rules.Len() != 2 {
		t.Errorf("%v", err)
	}
}
