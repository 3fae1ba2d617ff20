"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort"), first = head.dataset.first || "ascending";
    const order = before === "none" ? first : before === "ascending" ? "descending" : "ascending";
    for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const value = row => row.cells[column].dataset.value ?? "";
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last in both directions
      const sense = order === "ascending" ? 1 : -1;
      return sense * (isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
    };
    for (const body of table.tBodies) body.append(...[...body.rows].filter(row => !row.matches(".group")).sort(compare));
  }));
}
for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", async () => {
  const code = button.closest("tr").querySelector(".command");
  getSelection().selectAllChildren(code);  // where the page may not write to the clipboard, Ctrl-C still works
  let result = "Selected";
  try { await navigator.clipboard.writeText(code.textContent); result = "Copied"; } catch { }
  button.textContent = result;
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});
