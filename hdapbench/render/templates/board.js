"use strict";
{ // in a block: the library's names are global
  const all = selector => document.querySelectorAll(selector);
  const { specs, charts, config } = JSON.parse(document.getElementById("charts").textContent);
  const picked = new Set();
  const views = [];

  const draw = async () => { // one after the other: the page can be read meanwhile
    for (const place of all("[data-chart]")) {
      const chart = charts[place.dataset.chart];
      const { view } = await vegaEmbed(place, { ...specs[chart.spec], ...chart, spec: undefined }, { actions: false, renderer: "svg", ast: true, config });
      views.push(view);
      await view.signal("picked", [...picked]).runAsync();
      await new Promise(resolve => setTimeout(resolve));
    }
    document.body.dataset.drawn = views.length;
  };

  for (const chip of all("[data-pick]")) chip.onclick = () => {
    const name = chip.dataset.pick, isPicked = !picked.delete(name);
    if (isPicked) picked.add(name);
    chip.ariaPressed = String(isPicked);
    for (const view of views) view.signal("picked", [...picked]).run();
  };

  const value = (row, at) => {
    const text = row.cells[at].textContent.trim(), number = parseFloat(text.replace(/[,±]/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b)) : null;
  for (const button of all("thead button")) button.onclick = () => {
    const head = button.parentNode, table = head.closest("table"), sign = head.ariaSort === "ascending" ? -1 : 1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.ariaSort = sign === 1 ? "ascending" : "descending";
    for (const body of table.tBodies) body.append(...[...body.rows].sort((one, two) => {
      const a = value(one, head.cellIndex), b = value(two, head.cellIndex);
      return order(a, b) === null ? (typeof a === "number" ? -1 : 1) : sign * order(a, b); // what is absent comes last
    }));
  };

  const filter = document.getElementById("filter");
  if (filter) filter.oninput = () => {
    const wanted = filter.value.trim().toLowerCase(), rows = [...all("tr[data-method]")];
    for (const row of rows) row.hidden = !row.dataset.method.toLowerCase().includes(wanted);
    document.getElementById("count").value = wanted && `${rows.filter(row => !row.hidden).length} of ${rows.length} rows`;
  };

  for (const button of all("[data-open]")) button.onclick = () => document.getElementById(button.dataset.open).showModal();
  for (const dialog of all("dialog")) dialog.onclick = event => event.target === dialog && dialog.close();
  draw();
}
