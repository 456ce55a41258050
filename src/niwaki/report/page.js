// Fold, filter, slide, enlarge: works on what is in the page and on nothing else. Without it all can be read.
(() => {
  "use strict";

  const { make, slider, cut, stacked } = pieces;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Folding: all parts at once, the part that an address names, and every part on paper.
  const parts = all("details.part");
  const toggle = make("button", { type: "button", className: "all" });
  const closed = () => parts.filter((part) => !part.open);
  const label = () => (toggle.textContent = closed().length ? "Open all parts" : "Fold all parts");
  toggle.addEventListener("click", () => {
    const open = closed().length > 0;
    parts.forEach((part) => (part.open = open));
  });
  parts.forEach((part) => part.addEventListener("toggle", label));
  if (parts.length) parts[0].before(toggle);
  label();

  function reveal() {
    const target = document.getElementById(location.hash.slice(1));
    for (let part = target?.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    target?.closest("details")?.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();

  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = all("details:not([open])");
    unfolded.forEach((part) => (part.open = true));
  });
  addEventListener("afterprint", () => unfolded.forEach((part) => (part.open = false)));

  // One stop of the tab key for each group of pictures; arrows go on from there.
  const shown = (group) => all("figure", group).filter((figure) => !figure.hidden);
  const stop = (group) => shown(group).forEach((figure, i) => (figure.tabIndex = i ? -1 : 0));

  // Classes: one of them, or all.
  for (const group of all("[data-filter]")) {
    const items = all("[data-class]", group);
    const names = [...new Set(items.map((item) => item.dataset.class))];
    if (names.length < 2) continue;
    const choice = make("select", {}, new Option("all"), ...names.map((name) => new Option(name)));
    choice.addEventListener("change", () => {
      const name = names[choice.selectedIndex - 1];
      items.forEach((item) => (item.hidden = choice.selectedIndex > 0 && item.dataset.class !== name));
      all("[data-zoom]", group).forEach(stop);
    });
    group.prepend(make("label", { className: "control" }, "Class ", choice));
  }

  const caption = (figure) =>
    [...(figure.querySelector("figcaption")?.childNodes ?? [])]
      .map((node) => node.textContent.trim())
      .filter(Boolean)
      .join(" \u00b7 ");

  for (const group of all(".pairs[data-slide]")) {
    for (const row of all(".three", group)) {
      const [before, after] = all("img", row);
      row.children[0].replaceWith(stacked(before, after));
      row.children[1].remove();
      row.style.setProperty("--n", row.children.length);
    }
    group.before(slider(cut(group)));
  }

  // Enlarged: a dialog that walks through its group.
  const view = make("div", { className: "view" });
  const text = make("p", { className: "small" });
  const dialog = make("dialog", { className: "zoom" });
  let group = null;
  let at = 0;

  function show(place) {
    const figures = shown(group);
    at = (place + figures.length) % figures.length;
    const images = all("img", figures[at]);
    const pair = figures[at].querySelector(".stack");
    const rest = (pair ? images.slice(2) : images).map((image) => {
      const name = images.length > 1 ? [make("small", {}, image.alt)] : [];
      return make("span", {}, image.cloneNode(), ...name);
    });
    const control = pair ? [slider(cut(view))] : [];
    view.replaceChildren(...(pair ? [stacked(images[0], images[1])] : []), ...rest, ...control);
    text.textContent = caption(figures[at]) || images[0].alt;
  }

  function open(figure) {
    group = figure.closest("[data-zoom]");
    show(shown(group).indexOf(figure));
    dialog.showModal();
  }

  const button = (label, act) => {
    const element = make("button", { type: "button" }, label);
    element.addEventListener("click", act);
    return element;
  };
  dialog.append(
    view,
    text,
    make(
      "p",
      { className: "keys-of" },
      button("\u2190 previous", () => show(at - 1)),
      button("close", () => dialog.close()),
      button("next \u2192", () => show(at + 1)),
    ),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.target.type === "range") return;
    if (event.key === "ArrowLeft") show(at - 1);
    if (event.key === "ArrowRight") show(at + 1);
  });
  dialog.addEventListener("close", () => shown(group)[at].focus());
  document.body.append(dialog);

  for (const box of all("[data-zoom]")) {
    for (const figure of all("figure", box)) {
      figure.setAttribute("role", "button");
      figure.setAttribute("aria-label", `Enlarge ${caption(figure) || "this picture"}`);
      figure.addEventListener("click", () => open(figure));
    }
    stop(box);
    box.addEventListener("keydown", (event) => {
      const figures = shown(box);
      const here = figures.indexOf(event.target);
      const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: figures.length - 1 }[event.key];
      if (here < 0) return;
      if (event.key === "Enter" || event.key === " ") open(event.target);
      else if (to === undefined || !figures[to]) return;
      else {
        figures[here].tabIndex = -1;
        figures[to].tabIndex = 0;
        figures[to].focus();
      }
      event.preventDefault();
    });
  }
})();
