// The little Markdown that models write, drawn with DOM nodes only: no text of a model is ever parsed as HTML.

const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*)/;
const LIST = /^\s*(?:([-*+])|\d+[.)])\s+(.*)$/;

function make(tag, content) {
  const made = document.createElement(tag);
  if (content !== undefined) made.append(...inline(content));
  return made;
}

function inline(text) {
  return text.split(INLINE).filter(Boolean).map((part) => {
    const tag = part.startsWith("`") ? "code" : part.startsWith("**") ? "strong" : part.startsWith("*") ? "em" : null;
    if (!tag || !INLINE.test(part)) return document.createTextNode(part);
    const made = document.createElement(tag);
    const marks = tag === "strong" ? 2 : 1;
    made.textContent = part.slice(marks, -marks);
    return made;
  });
}

function code(lines) {
  const pre = document.createElement("pre");
  const body = pre.appendChild(document.createElement("code"));
  body.textContent = lines.join("\n");
  if (navigator.clipboard) {
    const copy = pre.appendChild(document.createElement("button"));
    copy.type = "button";
    copy.textContent = "Copy";
    copy.onclick = () => navigator.clipboard.writeText(body.textContent).then(() => (copy.textContent = "Copied"));
  }
  return pre;
}

function list(lines) {
  const made = document.createElement(LIST.exec(lines[0])[1] ? "ul" : "ol");
  if (made.tagName === "OL") made.start = parseInt(lines[0].trim(), 10);
  made.append(...lines.map((line) => make("li", LIST.exec(line)[2])));
  return made;
}

// A block is a run of lines of one kind.
function* blocks(text) {
  let run = [];
  let kind = "";
  for (const line of text.split("\n")) {
    if (kind === "code") {
      if (line.trimStart().startsWith("```")) {
        yield [kind, run];
        [kind, run] = ["", []];
      } else run.push(line);
      continue;
    }
    const next = line.trimStart().startsWith("```") ? "code" : LIST.test(line) ? "list" : /^#{1,6}\s/.test(line) ? "head" : line.trim() ? "text" : "";
    if (next !== kind || next === "head") {
      if (run.length) yield [kind, run];
      run = [];
    }
    kind = next;
    if (kind && kind !== "code") run.push(line);
  }
  if (run.length || kind === "code") yield [kind, run];
}

const DRAW = {
  code,
  list,
  head: (lines) => make("h3", lines[0].replace(/^#+\s+/, "")),
  text: (lines) => make("p", lines.join("\n")),
};

export function render(target, text) {
  target.replaceChildren(...[...blocks(text)].map(([kind, lines]) => DRAW[kind](lines)));
}
