// What happens when: questions each second, buttons, dialogs.

const kIntervalMs = 1000;
const kSlowly = 5;  // rules and upstreams are asked for with every fifth question
const session = new Session();
const history = new History();
const drawGraph = makeGraphs(byId("graphs"));
let paused = false;
let round = 0;
let timer = 0;
let busy = false;
let looked = false;

const sayAlert = (text) => {
  byId("alert").hidden = text === "";
  setText(byId("alert"), text);
};

const confirmed = (title, text, yes) => new Promise((resolve) => {
  const dialog = byId("confirm-dialog");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  let answer = false;
  byId("confirm-yes").onclick = () => {
    answer = true;
    dialog.close();
  };
  byId("confirm-no").onclick = () => dialog.close();
  dialog.onclose = () => resolve(answer);
  dialog.showModal();
  byId("confirm-no").focus();
});

const order = async (what, method, target, body) => {
  try {
    await session.ask(method, target, body);
    sayAlert("");
  } catch (problem) {
    if (problem.status === 401) await forgetToken();
    sayAlert(`${what}: ${problem.message}`);
  }
  soon();
};

const flowTable = new FlowTable(async (flow) => {
  const text = `${describeFlow(flow)} (${flow.id}). Both sides of a connection are reset.`;
  if (await confirmed("End this flow?", text, "End it")) await order("The flow was not ended", "DELETE", `/v1/flows/${encodeURIComponent(flow.id)}`);
}, () => soon());

const showSession = () => {
  byId("sign-in").hidden = !session.takesToken || session.changes;
  byId("sign-out").hidden = !session.hasToken;
  byId("operations").hidden = byId("probe").hidden = !session.changes;
  flowTable.setEndable(session.changes);
};

const forgetToken = async () => {
  session.setToken("");
  await session.refresh();
  showSession();
};

const drawDoctorState = async () => {
  let answer = await session.get("/v1/doctor");
  const old = answer.state === "never" || (!answer.probed && answer.state !== "running" && Date.now() - Date.parse(answer.ended) > 300_000);
  if (old && !looked) {
    looked = true;
    answer = await session.ask("POST", "/v1/doctor");
  }
  drawDoctor(answer);
};

const refresh = async () => {
  if (!session.reads) {
    setText(byId("connection"), "this address needs the token");
    return;
  }
  const slow = round % kSlowly === 0;
  const asked = [session.get("/v1/status"), session.get("/v1/counters"), session.get(flowTable.target()).catch((problem) => {
    if (problem.status !== 400) throw problem;
    flowTable.fail(problem.message);
    return null;
  })];
  if (slow) asked.push(session.get("/v1/rules"), session.get("/v1/upstreams"));
  const [status, counters, flows, rules, upstreams] = await Promise.all(asked);
  const at = performance.now();
  round += 1;
  drawFacts(status);
  if (flows) {
    history.take(at, status, counters, flows.flows);
    flowTable.take(history.flows, flows);
  }
  for (const draw of drawGraph) draw(history.points, at);
  if (rules) drawRules(rules);
  if (upstreams) drawUpstreams(upstreams);
  if (byId("doctor-section").hidden === (status.plan !== null)) byId("doctor-section").hidden = status.plan === null;
  if (slow && status.plan !== null) await drawDoctorState();
  setText(byId("connection"), paused ? "paused" : "live");
};

const run = async () => {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    await refresh();
  } catch (problem) {
    round = 0;
    if (problem.status === 401) await forgetToken().catch(() => {});
    setText(byId("connection"), problem.status ? `refused: ${problem.message}` : "no answer: the instance has ended, or cannot be reached");
  }
  busy = false;
  if (!paused && !document.hidden) timer = setTimeout(run, kIntervalMs);
};
const soon = () => {
  clearTimeout(timer);
  timer = setTimeout(run, 50);
};

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  setText(byId("connection"), paused ? "paused" : "live");
  if (!paused) soon();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !paused) soon();
});

byId("sign-in").addEventListener("click", () => {
  byId("token-problem").hidden = true;
  byId("token-dialog").showModal();
});
byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
byId("token-dialog").addEventListener("close", () => {
  byId("token").value = "";
});
byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  session.setToken(byId("token").value.trim());
  try {
    await session.refresh();
    byId("token-dialog").close();
  } catch (problem) {
    session.setToken("");
    byId("token-problem").hidden = false;
    setText(byId("token-problem"), problem.message);
  }
  showSession();
  round = 0;
  soon();
});
byId("sign-out").addEventListener("click", () => forgetToken().then(soon));

byId("log-level").addEventListener("change", (event) => order("The log level stays", "PUT", "/v1/log-level", {level: event.target.value}));
byId("drain").addEventListener("click", async () => {
  const text = "It captures nothing new, waits for its flows as long as --drain-timeout says, and ends. This page ends with it.";
  if (await confirmed("Drain and end this instance?", text, "Drain")) await order("It was not drained", "POST", "/v1/drain");
});
const examine = (what, target) => async () => {
  await order(what, "POST", target);
  round = 0;
};
byId("look").addEventListener("click", examine("Nobody looked", "/v1/doctor"));
byId("probe").addEventListener("click", examine("Nothing was probed", "/v1/doctor/probe"));

const begin = async () => {
  try {
    await session.refresh();
  } catch (problem) {
    if (session.hasToken && problem.status === 401) await forgetToken().catch(() => {});
  }
  showSession();
  if (!session.reads) byId("token-dialog").showModal();
  await run();
};
begin();
