/** Tokens to text, by the `tokenizer.json` of a bundle. */

/** The letter that stands for a byte in byte-level vocabularies, as GPT-2 chose them, by letter. */
function byteLetters() {
  const letters = new Map();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    letters.set(String.fromCodePoint(shown ? byte : next++), byte);
  }
  return letters;
}

/**
 * tokens → text, for a tokenizer of bytes, or of words without a decoder (which are joined by blanks); null for
 * any other kind. Special tokens are left out; bytes that are no UTF-8 become �.
 */
export function textDecoder(tokenizer) {
  const { model, decoder, added_tokens: added = [] } = JSON.parse(tokenizer);
  if ((decoder && decoder.type !== "ByteLevel") || Array.isArray(model.vocab)) return null;
  const pieces = new Map(Object.entries(model.vocab).map(([piece, number]) => [number, piece]));
  for (const { id, content } of added) pieces.set(id, content);
  const special = new Set(added.filter((token) => token.special).map((token) => token.content));
  const letters = byteLetters(), encoder = new TextEncoder();
  return (tokens) => {
    const found = Array.from(tokens, (token) => pieces.get(Number(token)));
    const kept = found.filter((piece) => piece !== undefined && !special.has(piece));
    if (!decoder) return kept.join(" ");
    const bytes = kept.flatMap((piece) => {
      const known = Array.from(piece, (letter) => letters.get(letter));
      return known.includes(undefined) ? [...encoder.encode(piece)] : known; // other letters stand for themselves
    });
    return new TextDecoder().decode(Uint8Array.from(bytes));
  };
}
