// Elements of the document: made, filled and kept. Text only ever becomes text: nothing here parses markup.

const byId = (id) => document.getElementById(id);

/** make("td", {class: "number"}, "1", child…). */
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

/** Only where it differs, so that selections and screen readers are left in peace. */
const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

/**
 * Keeps one element for each item, in the order of the items. `key` names an item, `create` makes an element for one, `update` fills it. Elements that stay
 * keep the focus, also when they move.
 */
const keepInStep = (parent, items, key, create, update) => {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const kept = new Map([...parent.children].map((each) => [each.dataset.key, each]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let element = kept.get(name);
    if (element) {
      kept.delete(name);
    } else {
      element = create(item);
      element.dataset.key = name;
    }
    update(element, item);
    if (element === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(element, place);
    }
  }
  for (const gone of kept.values()) gone.remove();
  if (focused && focused.isConnected && document.activeElement !== focused) focused.focus({preventScroll: true});
};

/** columns: {name, label, kind: "number"|"wide"|"", text(item), sorts}. Their heads are buttons where `onSort` is given and they sort. */
const makeHead = (table, columns, onSort) => {
  const row = make("tr", {role: "row"});
  for (const column of columns) {
    const head = make("th", {role: "columnheader", scope: "col", "data-name": column.name});
    if (column.kind === "number") head.classList.add("number");
    if (onSort && column.sorts !== false) {
      const button = make("button", {type: "button"}, column.label);
      button.addEventListener("click", () => onSort(column.name));
      head.append(button);
    } else {
      head.append(column.label);
    }
    row.append(head);
  }
  table.tHead.replaceChildren(row);
  table.classList.add("cards");
};

const fillTable = (table, columns, items, key) => {
  keepInStep(table.tBodies[0], items, key, (item) => {
    const row = make("tr", {role: "row"});
    for (const column of columns) {
      const cell = make("td", {role: "cell"});
      if (column.label) cell.dataset.label = column.label;
      if (column.kind) cell.className = column.kind;
      if (column.content) cell.append(column.content(item));
      row.append(cell);
    }
    return row;
  }, (row, item) => {
    columns.forEach((column, index) => {
      if (!column.text) return;
      setText(row.cells[index], column.text(item));
      if (column.look) row.cells[index].className = `${column.kind ?? ""} ${column.look(item)}`.trim();
    });
  });
};
