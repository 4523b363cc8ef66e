"use strict";
// Sorting and filtering of a board. All tables of the page go together, and the address says what is shown: it can be
// sent to somebody else, also from a file. Without this script the tables are there, in order of rank.
(() => {
  const tables = [...document.querySelectorAll("table.board")];
  const filter = document.querySelector(".filter");
  const text = document.getElementById("filter-text");
  const level = document.getElementById("filter-level");
  const unlearner = document.getElementById("filter-unlearner");
  const said = document.getElementById("filter-said");
  const START = { column: "place", descending: false };
  let sorting = { ...START };

  // Where a column's cells are in a row: headers span rows, so their own place does not tell.
  const columns = new Map();
  for (const table of tables) {
    const [first, second] = table.tHead.rows;
    const below = [...second.cells];
    for (const cell of first.cells) {
      const found = cell.colSpan > 1 ? below.splice(0, cell.colSpan) : [cell];
      for (const each of found) if (!columns.has(each.dataset.column)) columns.set(each.dataset.column, columns.size);
    }
    break; // all tables have the same columns
  }

  function compare(one, other) {
    if (one === "" || other === "") return (one === "") - (other === ""); // what has no value comes last
    const [a, b] = [Number(one), Number(other)];
    const difference = Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(other, "en") : a - b;
    return sorting.descending ? -difference : difference;
  }

  function sort() {
    const place = columns.get(sorting.column);
    for (const table of tables) {
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [row.cells[place].dataset.v, Number(row.cells[0].dataset.v), row]);
      rows.sort((one, other) => compare(one[0], other[0]) || one[1] - other[1]);
      body.append(...rows.map((each) => each[2]));
      for (const head of table.tHead.querySelectorAll("[data-column]")) {
        const mine = head.dataset.column === sorting.column;
        if (mine) head.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
    }
  }

  function show() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let all = 0;
    for (const table of tables) {
      for (const row of table.tBodies[0].rows) {
        const fits = words.every((word) => row.dataset.text.includes(word))
          && Number(row.dataset.level) >= Number(level.value)
          && (unlearner.value === "" || row.dataset.unlearner === unlearner.value);
        row.hidden = !fits;
        shown += fits;
        all += 1;
      }
    }
    said.textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
  }

  function write() {
    const state = new URLSearchParams();
    if (text.value.trim()) state.set("q", text.value.trim());
    if (level.value !== "0") state.set("level", level.value);
    if (unlearner.value) state.set("unlearner", unlearner.value);
    if (sorting.column !== START.column || sorting.descending) {
      state.set("sort", (sorting.descending ? "-" : "") + sorting.column);
    }
    history.replaceState(null, "", `#${state}`);
  }

  function read() {
    const hash = location.hash.slice(1);
    if (hash && !hash.includes("=")) return; // a place on the page, such as that of the skip link
    const state = new URLSearchParams(hash);
    text.value = state.get("q") ?? "";
    choose(level, state.get("level") ?? "0", "0");
    choose(unlearner, state.get("unlearner") ?? "", "");
    const wanted = state.get("sort") ?? "";
    const column = wanted.replace(/^-/, "");
    sorting = columns.has(column) ? { column, descending: wanted.startsWith("-") } : { ...START };
    sort();
    show();
  }

  function choose(select, value, otherwise) {
    select.value = [...select.options].some((option) => option.value === value) ? value : otherwise;
  }

  if (!tables.length || !filter) return;
  for (const table of tables) {
    for (const head of table.tHead.querySelectorAll("[data-column]")) {
      head.querySelector("button").addEventListener("click", () => {
        const again = sorting.column === head.dataset.column;
        sorting = { column: head.dataset.column, descending: again && !sorting.descending };
        sort();
        write();
      });
    }
  }
  for (const field of [text, level, unlearner]) {
    field.addEventListener("input", () => {
      show();
      write();
    });
  }
  document.getElementById("filter-clear").addEventListener("click", () => {
    text.value = "";
    level.value = "0";
    unlearner.value = "";
    show();
    write();
    text.focus();
  });
  window.addEventListener("hashchange", read);
  filter.hidden = false;
  read();
})();
