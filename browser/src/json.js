/**
 * The canonical form of a JSON text: keys in order, no spaces, ASCII alone, numbers as they are written.
 *
 * It is what Python's `json.dumps(record, sort_keys=True, separators=(",", ":"))` gives of a record that it
 * wrote. `JSON.parse` would make 1 of 1.0 and lose the digest of a manifest with it.
 */

/** The members of the object in `text`, by name, each in canonical form. Raises SyntaxError for no object. */
export function canonicalMembers(text) {
  JSON.parse(text); // so that what follows can rely on the grammar
  const reader = new Reader(text);
  reader.blank();
  if (text[reader.at] !== "{") throw new SyntaxError("this is no JSON object");
  return reader.members();
}

/** The object of these members. */
export function joined(members) {
  const names = [...members.keys()].sort(byCodePoint);
  return `{${names.map((name) => `${quoted(name)}:${members.get(name)}`).join(",")}}`;
}

const NUMBER_OR_WORD = /[^\s,\]}]+/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const BLANK = /\s*/y;

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  take(pattern) {
    pattern.lastIndex = this.at;
    const [found] = pattern.exec(this.text);
    this.at = pattern.lastIndex;
    return found;
  }

  blank() {
    this.take(BLANK);
  }

  value() {
    this.blank();
    const first = this.text[this.at];
    if (first === "{") return joined(this.members());
    if (first === "[") return `[${this.items().join(",")}]`;
    return first === '"' ? quoted(JSON.parse(this.take(STRING))) : this.take(NUMBER_OR_WORD);
  }

  /** Goes through what stands between brackets, one call of `one` for each piece. */
  between(close, one) {
    this.at += 1;
    this.blank();
    while (this.text[this.at] !== close) {
      one();
      this.blank();
      if (this.text[this.at] === ",") this.at += 1;
      this.blank();
    }
    this.at += 1;
  }

  items() {
    const found = [];
    this.between("]", () => found.push(this.value()));
    return found;
  }

  members() {
    const found = new Map();
    this.between("}", () => {
      const name = JSON.parse(this.take(STRING));
      this.blank();
      this.at += 1; // the colon
      found.set(name, this.value());
    });
    return found;
  }
}

/** A string in quotes, in ASCII: all else as \uXXXX, as Python writes it. */
function quoted(text) {
  const escape = (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, escape);
}

/** Python sorts by code points, JavaScript by halves of surrogate pairs. */
function byCodePoint(a, b) {
  const x = Array.from(a, (c) => c.codePointAt(0)), y = Array.from(b, (c) => c.codePointAt(0));
  for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) return x[i] - y[i];
  return x.length - y.length;
}
