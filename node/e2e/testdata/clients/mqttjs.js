// An MQTT client made of MQTT.js (5), told by lines of JSON on standard input
// what to do; see clients_test.go for the lines. The argument is the folder
// that holds node_modules.
const mqtt = require(require('path').join(process.argv[2], 'node_modules', 'mqtt'))
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n')
let client

const orders = {
  connect (o) {
    const v5 = o.version === 5
    client = mqtt.connect({
      host: o.host, port: o.port, protocol: 'mqtt', clientId: o.id, clean: o.clean, protocolVersion: o.version,
      reconnectPeriod: 0, connectTimeout: 60000,
      properties: v5 ? { sessionExpiryInterval: o.expiry } : undefined,
      will: o.will ? { topic: o.will, payload: Buffer.from('gone'), qos: 1, retain: false } : undefined
    })
    client.on('connect', (ack) => say({ done: 'connect', session: ack.sessionPresent, code: ack.reasonCode ?? ack.returnCode ?? 0 }))
    client.on('error', (e) => say({ error: String(e) }))
    client.on('message', (topic, payload, packet) => {
      const p = packet.properties ?? {}
      const user = Object.entries(p.userProperties ?? {}).flatMap(([k, v]) => [v].flat().map((x) => [k, x]))
      say({ topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain, response: p.responseTopic ?? '', correlation: p.correlationData?.toString() ?? '', user })
    })
  },
  async subscribe (o) {
    const granted = await client.subscribeAsync(o.filter, { qos: o.qos })
    say({ done: 'subscribe', codes: granted.map((g) => g.qos) })
  },
  async publish (o) {
    const properties = {}
    if (o.response) properties.responseTopic = o.response
    if (o.correlation) properties.correlationData = Buffer.from(o.correlation)
    if (o.user) properties.userProperties = Object.fromEntries(o.user)
    const options = { qos: o.qos, retain: o.retain ?? false, properties: client.options.protocolVersion === 5 ? properties : undefined }
    await Promise.all(o.payloads.map((x) => client.publishAsync(o.topic, x, options)))
    say({ done: 'publish', codes: o.payloads.map(() => 0) })
  },
  async disconnect () {
    await client.endAsync()
    say({ done: 'disconnect' })
  }
}

require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const o = JSON.parse(line)
  try { await orders[o.do](o) } catch (e) { say({ error: String(e) }) }
}).on('close', () => process.exit(0))
