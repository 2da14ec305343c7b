// Keeps the page as the database is: the stream says that something happened, the page then asks for what it shows.
"use strict";

const GATHER = 200; // ms: what happens in between is asked for once
const GRACE = 2500; // ms without a stream before the page says that it may be old
const AGAIN = 5000; // ms until a stream that was refused is asked for again
const LIMIT = 10000; // ms for an answer

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const live = document.getElementById("live");
const liveWords = document.getElementById("live-words");
const shown = new Map(); // section id -> as the server sent it, since scripts change it afterwards

let asking = false;
let again = false;
let staleTimer = 0;

function remember(root) {
  for (const part of root.children) shown.set(part.id, part.outerHTML);
}

async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(main.dataset.part + location.search, { signal: AbortSignal.timeout(LIMIT), cache: "no-cache" });
    if (!(answer.headers.get("content-type") || "").startsWith("text/html")) throw new Error(answer.statusText);
    show(await answer.text());
  } catch {
    again = true; // the server is away or slow: what is shown stays, and the stream's state says how old it is
    await new Promise((resolve) => setTimeout(resolve, 1000));
  } finally {
    asking = false;
    setTimeout(() => {
      if (again) {
        again = false;
        refresh();
      }
    }, GATHER);
  }
}

function show(html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const parts = [...fresh.content.children];
  const down = Boolean(fresh.content.querySelector("[data-down]"));
  document.body.dataset.state = down ? "down" : "";
  const gone = new Map([...main.children].map((part) => [part.id, part]));
  const focused = pathTo(document.activeElement);
  let place = null;
  for (const part of parts) {
    const old = gone.get(part.id);
    gone.delete(part.id);
    if (old && shown.get(part.id) === part.outerHTML) {
      place = old;
      continue;
    }
    shown.set(part.id, part.outerHTML);
    if (old) {
      keepPlace(old, part);
      markChanges(old, part);
      old.replaceWith(part);
    } else if (place) place.after(part);
    else main.prepend(part);
    drawCharts(part);
    place = part;
  }
  // While the database is away the last figures stay, dimmed.
  if (!down) for (const [id, part] of gone) (shown.delete(id), part.remove());
  if (focused) main.querySelector(focused)?.focus({ preventScroll: true });
}

// What a person opened stays open.
function keepPlace(old, part) {
  for (const details of old.querySelectorAll("details[open]")) {
    const same = part.querySelector(`details[data-keep="${CSS.escape(details.dataset.keep)}"]`);
    if (same) same.open = true;
  }
}

function markChanges(old, part) {
  const figures = [...old.querySelectorAll("[data-figure]")];
  for (const figure of part.querySelectorAll("[data-figure]")) {
    const was = figures.find((f) => f.dataset.figure === figure.dataset.figure && f.dataset.token === figure.dataset.token);
    if (was && was.textContent !== figure.textContent) figure.classList.add("changed");
  }
}

// Where the keyboard is, as a selector that finds the same place after a section was replaced.
function pathTo(element) {
  const section = element?.closest?.("main [id]");
  if (!section || element === main) return null;
  const steps = [];
  for (let e = element; e !== section; e = e.parentElement) {
    steps.unshift(`${e.tagName.toLowerCase()}:nth-child(${[...e.parentElement.children].indexOf(e) + 1})`);
  }
  return [`#${CSS.escape(section.id)}`, ...steps].join(" > ");
}

function say(state, words) {
  live.dataset.state = state;
  liveWords.textContent = words;
}

function isLive() {
  clearTimeout(staleTimer);
  staleTimer = 0;
  banner.hidden = true;
  say("live", "Live");
}

function isLost() {
  if (staleTimer) return;
  const since = new Date().toISOString().slice(11, 19);
  staleTimer = setTimeout(() => {
    say("stale", "Not live");
    banner.textContent = `The connection was lost at ${since} UTC. What is shown may be old. Trying to reconnect…`;
    banner.hidden = false;
  }, GRACE);
}

function listen() {
  const stream = new EventSource("v1/stream");
  stream.addEventListener("hello", (event) => {
    isLive();
    if (!JSON.parse(event.data).resumed) refresh();
  });
  for (const name of ["journal", "rollups", "status"]) stream.addEventListener(name, refresh);
  stream.addEventListener("error", () => {
    isLost();
    if (stream.readyState === EventSource.CLOSED) {
      stream.close();
      setTimeout(listen, AGAIN);
    }
  });
}

// What does not come from the database changes without an event.
const every = Number(main.dataset.every);
if (every) setInterval(() => document.hidden || refresh(), every);

main.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  button.disabled = true;
  await fetch(button.dataset.post, { method: "POST", signal: AbortSignal.timeout(LIMIT) }).catch(() => null);
  refresh();
});

remember(main);
document.body.dataset.state = main.querySelector("[data-down]") ? "down" : "";
drawCharts();
listen();
