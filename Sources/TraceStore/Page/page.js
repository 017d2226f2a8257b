"use strict";
// The page of the trace store. It asks Tempo's query API and nothing else. Everything that comes from a span is a
// stranger's text: it enters the document by textContent only, never as markup.

// ---- Small tools -----------------------------------------------------------------------------------------------

const $ = (selector, root = document) => root.querySelector(selector);

/** Makes an element. `props` are properties, "on…" listeners, "aria-…" and "data-…" attributes; children are nodes or text. */
function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key.includes("-") || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** A length of time from nanoseconds, in three digits: 870 µs, 12.5 ms, 1.04 s, 2 m 5 s. */
function length(nanoseconds) {
  if (nanoseconds < 1e3) return `${Math.round(nanoseconds)} ns`;
  for (const [scale, unit, next] of [[1e3, "µs", 1e6], [1e6, "ms", 1e9], [1e9, "s", 60e9]]) {
    if (nanoseconds < next * 0.9995) return `${+(nanoseconds / scale).toPrecision(3)} ${unit}`;
  }
  const seconds = Math.round(nanoseconds / 1e9);
  return seconds < 3600 ? `${Math.floor(seconds / 60)} m ${seconds % 60} s` : `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} m`;
}

function ago(milliseconds) {
  const seconds = Math.max(0, (Date.now() - milliseconds) / 1000);
  if (seconds < 2) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(milliseconds).toLocaleString();
}

