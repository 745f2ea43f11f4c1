"use strict";
// Without this script the page says the same; tables then keep their order and show every row.

const collator = new Intl.Collator("en", { numeric: true });

function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
}

function compare(a, b) {
  const bothNumbers = a !== "" && b !== "" && !isNaN(a) && !isNaN(b);
  return bothNumbers ? Number(a) - Number(b) : collator.compare(a, b);
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [valueOf(one, column), valueOf(other, column)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
    return direction * compare(a, b);
  });
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, column, ascending ? 1 : -1);
    });
  });
}

const filters = document.getElementById("filters");
const trainings = document.getElementById("trainings-table");
const shown = document.getElementById("shown");

function filter() {
  const { text, contender, budget } = filters.elements;
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...trainings.tBodies[0].rows];
  for (const row of rows) {
    const own = [0, 1, 2].map((column) => row.cells[column].textContent.trim());
    const said = own.join(" ").toLowerCase();
    row.hidden =
      (contender.value && own[0] !== contender.value) ||
      (budget.value && own[1] !== budget.value) ||
      !words.every((word) => said.includes(word));
  }
  const left = rows.filter((row) => !row.hidden).length;
  shown.textContent = `${left} of ${rows.length} trainings shown`;
}

filters.hidden = false;
filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filter();
