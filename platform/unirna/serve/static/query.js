// Text as people paste or drop it, and the sequence in it that is asked about. The service reads it, as for the command line.

import { Problem, call, counted } from "./common.js";

const MOST_BYTES = 8 << 20;
const NOTHING = { format: "", count: 0, problems: 0, records: [], notes: [], columns: [], sequence_column: "", question: "", identifier: "", failure: "" };
let last = { key: null, found: NOTHING };

/** What a text holds, as /v1/parse says, and `failure` where nothing can be read in it. */
export async function parse(text, column = "") {
  const key = `${column}\n${text}`;
  if (last.key === key) return last.found;
  let found = NOTHING;
  if (text.trim()) {
    try {
      found = { ...(await call("/v1/parse", { text, sequence_column: column })), failure: "" };
    } catch (problem) {
      if (problem.errors?.[0]?.field !== "text") throw problem;
      found = { ...NOTHING, failure: problem.errors[0].message };
    }
  }
  last = { key, found };
  return found;
}

/** What a text held when it was read last. */
export function lastParsed() {
  return last.found;
}

/** The sequence of a text that is asked about: one of its records, or the stored one that it names. */
export async function resolve(text, collection, { column = "", at = 0, field = "similar_to" } = {}) {
  const wrong = (message, name = field) => new Problem(422, message, [{ field: name, message }]);
  const found = await parse(text, column);
  if (!text.trim()) throw wrong("Paste a sequence first, or load the example.");
  if (found.failure) throw wrong(found.failure);
  if (found.question) throw wrong(found.question, "column");
  if (found.identifier) return stored(found.identifier, collection, field);
  const record = found.records[Math.min(at, found.records.length - 1)];
  if (record.problem) throw wrong(record.problem);
  return { name: record.name, sequence: record.sequence };
}

async function stored(identifier, collection, field) {
  const { query_id: id } = await call("/v1/search", { similar_to: identifier, k: 1, collection }).catch((problem) => {
    for (const error of problem.errors ?? []) if (error.field === "similar_to") error.field = field;
    throw problem;
  });
  const record = await call(`/v1/collections/${encodeURIComponent(collection)}/record?${new URLSearchParams({ id: id ?? identifier })}`);
  return { name: record.id, sequence: record.sequence, stored: true };
}

/** What a text holds, in a line, about one of its records. */
export function describe(found, at = 0) {
  if (found.failure || found.question) return found.failure || found.question;
  if (found.identifier) return `It is looked up among the identifiers of the collection: ${found.identifier}`;
  const record = found.records[at];
  if (!record) return "";
  const parts = [record.problem || `${counted(record.sequence.length, "nucleotide")}${record.name ? ` of ${record.name}` : ""}`];
  return [...parts, ...found.notes].join("; ");
}

/** The text of a file, decompressed and decoded. */
export async function textOf(file) {
  const wrong = (message) => new Problem(422, message, [{ field: "file", message: `The file ${file.name} ${message}` }]);
  const start = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const begins = (...bytes) => bytes.every((byte, i) => start[i] === byte);
  if (begins(0x50, 0x4b)) throw wrong("is a zip or Excel file: save the table as CSV, or unpack it.");
  if (begins(0x28, 0xb5, 0x2f, 0xfd) || begins(0x42, 0x5a, 0x68)) throw wrong("is compressed in a way that browsers do not read: unpack it, or use gzip.");
  if (begins(0x50, 0x41, 0x52, 0x31)) throw wrong("is a Parquet file: use the command line, or save it as CSV.");
  if (begins(0x25, 0x50, 0x44, 0x46) || begins(0x7b, 0x5c, 0x72, 0x74)) throw wrong("is a formatted document: save its text as a plain file.");
  if (begins(0x89, 0x50, 0x4e, 0x47) || begins(0xff, 0xd8, 0xff) || begins(0x47, 0x49, 0x46, 0x38)) throw wrong("is a picture: this page reads text, such as FASTA, GenBank or CSV.");
  if (!file.size) throw wrong("is empty.");
  let bytes;
  try {
    const stream = begins(0x1f, 0x8b) ? file.stream().pipeThrough(new DecompressionStream("gzip")) : file.stream();
    bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw wrong("is damaged or cut short. Fetch or compress it again.");
  }
  if (bytes.length > MOST_BYTES) throw wrong(`holds ${(bytes.length / 1e6).toFixed(1)} MB, and the page takes 8: use the command line.`);
  const mark = { "255,254": "utf-16le", "254,255": "utf-16be" }[String(bytes.slice(0, 2))];
  if (!mark && bytes.subarray(0, 1024).includes(0)) throw wrong("is not a text file: this page reads FASTA, FASTQ, GenBank, alignments and tables, plain or compressed with gzip.");
  try {
    return new TextDecoder(mark ?? "utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}
