// Keeps a list of jobs true without moving what is being read: rows change in place, new ones wait behind a button
// while somebody points at the list, and those that no longer fit the filter fade instead of vanishing.
import { morph } from "./morph.js";

const most = 150; // Rows kept on the page; older ones are a click away.

export function updateRows(root, fresh) {
  const body = root.querySelector("[data-rows]");
  const rows = [...fresh.querySelectorAll("[data-key]")];
  const inList = rows.filter((row) => !("left" in row.dataset));
  if (!body) {
    if (inList.length) location.reload(); // The list was empty: its first row brings the table with it.
    return;
  }
  const shown = new Map([...body.children].map((row) => [row.dataset.key, row]));
  // Not one row in common: so much happened that only the whole page is true.
  if (inList.length && !inList.some((row) => shown.has(row.dataset.key))) return location.reload();
  const added = [];
  for (const row of rows) {
    const known = shown.get(row.dataset.key);
    if (known) morph(known, row);
    else if (!("left" in row.dataset)) added.push(row);
  }
  if (added.length && "newest" in root.dataset) offer(root, body, added);
}

function offer(root, body, added) {
  const first = body.firstElementChild;
  const fresh = added.filter((row) => !first || row.dataset.created > first.dataset.created);
  if (!fresh.length) return;
  const reading = body.matches(":hover") || body.contains(document.activeElement);
  const pill = root.querySelector("[data-new-rows]");
  if (!reading) {
    pill.hidden = true;
    insert(body, fresh);
    return;
  }
  pill.hidden = false;
  pill.lastElementChild.textContent = fresh.length === 1 ? "1 new job" : `${fresh.length} new jobs`;
  pill.onclick = () => {
    pill.hidden = true;
    insert(body, fresh.filter((row) => !body.querySelector(`[data-key="${CSS.escape(row.dataset.key)}"]`)));
  };
}

function insert(body, rows) {
  for (const row of rows) row.classList.add("fresh");
  body.prepend(...rows);
  while (body.children.length > most) body.lastElementChild.remove();
}
