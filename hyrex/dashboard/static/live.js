// Pages that follow the cluster: <live-page src> gets server-sent events with the HTML of the regions that
// have changed, and morphs them in place, so that focus, selection and opened details stay. It pauses while
// the tab is hidden, and says how fresh the page is in <live-state>.

const STALE_AFTER_MS = 7000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;

const drift = Date.parse(document.body.dataset.now ?? new Date().toISOString()) - Date.now();

class LivePage extends HTMLElement {
  #source = null;
  #heard = 0;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #ticker = 0;
  #state = "";

  connectedCallback() {
    document.addEventListener("visibilitychange", this.#seen);
    this.#ticker = setInterval(() => this.#tick(), 1000);
    this.#seen();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#seen);
    clearInterval(this.#ticker);
    this.#close();
  }

  #seen = () => {
    if (document.hidden) {
      this.#close();
      this.#show("paused", "paused");
    } else if (!this.#source) {
      this.#open();
    }
  };

  #open() {
    this.#close();
    this.#source = new EventSource(this.getAttribute("src"));
    this.#source.onmessage = (message) => this.#take(JSON.parse(message.data));
    this.#source.onerror = () => this.#lost();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  // The dashboard itself is away: try again later and later, never all viewers at once.
  #lost() {
    this.#close();
    this.#show("gone", "dashboard away");
    if (document.hidden) return;
    this.#timer = setTimeout(() => this.#open(), this.#pause * (0.5 + Math.random()));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  #take({ state, regions }) {
    this.#heard = Date.now();
    this.#pause = FIRST_PAUSE_MS;
    if (state === "ended") return location.reload();
    if (state === "live" && document.querySelector("[data-until-live]")) return location.reload();
    for (const [id, html] of Object.entries(regions)) {
      const region = document.getElementById(id);
      if (region) morph(region, parsed(html));
    }
    if (Object.keys(regions).length) tellTimes(this);
    if (state === "gone") this.#show("gone", "no broker");
    else this.#show("live", "live");
    document.dispatchEvent(new CustomEvent("hyrex:live"));
  }

  #tick() {
    tellTimes(document);
    const silent = Date.now() - this.#heard;
    if (this.#state === "live" && silent > STALE_AFTER_MS) {
      this.#show("stale", `stale ${Math.round(silent / 1000)} s`);
    } else if (this.#state === "stale") {
      this.#show("stale", `stale ${Math.round(silent / 1000)} s`);
    }
  }

  #show(state, text) {
    this.#state = state;
    document.body.dataset.broker = state;
    const shown = document.querySelector("live-state");
    if (!shown) return;
    if (shown.dataset.state !== state) shown.dataset.state = state;
    const words = shown.querySelector("span");
    if (words.textContent !== text) words.textContent = text;
  }
}

function parsed(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content;
}

// Makes `now` like `next`, keeping the nodes that are alike: those with the same id, else the same tag in
// the same place. What a person has done (checked, opened, typed) is left as it is.
function morph(now, next) {
  const named = new Map();
  for (const child of now.children) if (child.id) named.set(child.id, child);
  let at = now.firstChild;
  for (const wanted of [...next.childNodes]) {
    let kept = wanted.id ? named.get(wanted.id) : null;
    if (!kept && at && !at.id && alike(at, wanted)) kept = at;
    if (!kept) {
      now.insertBefore(wanted, at);
      continue;
    }
    if (kept === at) at = at.nextSibling;
    else now.insertBefore(kept, at);
    settle(kept, wanted);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && !other.id;
}

function settle(kept, wanted) {
  if (kept.nodeType !== Node.ELEMENT_NODE) {
    if (kept.nodeValue !== wanted.nodeValue) kept.nodeValue = wanted.nodeValue;
    return;
  }
  const isTime = kept.nodeName === "TIME" && kept.dateTime === wanted.getAttribute("datetime");
  for (const { name, value } of [...wanted.attributes]) {
    if (kept.getAttribute(name) !== value) kept.setAttribute(name, value);
  }
  for (const { name } of [...kept.attributes]) {
    const ours = name === "open" || (name === "title" && isTime) || (name === "class" && kept.classList.contains("at"));
    if (!wanted.hasAttribute(name) && !ours) kept.removeAttribute(name);
  }
  if (!isTime) morph(kept, wanted);
}

// Times: relative by the broker's side of the clock, exact in this zone and in UTC on hover.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

function tellTimes(root) {
  const now = Date.now() + drift;
  for (const time of root.querySelectorAll("time")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) continue;
    const text = relative((now - at) / 1000);
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = `${exact.format(at)}\n${time.dateTime.replace("+00:00", "Z")}`;
  }
}

function relative(seconds) {
  const ahead = seconds < -1;
  const size = Math.abs(seconds);
  let text;
  if (size < 60) text = `${Math.floor(size)} s`;
  else if (size < 3600) text = `${Math.floor(size / 60)} min`;
  else if (size < 86400) text = `${Math.floor(size / 3600)} h`;
  else text = `${Math.floor(size / 86400)} d`;
  if (!ahead && size < 1) return "now";
  return ahead ? `in ${text}` : `${text} ago`;
}

customElements.define("live-page", LivePage);
tellTimes(document);
document.body.classList.add("scripted");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    await navigator.clipboard.writeText(button.dataset.copy);
    const words = button.lastChild;
    const before = words.textContent;
    words.textContent = "Copied";
    setTimeout(() => (words.textContent = before), 1200);
  }
  if (event.target.closest("[data-theme-switch]")) {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    const path = `${document.body.dataset.base}/`;
    document.cookie = `hyrex-theme=${root.dataset.theme}; path=${path}; max-age=31536000; samesite=strict`;
  }
});
