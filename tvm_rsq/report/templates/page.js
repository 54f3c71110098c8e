// Sorting and filtering of the layer table. The page is complete without it: headers become buttons here, and tools are un-hidden.
// What was asked for stays in the address, so that a link or a reload shows the same: #q=conv&bits=4&sort=-8 are the layers called conv
// of 4 bits, those with most in the eighth column first.
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

  // by: the column from 1 on, negative for the largest first; 0 is the order that the page came in, which equal rows keep
  const sort = (by) => {
    const column = Math.abs(by) - 1;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    if (!heads[column]) return body.append(...rows);
    heads[column].setAttribute("aria-sort", by < 0 ? "descending" : "ascending");
    const keyed = rows.map((row) => [key(row, column), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what was not measured stays last
      return (a < b ? -1 : a > b ? 1 : 0) * Math.sign(by);
    });
    body.append(...keyed.map(([, row]) => row));
  };

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

  const remember = (name, value) => {
    const address = new URL(location.href);
    const state = new URLSearchParams(address.hash.slice(1));
    value ? state.set(name, value) : state.delete(name);
    address.hash = state;
    history.replaceState(null, "", address); // only its fragment is another, which a page from a file may change too
  };

  const named = (control) => control.dataset.key ?? "q";
  const set = (control, value) => {
    if (control.type === "checkbox") control.checked = Boolean(value);
    else control.value = value;
    if (control.selectedIndex === -1) control.value = ""; // an address of another page may ask for what is not here
  };

  const restore = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const control of [words, ...keys]) set(control, state.get(named(control)) ?? "");
    sort(Number(state.get("sort")));
    filter();
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const by = (column + 1) * (head.getAttribute("aria-sort") === "ascending" ? -1 : 1);
      sort(by);
      remember("sort", by);
    });
  });
  tools.addEventListener("input", ({ target }) => {
    remember(named(target), target.type === "checkbox" ? target.checked && "1" : target.value);
    filter();
  });
  tools.querySelector(".reset").addEventListener("click", () => {
    for (const name of ["q", "sort", ...keys.map(named)]) remember(name, "");
    restore();
  });
  addEventListener("hashchange", restore);
  tools.hidden = false;
  restore();
})();
