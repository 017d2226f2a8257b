// `/docs`: a page that shows `/openapi.json` and lets one try a route. It loads nothing from elsewhere.

/// The page, in one piece.
enum DocsPage {
  /// Only what is in the page runs, and only this server is asked.
  static let policy: StaticString =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'"

  static let html: StaticString = #"""
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>dynamo-frontend: API</title>
    <style>
    :root { color-scheme: light dark; --line: #8885; --mark: #76b900; }
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
    h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
    details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
    summary { cursor: pointer; padding: .5rem .8rem; }
    details > div { padding: 0 .8rem .8rem; }
    code, pre, textarea, input { font: 13px/1.45 ui-monospace, monospace; }
    .verb { display: inline-block; min-width: 3.2rem; font-weight: 600; color: var(--mark); }
    .note { opacity: .75; }
    pre { border: 1px solid var(--line); border-radius: 6px; padding: .6rem; overflow: auto; max-height: 24rem;
      white-space: pre-wrap; overflow-wrap: anywhere; }
    textarea { width: 100%; min-height: 9rem; box-sizing: border-box; }
    input { width: 16rem; } button { padding: .3rem 1rem; margin: .4rem .4rem .4rem 0; }
    table { border-collapse: collapse; } td, th { text-align: left; padding: .1rem 1rem .1rem 0; vertical-align: top; }
    </style>
    <h1>dynamo-frontend <small class="note" id="version"></small></h1>
    <p class="note" id="about">Loading <a href="openapi.json">openapi.json</a> …</p>
    <p><label>API key <input id="key" type="password" autocomplete="off" placeholder="none"></label></p>
    <main id="routes"></main>
    <script>
    "use strict";
    const make = (tag, props = {}, ...children) => {
      const node = Object.assign(document.createElement(tag), props);
      node.append(...children);
      return node;
    };
    let spec, model = "MODEL";
    const resolve = schema => schema && schema.$ref
      ? spec.components.schemas[schema.$ref.split("/").pop()] : schema || {};
    const kind = schema => {
      schema = resolve(schema);
      if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
      if (schema.type === "array") return "array of " + kind(schema.items);
      return schema.type || "any";
    };
    const examples = {
      model: () => model, messages: () => [{ role: "user", content: "What is the capital of France?" }],
      prompt: () => "Once upon a time", input: () => "The quick brown fox", query: () => "capital of France",
      documents: () => ["Paris is the capital of France.", "Berlin is in Germany."],
      text_1: () => "a river", text_2: () => ["a lake", "a clock"],
      max_tokens: () => 64, max_completion_tokens: () => 64, max_output_tokens: () => 64, tokens: () => [1, 2, 3],
    };
    const example = schema => {
      const body = {}, properties = resolve(schema).properties || {};
      const wanted = new Set(resolve(schema).required || Object.keys(properties));
      for (const name of Object.keys(properties))
        if (wanted.has(name) || name.startsWith("max_")) if (examples[name]) body[name] = examples[name]();
      return JSON.stringify(body, null, 2);
    };
    async function attempt(method, path, text, output) {
      output.textContent = "";
      const headers = {}, key = document.getElementById("key").value;
      if (key) { headers.authorization = "Bearer " + key; headers["x-api-key"] = key; }
      if (text !== null) headers["content-type"] = "application/json";
      try {
        const answer = await fetch(path.slice(1), { method: method.toUpperCase(), headers, body: text ?? undefined });
        output.textContent = answer.status + " " + answer.statusText + "\n";
        for (const [name, value] of answer.headers) output.textContent += name + ": " + value + "\n";
        output.textContent += "\n";
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let part; !(part = await reader.read()).done;) output.append(part.value);
      } catch (error) { output.append(String(error)); }
    }
    function operation(path, method, what) {
      const box = make("div"), schema = what.requestBody?.content["application/json"].schema;
      const table = make("table");
      for (const parameter of what.parameters || [])
        table.append(make("tr", {}, make("td", {}, make("code", { textContent: parameter.name })),
          make("td", { textContent: parameter.in }), make("td", { className: "note", textContent: parameter.description || "" })));
      const required = new Set(resolve(schema).required || []);
      for (const [name, value] of Object.entries(resolve(schema).properties || {}))
        table.append(make("tr", {}, make("td", {}, make("code", { textContent: name })),
          make("td", { textContent: kind(value) }), make("td", { className: "note", textContent: required.has(name) ? "required" : "" })));
      box.append(table);
      const address = make("input", { value: path.replace("{model}", encodeURIComponent(model)) });
      const text = schema ? make("textarea", { value: example(schema), spellcheck: false }) : null;
      const output = make("pre"), button = make("button", { textContent: "Send" });
      button.onclick = () => attempt(method, address.value, text ? text.value : null, output);
      if (text) box.append(text);
      box.append(make("div", {}, button, address), output);
      box.append(make("p", { className: "note", textContent: "Answers: " + Object.keys(what.responses).join(", ") }));
      return make("details", {}, make("summary", {}, make("span", { className: "verb", textContent: method.toUpperCase() }),
        make("code", { textContent: path }), " ", make("span", { className: "note", textContent: what.summary })), box);
    }
    (async () => {
      spec = await (await fetch("openapi.json")).json();
      try { model = (await (await fetch("v1/models")).json()).data[0].id; } catch { /* no worker yet */ }
      document.getElementById("version").textContent = spec.info.version;
      document.getElementById("about").textContent = spec.info.description;
      const groups = {};
      for (const [path, item] of Object.entries(spec.paths))
        for (const [method, what] of Object.entries(item)) (groups[what.tags[0]] ??= []).push(operation(path, method, what));
      for (const [name, list] of Object.entries(groups))
        document.getElementById("routes").append(make("h2", { textContent: name }), ...list);
    })();
    </script>
    </html>
    """#
}