const bytes = (count) => (count < 1048576 ? `${(count / 1024).toFixed(0)} KiB` : `${(count / 1048576).toFixed(1)} MiB`);
const plural = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? "" : "s"}`;

/** Base64 of Tempo's trace JSON as hexadecimal digits. */
function hex(base64) {
  let digits = "";
  for (const character of atob(base64 || "")) digits += character.charCodeAt(0).toString(16).padStart(2, "0");
  return digits;
}

class Refused extends Error {}

async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
  const answer = await fetch(`${path}?${query}`, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Refused((await answer.text()).trim() || `${answer.status} ${answer.statusText}`);
  return answer.json();
}

// ---- Colours of services ---------------------------------------------------------------------------------------

const colours = new Map([["dynamo-frontend", 0], ["dynamo-worker", 1]]);

/** The class of a service's colour: its own for as long as there are enough. */
function colour(service) {
  if (!colours.has(service)) {
    const taken = new Set(colours.values());
    let sum = 0;
    for (const character of service) sum = (sum * 31 + character.codePointAt(0)) >>> 0;
    let index = 2 + (sum % 6);
    for (let step = 0; step < 6 && taken.has(index); step++) index = 2 + ((index - 1) % 6);
    colours.set(service, index);
  }
  return `c${colours.get(service)}`;
}

const serviceLabel = (service) => el("span", {}, el("i", { className: `dot ${colour(service)}` }), service || "no service name");

// ---- From the form to TraceQL ----------------------------------------------------------------------------------

const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** One word of the attributes field: `key`, `key=value`, `key>5`, `key=~regex`. */
function attributeCondition(word) {
  const match = /^(.+?)(=~|!~|!=|>=|<=|=|>|<)(.*)$/s.exec(word);
  const [key, operator, text] = match ? match.slice(1) : [word, null, null];
  const named = /^(name|kind|status|duration|statusMessage|rootName|rootServiceName|traceDuration)$/.test(key);
  const scoped = /^(span|resource|event|link|instrumentation)\.(.+)$/.exec(key);
  const safe = (name) => (/^[\w.\/:@-]+$/.test(name) ? name : quoted(name));
  const field = named ? key : scoped ? `${scoped[1]}.${safe(scoped[2])}` : `.${safe(key.replace(/^\./, ""))}`;
  if (!operator) return `${field} != nil`;
  const value = text.replace(/^"(.*)"$/s, "$1");
  if (operator.includes("~")) return `${field} ${operator} ${quoted(value)}`;
  if (named && key !== "name" && !key.startsWith("root") && key !== "statusMessage") return `${field} ${operator} ${value}`;
  const isNumber = /^-?\d+(\.\d+)?$/.test(value) && value === text;
  if (!isNumber && !/^(true|false)$/.test(value)) return `${field} ${operator} ${quoted(value)}`;
  if (operator === "=" ) return `(${field} = ${value} || ${field} = ${quoted(value)})`;
  return `${field} ${operator} ${value}`;
}

/** The query that a form's values mean. */
function queryOf(form) {
  if (form.q.trim()) return form.q.trim();
  const span = [];
  if (form.service) span.push(`resource.service.name = ${quoted(form.service)}`);
  if (form.name) {
    if (form.name.includes("*")) {
      const pattern = form.name.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
      span.push(`name =~ ${quoted(pattern)}`);
    } else span.push(`name = ${quoted(form.name)}`);
  }
  for (const word of form.tag.match(/(?:[^\s"]|"[^"]*")+/g) || []) span.push(attributeCondition(word));
  const whole = [];
  if (form.min) whole.push(`traceDuration >= ${form.min.replaceAll(" ", "")}`);
  if (form.max) whole.push(`traceDuration <= ${form.max.replaceAll(" ", "")}`);
  const sets = [`{ ${span.join(" && ")} }`];
  if (whole.length) sets.push(`{ ${whole.join(" && ")} }`);
  if (form.status === "error") sets.push("{ status = error }");
  return (sets.length > 1 && !span.length ? sets.slice(1) : sets).join(" && ");
}

// ---- State -----------------------------------------------------------------------------------------------------

const blank = { service: "", name: "", tag: "", min: "", max: "", status: "", q: "" };
const state = {
  form: { ...blank },
  limit: 40,
  sort: "new",
  live: true,
  traces: [],
  seen: null,
  open: null, // the id of the trace that is shown, padded
  shown: null, // { id, spans } as drawn
  waiting: 0, // number of the search under way: older answers are dropped
};

const form = $("#search");

function readAddress() {
  const given = new URLSearchParams(location.search);
  for (const key of Object.keys(blank)) state.form[key] = given.get(key) || "";
  for (const key of Object.keys(blank)) form.elements[key].value = state.form[key];
  // A service that the list does not know yet still is what was asked for.
  if (state.form.service && form.elements.service.value !== state.form.service) {
    form.elements.service.append(el("option", { value: state.form.service, textContent: state.form.service }));
    form.elements.service.value = state.form.service;
  }
  if (state.form.q) $("#raw").open = true;
}

const searchPart = () => {
  const text = new URLSearchParams(Object.entries(state.form).filter(([, value]) => value)).toString();
  return text ? `?${text}` : "";
};

function go(path, replace) {
  const address = path + searchPart();
  if (address !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", address);
  follow();
}

// ---- The list --------------------------------------------------------------------------------------------------

const pad = (id) => id.padStart(32, "0");

function summary(trace) {
  const stats = Object.entries(trace.serviceStats || {});
  let model = "", request = "";
  for (const span of trace.spanSet?.spans || []) {
    for (const { key, value } of span.attributes || []) {
      if (key === "model" && value.stringValue) model ||= value.stringValue;
      if (key === "x_request_id" && value.stringValue) request ||= value.stringValue;
    }
  }
  return {
    id: pad(trace.traceID),
    name: trace.rootTraceName || "(root not received yet)",
    start: Number(trace.startTimeUnixNano || 0) / 1e6,
    took: (trace.durationMs || 0) * 1e6,
    services: stats.map(([name]) => name),
    spans: stats.reduce((sum, [, stat]) => sum + (stat.spanCount || 0), 0),
    errors: stats.reduce((sum, [, stat]) => sum + (stat.errorCount || 0), 0),
    model,
    request,
  };
}

async function search(quiet) {
  const number = ++state.waiting;
  try {
    const query = `${queryOf(state.form)} | select(.x_request_id, .model)`;
    const answer = await ask("/api/search", { q: query, limit: state.limit, spss: 8 });
    if (number !== state.waiting) return;
    let found = answer.traces.map(summary);
    state.isFull = found.length >= state.limit;
    if (state.form.status === "fine") found = found.filter((trace) => !trace.errors);
    state.traces = found;
    $("#fault").hidden = true;
    drawList();
  } catch (error) {
    if (number !== state.waiting) return;
    const text = error instanceof Refused ? error.message : "The trace store does not answer.";
    if (!quiet || !(error instanceof Refused)) {
      $("#fault").textContent = text;
      $("#fault").hidden = false;
      $("#none").hidden = true;
    }
  }
}

const ordered = () => [...state.traces].sort(state.sort === "slow" ? (a, b) => b.took - a.took : (a, b) => b.start - a.start);

function drawList() {
  const traces = ordered();
  const slowest = Math.max(1, ...traces.map((trace) => trace.took));
  const before = state.seen;
  const rows = traces.map((trace) => {
    const bar = el("i");
    bar.style.width = `${Math.max(0.6, (100 * trace.took) / slowest)}%`;
    const sub = el("span", { className: "sub" });
    trace.services.forEach((service) => sub.append(el("i", { className: `dot ${colour(service)}`, title: service })));
    sub.append(" ", [trace.request || trace.id.slice(0, 12), trace.model, plural(trace.spans, "span")].filter(Boolean).join(" · "));
    const row = el(
      "a",
      {
        href: `/trace/${trace.id}${searchPart()}`,
        className: (trace.errors ? "bad " : "") + (before && !before.has(trace.id) ? "new" : ""),
        "data-id": trace.id,
        "aria-current": trace.id === state.open ? "true" : null,
        onclick: (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          go(`/trace/${trace.id}`);
        },
      },
      el("span", { className: "line" }, el("span", { className: "what", textContent: trace.name }),
        el("span", { className: "took" }, trace.errors ? el("span", { className: "badge", textContent: plural(trace.errors, "error") }) : null, " ", trace.took ? length(trace.took) : "< 1 ms")),
      el("span", { className: "line" }, sub, el("span", { className: "when", textContent: trace.start ? ago(trace.start) : "" })),
      el("span", { className: "span" }, bar),
    );
    return el("li", {}, row);
  });
  $("#rows").replaceChildren(...rows);
  $("#more").hidden = !state.isFull;
  const none = $("#none");
  none.hidden = traces.length > 0 || !$("#fault").hidden;
  none.textContent = Object.values(state.form).some(Boolean) ? "No trace matches." : "No traces yet. They appear here as requests finish.";
  state.seen = new Set(traces.map((trace) => trace.id));
  drawPlot(traces);
  if (!state.open) greet();
}

/** Duration over time, a dot a trace, both axes fitted; the vertical one is logarithmic. */
function drawPlot(traces) {
  const plot = $("#plot");
  const timed = traces.filter((trace) => trace.start > 0);
  plot.style.display = timed.length > 1 ? "" : "none";
  if (timed.length < 2) return;
  const width = plot.clientWidth || 360, height = 84, left = 12, right = 12, top = 13, bottom = 15;
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const times = timed.map((trace) => trace.start), logs = timed.map((trace) => Math.log10(Math.max(trace.took, 1e5)));
  const [t0, t1] = [Math.min(...times), Math.max(...times)], [low, high] = [Math.min(...logs) - 0.1, Math.max(...logs) + 0.1];
  const x = (time) => left + ((time - t0) / Math.max(1, t1 - t0)) * (width - left - right);
  const y = (log) => height - bottom - ((log - low) / Math.max(0.2, high - low)) * (height - top - bottom);
  const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  plot.replaceChildren(
    svg("line", { x1: left, x2: width - right, y1: height - bottom + 3, y2: height - bottom + 3 }),
    svg("text", { x: left, y: height - 3 }, clock(t0)),
    svg("text", { x: width - right, y: height - 3, "text-anchor": "end" }, clock(t1)),
    svg("text", { x: left, y: 11 }, length(10 ** (high - 0.1))),
  );
  timed.forEach((trace, index) => {
    const dot = svg("circle", { cx: x(trace.start), cy: y(logs[index]), r: trace.id === state.open ? 5 : 4, class: (trace.errors ? "bad " : "") + (trace.id === state.open ? "on" : "") });
    dot.append(svg("title", {}, `${trace.name}, ${length(trace.took)}`));
    dot.addEventListener("click", () => go(`/trace/${trace.id}`));
    plot.append(dot);
  });
}

async function completions() {
  const values = async (name) => {
    try {
      return (await ask(`/api/v2/search/tag/${name}/values`, { limit: 200 })).tagValues.map((entry) => entry.value);
    } catch {
      return [];
    }
  };
  const [services, names, scopes] = await Promise.all([values("resource.service.name"), values("name"), ask("/api/v2/search/tags").catch(() => ({ scopes: [] }))]);
  const select = form.elements.service, chosen = select.value;
  const known = new Set([...services, ...(chosen ? [chosen] : [])]);
  select.replaceChildren(el("option", { value: "", textContent: "any" }), ...[...known].sort().map((name) => el("option", { value: name, textContent: name })));
  select.value = chosen;
  $("#names").replaceChildren(...names.map((value) => el("option", { value })));
  const tags = new Set(scopes.scopes.filter((scope) => scope.name !== "intrinsic").flatMap((scope) => scope.tags));
  $("#tags").replaceChildren(...[...tags].sort().map((tag) => el("option", { value: `${tag}=` })));
}

async function held() {
  try {
    const status = await ask("/status");
    state.held = status.traces;
    $("#held").textContent = `${plural(status.traces, "trace")} · ${bytes(status.bytes)} of ${bytes(status.bytesMax)}`;
    return status;
  } catch {
    $("#held").textContent = "no connection";
    return null;
  }
}

// ---- A trace's data --------------------------------------------------------------------------------------------

/** An AnyValue as text, with the class of its cell. */
function plain(value) {
  if ("stringValue" in value) return { text: value.stringValue, kind: "" };
  if ("intValue" in value) return { text: value.intValue, kind: "num" };
  if ("doubleValue" in value) return { text: String(value.doubleValue), kind: "num" };
  if ("boolValue" in value) return { text: String(value.boolValue), kind: "flag" };
  if ("arrayValue" in value) return { text: `[${(value.arrayValue.values || []).map((entry) => plain(entry).text).join(", ")}]`, kind: "" };
  if ("kvlistValue" in value) return { text: `{${(value.kvlistValue.values || []).map((entry) => `${entry.key}: ${plain(entry.value).text}`).join(", ")}}`, kind: "" };
  return { text: value.bytesValue ?? "", kind: "" };
}

const numbers = (value) => (value?.arrayValue?.values || []).map((entry) => plain(entry).text);

/** The spans of a trace as a forest, each with its place in time (nanoseconds from the start) and its children. */
function forest(answer) {
  const raw = [];
  for (const batch of answer.trace.resourceSpans || []) {
    const resource = batch.resource?.attributes || [];
    const service = resource.find((pair) => pair.key === "service.name")?.value.stringValue || "";
    for (const scope of batch.scopeSpans || []) {
      for (const span of scope.spans || []) raw.push({ span, service, resource, scope: scope.scope || {} });
    }
  }
  const stamp = (text) => BigInt(text || 0);
  let origin = null;
  for (const { span } of raw) {
    const start = stamp(span.startTimeUnixNano);
    if (start > 0n && (origin === null || start < origin)) origin = start;
  }
  origin ??= 0n;
  const spans = raw.map(({ span, service, resource, scope }) => {
    const begin = stamp(span.startTimeUnixNano);
    const start = begin > 0n ? Number(begin - origin) : 0;
    const took = Math.max(0, Number(stamp(span.endTimeUnixNano) - begin));
    const attributes = new Map((span.attributes || []).map((pair) => [pair.key, pair.value]));
    return {
      id: hex(span.spanId), parent: hex(span.parentSpanId), name: span.name || "(no name)", service, resource, scope, attributes,
      kind: (span.kind || "").replace("SPAN_KIND_", "").toLowerCase(), start, took: begin > 0n ? took : 0,
      isError: span.status?.code === "STATUS_CODE_ERROR", status: span.status || {},
      events: (span.events || []).map((event) => ({ name: event.name || "event", at: Number(stamp(event.timeUnixNano) - origin), attributes: event.attributes || [] })),
      links: span.links || [], dropped: (span.droppedAttributesCount || 0) + (span.droppedEventsCount || 0) + (span.droppedLinksCount || 0),
      children: [], depth: 0, hidden: false,
    };
  });
  const byID = new Map(spans.map((span) => [span.id, span]));
  const roots = [];
  const isAbove = (span, other) => {
    for (let up = other, steps = 0; up && steps < spans.length; up = byID.get(up.parent), steps++) if (up === span) return true;
    return false;
  };
  // Spans that began in the same moment stay in the order in which their sender wrote them.
  const early = (a, b) => a.start - b.start;
  for (const span of spans.sort(early)) {
    const parent = span.parent && byID.get(span.parent);
    if (!parent || parent === span || (span.loops = spans.length < 3000 && isAbove(span, parent))) roots.push(span);
    else parent.children.push(span);
  }
  const rows = [];
  const walk = [...roots].reverse();
  const seen = new Set();
  while (walk.length) {
    const span = walk.pop();
    if (seen.has(span)) continue;
    seen.add(span);
    rows.push(span);
    for (const child of [...span.children].reverse()) {
      child.depth = span.depth + 1;
      walk.push(child);
    }
  }
  const end = Math.max(1, ...rows.map((span) => span.start + span.took));
  return { rows, roots, end, origin, missing: roots.some((root) => root.parent && !byID.has(root.parent)), message: answer.message };
}

// ---- A trace, drawn --------------------------------------------------------------------------------------------

async function openTrace(id) {
  state.open = id;
  document.body.classList.add("reading");
  document.querySelectorAll("#rows a").forEach((row) => (row.dataset.id === id ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current")));
  drawPlot(ordered());
  const answer = await ask(`/api/v2/traces/${id}`);
  if (state.open !== id) return;
  if (!answer.trace.resourceSpans) {
    await wait("This trace is not here (yet).", "Spans arrive when a request has finished; a trace that made room for newer ones is gone for good.", () => state.open === id && openTrace(id));
    return;
  }
  drawTrace(id, forest(answer));
}

async function openRequest(request) {
  state.open = null;
  document.body.classList.add("reading");
  const here = location.pathname;
  const answer = await ask("/api/search", { q: `{ .x_request_id = ${quoted(request)} }`, limit: 1 });
  if (location.pathname !== here) return;
  if (answer.traces.length) return go(`/trace/${pad(answer.traces[0].traceID)}`, true);
  await wait(`No trace has the x-request-id “${request}” (yet).`, "Spans arrive when a request has finished.", () => location.pathname === here && openRequest(request));
}

/** Says what is missing and tries again while somebody looks. */
async function wait(title, text, again) {
  $("#trace").replaceChildren(back(), el("div", { className: "hello" }, el("h1", { textContent: title }), el("p", { textContent: text })));
  setTimeout(() => again() || null, 1500);
}

const back = () => el("a", { className: "crumb", href: `/${searchPart()}`, textContent: "← All traces", onclick: (event) => { event.preventDefault(); go("/"); } });

function copyButton(text) {
  return el("button", {
    type: "button", className: "copy", textContent: "copy",
    onclick: async (event) => {
      try {
        await navigator.clipboard.writeText(text);
        event.target.textContent = "copied";
      } catch {
        event.target.textContent = "not allowed";
      }
      setTimeout(() => (event.target.textContent = "copy"), 1200);
    },
  });
}

/** The first value under `key` in the spans, the outermost first. */
function first(rows, key) {
  for (const span of rows) if (span.attributes.has(key)) return plain(span.attributes.get(key)).text;
  return null;
}

function drawTrace(id, tree) {
  const { rows, roots, end, origin } = tree;
  const root = roots.find((span) => !span.parent) || roots[0];
  const request = first(rows, "x_request_id");
  const started = new Date(Number(origin / 1000000n));
  document.title = `${root.name} · ${length(end)}`;
  const ids = el("div", { className: "ids" },
    el("span", {}, "trace ", el("code", { textContent: id }), copyButton(id)),
    request ? el("span", {}, "x-request-id ", el("a", { href: `/request/${encodeURIComponent(request)}`, title: "A link that finds this trace by its x-request-id" }, el("code", { textContent: request })), copyButton(request)) : null,
    origin > 0n ? el("span", { title: started.toISOString() }, started.toLocaleString()) : null,
  );
  const parts = [back(), el("h1", { textContent: root.name }), ids, figures(tree)];
  if (tree.message) parts.push(el("p", { className: "fault", textContent: tree.message }));
  const wrong = faultCard(rows);
  if (wrong) parts.push(wrong);
  const phases = phaseBar(tree, root);
  if (phases) parts.push(phases);
  rows.filter((span) => span.attributes.has("router.candidates.worker_id")).slice(0, 4).forEach((span) => parts.push(choiceCard(span)));
  parts.push(waterfall(tree));
  $("#trace").replaceChildren(...parts);
  $("#trace").scrollTop = 0;
  state.shown = { id, tree };
}

function figures({ rows, end }) {
  const errors = rows.filter((span) => span.isError).length;
  const list = el("dl", { className: "card figures" });
  const add = (name, value, unit, kind) => {
    if (value === null || value === undefined) return;
    list.append(el("div", {}, el("dt", { textContent: name }), el("dd", { className: kind || "" }, String(value), unit ? el("small", { textContent: ` ${unit}` }) : null)));
  };
  const split = (nanoseconds) => length(nanoseconds).split(/ (.*)/);
  add("Duration", ...split(end));
  const ttft = first(rows, "ttft_ms"), gap = first(rows, "avg_itl_ms"), input = first(rows, "input_tokens"), cached = first(rows, "cached_tokens");
  if (ttft !== null) add("First token", ...split(Number(ttft) * 1e6));
  if (gap !== null) add("Between tokens", ...split(Number(gap) * 1e6));
  const grouped = (text) => (text !== null && /^\d{1,15}$/.test(text) ? Number(text).toLocaleString() : text);
  add("Tokens in", grouped(input), cached !== null && Number(cached) > 0 ? `${grouped(cached)} cached` : "");
  add("Tokens out", grouped(first(rows, "output_tokens")));
  const outcome = first(rows, "request.outcome"), status = first(rows, "http.response.status_code");
  if (outcome !== null || status !== null) {
    add("Outcome", outcome ?? status, outcome !== null && status !== null ? status : "", errors || Number(status) >= 500 ? "bad" : outcome === "success" ? "good" : "");
  }
  add("Spans", rows.length.toLocaleString(), errors ? plural(errors, "error") : "", errors ? "bad" : "");
  return list;
}

/** What went wrong, in the words of the spans where it did: those that failed and have no child that did. */
function faultCard(rows) {
  const said = new Map();
  for (const span of rows) {
    if (!span.isError || !span.status.message || span.children.some((child) => child.isError)) continue;
    if (!said.has(span.status.message)) said.set(span.status.message, span);
  }
  if (!said.size) return null;
  const list = [...said].slice(0, 4).map(([message, span]) => el("li", {}, el("b", { textContent: span.name }), el("span", { textContent: message })));
  if (said.size > 4) list.push(el("li", {}, el("span", { textContent: `and ${said.size - 4} more` })));
  return el("section", { className: "card wrong" }, el("h2", { textContent: "What went wrong" }), el("ul", {}, ...list));
}

/** One bar that says where a request's time went, from what the engine reports and what the router's spans took. */
function phaseBar({ rows, end }, root) {
  const engines = rows.filter((span) => span.name === "engine.generate" && (span.attributes.has("prefill_ms") || span.attributes.has("decode_ms")));
  if (!engines.length || root.parent) return null;
  const sum = (names) => rows.filter((span) => names.includes(span.name)).reduce((total, span) => total + span.took, 0);
  const engine = (key) => engines.reduce((total, span) => total + Number(plain(span.attributes.get(key) || { intValue: "0" }).text) * 1e6, 0);
  const parts = [
    ["preprocess", sum(["preprocess"]), "c0"], ["choose a worker", sum(["kv_router.select_worker"]), "c4"],
    ["wait in the engine", engine("queue_ms"), "c3"], ["prefill", engine("prefill_ms"), "c1"], ["decode", engine("decode_ms"), "c2"],
  ].filter(([, took]) => took > 0);
  const known = parts.reduce((total, [, took]) => total + took, 0);
  if (end > known) parts.push(["network and the rest", end - known, "rest"]);
  const bar = el("div", { className: "bar" });
  const legend = el("ul", { className: "legend" });
  for (const [name, took, kind] of parts) {
    const piece = el("i", { className: kind, title: `${name}: ${length(took)}` });
    piece.style.flexGrow = String(took);
    bar.append(piece);
    legend.append(el("li", {}, el("i", { className: `dot ${kind}` }), `${name} `, el("b", { textContent: length(took) })));
  }
  return el("section", { className: "card" }, el("h2", { textContent: "Where the time went" }), el("div", { className: "phases" }, bar, legend));
}

/** The routing decision: each candidate with what spoke for and against it. */
function choiceCard(span) {
  const get = (key) => (span.attributes.has(key) ? plain(span.attributes.get(key)).text : null);
  const list = (key) => numbers(span.attributes.get(`router.candidates.${key}`));
  const ids = list("worker_id"), overlaps = list("overlap_blocks"), decode = list("active_decode_blocks"), prefill = list("active_prefill_tokens"), costs = list("cost"), refused = list("refused");
  const chosen = get("worker_id"), blocks = Number(get("num_blocks") || 0);
  const cards = ids.map((id, index) => {
    const why = refused[index] || "";
    const won = id === chosen;
    const facts = el("dl", {});
    const add = (name, value, ...more) => value !== undefined && facts.append(el("dt", { textContent: name }), el("dd", { textContent: value }), ...more);
    const share = el("i");
    share.style.width = `${blocks ? Math.min(100, (100 * Number(overlaps[index] || 0)) / blocks) : 0}%`;
    add("prompt cached", overlaps[index] === undefined ? undefined : blocks ? `${overlaps[index]} of ${blocks} blocks` : `${overlaps[index]} blocks`, el("div", { className: "hit" }, share));
    add("decoding", decode[index] === undefined ? undefined : plural(Number(decode[index]), "block"));
    add("prefilling", prefill[index] === undefined ? undefined : plural(Number(prefill[index]), "token"));
    if (costs[index] !== undefined) facts.append(el("div", { className: "cost" }, el("dt", { textContent: "cost" }), el("dd", { textContent: String(+Number(costs[index]).toFixed(3)) })));
    return el("div", { className: `worker${won ? " won" : ""}${why ? " no" : ""}` }, el("h3", {}, id, el("span", { textContent: won ? "chosen" : why.replaceAll("_", " ") })), facts);
  });
  const told = [];
  const count = Number(get("router.candidate_count") || ids.length);
  told.push(count > ids.length ? `the best ${ids.length} of ${count}` : plural(ids.length, "candidate"));
  if (get("router.margin") !== null && ids.length > 1) told.push(Number(get("router.margin")) < 0 ? "not the cheapest" : Number(get("router.margin")) === 0 ? "a tie" : `${+Number(get("router.margin")).toFixed(3)} better than the next`);
  if (get("router.queued_ms") !== null) told.push(`queued ${length(Number(get("router.queued_ms")) * 1e6)}`);
  if (get("router.cache_source") !== null) told.push(`cache ${get("router.cache_source")}`);
  if (get("router.mode") !== null) told.push(`mode ${get("router.mode")}`);
  return el("section", { className: "card" }, el("h2", {}, "How the worker was chosen", el("small", { textContent: told.join(" · ") })), el("div", { className: "choice" }, ...cards));
}

// ---- The waterfall ---------------------------------------------------------------------------------------------

const ROWS_AT_ONCE = 500;

function waterfall(tree) {
  const { rows, end } = tree;
  const services = [...new Set(rows.map((span) => span.service))];
  const ticks = el("div", { className: "ticks" });
  for (const quarter of [0, 1, 2, 3, 4]) {
    const tick = el("span", { textContent: quarter ? length((end * quarter) / 4) : "0" });
    tick.style.left = `${quarter * 25}%`;
    ticks.append(tick);
  }
  const body = el("div", { role: "tree", "aria-label": "Spans", onkeydown: spanKeys });
  const card = el("section", { className: "card fall" },
    el("h2", {}, "Spans", el("small", { textContent: `${plural(rows.length, "span")}, ${plural(services.length, "service")}` })),
    el("div", { className: "services" }, ...services.map(serviceLabel)),
    el("div", { className: "axis" }, el("span", { textContent: "span" }), ticks), body);
  let drawn = 0;
  const more = () => {
    const part = rows.slice(drawn, drawn + ROWS_AT_ONCE);
    part.forEach((span) => body.append((span.node = spanRow(span, tree))));
    drawn += part.length;
    if (drawn < rows.length) {
      const rest = el("button", { type: "button", className: "quiet", textContent: `Show more of ${plural(rows.length, "span")}`, onclick: () => { rest.remove(); more(); } });
      body.append(rest);
    }
  };
  if (tree.missing) body.append(el("p", { className: "missing", textContent: "A span’s parent is not here: it has not come yet, or its sender keeps it elsewhere." }));
  more();
  const top = $(".row", body);
  if (top) top.tabIndex = 0;
  return card;
}

function spanRow(span, { end }) {
  const percent = (time) => (100 * time) / end;
  const bar = el("div", { className: "time" });
  bar.style.left = `${percent(span.start)}%`;
  bar.style.width = `${percent(span.took)}%`;
  const lane = el("div", { className: "lane" }, bar);
  // The length stands behind the bar, or within it where it would leave the lane.
  const text = el("span", { className: "took", textContent: length(span.took) });
  const after = percent(span.start + span.took);
  if (after > 88 && percent(span.took) > 18) {
    text.classList.add("in");
    text.style.right = `${100 - after}%`;
  } else text.style.left = `${Math.min(after, 100)}%`;
  lane.append(text);
  for (const event of span.events.slice(0, 40)) {
    const mark = el("i", { className: "event", title: `${event.name} at ${length(Math.max(0, event.at))}` });
    mark.style.left = `${Math.min(100, Math.max(0, percent(event.at)))}%`;
    lane.append(mark);
  }
  const note = [span.attributes.has("phase") ? plain(span.attributes.get("phase")).text : "", span.attributes.has("request.attempt") && plain(span.attributes.get("request.attempt")).text !== "1" ? `attempt ${plain(span.attributes.get("request.attempt")).text}` : ""].filter((word) => word && word !== "Aggregated").join(" · ");
  const fold = el("button", { type: "button", className: "fold", tabIndex: -1, disabled: !span.children.length, textContent: "▾", "aria-label": "Fold or unfold children", onclick: (event) => { event.stopPropagation(); setFold(span, !span.folded); } });
  const row = el("div", {
    className: `row ${colour(span.service)}${span.isError ? " bad" : ""}`, role: "treeitem", tabIndex: -1, "aria-expanded": "false", "aria-level": span.depth + 1,
    title: `${span.service ? `${span.service}: ` : ""}${span.name}, ${length(span.took)}`,
    onclick: () => { row.focus(); toggle(span); },
  }, el("div", { className: "label" }, fold, el("i", { className: "mark" }), el("span", { className: "name", textContent: span.name }), note ? el("small", { textContent: note }) : null, span.isError ? el("span", { className: "badge", textContent: "error" }) : null), lane);
  // What lies deep is set in less and less, so that its name has room.
  row.style.setProperty("--d", Math.min(span.depth, 6) + Math.min(Math.max(span.depth - 6, 0), 15) / 3);
  row.span = span;
  return row;
}

function toggle(span) {
  const isOpen = span.node.getAttribute("aria-expanded") === "true";
  span.node.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) {
    span.details?.remove();
    span.details = null;
  } else {
    span.details = spanDetails(span);
    span.node.after(span.details);
  }
}

function setFold(span, folded) {
  if (!span.children.length) return;
  span.folded = folded;
  $(".fold", span.node).textContent = folded ? "▸" : "▾";
  const hide = (children, hidden) => {
    for (const child of children) {
      if (!child.node) continue;
      child.node.hidden = hidden;
      if (child.details) child.details.hidden = hidden;
      hide(child.children, hidden || Boolean(child.folded));
    }
  };
  hide(span.children, folded);
}

function spanKeys(event) {
  const row = event.target.closest(".row");
  if (!row || event.metaKey || event.ctrlKey || event.altKey) return;
  const visible = [...row.parentNode.querySelectorAll(".row")].filter((other) => !other.hidden);
  const at = visible.indexOf(row);
  const move = (to) => {
    if (!to) return;
    row.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  switch (event.key) {
    case "ArrowDown": move(visible[at + 1]); break;
    case "ArrowUp": move(visible[at - 1]); break;
    case "Home": move(visible[0]); break;
    case "End": move(visible.at(-1)); break;
    case "Enter": case " ": toggle(row.span); break;
    case "ArrowLeft": setFold(row.span, true); break;
    case "ArrowRight": setFold(row.span, false); break;
    default: return;
  }
  event.preventDefault();
  event.stopPropagation();
}

function table(pairs) {
  return el("table", {}, el("tbody", {}, ...pairs.map(({ key, value }) => {
    const { text, kind } = plain(value);
    return el("tr", {}, el("td", { textContent: key }), el("td", { className: kind, textContent: text }));
  })));
}

function spanDetails(span) {
  const box = el("div", { className: `open ${colour(span.service)}` });
  const fact = (name, value) => value && el("span", {}, `${name} `, el("b", { textContent: value }));
  box.append(el("div", { className: "facts" }, ...[
    fact("service", span.service), fact("kind", span.kind), fact("starts at", length(span.start)), fact("takes", length(span.took)),
    fact("own time", length(ownTime(span))), fact("span id", span.id), fact("scope", [span.scope.name, span.scope.version].filter(Boolean).join(" ")),
  ].filter(Boolean)));
  if (span.isError || span.status.message) box.append(el("p", { className: span.isError ? "message" : "", textContent: span.status.message || "This span failed." }));
  const attributes = [...span.attributes].map(([key, value]) => ({ key, value }));
  if (attributes.length) box.append(table(attributes));
  if (span.events.length) {
    box.append(el("h4", { textContent: plural(span.events.length, "event") }));
    box.append(el("table", {}, el("tbody", {}, ...span.events.slice(0, 200).map((event) => el("tr", {}, el("td", { textContent: `${event.name}  +${length(Math.max(0, event.at - span.start))}` }), el("td", { textContent: event.attributes.map((pair) => `${pair.key}=${plain(pair.value).text}`).join("\n") }))))));
  }
  if (span.links.length) {
    box.append(el("h4", { textContent: plural(span.links.length, "link") }));
    box.append(el("table", {}, el("tbody", {}, ...span.links.map((link) => el("tr", {}, el("td", {}, el("a", { href: `/trace/${hex(link.traceId)}`, textContent: hex(link.traceId) === state.open ? "this trace" : hex(link.traceId) })), el("td", { textContent: `span ${hex(link.spanId)}` }))))));
  }
  if (span.dropped) box.append(el("p", { className: "missing", textContent: `${span.dropped} attributes, events or links were dropped by the sender.` }));
  if (span.resource.length) box.append(el("details", {}, el("summary", { textContent: "Resource" }), table(span.resource)));
  return box;
}

/** The time in which no child of a span ran. */
function ownTime(span) {
  const ranges = span.children.map((child) => [Math.max(span.start, child.start), Math.min(span.start + span.took, child.start + child.took)]).filter(([from, to]) => to > from).sort((a, b) => a[0] - b[0]);
  let covered = 0, reached = span.start;
  for (const [from, to] of ranges) {
    if (to <= reached) continue;
    covered += to - Math.max(from, reached);
    reached = to;
  }
  return span.took - covered;
}

// ---- The first look --------------------------------------------------------------------------------------------

function greet() {
  const pane = $("#trace");
  const isFed = state.traces.length > 0 || state.held > 0;
  if (state.held === undefined || (pane.dataset.greeting === String(isFed) && pane.firstChild)) return;
  pane.dataset.greeting = String(isFed);
  document.title = "Traces";
  const mark = $(".brand svg").cloneNode(true);
  pane.replaceChildren(isFed
    ? el("div", { className: "hello" }, mark, el("h1", { textContent: "Pick a trace" }), el("p", {}, "Choose one from the list, or press ", el("kbd", { textContent: "j" }), ". New ones appear by themselves while Live is on."))
    : el("div", { className: "hello" }, mark, el("h1", { textContent: "Waiting for the first trace" }), el("p", { textContent: "Send a request to the frontend, and it shows up here as soon as it is answered:" }),
      el("pre", { textContent: `curl http://${location.hostname}:8000/v1/chat/completions \\\n  -H 'Content-Type: application/json' -H 'x-request-id: test-trace-001' \\\n  -d '{"model": "Qwen/Qwen3-0.6B", "stream": true, "max_completion_tokens": 50,\n       "messages": [{"role": "user", "content": "What is the capital of France?"}]}'` })));
}

