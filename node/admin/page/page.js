"use strict";

// The status page: asks /api/v1/status every two seconds and writes it down.
// The token comes in the fragment, which browsers never send, and stays in this
// tab only.
const period = 2000;
const $ = (id) => document.getElementById(id);

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"];
function size(n) {
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

function span(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return seconds + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  if (seconds < 172800) return Math.floor(seconds / 3600) + " h " + Math.floor(seconds % 3600 / 60) + " min";
  return Math.floor(seconds / 86400) + " days";
}

// cell makes a table cell; all text goes in as text, never as HTML.
function cell(text, kind) {
  const td = document.createElement("td");
  td.textContent = text;
  if (kind) td.className = kind;
  return td;
}

function fill(id, rows, columns, none) {
  const body = $(id);
  body.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  }));
  if (rows.length) return;
  const td = cell(none, "none");
  td.colSpan = columns;
  const tr = document.createElement("tr");
  tr.append(td);
  body.append(tr);
}

const states = { "up": "up", "down": "down", "silent": "down", "closed-contact": "wait" };
const words = { "closed-contact": "between contacts" };

function peerRow(now, p) {
  const next = p.next_contact ? "next contact in " + span((Date.parse(p.next_contact) - now) / 1000) : "";
  return [
    cell(p.node || p.name || p.address),
    cell(words[p.state] || p.state, states[p.state]),
    cell(p.rtt_ms ? p.rtt_ms.toFixed(p.rtt_ms < 10 ? 1 : 0) + " ms" : "–", "n"),
    cell(p.in_flight, "n"),
    cell(p.since ? span((now - Date.parse(p.since)) / 1000) : "–"),
    cell(p.state === "up" ? p.kex || "" : [next, p.last_error].filter(Boolean).join("; ")),
  ];
}

function bridgeRow(now, b) {
  return [
    cell(b.name), cell(b.state, b.state === "connected" ? "up" : "wait"), cell(b.rtt_ms ? b.rtt_ms.toFixed(b.rtt_ms < 10 ? 1 : 0) + " ms" : "–", "n"),
    cell(b.out.forwarded.toLocaleString(), "n"), cell(b.in.forwarded.toLocaleString(), "n"), cell(span((now - Date.parse(b.since)) / 1000)),
    cell([b.last_error, ...(b.warnings || [])].filter(Boolean).join("; ")),
  ];
}

function queueRow(now, q) {
  const hop = q.next_hop ? (q.up ? "" : "down: ") + q.next_hop : "–";
  return [
    cell(q.queue), cell(q.class), cell(q.bundles, "n"), cell(size(q.bytes), "n"), cell(q.in_flight, "n"),
    cell(q.oldest ? span((now - Date.parse(q.oldest)) / 1000) : "–"), cell(hop, q.next_hop ? (q.up ? "up" : "wait") : ""),
    cell(q.waits || ""),
  ];
}

function counterRows(c) {
  const rows = [];
  const add = (name, n) => { if (n) rows.push([cell(name), cell(n.toLocaleString(), "n")]); };
  for (const [reason, n] of Object.entries(c.submitted || {})) add("published here: " + reason, n);
  add("handed to recipients here", c.arrived);
  add("taken in for other nodes", c.relayed);
  add("handed on to peers", c.handed_on);
  add("acknowledged by recipients", c.delivered);
  add("copies dropped", c.duplicates);
  for (const [reason, n] of Object.entries(c.own || {})) add("the node's own: " + reason, n);
  for (const [reason, n] of Object.entries(c.ended || {})) add("ended: " + reason, n);
  for (const [reason, n] of Object.entries(c.refused || {})) add("refused to peers: " + reason, n);
  return rows;
}

function show(s) {
  const now = Date.parse(s.now);
  const up = s.peers.filter((p) => p.state === "up").length;
  document.title = s.node + " · farhop";
  $("node").textContent = s.node;
  $("about").textContent = "region " + s.region + " · " + s.version + " · up " + span(s.uptime_s) + (s.clock_ok ? "" : " · the clock is not trusted");
  $("waiting").textContent = s.store.messages.toLocaleString();
  $("bytes").textContent = size(s.store.bytes);
  $("room").textContent = "stored, of " + size(s.store.max_bytes);
  $("links").textContent = up + "/" + s.peers.length;
  $("clients").textContent = s.mqtt.clients;
  const at = [s.mqtt.listen, ...(s.mqtt.listeners || [])].filter(Boolean);
  $("listen").textContent = at.length ? "MQTT clients at " + at.join(", ") : "no broker here";
  fill("peers", s.peers.map((p) => peerRow(now, p)), 6, "No peer is configured and none has called.");
  const bridges = s.mqtt.bridges || [];
  $("bridging").hidden = !bridges.length;
  fill("bridges", bridges.map((b) => bridgeRow(now, b)), 7, "");
  fill("queues", s.queues.map((q) => queueRow(now, q)), 8, "Nothing waits: all is delivered or handed on.");
  fill("counters", counterRows(s.counters), 2, "Nothing yet.");
}

function ask(visible) {
  $("ask").hidden = !visible;
  $("main").hidden = visible;
}

function fresh(text, stale) {
  $("fresh").textContent = text;
  $("fresh").classList.toggle("stale", stale);
}

async function refresh() {
  const token = takeToken();
  if (!token) {
    ask(true);
    return;
  }
  try {
    const answer = await fetch("api/v1/status", { headers: { Authorization: "Bearer " + token }, signal: AbortSignal.timeout(10000) });
    if (answer.status === 401) {
      sessionStorage.removeItem("token");
      fresh("The token was refused.", true);
      ask(true);
      return;
    }
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    show(body);
    ask(false);
    fresh("", false);
  } catch (e) {
    fresh("No answer since " + (refresh.last || "the page was opened") + ": " + e.message, true);
    setTimeout(refresh, period);
    return;
  }
  refresh.last = new Date().toLocaleTimeString();
  setTimeout(refresh, period);
}

$("ask").addEventListener("submit", (e) => {
  e.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  $("token").value = "";
  refresh();
});
refresh();
