// Pieces of pages: elements, and before and after in one picture with a line between them that moves.
const pieces = (() => {
  "use strict";

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function slider(move, first = "before", second = "after") {
    const range = make("input", { type: "range", min: 0, max: 100, value: 50 });
    range.setAttribute("aria-label", `Where the picture changes from ${first} to ${second}`);
    range.addEventListener("input", () => move(range.value));
    move(range.value);
    return make("label", { className: "control slider" }, `${first} `, range, ` ${second}`);
  }

  const cut = (element) => (value) => element.style.setProperty("--cut", `${value}%`);

  function stacked(before, after) {
    return make("span", { className: "stack" }, before.cloneNode(), after.cloneNode());
  }

  return { make, slider, cut, stacked };
})();