// ---- Where we are ----------------------------------------------------------------------------------------------

async function follow() {
  const [, kind, rest] = /^\/(trace|request)\/(.+)$/.exec(location.pathname) || [];
  const pane = $("#trace");
  if (!kind) {
    state.open = null;
    document.body.classList.remove("reading");
    delete pane.dataset.greeting;
    pane.replaceChildren();
    drawList();
    return;
  }
  delete pane.dataset.greeting;
  try {
    if (kind === "trace") await openTrace(pad(rest.toLowerCase()));
    else {
      let request = rest;
      try { request = decodeURIComponent(rest); } catch { /* taken as it stands */ }
      await openRequest(request);
    }
  } catch (error) {
    pane.replaceChildren(back(), el("div", { className: "hello" }, el("h1", { textContent: "This trace cannot be shown" }), el("p", { textContent: error instanceof Refused ? error.message : "The trace store does not answer." })));
  }
}

// ---- Listening -------------------------------------------------------------------------------------------------

function submit() {
  for (const key of Object.keys(blank)) state.form[key] = form.elements[key].value.trim();
  state.limit = 40;
  state.seen = null;
  history.replaceState(null, "", location.pathname + searchPart());
  search();
}

form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
form.addEventListener("reset", () => setTimeout(submit));
form.addEventListener("change", (event) => { if (event.target.tagName === "SELECT") submit(); });
form.elements.q.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); submit(); } });
form.addEventListener("focusin", () => { if (Date.now() - (state.completed || 0) > 10000) { state.completed = Date.now(); completions(); } });

