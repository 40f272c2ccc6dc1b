// The page works without this: what is here saves a reload, and hands.
"use strict";

const form = document.getElementById("search");
const panel = document.getElementById("panel");
const said = document.getElementById("said");
let asked = 0; // only the newest answer is shown

const say = (text) => { said.textContent = text; };

async function fetchPage(url) {
  const number = ++asked;
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return number === asked ? page : null;
}

function pathOf(form) {
  const given = new FormData(form);
  const pairs = new URLSearchParams();
  for (const [name, value] of given) if (value !== "" && name !== "ways") pairs.append(name, value);
  const ways = given.getAll("ways");
  if (ways.length) pairs.set("ways", ways.join(","));
  return form.getAttribute("action") + "?" + pairs;
}

// ---- search ----

async function show(url, { push = true, controls = false } = {}) {
  document.body.classList.add("busy");
  try {
    const page = await fetchPage(url);
    const results = page && page.getElementById("results");
    if (!results) { if (page) location.assign(url); return; }
    document.getElementById("results").replaceWith(document.adoptNode(results));
    const fresh = page.getElementById("search");
    if (controls) {
      form.replaceChildren(...document.adoptNode(fresh).childNodes);
    } else { // the fields that are typed into stay as they are; the filters are those of the answer
      document.getElementById("filter").value = "";
      form.querySelectorAll('input[type="hidden"]').forEach((old) => old.remove());
      fresh.querySelectorAll('input[type="hidden"]').forEach((one) => form.append(document.adoptNode(one)));
    }
    document.title = page.title;
    const path = results.dataset.path;
    if (push && location.pathname + location.search !== path) history.pushState(null, "", path);
    addCopyButtons();
    const columns = [...document.querySelectorAll(".column")];
    say(columns.map((one) => `${one.querySelector("h2").textContent.trim()}: ${one.querySelector(".facts").textContent.trim()}`).join("; "));
  } catch (error) {
    say("The service does not answer.");
    location.assign(url);
  } finally {
    document.body.classList.remove("busy");
  }
}

function addCopyButtons() {
  if (!navigator.clipboard) return;
  for (const block of document.querySelectorAll(".request pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = "Copied";
      say("Copied.");
    });
    block.previousElementSibling.append(button);
  }
}

function later(work, delay) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(work, delay); };
}

if (form) {
  addCopyButtons();
  const again = later(() => show(pathOf(form)), 150);
  form.addEventListener("submit", (event) => { event.preventDefault(); show(pathOf(form)); });
  form.addEventListener("input", (event) => {
    const output = event.target.parentElement.querySelector("output");
    if (output) {
      const digits = event.target.name === "prune" ? 2 : 1;
      output.textContent = Number(event.target.value).toFixed(digits);
    }
    if (!["q", "filter"].includes(event.target.id)) again();
  });
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const filter = event.target.closest("#results a.filter");
    const open = event.target.closest("#results a.open");
    if (!filter && !open) return;
    event.preventDefault();
    if (filter) show(filter.href, { controls: true });
    else openPanel(open);
  });
  addEventListener("popstate", () => {
    if (panel.open) panel.close();
    show(location.href, { push: false, controls: true });
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches("form.judge")) judge(event);
  });
}

// ---- the vector of a document ----

async function openPanel(link) {
  const page = await fetchPage(link.href);
  const document_ = page && page.getElementById("document");
  if (!document_) return;
  document_.querySelector(".back").replaceChildren(Object.assign(document.createElement("a"), { href: link.href, textContent: "Open as a page" }));
  const close = Object.assign(document.createElement("button"), { className: "close", type: "button", textContent: "Close" });
  close.addEventListener("click", () => panel.close());
  document.getElementById("panel-body").replaceChildren(close, document.adoptNode(document_));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
  panel.onclose = () => link.focus();
}
if (panel) panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });

// ---- judgements ----

async function judge(event) {
  event.preventDefault();
  const grade = event.submitter.value;
  const body = new URLSearchParams(new FormData(event.target));
  body.set("relevance", grade);
  const answer = await fetch("/judge", { method: "POST", headers: { Accept: "application/json" }, body });
  if (!answer.ok) { say("The judgement could not be kept."); return; }
  document.getElementById("judgements").textContent = (await answer.json()).judgements;
  const id = body.get("id");
  for (const other of document.querySelectorAll("form.judge")) {
    if (other.elements.id.value !== id) continue;
    for (const one of other.querySelectorAll("button")) {
      const on = one.dataset.grade === grade;
      one.setAttribute("aria-pressed", String(on));
      one.value = on ? "" : one.dataset.grade;
    }
  }
  say({ 1: "Relevant.", 0: "Not relevant.", "": "No longer judged." }[grade]);
}

// ---- keyboard ----

function move(rows, columns) {
  const all = [...document.querySelectorAll(".column")].map((one) => [...one.querySelectorAll(".hit")]);
  const now = document.activeElement.closest(".hit");
  let column = Math.max(0, all.findIndex((hits) => hits.includes(now)));
  let row = now ? all[column].indexOf(now) + rows : 0;
  column = Math.min(Math.max(0, column + columns), all.length - 1);
  if (!all.length || !all[column].length) return;
  row = Math.min(Math.max(0, row), all[column].length - 1);
  all[column][row].focus();
  all[column][row].scrollIntoView({ block: "nearest", inline: "nearest" });
}

const keys = {
  j: () => move(1, 0), k: () => move(-1, 0), h: () => move(0, -1), l: () => move(0, 1),
  o: (hit) => hit && hit.querySelector("a.open").click(),
  r: (hit) => hit && hit.querySelector('.judge [data-grade="1"]')?.click(),
  n: (hit) => hit && hit.querySelector('.judge [data-grade="0"]')?.click(),
  "/": () => { const query = document.getElementById("q"); query.focus(); query.select(); },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !form || panel.open) return;
  const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), textarea, select");
  if (typing) { if (event.key === "Escape") event.target.blur(); return; }
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act(document.activeElement.closest(".hit"));
});

// ---- explain ----

const explain = document.getElementById("explain");
if (explain) {
  const live = async () => {
    const url = pathOf(explain);
    const page = await fetchPage(url).catch(() => null);
    const found = page && page.getElementById("explained");
    if (!found) return;
    document.getElementById("explained").replaceWith(document.adoptNode(found));
    history.replaceState(null, "", url);
  };
  explain.addEventListener("input", later(live, 200));
  explain.addEventListener("submit", (event) => { event.preventDefault(); live(); });
}
