// The API reference, made from /openapi.json.

import { pathOf } from "./address.js";
import { element } from "./common.js";

const place = document.getElementById("operations");

// Words in backticks become code, as the descriptions mean them.
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? element("code", { text: part }) : part));

let schemas = {};
const OPEN = ["/healthz", "/readyz"]; // paths that need no key
let wantsKey = false;
let collection = ""; // that the commands ask for
const resolve = (schema) => (schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema);

function typeName(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(typeName).filter((name) => name !== "null").join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "null") return "null";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeName(schema.items)}`;
  return { string: "text", integer: "whole number", number: "number", boolean: "true or false", object: "object" }[schema.type] ?? "any";
}

function fields(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const required = schema.required?.includes(name) ? "required" : field.default == null ? "" : JSON.stringify(field.default);
    return element("tr", {}, element("td", {}, element("code", { text: name })), element("td", { text: typeName(field) }),
      element("td", { text: required }), element("td", {}, ...prose(field.description ?? "")));
  });
  const head = ["field", "type", "default", "meaning"].map((text) => element("th", { text, attributes: { scope: "col" } }));
  const attributes = { tabindex: "0", role: "group", "aria-label": "Fields" };
  return element("div", { className: "scroll", attributes }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)));
}

function nested(schema, seen) {
  // Schemas that a response's fields refer to, so that hits and predictions are described too.
  const found = [];
  for (const field of Object.values(schema.properties ?? {})) {
    const name = (field.items?.$ref ?? field.$ref)?.split("/").at(-1);
    if (name && !seen.has(name)) {
      seen.add(name);
      found.push([name, schemas[name]], ...nested(schemas[name], seen));
    }
  }
  return found;
}

/** A body that the service takes: fields that have an example, and what is required. */
function example(schema) {
  const body = {};
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const inner = schema.required?.includes(name) ? resolve(field) : undefined;
    if (field.examples?.length) body[name] = field.examples[0];
    else if (field.const !== undefined) body[name] = field.const;
    else if (inner?.properties) body[name] = example(inner);
  }
  return body;
}

/** A command that can be pasted into a shell; words in capitals are to be replaced. */
function command(path, method, op, body) {
  const filled = path.replace(/{(\w+)(:\w+)?}/g, (_, name) => {
    const named = (op.parameters ?? []).find((p) => p.in === "path" && p.name === name);
    if (path.startsWith("/v1/collections/") && collection) return encodeURIComponent(collection);
    return named?.example ?? named?.schema?.examples?.[0] ?? name.toUpperCase();
  });
  const wants = (op.parameters ?? []).filter((p) => p.in === "query" && p.required).map((p) => `${p.name}=${p.schema?.examples?.[0] ?? p.name.toUpperCase()}`);
  const parts = [`curl ${["delete", "put"].includes(method) ? `-X ${method.toUpperCase()} ` : ""}'${location.origin}${pathOf(filled)}${wants.length ? `?${wants.join("&")}` : ""}'`];
  if (wantsKey && !OPEN.includes(path)) parts.push(`-H "Authorization: Bearer $UNIRNA_API_KEY"`);
  if (body) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example(body)).replaceAll("'", "'\\''")}'`);
  return element("pre", { text: parts.join(" \\\n  ") });
}

function operation(path, method, op) {
  const body = resolve(op.requestBody?.content?.["application/json"]?.schema);
  const answer = resolve((op.responses?.["200"] ?? op.responses?.["202"])?.content?.["application/json"]?.schema);
  const card = element("section", { className: "card" },
    element("h2", {}, element("span", { text: method.toUpperCase(), className: "method" }), element("code", { text: path })),
    element("p", {}, ...prose(`${op.summary}. ${op.description ?? ""}`)));
  const parameters = (op.parameters ?? []).map((p) => `${p.name} (${p.in}${p.required ? ", required" : ""}): ${p.description ?? typeName(p.schema)}`);
  for (const text of parameters) card.append(element("p", { text, className: "hint" }));
  for (const variant of (body?.oneOf ?? []).map(resolve)) {
    card.append(element("h3", { text: `Body of ${typeName(variant.properties.kind)}` }), element("p", { className: "hint" }, ...prose(variant.description ?? "")), fields(variant), command(path, method, op, variant));
    for (const [name, schema] of nested(variant, new Set())) card.append(element("p", { text: `${name}: ${schema.description ?? ""}`, className: "hint" }), fields(schema));
  }
  if (body?.properties) {
    card.append(element("h3", { text: "Body" }), element("p", { className: "hint" }, ...prose(body.description ?? "")), fields(body), command(path, method, op, body));
  }
  if (!body) card.append(command(path, method, op, null));
  const seen = new Set();
  for (const variant of (answer?.anyOf ?? [answer]).map(resolve).filter((one) => one?.properties)) {
    card.append(element("h3", { text: "Answer" }), element("p", { className: "hint" }, ...prose(variant.description ?? "")), fields(variant));
    for (const [name, schema] of nested(variant, seen)) card.append(element("p", { text: `${name}: ${schema.description ?? ""}`, className: "hint" }), fields(schema));
  }
  const errors = Object.entries(op.responses ?? {}).filter(([status]) => Number(status) >= 400);
  if (errors.length) card.append(element("p", { className: "hint" }, ...prose(`Errors: ${errors.map(([status, r]) => `${status} ${r.description}`).join(" · ")}`)));
  return card;
}

try {
  const response = await fetch(pathOf("/openapi.json"));
  if (!response.ok) throw new Error(`the service answered ${response.status}`);
  const document_ = await response.json();
  schemas = document_.components?.schemas ?? {};
  const listed = await fetch(pathOf("/v1/collections"));
  wantsKey = listed.status === 401;
  if (listed.ok) {
    const there = await listed.json();
    collection = there.default ?? there.collections[0]?.name ?? "";
  }
  const cards = Object.entries(document_.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, op]) => operation(path, method, op)));
  place.replaceChildren(...cards);
} catch (error) {
  place.replaceChildren(element("p", { text: `/openapi.json cannot be read: ${error.message}`, className: "message error" }));
}
