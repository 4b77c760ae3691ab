package broker

import (
	"github.com/farhop/farhop/storeforward/bundle"
)

// Reason codes (MQTT 5, 2.4).
const (
	codeSuccess         = 0x00
	codeNoSubscribers   = 0x10
	codeNoSubscription  = 0x11
	codeContinue        = 0x18
	codeReauthenticate  = 0x19
	codeUnspecified     = 0x80
	codeMalformed       = 0x81
	codeProtocol        = 0x82
	codeImplementation  = 0x83
	codeVersion         = 0x84
	codeBadClientID     = 0x85
	codeBadUser         = 0x86
	codeNotAuthorized   = 0x87
	codeUnavailable     = 0x88
	codeBusy            = 0x89
	codeShuttingDown    = 0x8B
	codeBadAuthMethod   = 0x8C
	codeKeepAlive       = 0x8D
	codeTakenOver       = 0x8E
	codeBadFilter       = 0x8F
	codeBadTopic        = 0x90
	codeReceiveMax      = 0x93
	codeBadAlias        = 0x94
	codeTooLarge        = 0x95
	codeQuota           = 0x97
	codeAdministrative  = 0x98
	codeMaxTime         = 0xA0
	noDisconnectMessage = 0xFF // close without a DISCONNECT; not on the wire
)

// connackV3 maps a reason code to a CONNACK return code (MQTT 3.1.1, 3.2.2.3).
// ok is false where 3.1.1 wants the connection closed without a CONNACK.
func connackV3(code byte) (ret byte, ok bool) {
	switch code {
	case codeSuccess:
		return 0, true
	case codeVersion:
		return 1, true
	case codeBadClientID:
		return 2, true
	case codeUnavailable, codeBusy, codeQuota, codeShuttingDown, codeUnspecified:
		return 3, true
	case codeBadUser:
		return 4, true
	case codeNotAuthorized:
		return 5, true
	}
	return 0, false
}

// verdict is what a client hears of its publish.
type verdict struct {
	code  byte // for PUBACK and PUBREC (MQTT 5, 3.4.2.1), or for DISCONNECT
	close bool // no acknowledgement, disconnect
}

// answer turns the node's reason into what the client hears. MQTT 3.1.1 has no
// negative acknowledgement, so everything but success closes the connection: a
// device with a persistent session sends again when it reconnects. TooLarge is
// 0x97 (an implementation limit) and not 0x95, which is no reason code of
// PUBACK or PUBREC; the reason string says which limit.
func answer(r bundle.Reason, version byte) verdict {
	v := verdict{code: codeUnspecified, close: true}
	switch r {
	case bundle.OK, bundle.Duplicate, bundle.Expired:
		return verdict{code: codeSuccess}
	case bundle.NoSubscriber:
		return verdict{code: codeNoSubscribers}
	case bundle.StoreFull, bundle.QuotaExceeded, bundle.TooLarge:
		v = verdict{code: codeQuota}
	case bundle.NotAllowed:
		v = verdict{code: codeNotAuthorized}
	case bundle.NoRoute, bundle.HopLimit, bundle.Purged, bundle.SessionEnded, bundle.Displaced:
		v = verdict{code: codeImplementation}
	case bundle.Malformed:
		v = verdict{code: codeUnspecified}
	case bundle.DiskFailed, bundle.Damaged:
	case bundle.ShuttingDown:
		v.code = codeShuttingDown
	}
	if version < 5 {
		v.close = true
	}
	return v
}

// cause is the metric label of a DISCONNECT the broker sends.
func cause(code byte) string {
	switch code {
	case codeMalformed, codeProtocol:
		return "protocol-error"
	case codeShuttingDown:
		return "shutting-down"
	case codeTakenOver:
		return "taken-over"
	case codeQuota:
		return "quota-exceeded"
	case codeReceiveMax:
		return "receive-maximum"
	case codeTooLarge:
		return "too-large"
	case codeNotAuthorized:
		return "not-allowed"
	case codeBadAlias, codeBadTopic:
		return "bad-topic"
	case codeKeepAlive:
		return "keep-alive"
	case codeMaxTime:
		return "credentials-expired"
	}
	return "refused"
}
