// The chat page: one conversation, kept in this browser, streamed from /v1/chat/completions.

import { render } from "/static/markdown.js";

const find = (id) => document.getElementById(id);
const [log, welcome, form, text, send, picker, dot, state, speed] =
  ["log", "welcome", "composer", "text", "send", "model", "dot", "state", "speed"].map(find);

const HISTORY = "lmx.history";
const MODEL = "lmx.model";
const BUSY = ["queued", "loading", "warming", "canary", "draining", "unloading", "backoff"];
const BAD = ["quarantined", "failed", "unkillable"];

let turns = recall(HISTORY, []);
let running = null; // AbortController of the reply that is being written

function recall(key, fallback) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? fallback;
  } catch {
    return fallback;
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Private windows and full disks: the page works all the same, until it is closed.
  }
}

// --- the key, where the server asks for one: kept until this tab is closed ---------------------------------------------

const KEY = "lmx.key";
let key = "";
let asking = true; // until somebody has no key to give
try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch {
  // As above.
}

async function ask(path, options) {
  for (;;) {
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const signal = options.signal ?? AbortSignal.timeout(5000);
    const reply = await fetch(path, { ...options, headers, signal });
    if (reply.status !== 401 || !asking) return reply;
    const given = prompt(key ? "This key does not fit. API key of this server:" : "API key of this server:")?.trim();
    asking = Boolean(given);
    if (!asking) return reply;
    key = given;
    try {
      sessionStorage.setItem(KEY, key);
    } catch {
      // As above.
    }
  }
}

// --- the models and their states ------------------------------------------------------------------------------------

let models = [];

async function refresh() {
  try {
    const reply = await ask("/v1/models", {});
    if (!reply.ok) throw new Error(reply.statusText);
    models = (await reply.json()).data;
    fill();
    show(models.find((model) => model.id === picker.value));
  } catch {
    dot.className = "dot bad";
    state.textContent = "no answer from the server";
  }
}

function fill() {
  const names = models.map((model) => model.id);
  if (names.join("\n") === [...picker.options].map((option) => option.value).join("\n")) return;
  const wanted = picker.value || recall(MODEL, names[0]);
  picker.replaceChildren(...names.map((name) => new Option(name, name)));
  picker.value = names.includes(wanted) ? wanted : names[0];
}

function show(model) {
  if (!model) return;
  const kind = model.state === "ready" ? "ready" : BUSY.includes(model.state) ? "busy" : BAD.includes(model.state) ? "bad" : "";
  const progress = model.state === "loading" ? model.facts?.load_progress : null;
  dot.className = `dot ${kind}`;
  state.textContent = progress ? `loading ${Math.round(progress * 100)} %` : model.state === "unloaded" ? "loads when asked" : model.state;
  picker.title = model.reason || "";
}

// --- the conversation -----------------------------------------------------------------------------------------------

function element(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content) made.textContent = content;
  return made;
}

function addTurn(turn) {
  welcome.remove();
  const row = element("article", `turn ${turn.role}`);
  const body = row.appendChild(element("div"));
  if (turn.role === "user") body.textContent = turn.content;
  else render(body, turn.content);
  if (turn.thoughts) think(row, turn.thoughts);
  if (turn.note) row.append(element("p", "note", turn.note));
  log.append(row);
  return row;
}

function think(row, thoughts) {
  let box = row.querySelector("details");
  if (!box) {
    box = element("details", "thoughts");
    box.append(element("summary", "", "Thoughts"), element("p"));
    row.prepend(box);
  }
  box.lastChild.textContent = thoughts;
}

function atBottom() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

function toBottom() {
  log.scrollTop = log.scrollHeight;
}

function fail(row, message) {
  const box = element("div", "failed");
  box.setAttribute("role", "alert");
  box.append(element("span", "", message));
  const again = element("button", "", "Try again");
  again.type = "button";
  again.onclick = () => {
    if (running) return;
    row.remove();
    answer();
  };
  box.append(again);
  row.append(box);
}

// --- the stream -----------------------------------------------------------------------------------------------------

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) if (block.startsWith("data: ")) yield block.slice(6);
  }
}

