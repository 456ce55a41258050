// What every page of the studio uses: elements, questions to the server, samples as their modality shows them.
"use strict";
const { make, slider, cut, stacked } = pieces;
const $ = (selector) => document.querySelector(selector);

// Not scrollIntoView: the Tab key would begin behind what was scrolled to.
for (const tab of document.querySelectorAll(".bar [aria-current]")) {
  const bar = tab.closest(".bar"), far = tab.getBoundingClientRect().left - bar.getBoundingClientRect().left;
  bar.scrollLeft += far - (bar.clientWidth - tab.offsetWidth) / 2;
}

async function ask(path, body) {
  const asked = body === undefined
    ? {}
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try { answer = await fetch(path, asked); }
  catch { throw new Error("the studio does not answer; is it still running?"); }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ? found.error.message : `the server answered ${answer.status}`);
  return found;
}

// For screen readers, and for what went wrong: one sentence.
function say(words) { $("#said").textContent = words; }
function problem(error) {
  const words = error ? error.message || String(error) : "";
  const sentence = words && words[0].toUpperCase() + words.slice(1) + (/[.?!]$/.test(words) ? "" : ".");
  $("#problem").textContent = sentence;
}

// While something is worked on its button rests; what fails is said in the page.
async function working(button, work) {
  button.disabled = true;
  button.setAttribute("aria-busy", true);
  problem("");
  try { return await work(); }
  catch (error) { problem(error); return undefined; }
  finally { button.disabled = false; button.removeAttribute("aria-busy"); }
}

const TINY = 200;
function picture(address, alt, className = "") {
  const image = make("img", { alt, className });
  if (!className) image.addEventListener("load", () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) < TINY));
  image.src = address;
  return image;
}

const SHOW = {
  picture: (media, alt) => [picture(media.data, alt)],
  plot: (media, alt) => [picture(media.data, alt, "plot")],
  text: (media, alt) => {
    const text = make("pre", { textContent: media.data || "(an empty text)", tabIndex: 0 });
    text.setAttribute("aria-label", alt);
    text.setAttribute("role", "region");
    return [text];
  },
  sound: (media, alt) => {
    const player = make("audio", { src: media.data, controls: true });
    player.setAttribute("aria-label", alt);
    return media.also ? [picture(media.also, `curve of ${alt}`, "plot"), player] : [player];
  },
};

// One sample with a line under it.
function shown(media, alt, caption) {
  return make("figure", {}, ...SHOW[media.kind](media, alt), make("figcaption", { textContent: caption }));
}

function cell(content, className = "") {
  const td = make("td", { className });
  td.append(content === null || content === undefined || content === "" ? "–" : content);
  return td;
}

function table(titles, rows) {
  const head = titles.map((title) => Object.assign(make("th", { textContent: title }), { scope: "col" }));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells))));
}

const number = (value, digits = 4) => (value === null || value === undefined ? "–" : Number(value.toPrecision(digits)).toString());
