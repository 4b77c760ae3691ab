package broker

import "testing"

// transported are the tests of what depends on how bytes move.
var transported = map[string]func(*testing.T){
	"shutdown": TestShutdown, "max clients": TestMaxClients, "hostile bytes": TestHostileBytes,
	"promised size": TestPromisedSizeCostsNothing, "connect deadline": TestConnectDeadline, "keep-alive": TestKeepAlive,
	"torn input": TestTornInput, "receive maximum": TestReceiveMaximum, "window": TestWindowIsNotExceeded,
	"slow subscriber": TestSlowSubscriber, "queue full": TestQueueFullQoS0, "pipelined acks": TestPipelinedAcks,
	"backpressure": TestBackpressure, "qos 2 after reconnect": TestQoS2AfterReconnect,
	"retained burst": TestRetainedBurst, "persistent session": TestPersistentSession, "takeover": TestTakeover,
	"takeover storm": TestTakeoverStorm, "will": TestWill, "aliases": TestOutboundAliases,
	"enhanced": TestEnhancedHoldsNobodyUp, "enhanced time": TestEnhancedTakesNoLongerThanAConnect, "reauthentication": TestReauthentication,
}

// TestPumped runs them with a goroutine for each connection in place of the
// pollers.
func TestPumped(t *testing.T) {
	for name, test := range transported {
		t.Run(name, test)
	}
}

// TestInMemory runs them with connections within the process.
func TestInMemory(t *testing.T) {
	for name, test := range transported {
		t.Run(name, test)
	}
}
