// Questions before actions: the same page that a link leads to, shown in a dialog. And the choice of rows.

const base = document.body.dataset.base;
const box = document.getElementById("question");

async function ask(address) {
  const response = await fetch(address, { headers: { accept: "text/html" }, redirect: "follow" });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const content = page.querySelector("[data-question]") ?? page.querySelector("main .panel");
  if (!content || response.redirected) return location.assign(address);
  box.replaceChildren(document.adoptNode(content));
  for (const close of box.querySelectorAll("[data-close]")) {
    close.addEventListener("click", (event) => {
      event.preventDefault();
      box.close();
    });
  }
  box.showModal();
  (box.querySelector("input:not([type=hidden]), textarea") ?? box.querySelector("button"))?.focus();
}

document.addEventListener("click", (event) => {
  const asked = event.target.closest("[data-ask]");
  if (asked && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
    const address = addressOf(asked);
    if (!address) return;
    event.preventDefault();
    ask(address);
  }
  const opener = event.target.closest("[data-open]");
  if (opener) document.getElementById(opener.dataset.open)?.showModal();
  if (event.target.nodeName === "DIALOG") event.target.close();
});

function addressOf(asked) {
  if (asked.nodeName === "A") return asked.href;
  const form = asked.closest("form");
  const chosen = new URLSearchParams(new FormData(form));
  if (!chosen.has("id")) return null;
  return `${asked.getAttribute("formaction")}?${chosen}`;
}

document.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button:not([type=button])");
  if (event.target.method === "post" && button) setTimeout(() => (button.disabled = true));
});

const form = document.querySelector("[data-choose]");

function count() {
  if (!form) return;
  const all = form.querySelectorAll("[name=id]");
  const chosen = form.querySelectorAll("[name=id]:checked").length;
  const bar = form.querySelector(".chosen");
  if (!bar) return;
  bar.hidden = chosen === 0;
  bar.querySelector("[data-chosen]").textContent = chosen === 1 ? "1 task selected" : `${chosen} tasks selected`;
  const whole = form.querySelector("[data-choose-all]");
  if (whole) {
    whole.checked = chosen > 0 && chosen === all.length;
    whole.indeterminate = chosen > 0 && chosen < all.length;
  }
}

form?.addEventListener("change", (event) => {
  if (event.target.matches("[data-choose-all]")) {
    for (const one of form.querySelectorAll("[name=id]")) one.checked = event.target.checked;
  }
  count();
});
document.addEventListener("hyrex:live", count);
addEventListener("pageshow", count);