async function* chunks(signal) {
  const messages = turns.map(({ role, content }) => ({ role, content }));
  const asked = { model: picker.value, messages, stream: true, stream_options: { include_usage: true } };
  const reply = await ask("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
    signal,
  });
  if (!reply.ok) {
    const body = await reply.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered with status ${reply.status}.`);
  }
  for await (const data of events(reply)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    yield chunk;
  }
  throw new Error("The connection broke before the answer was complete.");
}

async function answer() {
  const turn = { role: "assistant", content: "" };
  const row = addTurn(turn);
  const body = row.firstChild;
  let [drawn, failure] = [0, null];
  const draw = () => {
    drawn = 0;
    const stick = atBottom();
    render(body, turn.content);
    if (turn.thoughts) think(row, turn.thoughts);
    if (stick) toBottom();
  };
  begin(row);
  let [usage, reason, first] = [null, null, 0];
  try {
    for await (const chunk of chunks(running.signal)) {
      const choice = chunk.choices[0];
      usage = chunk.usage ?? usage;
      reason = choice?.finish_reason ?? reason;
      const { content, reasoning_content: thought } = choice?.delta ?? {};
      if (!content && !thought) continue;
      first ||= performance.now();
      turn.content += content ?? "";
      if (thought) turn.thoughts = (turn.thoughts ?? "") + thought;
      drawn ||= requestAnimationFrame(draw);
    }
    if (reason === "length") turn.note = "It stopped here because it ran out of room.";
  } catch (error) {
    if (error.name === "AbortError") turn.note = "Stopped.";
    else failure = error instanceof TypeError ? "The server cannot be reached." : error.message;
  }
  cancelAnimationFrame(drawn);
  draw();
  end(row);
  if (turn.note) row.append(element("p", "note", turn.note));
  if (failure) fail(row, failure);
  else if (turn.content) {
    turns.push(turn);
    keep(HISTORY, turns);
  }
  const seconds = (performance.now() - first) / 1000;
  speed.textContent = usage && first ? `${usage.completion_tokens} tokens · ${(usage.completion_tokens / seconds).toFixed(0)} per second` : "";
  toBottom();
  refresh();
}

function begin(row) {
  running = new AbortController();
  row.classList.add("waiting");
  document.body.classList.add("streaming");
  send.disabled = false;
  send.setAttribute("aria-label", "Stop");
  toBottom();
}

function end(row) {
  running = null;
  row.classList.remove("waiting");
  document.body.classList.remove("streaming");
  send.setAttribute("aria-label", "Send");
  fit();
}

function submit(content) {
  if (running || !content.trim()) return;
  if (turns.at(-1)?.role === "user") turns.pop(); // its answer failed: this message takes its place
  turns.push({ role: "user", content });
  keep(HISTORY, turns);
  addTurn(turns.at(-1));
  text.value = "";
  fit();
  answer();
}

// --- the controls ---------------------------------------------------------------------------------------------------

function fit() {
  text.rows = Math.min(12, text.value.split("\n").length);
  send.disabled = !running && !text.value.trim();
}

form.onsubmit = (event) => {
  event.preventDefault();
  if (running) running.abort();
  else submit(text.value);
};
text.oninput = fit;
text.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!running) submit(text.value);
};
document.onkeydown = (event) => {
  if (event.key === "Escape") running?.abort();
};
picker.onchange = () => {
  keep(MODEL, picker.value);
  show(models.find((model) => model.id === picker.value));
};
find("clear").onclick = () => {
  running?.abort();
  turns = [];
  keep(HISTORY, turns);
  speed.textContent = "";
  log.replaceChildren(welcome);
  text.focus();
};
for (const idea of document.querySelectorAll(".ideas button")) idea.onclick = () => submit(idea.textContent);

turns.forEach(addTurn);
if (turns.at(-1)?.role === "user") fail(addTurn({ role: "assistant", content: "" }), "This message has no answer yet.");
fit();
toBottom();
refresh();
setInterval(() => document.hidden || refresh(), 3000);
