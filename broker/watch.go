package broker

// Watcher sees what passes a Broker, from any goroutine and in the middle of
// the way of messages: its methods must be quick, never block, and leave the
// messages as they are.
type Watcher interface {
	// Published tells the verdict on a publish, and how many live sessions
	// here got it.
	Published(m *Message, v Verdict, live int)
	// Written tells that a message went to a client's connection.
	Written(client string, m *Message, qos byte)
	// Lost tells of a delivery to a client that was dropped, with the label
	// it is counted under.
	Lost(client string, m *Message, cause string)
}

// Watch shows everything to w from now on, or to nobody when it is nil. With
// nobody a message costs one look at a pointer.
func (b *Broker) Watch(w Watcher) {
	if w == nil {
		b.watcher.Store(nil)
		return
	}
	b.watcher.Store(&w)
}

// lose counts a delivery that is dropped.
func (b *Broker) lose(client string, m *Message, cause string) {
	b.metrics.dropped.WithLabelValues(cause).Inc()
	b.sys.dropped.Add(1)
	if w := b.watcher.Load(); w != nil {
		(*w).Lost(client, m, cause)
	}
}
