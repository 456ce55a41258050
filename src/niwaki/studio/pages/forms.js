// Fields of what a program can be asked for and told, by what the server says of them.

function labelled(title, control, className = "") { return make("label", { className }, title, control); }

function numeric(value, whole, properties = {}) {
  return make("input", { type: "number", value, step: whole ? 1 : "any", required: true, ...properties });
}

// name → element, and how its value is read; undefined leaves it as it is by default.
const FIELDS = {
  class: (field, usual) => {
    const options = [new Option(usual, ""), ...field.names.map((name, i) => new Option(name, i))];
    if (field.null) options.push(new Option("anything", "null"));
    const select = make("select", {}, ...options);
    return [labelled(field.name, select), () => (select.value === "" ? undefined : JSON.parse(select.value))];
  },
  text: (field) => {
    const text = make("input", { type: "text", maxLength: 4000, placeholder: field.null ? "anything" : "" });
    return [labelled(field.name, text, "wide"), () => text.value || undefined];
  },
  numbers: (field) => {
    const bounds = field.low === undefined ? {} : { min: field.low, max: field.high };
    const controls = field.names.map(() => numeric(field.usual, false, bounds));
    const box = make("fieldset", {}, make("legend", { textContent: field.name }), ...controls.map((one, i) => labelled(field.names[i], one)));
    return [box, () => controls.map((one) => Number(one.value))];
  },
  example: (field) => {
    const which = make("input", { type: "number", min: 0, step: 1, placeholder: "in turn" });
    return [labelled(`${field.name} (example)`, which), () => (which.value === "" ? undefined : Number(which.value))];
  },
};

// Fill two places with the fields of a description; gives a function that reads { asked, settings }.
// usual: what it means to say nothing of a class.
function fields(description, place, usual = "in turn") {
  const read = [], told = [];
  const elements = description.fields.map((field) => {
    const [element, value] = FIELDS[field.kind](field, usual);
    read.push([field.name, value]);
    return element;
  });
  for (const setting of description.settings) {
    const control = numeric(setting.usual, setting.whole, { min: 0 });
    told.push([setting.name, () => (Number(control.value) === setting.usual ? undefined : Number(control.value))]);
    elements.push(labelled(setting.title, control));
  }
  place.replaceChildren(...elements);
  const values = (pairs) => Object.fromEntries(pairs.map(([name, value]) => [name, value()]).filter(([, value]) => value !== undefined));
  return () => ({ asked: values(read), settings: values(told) });
}

// What several models have in common: their fields and settings of equal names and kinds.
function common(descriptions) {
  const [first, ...rest] = descriptions;
  const alike = (list) => first[list].filter((one) => rest.every((other) => other[list].some((its) => its.name === one.name && its.kind === one.kind)));
  return { ...first, fields: alike("fields"), settings: alike("settings") };
}
