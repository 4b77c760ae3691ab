// Reads a line "VERSION HEX" at a time, and answers each with one line of JSON:
// the fields of the packet by mqtt-packet, {"error": ...} or {"part": true}.
// The argument is the folder that holds node_modules.
const codec = require(require('path').join(process.argv[2], 'node_modules', 'mqtt-packet'))
const hex = (x) => x === undefined || x === null ? '' : Buffer.from(x).toString('hex')
const users = (p) => Object.entries(p.userProperties ?? {}).map(([k, v]) => [hex(k), [v].flat().map(hex).filter((x) => x).join('+')].join(':')).sort().join(';')

const fields = {
  connect: (p, o) => ({
    version: p.protocolVersion, id: hex(p.clientId), clean: p.clean, keep: p.keepalive, user: hex(p.username), pass: hex(p.password),
    expiry: o.sessionExpiryInterval ?? 0, window: o.receiveMaximum ?? 0, max: o.maximumPacketSize ?? 0, alias: o.topicAliasMaximum ?? 0,
    method: hex(o.authenticationMethod), data: hex(o.authenticationData),
    will: p.will ? [hex(p.will.topic), hex(p.will.payload), p.will.qos, p.will.retain].join() : '',
    wprops: p.will?.properties ? [p.will.properties.willDelayInterval ?? 0, p.will.properties.messageExpiryInterval ?? 0, hex(p.will.properties.contentType), hex(p.will.properties.responseTopic), hex(p.will.properties.correlationData), users(p.will.properties)].join() : ''
  }),
  publish: (p, o) => ({
    topic: hex(p.topic), payload: hex(p.payload), pid: p.messageId ?? 0, qos: p.qos, retain: p.retain, dup: p.dup,
    alias: o.topicAlias ?? 0, expiry: o.messageExpiryInterval ?? 0, type: hex(o.contentType), response: hex(o.responseTopic),
    correlation: hex(o.correlationData), users: users(o)
  }),
  ack: (p) => ({ pid: p.messageId, code: p.reasonCode ?? 0 }),
  subscribe: (p, o) => ({
    pid: p.messageId, sid: [o.subscriptionIdentifier ?? 0].flat()[0],
    filters: p.subscriptions.map((s) => [hex(s.topic), s.qos, s.nl ?? false, s.rap ?? false, s.rh ?? 0].join()).join(';')
  }),
  unsubscribe: (p) => ({ pid: p.messageId, filters: p.unsubscriptions.map(hex).join(';') }),
  disconnect: (p, o) => ({ code: p.reasonCode ?? 0, expiry: o.sessionExpiryInterval ?? 0 }),
  auth: (p, o) => ({ code: p.reasonCode ?? 0, method: hex(o.authenticationMethod), data: hex(o.authenticationData) }),
  pingreq: () => ({})
}
for (const x of ['puback', 'pubrec', 'pubrel', 'pubcomp']) fields[x] = fields.ack

function judge (line) {
  const [version, bytes] = line.split(' ')
  const parser = codec.parser({ protocolVersion: Number(version) })
  let out = { part: true }
  parser.on('packet', (p) => { out = { cmd: p.cmd, ...fields[p.cmd]?.(p, p.properties ?? {}) } })
  parser.on('error', (e) => { out = { error: e.message } })
  try { parser.parse(Buffer.from(bytes, 'hex')) } catch (e) { out = { error: String(e) } }
  return JSON.stringify(out)
}

const lines = require('fs').readFileSync(0, 'utf8').trimEnd().split('\n')
process.stdout.write(lines.map(judge).join('\n') + '\n')
