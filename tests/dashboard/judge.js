// What a page of the dashboard is judged by: contrast, size of targets, names of controls.

function parts(color) {
  const found = color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
  return color.startsWith("color(srgb") ? [...found.slice(0, 3).map((one) => one * 255), found[3] ?? 1] : [...found.slice(0, 3), found[3] ?? 1];
}

function over(above, below) {
  const share = above[3];
  return [0, 1, 2].map((at) => above[at] * share + below[at] * (1 - share)).concat(1);
}

function behind(element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(parts(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
}

function brightness([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((one) => {
    const share = one / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const seen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
const words = (element) => `${element.nodeName}.${element.getAttribute("class") ?? ""} ${element.textContent.trim().slice(0, 40)}`;

function weakTexts() {
  const weak = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
    if (!own || !seen(element) || element.closest(".hidden, .skip, svg")) continue;
    const style = getComputedStyle(element);
    const below = behind(element);
    const [one, other] = [brightness(over(parts(style.color), below)), brightness(below)].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.7 && style.fontWeight >= 700);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < (large ? 3 : 4.5)) weak.push(`${ratio.toFixed(2)} ${words(element)}`);
  }
  return weak;
}

function smallTargets() {
  const small = [];
  for (const element of document.querySelectorAll(".rail a, .button, .quiet, .chip, .tabs a, td.choose label, .find input")) {
    if (!seen(element) || element.closest(".rail .brand")) continue;
    const { width, height } = element.getBoundingClientRect();
    if (height < 43.5 || width < 43.5) small.push(`${width}x${height} ${words(element)}`);
  }
  return small;
}

function namelessControls() {
  const nameless = [];
  for (const element of document.querySelectorAll("a, button, input:not([type=hidden]), textarea")) {
    const label = element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.[0]?.textContent.trim();
    if (!label) nameless.push(element.outerHTML.slice(0, 120));
  }
  return nameless;
}
