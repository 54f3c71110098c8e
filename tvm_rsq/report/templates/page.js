// Sorting and filtering of the layer table. The page is complete without it: headers become buttons here, and tools are un-hidden.
(() => {
  const table = document.querySelector("table.layers");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];

  const key = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.dataset.v;
    if (raw === undefined) return (cell.dataset.text ?? cell.textContent).trim().toLowerCase() || null;
    return raw === "" ? null : Number(raw);
  };

  const sort = (head, column) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [key(row, column), row]); // of the order that the page came in: equal ones keep it
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what was not measured stays last
      return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
    });
    body.append(...keyed.map(([, row]) => row));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head, column));
  });

  const tools = document.querySelector(".tools");
  const words = tools.querySelector(".filter");
  const keys = [...tools.querySelectorAll("[data-key]")];
  const shown = document.querySelector(".count .shown");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  const asked = (control, row) => {
    const found = row.dataset[control.dataset.key];
    return control.type === "checkbox" ? !control.checked || found !== undefined : !control.value || found.includes(`|${control.value}|`);
  };

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      row.hidden = !(wanted.every((word) => texts.get(row).includes(word)) && keys.every((control) => asked(control, row)));
    }
    shown.textContent = rows.filter((row) => !row.hidden).length;
  };

  tools.addEventListener("input", filter);
  tools.querySelector(".reset").addEventListener("click", () => {
    words.value = "";
    for (const control of keys) control.type === "checkbox" ? (control.checked = false) : (control.value = "");
    filter();
  });
  tools.hidden = false;
  filter(); // a page that is loaded again keeps what was typed
})();
