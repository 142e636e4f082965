// The filter line completes what it is written in: keys, then the values that the cluster knows.

const base = document.body.dataset.base;

class Completion {
  #input;
  #list = document.createElement("ul");
  #asked = 0;
  #at = -1;

  constructor(input, number) {
    this.#input = input;
    this.#list.className = "suggestions";
    this.#list.id = `suggestions-${number}`;
    this.#list.hidden = true;
    this.#list.setAttribute("role", "listbox");
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-controls", this.#list.id);
    input.setAttribute("aria-expanded", "false");
    input.setAttribute("aria-autocomplete", "list");
    input.after(this.#list);
    input.addEventListener("input", () => this.#ask());
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("blur", () => setTimeout(() => this.#hide(), 150));
    this.#list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const item = event.target.closest("li");
      if (item) this.#take(item.dataset.word);
    });
  }

  // The word at the cursor, and where it begins.
  #word() {
    const before = this.#input.value.slice(0, this.#input.selectionStart);
    const start = before.search(/\S*$/);
    return { start, text: before.slice(start) };
  }

  async #ask() {
    const { text } = this.#word();
    if (!text) return this.#hide();
    const number = ++this.#asked;
    const response = await fetch(`${base}/complete?text=${encodeURIComponent(text)}`);
    if (number !== this.#asked || !response.ok) return;
    this.#show(await response.json());
  }

  // An answer that comes late must not take away what was chosen from the one before.
  #show(found) {
    const chosen = this.#list.hidden ? undefined : this.#list.children[this.#at]?.dataset.word;
    this.#at = found.findIndex(({ text }) => text === chosen);
    this.#list.replaceChildren(
      ...found.map(({ text, kind }, at) => {
        const item = document.createElement("li");
        item.setAttribute("role", "option");
        item.id = `${this.#list.id}-${at}`;
        item.setAttribute("aria-selected", String(at === this.#at));
        item.dataset.word = text;
        item.append(text, Object.assign(document.createElement("small"), { textContent: kind, className: "muted" }));
        return item;
      }),
    );
    this.#list.hidden = found.length === 0;
    this.#input.setAttribute("aria-expanded", String(found.length > 0));
    if (this.#at < 0) this.#input.removeAttribute("aria-activedescendant");
    else this.#input.setAttribute("aria-activedescendant", this.#list.children[this.#at].id);
  }

  #hide() {
    this.#asked++;
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
  }

  #key(event) {
    const items = [...this.#list.children];
    if (this.#list.hidden || !items.length) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      this.#at = (this.#at + step + items.length) % items.length;
      items.forEach((item, each) => item.setAttribute("aria-selected", String(each === this.#at)));
      this.#input.setAttribute("aria-activedescendant", items[this.#at].id);
    } else if ((event.key === "Enter" || event.key === "Tab") && this.#at >= 0) {
      this.#take(items[this.#at].dataset.word);
    } else if (event.key === "Escape") {
      this.#hide();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #take(word) {
    const { start, text } = this.#word();
    const value = this.#input.value;
    const rest = value.slice(start + text.length);
    const whole = word.endsWith(":") ? word : `${word} `;
    this.#input.value = value.slice(0, start) + whole + rest.trimStart();
    this.#input.setSelectionRange(start + whole.length, start + whole.length);
    this.#hide();
    this.#input.focus();
    if (word.endsWith(":")) this.#ask();
  }
}

document.querySelectorAll("[data-filter], [data-find]").forEach((input, number) => new Completion(input, number));

// As on the pages: what is hidden, or moves its neighbours, is written as its escape (runtime/shell.py).
const HIDDEN =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\u{e0000}-\u{e0fff}]/gu;

function visible(text) {
  return text.replace(HIDDEN, (letter) => {
    const number = letter.codePointAt(0);
    const [mark, digits] = number < 0x100 ? ["x", 2] : number < 0x10000 ? ["u", 4] : ["U", 8];
    return `\\${mark}${number.toString(16).padStart(digits, "0")}`;
  });
}

// Filters that this browser keeps: chips beside the others, in its own storage and nowhere else.
const SAVED = `hyrex-filters:${base}`;
const MOST_SAVED = 20;
const shelf = document.querySelector("[data-saved]");
const keep = document.querySelector("[data-save]");
const asked = document.getElementById("filter");
// The filter of this page, not what is being typed.
const line = asked && !asked.hasAttribute("aria-invalid") ? asked.defaultValue.trim() : "";

function saved() {
  try {
    const found = JSON.parse(localStorage.getItem(SAVED) ?? "[]");
    return Array.isArray(found) ? found.filter((each) => typeof each === "string" && each).slice(0, MOST_SAVED) : [];
  } catch {
    return [];
  }
}

function save(lines) {
  try {
    localStorage.setItem(SAVED, JSON.stringify(lines.slice(0, MOST_SAVED)));
  } catch {
    // The browser keeps nothing; then neither do we.
  }
  showSaved();
}

function showSaved() {
  const lines = saved();
  shelf.hidden = lines.length === 0;
  keep.hidden = !line || lines.includes(line);
  shelf.replaceChildren(
    ...lines.map((each) => {
      const chip = document.createElement("span");
      chip.className = "chip saved";
      const link = document.createElement("a");
      link.href = `${base}/tasks?filter=${encodeURIComponent(each)}`;
      link.textContent = visible(each);
      if (each === line) link.setAttribute("aria-current", "true");
      const drop = document.createElement("button");
      drop.type = "button";
      drop.textContent = "×";
      drop.setAttribute("aria-label", `Forget the filter ${visible(each)}`);
      drop.addEventListener("click", () => save(saved().filter((other) => other !== each)));
      chip.append(link, drop);
      return chip;
    }),
  );
}

if (shelf && keep) {
  keep.addEventListener("click", () => save([line, ...saved()]));
  showSaved();
}
