"use strict";
// Sorting by a column: up, down, as printed. Without this script the tables are complete, only fixed.
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  const printed = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  for (const head of heads) {
    if (head.tagName !== "TH") continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      table.classList.toggle("sorted", next !== "none");
      body.append(...(next === "none" ? printed : sorted(printed, heads.indexOf(head), next === "ascending" ? 1 : -1)));
    });
  }
}

function sorted(rows, column, sign) {
  const number = (row) => parseFloat(row.cells[column].dataset.value);
  const text = (row) => row.cells[column].textContent.trim();
  const numeric = rows.some((row) => !isNaN(number(row)));
  return [...rows].sort((a, b) => {
    if (!numeric) return sign * text(a).localeCompare(text(b), "en");
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // what is missing stays below, either way
    return sign * (x - y);
  });
}
