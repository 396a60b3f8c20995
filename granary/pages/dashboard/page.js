"use strict";
// Filters the page's rows, adds them up, and shows them as figures, charts, tables and downloads. Everything shown
// comes through text nodes or Vega, never as HTML: values are those of the sources.
(() => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const formats = {
    text: String,
    count: number({ maximumFractionDigits: 0 }),
    decimal: number({ minimumFractionDigits: 2, maximumFractionDigits: 2 }),
    money: number({ style: "currency", currency: "USD", maximumFractionDigits: 0 }),
    cents: number({ style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 2 }),
    percent: number({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }),
    times: (value) => `${formats.decimal(value)} ×`,
    seconds: duration,
    bytes: size,
  };
  const narrow = matchMedia("(max-width: 40rem)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const controls = [...document.querySelectorAll("[data-column]")];
  const views = new Map();

  function values(control) {
    return [...(control.list ?? control).options].map((option) => option.value);
  }

  // What a control asks for; a text that is none of its choices asks for everything.
  function wanted(control) {
    return values(control).includes(control.value) ? control.value : "";
  }

  function number(options) {
    const format = new Intl.NumberFormat("en-US", options);
    return (value) => format.format(value).replace("-", "−");
  }

  // Seconds as people say them: the largest unit and the one below it.
  function duration(seconds) {
    if (seconds < 0) return `−${duration(-seconds)}`;
    if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const place = units.findIndex(([, length]) => seconds >= length);
    const [[unit, length], [part, shorter]] = units.slice(place, place + 2);
    const rest = Math.floor((seconds % length) / shorter);
    return `${formats.count(Math.floor(seconds / length))} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
  }

  function size(bytes) {
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    const place = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, Math.abs(bytes))) / 3));
    const value = bytes / 1000 ** place;
    return `${value.toFixed(place && Math.abs(value) < 100 ? 1 : 0).replace("-", "−")} ${units[place]}`;
  }

  function shown(value, format) {
    return value === null || value === undefined ? "–" : formats[format](value);
  }

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  // The rows of a data set that the filters leave, as objects. Where a data set has rows of its own for the total
  // (null in the filter's column), everything means these and a choice means the others.
  function chosen(name, ignores = []) {
    const { columns, rows, totals } = page.datasets[name];
    const tests = [];
    for (const control of controls) {
      const place = columns.indexOf(control.dataset.column);
      if (place < 0 || ignores.includes(control.dataset.column)) continue;
      const value = wanted(control);
      if (value !== "") tests.push((row) => row[place] === value);
      else if (totals.includes(control.dataset.column)) tests.push((row) => row[place] === null);
    }
    return rows
      .filter((row) => tests.every((test) => test(row)))
      .map((row) => Object.fromEntries(columns.map((column, place) => [column, row[place]])));
  }

  // Cents stay cents: a sum of binary fractions is rounded to what the marts have.
  function sum(rows, column) {
    const values = rows.map((row) => row[column]).filter((value) => value !== null && value !== undefined);
    return values.length ? Math.round(values.reduce((a, b) => a + b, 0) * 1e6) / 1e6 : null;
  }

  function measure(rows, { name, kind, of }) {
    if (kind === "sum") return sum(rows, name);
    if (kind !== "ratio") return rows.length ? rows[0][name] : null;
    const [above, below] = of.map((column) => sum(rows, column));
    return above === null || !below ? null : above / below;
  }

  function grouped(chart) {
    const keys = chart.columns.filter((column) => column.kind === "key");
    const groups = new Map();
    for (const row of chosen(chart.dataset, chart.ignores)) {
      const key = JSON.stringify(keys.map((column) => row[column.name]));
      groups.has(key) ? groups.get(key).push(row) : groups.set(key, [row]);
    }
    const rows = [...groups.values()].map((group) =>
      Object.fromEntries(chart.columns.map((column) => [column.name, measure(group, column)])),
    );
    if (chart.order) rows.sort((a, b) => (b[chart.order] ?? -Infinity) - (a[chart.order] ?? -Infinity));
    const kept = chart.limit ? rows.slice(0, chart.limit) : rows;
    return { rows: kept, cut: rows.length - kept.length };
  }

  function figure(target, { dataset, column, previous, change, note }) {
    const rows = chosen(dataset);
    const now = measure(rows, column);
    const before = previous ? measure(rows, previous) : null;
    target.querySelector(".value").textContent = shown(now, column.format);
    const line = target.querySelector(".change");
    line.className = "change";
    if (previous && now !== null && before) {
      const moved = change === "points" ? 100 * (now - before) : 100 * (now / before - 1);
      const size = Math.abs(moved).toFixed(1);
      const sign = size === "0.0" ? "" : moved > 0 ? "▲ +" : "▼ −";
      line.textContent = `${sign}${size} ${change === "points" ? "points" : "%"} ${note}`;
      // Whether more discount is good is not ours to say: only what is sold has colours.
      if (change === "relative" && size !== "0.0") line.classList.add(moved > 0 ? "up" : "down");
    } else line.textContent = previous ? "nothing earlier to compare with" : note;
  }

  // The finding is what the page says when it opens; once something is chosen, the heading says what is shown.
  function title(chart) {
    const { columns } = page.datasets[chart.dataset];
    const moved = controls.some(
      (control) =>
        columns.includes(control.dataset.column) &&
        !chart.ignores.includes(control.dataset.column) &&
        wanted(control) !== control.dataset.first,
    );
    const heading = document.getElementById(`${chart.name}-title`);
    heading.textContent = moved ? heading.dataset.title : heading.dataset.finding;
  }

  // How many rows a table has: what is cut off, or has to be scrolled to, is said.
  function count(section, { rows, cut }) {
    const number = rows.length.toLocaleString("en-US");
    const all = (rows.length + cut).toLocaleString("en-US");
    section.querySelector(".shown").textContent = cut
      ? `The first ${number} of ${all} rows; scroll to see all of these.`
      : rows.length > 10
        ? `${number} rows; scroll to see all.`
        : "";
  }

  function fill(table, chart, rows) {
    const head = element("tr", "");
    for (const { label, format } of chart.columns)
      head.append(element("th", label, { scope: "col", class: format === "text" ? "" : "number" }));
    const body = rows.map((row) => {
      const line = element("tr", "");
      chart.columns.forEach(({ name, kind, format }, place) => {
        const cell = place === 0 ? element("th", "", { scope: "row" }) : element("td", "");
        cell.textContent = shown(row[name], format);
        if (format !== "text") cell.className = "number";
        line.append(cell);
      });
      return line;
    });
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...body);
  }

  // What a spreadsheet would take for a formula gets an apostrophe in front.
  function field(value) {
    if (value === null || value === undefined) return "";
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function download(chart) {
    const lines = [chart.columns.map((column) => column.name)];
    for (const row of grouped(chart).rows) lines.push(chart.columns.map((column) => row[column.name]));
    const text = lines.map((line) => line.map(field).join(",")).join("\r\n") + "\r\n";
    const link = element("a", "", { download: `${chart.name}.csv` });
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // A chart of horizontal bands is as high as there are bands; on a phone long labels take two lines.
  function height({ step }, rows) {
    const size = narrow.matches ? Math.max(step.size, 30) : step.size;
    return size * new Set(rows.map((row) => row[step.field])).size;
  }

  function halves(label) {
    const text = String(label);
    if (text.length <= 18 || !text.includes(" ")) return [text];
    const spaces = [...text].flatMap((letter, place) => (letter === " " ? [place] : []));
    const middle = spaces.reduce((a, b) => (Math.abs(b - text.length / 2) < Math.abs(a - text.length / 2) ? b : a));
    return [text.slice(0, middle), text.slice(middle + 1)];
  }

  function wrap(spec, { field }, rows) {
    const labels = Object.fromEntries(rows.map((row) => [row[field], halves(row[field])]));
    for (const { encoding } of spec.layer ?? [spec])
      if (encoding.y?.field === field)
        encoding.y.axis = { ...encoding.y.axis, labelExpr: `${JSON.stringify(labels)}[datum.value]`, labelLimit: 190 };
  }

  async function draw(chart, rows) {
    const section = document.getElementById(chart.name);
    const canvas = section.querySelector(".chart");
    section.querySelector(".scroll").hidden = rows.length === 0;
    section.querySelector(".empty").hidden = rows.length > 0;
    if (!canvas) return;
    canvas.hidden = rows.length === 0;
    if (!rows.length) return;
    const known = views.get(chart.name);
    if (known && known.dark === dark.matches && !narrow.matches && !known.narrow) {
      if (chart.step) known.view.height(height(chart, rows));
      await known.view.data("table", rows).runAsync();
      return;
    }
    const spec = structuredClone(chart.spec);
    spec.datasets = { table: rows };
    if (chart.step) spec.height = height(chart, rows);
    if (spec.facet) {
      // Vega-Lite does not fit facets into what there is: as many beside each other as have room.
      const width = canvas.clientWidth;
      // Where each has a scale of its own, each has its labels.
      const labels = spec.resolve?.scale?.y === "independent" ? 45 : 0;
      spec.columns = Math.max(2, Math.floor(width / (190 + labels)));
      spec.spec.width = Math.floor((width - 50) / spec.columns) - 22 - labels;
      spec.facet.header = { ...spec.facet.header, labelLimit: spec.spec.width + labels };
    }
    Object.assign(spec.config.range, page.ranges[dark.matches ? "dark" : "light"]);
    if (narrow.matches) {
      spec.config.axisY = { labelLimit: 120 };
      if (chart.step) wrap(spec, chart.step, rows);
    }
    if (known) known.finalize();
    // The interpreter instead of compiled expressions: the page's policy forbids to make code of text.
    const options = { ast: true, renderer: "svg", actions: false };
    const made = await vegaEmbed(canvas.firstElementChild, spec, options);
    views.set(chart.name, { view: made.view, finalize: made.finalize, narrow: narrow.matches, dark: dark.matches });
  }

  async function show() {
    page.figures.forEach((one, place) => figure(document.getElementById(`figure-${place}`), one));
    for (const chart of page.charts) {
      const found = grouped(chart);
      title(chart);
      count(document.getElementById(chart.name), found);
      fill(document.querySelector(`#${chart.name} table`), chart, found.rows);
      await draw(chart, found.rows);
    }
    document.documentElement.dataset.ready = String(Number(document.documentElement.dataset.ready || 0) + 1);
  }

  // One redrawing at a time; what is chosen meanwhile is drawn after it.
  let drawing = null;
  let again = false;
  async function redraw() {
    again = true;
    if (drawing) return;
    while (again) {
      again = false;
      drawing = show();
      await drawing;
    }
    drawing = null;
  }

  function choose() {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const control of controls) {
      const value = asked.get(control.dataset.column);
      control.value = value !== null && values(control).includes(value) ? value : control.dataset.first;
    }
  }

  function remember() {
    const kept = controls.filter((control) => wanted(control) !== control.dataset.first);
    const hash = new URLSearchParams(kept.map((control) => [control.dataset.column, wanted(control)])).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  for (const control of controls)
    control.addEventListener("change", () => {
      control.toggleAttribute("aria-invalid", control.value !== wanted(control));
      remember();
      redraw();
    });
  document.getElementById("reset")?.addEventListener("click", () => {
    for (const control of controls) {
      control.value = control.dataset.first;
      control.removeAttribute("aria-invalid");
    }
    remember();
    redraw();
  });
  for (const chart of page.charts)
    document.querySelector(`#${chart.name} .download`).addEventListener("click", () => download(chart));
  // The page stays as it was written: one that is left open, or comes from elsewhere, says how long ago that was.
  const age = (Date.now() - Date.parse(`${page.written.replace(" ", "T")}Z`)) / 1000;
  if (age >= 3600) document.querySelector(".state").append(` (${duration(age)} ago)`);
  narrow.addEventListener("change", redraw);
  dark.addEventListener("change", redraw);
  choose();
  redraw();
})();
