// Shows the OpenAPI document of this server. Text only: nothing of it is taken for markup.
"use strict";

const element = (name, text, ...children) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

const nameOf = (reference) => reference.split("/").pop();

// A type in words, with links to named ones.
const typeOf = (schema) => {
  if (!schema) return element("span", "");
  if (schema.$ref) {
    const link = element("a", nameOf(schema.$ref));
    link.href = "#type-" + nameOf(schema.$ref);
    return link;
  }
  const either = schema.oneOf || schema.anyOf;
  if (either) {
    const parts = either.map(typeOf).flatMap((part) => [" or ", part]);
    return element("span", "", ...parts.slice(1));
  }
  if (schema.type === "array") return element("span", "list of ", typeOf(schema.items));
  const type = [].concat(schema.type || []).join(" or ");
  const bounds = ["minimum", "maximum", "minItems", "maxItems", "maxLength", "pattern", "format"];
  const limits = bounds.filter((key) => key in schema).map((key) => `${key} ${schema[key]}`);
  if (schema.enum) limits.push(schema.enum.join(" | "));
  return element("span", [type, ...limits].join(", "));
};

const table = (rows) => {
  const made = element("table");
  for (const [name, type, text] of rows) {
    const cells = [element("td", "", element("code", name)), element("td", "", type)];
    made.append(element("tr", "", ...cells, element("td", text || "")));
  }
  return made;
};

const contentType = (content) => typeOf(Object.values(content || {})[0]?.schema);

const showOperation = (path, method, operation) => {
  const id = operation.operationId;
  const title = element("h3", "", element("span", method.toUpperCase()), element("code", path));
  title.firstChild.className = "method";
  const section = element("section", "", title, element("p", operation.summary));
  section.id = id;
  if (operation.description) section.append(element("p", operation.description));
  const rows = (operation.parameters || []).map((it) => [
    it.name,
    element("span", `${it.in}${it.required ? "" : ", optional"}; `, typeOf(it.schema)),
    it.description,
  ]);
  if (operation.requestBody) {
    rows.push(["body", contentType(operation.requestBody.content), ""]);
  }
  for (const [status, response] of Object.entries(operation.responses).sort()) {
    rows.push([status, contentType(response.content), response.description]);
  }
  section.append(table(rows));
  document.getElementById("operations").append(section);
  const link = element("a", "", element("code", `${method.toUpperCase()} ${path}`));
  link.href = "#" + id;
  document.getElementById("index").append(link);
};

const showType = (name, schema) => {
  const section = element("section", "", element("h3", name), element("p", schema.description));
  section.id = "type-" + name;
  const required = schema.required || [];
  const rows = Object.entries(schema.properties || {}).map(([field, of]) => [
    field,
    element("span", required.includes(field) ? "" : "optional; ", typeOf(of)),
    of.description,
  ]);
  section.append(rows.length ? table(rows) : typeOf(schema));
  document.getElementById("types").append(section);
};

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then((api) => {
    document.getElementById("about").textContent =
      `${api.info.description} Version ${api.info.version}.`;
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        showOperation(path, method, operation);
      }
    }
    Object.entries(api.components.schemas).forEach(([name, schema]) => showType(name, schema));
  })
  .catch((error) => {
    document.getElementById("about").textContent = `Can't read /openapi.json: ${error}`;
  });
