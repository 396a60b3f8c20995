"use strict";
// Shows the column that the address names: what it is, its raw columns and marts, and every step on the way. All text
// comes through text nodes, never as HTML.
(() => {
  const { layers, tables, columns, origins, unresolved } = JSON.parse(document.getElementById("data").textContent);
  const uses = columns.map(() => []);
  origins.forEach((from, column) => from.forEach((origin) => uses[origin].push(column)));
  const lacking = new Set(unresolved);
  const names = columns.map(([table, name]) => `${tables[table].name}.${name}`);
  const numbers = new Map(names.map((name, number) => [name, number]));
  const table = document.getElementById("table");
  const column = document.getElementById("column");
  const found = document.getElementById("found");
  const example = columns.findIndex(([table], number) => tables[table].layer === "marts" && origins[number].length);
  const rank = (number) => layers.indexOf(tables[columns[number][0]].layer);

  function element(tag, attributes, ...content) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...content);
    return made;
  }

  function link(number, text = names[number]) {
    return element("a", { href: `#${names[number]}` }, text);
  }

  function reached(start, steps) {
    const seen = new Set();
    const ahead = [start];
    while (ahead.length) {
      for (const next of steps[ahead.pop()]) {
        if (!seen.has(next)) ahead.push(next);
        seen.add(next);
      }
    }
    return [...seen].sort((a, b) => rank(a) - rank(b) || names[a].localeCompare(names[b]));
  }

  // Every step as a list in a list; what has been told once is not told again.
  function steps(start, next, told) {
    return element("ul", {}, ...next[start].map((number) => {
      const item = element("li", {}, link(number), " ", element("span", { class: "layer" }, tables[columns[number][0]].layer));
      if (lacking.has(number)) item.append(" ", element("span", {}, "origin not known"));
      if (!next[number].length) return item;
      if (told.has(number)) item.append(" ", element("span", {}, "(see above)"));
      else {
        told.add(number);
        item.append(steps(number, next, told));
      }
      return item;
    }));
  }

  // Columns by their table: marts.daily_orders: amount, discount.
  function byTable(chosen) {
    const groups = new Map();
    for (const number of chosen) {
      const key = columns[number][0];
      groups.set(key, [...(groups.get(key) ?? []), number]);
    }
    return element("ul", { class: "ends" }, ...[...groups].map(([key, members]) => element("li", {},
      element("b", {}, tables[key].name), ...members.map((number) => link(number, columns[number][1])))));
  }

  function madeOfNothing(number) {
    const { layer, kind } = tables[columns[number][0]];
    if (lacking.has(number)) return "Its origin is not known: the SQL could not be read.";
    if (kind === "seed") return "It is kept in a file of the project (seeds/).";
    if (kind === "source") return layer === "raw" ? "It is a raw column, as the source delivers it." : "It is written by the loaders.";
    return "It is made here, of no column: a constant, a series or a count of rows.";
  }

  function way(title, start, next, ends, none) {
    const all = reached(start, next);
    const section = element("section", {}, element("h3", {}, title));
    if (!all.length) section.append(element("p", {}, none));
    for (const [heading, belongs] of ends) {
      const chosen = all.filter(belongs);
      if (chosen.length) section.append(element("h4", {}, `${heading}: ${chosen.length}`), byTable(chosen));
    }
    if (all.length) section.append(element("h4", {}, `Every step: ${all.length} columns`), steps(start, next, new Set()));
    return section;
  }

  function show(number) {
    const [owner, name, type, description] = columns[number];
    const { name: relation, page } = tables[owner];
    table.value = relation;
    column.replaceChildren(...columns.flatMap(([other, one]) => (other === owner ? [element("option", {}, one)] : [])));
    column.value = name;
    document.title = `${names[number]} · Column lineage · Granary`;
    found.replaceChildren(
      element("h2", {}, names[number]),
      element("p", { class: "type" }, element("code", {}, type), " of ", element("a", { href: page }, relation)),
      element("p", {}, description),
      element("div", { class: "ways" },
        way("Comes from", number, origins, [
          ["Raw columns", (one) => tables[columns[one][0]].layer === "raw"],
        ], madeOfNothing(number)),
        way("Is used by", number, uses, [
          ["Columns of marts", (one) => tables[columns[one][0]].layer === "marts"],
        ], "Nothing is made from it.")),
    );
    document.documentElement.dataset.ready = names[number];
  }

  function fromAddress() {
    const asked = decodeURIComponent(location.hash.slice(1));
    const first = columns.findIndex(([owner]) => tables[owner].name === asked);
    const number = numbers.get(asked) ?? (first < 0 ? undefined : first);
    if (number !== undefined) return show(number);
    if (asked && asked !== "main") found.replaceChildren(element("p", { role: "alert" }, `There is no column ${asked}.`));
    else if (!document.documentElement.dataset.ready) show(example < 0 ? 0 : example);
    document.documentElement.dataset.ready ||= "none";
  }

  table.addEventListener("change", () => { location.hash = table.value; });
  column.addEventListener("change", () => { location.hash = `${table.value}.${column.value}`; });
  addEventListener("hashchange", fromAddress);
  fromAddress();
})();
