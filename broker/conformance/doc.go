// Package conformance holds sequences of packets with what MQTT 3.1.1 and
// MQTT 5 say a server must answer, and runs them against a server at an
// address.
//
// It owns the cases (cases/*.json), the list of numbered statements of both
// standards (statements.json), and a codec of its own that can also write
// what is malformed and reads by the letter. It knows nothing of the broker of
// this repository, so that any server can be held against it, and it is called
// by tests alone. docs/conformance.md says which case shows which statement.
//
//	FARHOP_CONFORMANCE=127.0.0.1:1883 go test ./broker/conformance -run TestServer -count=1 -v
//
// Cases that need an authentication method are apart: FARHOP_CONFORMANCE_AUTH=1
// runs those, against a server that has it (AuthCases).
//
// # Case files
//
// A file is a JSON object: "about", a sentence, and "cases", a list of
//
//	name      unique within its file
//	clauses   {"MQTT311": ["3.1.2-3"], "MQTT5": [...]}: the statements that it
//	          shows; it runs once for each standard named
//	practice  why it is here though no statement asks for it
//	versions  [4, 5]: for which it runs, where clauses do not say so
//	steps     lines, below
//	rows      the case runs once for each, with {KEY} in steps replaced; "row"
//	          names it, "only" is v4 or v5
//
// A step is one line. Words stand between blanks; quotes hold words together.
//
//	[v4|v5] CONNECTION OPERATION WORDS... [-> FIELDS...]
//	[v4|v5] sleep DURATION
//	[v4|v5] need $a>1     skip the case unless it is so; also < and =
//
// Operations:
//
//	open                    a TCP connection
//	connect FIELDS -> ...   open, CONNECT and CONNACK 0 with the fields behind ->
//	> PACKET FIELDS         send a packet
//	raw WORDS               send bytes: 30 0a hex; 70*9 repeated; 'text' with its
//	                        length; t'text' without; [ ] with the length of what is
//	                        between as a variable byte integer; ( ) in two bytes
//	< PACKET FIELDS         the next packet is this one
//	<~ PACKET FIELDS        it comes, others may come before and wait for later steps
//	<| PACKET FIELDS        the next packet is this one, or the connection ends
//	!< PACKET FIELDS        it has not come
//	sub FILTER,QOS[,nl][,rap][,rh=N]... [PROPERTY=V] -> FIELDS of SUBACK
//	unsub FILTER... -> FIELDS of UNSUBACK
//	pub TOPIC FIELDS        PUBLISH and all its acknowledgements
//	may TOPIC FIELDS        the same; the case is skipped when the server refuses
//	recv, recv~ FIELDS      PUBLISH, acknowledged; in order, or among others
//	tally CONNECTION N      payloads 0 to N-1 come to one of the two, once
//	ping                    PINGREQ and PINGRESP
//	quiet [DURATION]        nothing comes; the connection lives
//	barred CODES            SUBACK with an error, or the end
//	refused CODES           a CONNECT is refused: codes below 128 are of 3.1.1,
//	                        others of 5, where silence is as good
//	close CODES [after=D]   the server ends the connection, in MQTT 5 with
//	                        DISCONNECT and one of the codes; not before D
//	over                    the connection ends, whatever comes before
//	kill                    the client's side ends without DISCONNECT
//	disconnect FIELDS       and with
//
// n=N among the words repeats a step with $i from 0. Fields are KEY=VALUE,
// KEY!=VALUE or !KEY for what must be absent; what is not named may be
// anything. Expected values may be alternatives (0|0x10), ranges (1..9),
// beginnings (ab*), or ?name, which binds a variable or compares with it. Text
// is as it stands, x:00ff bytes, fill:N so many. $name is a variable: $t a
// topic and $c a client identifier of this run, $V the version's byte and $P an
// empty property length where there is one, both for raw; $a+1 adds, $$ is a
// dollar.
//
// Fields are pid, code, codes (of SUBACK), topic, payload, qos, dup, retain,
// present, size (bytes on the wire), props (how many properties), the
// properties by name (see properties in wire.go), and of CONNECT: id, clean, keep, user,
// pass, will, will-payload, will-qos, will-retain, will.PROPERTY, protocol,
// level, connect-flags. flags sets the low bits of any first byte.
//
// Beyond what its steps say, every packet of every case must be well formed,
// carry only what its type may carry, and break none of the rules that hold
// always: see decode.go and conn.go.
package conformance
