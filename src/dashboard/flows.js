// The table of flows: what is asked of the instance for it, its order, filter and pages.

const kMostFlows = 500;
const kServerKeys = ["client", "target", "original_destination", "name", "rule", "upstream", "protocol", "state", "cut_through"];
/** The order in which the instance is asked for them: those that matter most for ours. */
const kServerOrders = {rate: "-idle", bytes: "bytes", age: "age"};
const kOrderNotes = {rate: "those that moved last", bytes: "those with the most bytes", age: "the oldest"};

const describeFlow = (flow) => `${flow.protocol.toUpperCase()} ${plain(flow.client)} → ${plain(flow.name ?? flow.original_destination)}`;

const kFlowColumns = [
  {name: "client", label: "Client", kind: "wide", text: (flow) => plain(flow.client)},
  {name: "destination", label: "Destination", kind: "wide", text: (flow) => plain(flow.original_destination)},
  {name: "name", label: "Name", kind: "wide", text: (flow) => plain(flow.name)},
  {name: "protocol", label: "Protocol", text: (flow) => flow.protocol + (flow.cut_through ? ", cut through" : "")},
  {name: "state", label: "State", text: (flow) => (flow.state === "cut_through" ? "" : plain(flow.state))},
  {name: "rule", label: "Rule", kind: "number", text: (flow) => (flow.rule === null ? "" : String(flow.rule))},
  {name: "upstream", label: "Upstream", kind: "wide", text: (flow) => plain(flow.upstream)},
  {name: "bytes", label: "Bytes", kind: "number", text: (flow) => `↑ ${inBytes(flow.bytes_up)} ↓ ${inBytes(flow.bytes_down)}`},
  {name: "rate", label: "Rate", kind: "number", text: (flow) => (flow.up === null ? "–" : `↑ ${inRate(flow.up)} ↓ ${inRate(flow.down)}`)},
  {name: "age", label: "Age", kind: "number", text: (flow) => inTime(flow.age_ms)},
];
const kFlowValues = {
  client: (flow) => flow.client, destination: (flow) => flow.original_destination, name: (flow) => flow.name ?? "\uffff", protocol: (flow) => flow.protocol,
  state: (flow) => flow.state, rule: (flow) => flow.rule ?? Infinity, upstream: (flow) => flow.upstream ?? "\uffff",
  bytes: (flow) => flow.bytes, rate: (flow) => flow.rate, age: (flow) => flow.age_ms,
};

/** "client=192.0.2.0/24 example" → what the instance looks for, and what is looked for here in what it says. */
const parseFilter = (text) => {
  const asked = new URLSearchParams();
  const words = [];
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const split = word.indexOf("=");
    const key = word.slice(0, Math.max(0, split));
    if (kServerKeys.includes(key) && split < word.length - 1) {
      asked.set(key, word.slice(split + 1));
    } else {
      words.push(word.toLowerCase());
    }
  }
  return {asked, words};
};

class FlowTable {
  #table = byId("flows");
  #order = "rate";
  #descending = true;
  #page = 0;
  #flows = [];
  #answer = null;
  #endable = false;

  /** `onEnd(flow)` is called when somebody wants the end of one; `onChange()` when the instance has to be asked anew. */
  constructor(onEnd, onChange) {
    this.#columns = [...kFlowColumns, {
      name: "end", label: "", sorts: false, content: (flow) => {
        const button = make("button", {type: "button", class: "danger", "aria-label": `End ${describeFlow(flow)}`}, "End");
        button.addEventListener("click", () => onEnd(flow));
        button.hidden = !this.#endable;
        return button;
      },
    }];
    makeHead(this.#table, this.#columns, (name) => {
      const numeric = ["bytes", "rate", "age"].includes(name);
      this.#descending = name === this.#order ? !this.#descending : numeric;
      this.#order = name;
      this.#page = 0;
      this.draw();
      onChange();
    });
    byId("filter").addEventListener("input", () => {
      this.#page = 0;
      this.draw();
      onChange();
    });
    byId("page-size").addEventListener("change", () => this.#turn(-this.#page));
    byId("previous").addEventListener("click", () => this.#turn(-1));
    byId("next").addEventListener("click", () => this.#turn(1));
  }
  #columns;

  #turn(pages) {
    this.#page += pages;
    this.draw();
  }

  target() {
    const {asked} = parseFilter(byId("filter").value);
    asked.set("sort", kServerOrders[this.#order] ?? "id");
    asked.set("limit", kMostFlows);
    return `/v1/flows?${asked}`;
  }

  setEndable(endable) {
    this.#endable = endable;
    for (const button of this.#table.querySelectorAll("td button")) button.hidden = !endable;
  }

  take(flows, answer) {
    this.#flows = flows;
    this.#answer = answer;
    this.draw();
  }

  fail(problem) {
    const note = byId("filter-note");
    note.classList.add("bad");
    setText(note, problem);
  }

  draw() {
    const {words} = parseFilter(byId("filter").value);
    const texts = (flow) => kFlowColumns.map((column) => column.text(flow)).join(" ").toLowerCase();
    const shown = words.length === 0 ? [...this.#flows] : this.#flows.filter((flow) => {
      const text = texts(flow);
      return words.every((word) => text.includes(word));
    });
    const value = kFlowValues[this.#order];
    shown.sort((one, other) => {
      const [a, b] = this.#descending ? [value(other), value(one)] : [value(one), value(other)];
      return a < b ? -1 : a > b ? 1 : one.id < other.id ? -1 : 1;
    });
    const size = Number(byId("page-size").value);
    const last = Math.max(0, Math.ceil(shown.length / size) - 1);
    this.#page = Math.min(Math.max(0, this.#page), last);
    const from = this.#page * size;
    fillTable(this.#table, this.#columns, shown.slice(from, from + size), (flow) => flow.id);
    for (const head of this.#table.tHead.querySelectorAll("th")) {
      const sorted = head.dataset.name === this.#order;
      if (sorted) head.setAttribute("aria-sort", this.#descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    setText(byId("page-position"), shown.length === 0 ? "none" : `${from + 1}–${Math.min(from + size, shown.length)} of ${shown.length}`);
    byId("previous").disabled = this.#page === 0;
    byId("next").disabled = this.#page === last;
    this.#note();
  }

  #note() {
    const note = byId("filter-note");
    note.classList.remove("bad");
    const {matched = null, next = null} = this.#answer ?? {};
    const more = matched === null ? next !== null : matched > this.#flows.length;
    const which = kOrderNotes[this.#order] ?? "the first ones";
    setText(note, more ? `Of ${matched === null ? "more" : inNumber(matched)} flows, ${this.#flows.length} are here: ${which}.` : "");
  }
}
