/** What can go wrong, in one sentence each: the sentence says what to change. */

/** The work failed for a reason that the caller can act on. */
export class NiwakiError extends Error {
  constructor(message, options) {
    super(message.replace(/\s+/g, " ").trim(), options);
    this.name = new.target.name;
  }
}

/** The call was wrong: an unknown name, a wrong type, an impossible combination. */
export class CallError extends NiwakiError {}

/** A bundle is incomplete, altered, unsafe, or newer than this runtime. */
export class BundleError extends NiwakiError {}

/** The names that there are, as the end of a sentence about one that there is not. */
export function validNames(known) {
  const names = [...known].sort();
  return names.length ? `valid names: ${names.join(", ")}` : "there are none";
}
