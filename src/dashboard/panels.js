// The other parts of the page: facts about the instance, rules, upstreams, the doctor's findings.

const kPlanLooks = {installed: "good", disturbed: "bad", given_up: "bad", unwatched: "warn"};

const drawFacts = (status) => {
  const {plan, flows, limits, configuration} = status;
  const facts = [["State", `${plain(status.state)}, for ${inTime(status.uptime_ms)}`, status.state === "serving" ? "good" : "warn"]];
  if (plan) {
    const changed = plan.disturbances === 0 ? "" : `; changes by others: ${inNumber(plan.disturbances)}, put back: ${inNumber(plan.repairs)} (repair ${plain(plan.repair)})`;
    facts.push(["Rules in the kernel", `${plain(plan.state).replace("_", " ")} by ${plain(plan.backend)}${changed}`, kPlanLooks[plan.state] ?? ""],
      ["Intercepts", `tcp ${plain(plan.tcp) || "none"}, udp ${plain(plan.udp) || "none"}, fail ${plain(plan.fail)}`, ""]);
  }
  facts.push(["Flows", `${inNumber(flows.tcp)} of ${inNumber(limits.flows)} TCP, ${inNumber(flows.udp)} UDP`, flows.tcp > limits.flows * 0.9 ? "warn" : ""],
    ["Cut through", `${inNumber(flows.cut_through)} TCP, ${inNumber(flows.udp_cut_through)} UDP`, ""],
    ["Version", `${plain(status.version)}, process ${status.pid}, ${limits.workers} workers`, ""]);
  if (configuration.file) {
    const last = configuration.last_reload;
    const outcome = !last ? "" : last.ok ? `; reloaded ${plain(last.at)}` : `; the reload of ${plain(last.at)} failed: ${last.errors.map(plain).join("; ")}`;
    facts.push(["Configuration", plain(configuration.file) + outcome, last && !last.ok ? "bad" : ""]);
  }
  facts.push(["Log level", plain(status.log_level), ""]);
  keepInStep(byId("facts"), facts, ([name]) => name, ([name]) => make("div", {}, make("dt", {}, name), make("dd")), (element, [, text, look]) => {
    setText(element.lastElementChild, text);
    element.lastElementChild.className = look;
  });
  setText(byId("instance"), plain(status.name ?? status.verb));
  document.title = `Limpid ${plain(status.name ?? "")}: ${plain(status.state)}`;
  const level = byId("log-level");
  if (document.activeElement !== level) level.value = status.log_level;
};

const kRuleColumns = [
  {name: "number", label: "Number", kind: "number", text: (rule) => String(rule.number)},
  {name: "rule", label: "Rule", kind: "wide", text: (rule) => plain(rule.rule)},
  {name: "hits", label: "Hits", kind: "number", text: (rule) => inNumber(rule.hits)},
  {name: "misses", label: "Misses", kind: "number", text: (rule) => inNumber(rule.misses)},
];
const drawRules = ({rules, unmatched}) => {
  const table = byId("rules");
  if (!table.tHead.firstChild) makeHead(table, kRuleColumns);
  table.hidden = rules.length === 0;
  fillTable(table, kRuleColumns, rules, (rule) => `${rule.number} ${rule.rule}`);
  setText(byId("rules-note"), rules.length === 0 ? "This instance has none: every flow is relayed." : `${inNumber(unmatched)} flows matched none of them.`);
};

const kUpstreamColumns = [
  {name: "group", label: "Group", text: (each) => plain(each.group)},
  {name: "name", label: "Upstream", kind: "wide", text: (each) => plain(each.name)},
  {name: "up", label: "Health", text: (each) => (each.up ? "up" : "down"), look: (each) => (each.up ? "good" : "bad")},
  {name: "latency", label: "Connects in", kind: "number", text: (each) => (each.latency_us === null ? "–" : `${(each.latency_us / 1000).toFixed(1)} ms`)},
  {name: "flows", label: "Flows", kind: "number", text: (each) => inNumber(each.flows)},
  {name: "failures", label: "Failures", kind: "number", text: (each) => inNumber(each.failures)},
];
const drawUpstreams = ({groups}) => {
  const table = byId("upstreams");
  if (!table.tHead.firstChild) makeHead(table, kUpstreamColumns);
  const all = groups.flatMap((group) => group.upstreams.map((each) => ({...each, group: group.name, key: `${group.number}-${each.number}`})));
  byId("upstreams-section").hidden = all.length === 0;
  fillTable(table, kUpstreamColumns, all, (each) => each.key);
};

const kSeverities = {failure: ["×", "bad"], warning: ["!", "warn"], skipped: ["–", "faint"], ok: ["√", "good"]};
const makeFinding = (finding) => {
  const [mark, look] = kSeverities[finding.severity] ?? ["?", ""];
  const item = make("li", {}, make("span", {class: look}, `${mark} ${plain(finding.severity)}: `), make("code", {}, plain(finding.id)),
    ` ${finding.subject ? `${plain(finding.subject)}: ` : ""}${plain(finding.summary)}`);
  if (finding.severity === "ok") return item;
  if (finding.remedy.length > 0) item.append(make("pre", {}, finding.remedy.map(plain).join("\n")));
  if (finding.advice) item.append(make("p", {class: "note"}, plain(finding.advice)));
  return item;
};

let drawnFindings = "";
const drawDoctor = (answer) => {
  const {state, report} = answer;
  const running = state === "running";
  byId("look").disabled = byId("probe").disabled = running;
  const what = answer.probed ? "Looked and probed" : "Looked, without a probe";
  const found = report ? `${report.failures} failures, ${report.warnings} warnings, ${report.ok} ok, ${report.skipped} skipped` : "";
  setText(byId("doctor-note"), running ? "An examination is under way…" : state === "failed" ? `It could not be done: ${plain(answer.error)}`
    : state === "done" ? `${what}, ${plain(answer.ended)}: ${found}` : "Nobody has looked yet.");
  const drawn = `${answer.ended}`;
  if (!report || running || drawn === drawnFindings) return;
  drawnFindings = drawn;
  const rank = Object.keys(kSeverities);
  const findings = [...report.findings].sort((one, other) => rank.indexOf(one.severity) - rank.indexOf(other.severity));
  const isWrong = (finding) => finding.severity === "failure" || finding.severity === "warning";
  byId("findings").replaceChildren(...findings.filter(isWrong).map(makeFinding));
  const well = findings.filter((finding) => !isWrong(finding));
  byId("well").hidden = well.length === 0;
  setText(byId("well").querySelector("summary"), `${well.length} that are well, or could not be looked at`);
  byId("well").querySelector("ul").replaceChildren(...well.map(makeFinding));
};
