package scenario

import (
	"fmt"

	"github.com/farhop/farhop/routing/addr"
	"github.com/farhop/farhop/routing/policy"
	"github.com/farhop/farhop/storeforward/bundle"
)

// Quota is a policy.Quota in words.
type Quota struct {
	Name   string `yaml:"name"`
	Client string `yaml:"client,omitempty"`
	Topic  string `yaml:"topic,omitempty"`
	Region string `yaml:"region,omitempty"`
	Class  string `yaml:"class,omitempty"`
	Peer   string `yaml:"peer,omitempty"`
	Each   string `yaml:"each,omitempty"`
	Bytes  int64  `yaml:"bytes,omitempty"` // of payloads
	Count  int    `yaml:"count,omitempty"` // messages
}

// Limits returns the quotas of a node. Each call makes new ones: they are for
// one goroutine.
func (n *Node) Limits() (*policy.Quotas, error) {
	list := make([]policy.Quota, 0, len(n.Quotas))
	for _, q := range n.Quotas {
		p := policy.Quota{
			Name: q.Name, Client: q.Client, Topic: q.Topic, Peer: q.Peer, HasClass: q.Class != "", Bytes: q.Bytes, Count: q.Count,
		}
		var err error
		if q.Region != "" {
			if p.Region, err = addr.ParseRegion(q.Region); err != nil {
				return nil, fmt.Errorf("quota %s: %w", q.Name, err)
			}
		}
		if p.HasClass {
			if p.Class, err = bundle.ParseClass(q.Class); err != nil {
				return nil, fmt.Errorf("quota %s: %w", q.Name, err)
			}
		}
		if q.Each != "" {
			if err := p.Each.UnmarshalText([]byte(q.Each)); err != nil {
				return nil, fmt.Errorf("quota %s: %w", q.Name, err)
			}
		}
		list = append(list, p)
	}
	return policy.NewQuotas(list)
}