document.querySelectorAll("[data-sort]").forEach((button) => button.addEventListener("click", () => {
  state.sort = button.dataset.sort;
  document.querySelectorAll("[data-sort]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  drawList();
}));

$("#more").addEventListener("click", () => { state.limit = Math.min(2000, state.limit * 3); search(); });
$("#jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("#find").value.trim();
  if (!text) return;
  go(/^[0-9a-f]{32}$/i.test(text) ? `/trace/${text.toLowerCase()}` : `/request/${encodeURIComponent(text)}`);
  $("#find").blur();
});

function setLive(live) {
  state.live = live;
  $("#live").setAttribute("aria-pressed", String(live));
}
$("#live").addEventListener("click", () => setLive(!state.live));
$("#help").addEventListener("click", () => $("#keys").showModal());
$(".brand").addEventListener("click", (event) => { if (!event.metaKey && !event.ctrlKey) { event.preventDefault(); go("/"); } });
window.addEventListener("popstate", () => { readAddress(); search(); follow(); });
window.addEventListener("resize", () => drawPlot(ordered()));

function step(by) {
  const ids = ordered().map((trace) => trace.id);
  if (!ids.length) return;
  const at = ids.indexOf(state.open);
  const id = ids[at < 0 ? 0 : Math.min(ids.length - 1, Math.max(0, at + by))];
  go(`/trace/${id}`);
  $(`#rows a[data-id="${id}"]`)?.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || $("#keys").open) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (state.open || location.pathname !== "/") go("/");
    return;
  }
  if (typing) return;
  switch (event.key) {
    case "/": $("#find").focus(); $("#find").select(); break;
    case "j": step(1); break;
    case "k": step(-1); break;
    case "l": setLive(!state.live); break;
    case "?": $("#keys").showModal(); break;
    case "ArrowDown": {
      const row = $("#trace .row");
      if (!row || event.target !== document.body) return;
      row.focus();
      break;
    }
    default: return;
  }
  event.preventDefault();
});

/** New traces are looked for while Live is on and the page can be seen; one question at a time. */
async function tail() {
  let known = null;
  for (;;) {
    await new Promise((done) => setTimeout(done, 1500));
    if (document.hidden) continue;
    const status = await held();
    if (!status || !state.live) continue;
    const now = `${status.spansStored}/${status.tracesEvicted}`;
    if (now === known) {
      // Nothing came: only the ages grow.
      document.querySelectorAll("#rows a").forEach((row, index) => {
        const trace = ordered()[index];
        if (trace?.start) $(".when", row).textContent = ago(trace.start);
      });
      continue;
    }
    known = now;
    await search(true);
    // A trace that was opened before its last spans came is drawn anew.
    const listed = state.traces.find((trace) => trace.id === state.open);
    if (listed && state.shown?.id === listed.id && listed.spans !== state.shown.tree.rows.length) openTrace(listed.id).catch(() => {});
  }
}

readAddress();
// On a phone the list comes first.
$("#filters").open = window.innerWidth > 760 || Object.values(state.form).some(Boolean);
completions();
held().then(() => search());
follow();
tail();
