// Everything by keyboard: rows, screens, the filter, actions, and a palette that goes anywhere.

const base = document.body.dataset.base;
let afterG = 0;

const typing = (target) => target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
const rows = () => [...document.querySelectorAll("tr:has([data-row-link])")];
const here = () => document.querySelector("tr.at");

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(here());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)];
  here()?.classList.remove("at");
  next.classList.add("at");
  next.querySelector("[data-row-link]").focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function act(key) {
  const row = here();
  const box = row?.querySelector("[name=id]");
  const chosen = document.querySelector("[name=id]:checked");
  if (box && !chosen) {
    box.checked = true;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  }
  document.querySelector(`[data-key="${key}"]`)?.click();
}

function select() {
  const box = here()?.querySelector("[name=id]");
  if (!box) return;
  box.checked = !box.checked;
  box.dispatchEvent(new Event("change", { bubbles: true }));
}

const KEYS = {
  "/": () => (document.querySelector("[data-filter]") ?? document.querySelector("[data-find]"))?.focus(),
  "?": () => document.getElementById("keys").showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: select,
  r: () => act("r"),
  c: () => act("c"),
  g: () => (afterG = Date.now()),
  Escape: () => {
    here()?.classList.remove("at");
    document.activeElement?.blur();
  },
  Enter: () => here()?.querySelector("[data-row-link]")?.click(),
};

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    return openPalette();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("a, button, summary, input")) return;
  if (Date.now() - afterG < 1500 && event.key !== "g") {
    afterG = 0;
    const link = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
    }
    return;
  }
  const does = KEYS[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});

// The palette: screens at once, queues and names of tasks as they are typed; an id leads to its task.
const palette = document.getElementById("palette");
const input = palette.querySelector("input");
const list = palette.querySelector("ul");
const ID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
let asked = 0;

function openPalette() {
  if (document.querySelector("dialog[open]")) return;
  input.value = "";
  palette.showModal();
  show("");
}

async function show(text) {
  const number = ++asked;
  const wanted = text.trim().toLowerCase();
  const found = [...document.querySelectorAll(".rail [data-go]")]
    .map((link) => ({ text: link.querySelector("span").textContent, kind: "screen", href: link.href }))
    .filter((each) => each.text.toLowerCase().includes(wanted));
  if (ID.test(text.trim())) {
    found.unshift({ text: text.trim(), kind: "task", href: `${base}/task?id=${encodeURIComponent(text.trim())}` });
  }
  offer(found);
  const response = await fetch(`${base}/complete?palette=1&text=${encodeURIComponent(text)}`);
  if (number !== asked || !response.ok) return;
  const more = await response.json();
  const chosen = list.querySelector("[aria-selected=true]")?.dataset.href;
  offer([...found, ...more.map((each) => ({ text: each.text, kind: each.kind, href: base + each.href }))], chosen);
}

// `chosen`: what was chosen from the list before, and stays so where it is in this one.
function offer(found, chosen) {
  const shown = found.slice(0, 12);
  const chosenAt = Math.max(shown.findIndex(({ href }) => href === chosen), 0);
  list.replaceChildren(
    ...shown.map((each, at) => {
      const item = document.createElement("li");
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(at === chosenAt));
      item.id = `palette-${at}`;
      item.dataset.href = each.href;
      item.append(each.text, Object.assign(document.createElement("small"), { textContent: each.kind }));
      return item;
    }),
  );
  input.setAttribute("aria-activedescendant", found.length ? `palette-${chosenAt}` : "");
}

input.addEventListener("input", () => show(input.value));
input.addEventListener("keydown", (event) => {
  const items = [...list.children];
  const at = items.findIndex((item) => item.getAttribute("aria-selected") === "true");
  if (event.key === "Enter" && items[at]) return go(items[at]);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !items.length) return;
  event.preventDefault();
  const next = (at + step + items.length) % items.length;
  items.forEach((item, each) => item.setAttribute("aria-selected", String(each === next)));
  input.setAttribute("aria-activedescendant", items[next].id);
  items[next].scrollIntoView({ block: "nearest" });
});
list.addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (item) go(item);
});

function go(item) {
  palette.close();
  location.assign(item.dataset.href);
}
