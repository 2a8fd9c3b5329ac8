// Addresses: each search, record and map has one that brings it back, in this tab or another. Paths are relative to where the
// service is shown, which may be below a path of a proxy. A sequence stands behind the #, which is sent to no server.

export const BASE = new URL(".", location.href).pathname;
const LONGEST = 8_000; // characters of a sequence in an address

/** A path of the service ("/map") as one of this site. */
export const pathOf = (path) => BASE + path.slice(1);

/** The path of what is shown, as the service knows it. */
export const here = () => `/${location.pathname.slice(BASE.length)}`;

/** A search as an address: `fields` that are not empty, and behind the # the sequence and the constraint of its structure. Says
 * whether another tab can open it too. */
export function addressOf(fields, text, constraint = "") {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value));
  const path = `${BASE}${String(query) && `?${query}`}`;
  const further = constraint ? { constraint } : {};
  if (text.length <= LONGEST) return { address: text ? `${path}#${new URLSearchParams({ sequence: text, ...further })}` : path, shared: true };
  const name = fingerprint(text);
  try {
    sessionStorage.setItem(`unirna-text-${name}`, text);
  } catch {
    return { address: path, shared: false };
  }
  return { address: `${path}#${new URLSearchParams({ kept: name, ...further })}`, shared: false };
}

/** What the address of a search says: its fields, the sequence, null for none, whether one is missing that was too long, and the
 * constraint. */
export function searchOf() {
  const behind = new URLSearchParams(location.hash.slice(1));
  const kept = behind.get("kept");
  const text = kept ? sessionStorage.getItem(`unirna-text-${kept}`) : behind.get("sequence");
  return { fields: Object.fromEntries(new URLSearchParams(location.search)), text, missing: Boolean(kept) && text === null, constraint: behind.get("constraint") ?? "" };
}

function fingerprint(text) {
  let [a, b] = [0x811c9dc5, text.length];
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
    b = Math.imul(b ^ text.charCodeAt(i), 0x85ebca6b) + i;
  }
  return [a, b].map((part) => (part >>> 0).toString(16)).join("");
}
