// Questions to the instance, and the token that goes with them: typed by the user, kept in this tab's sessionStorage and nowhere else.

const kTokenKey = "limpid-token";
const kPatienceMs = 15_000;

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

class Session {
  #token = sessionStorage.getItem(kTokenKey) ?? "";
  reads = true;
  changes = false;
  takesToken = false;

  get hasToken() {
    return this.#token !== "";
  }

  setToken(token) {
    this.#token = token;
    if (token) sessionStorage.setItem(kTokenKey, token);
    else sessionStorage.removeItem(kTokenKey);
  }

  async ask(method, target, body) {
    const headers = {};
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(target, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit", redirect: "error",
      signal: AbortSignal.timeout(kPatienceMs),
    });
    const json = await answer.json();
    if (!answer.ok) throw new Refused(answer.status, (json.errors ?? [`status ${answer.status}`]).map(plain).join("; "));
    return json;
  }

  get(target) {
    return this.ask("GET", target);
  }

  /** What we may do here. */
  async refresh() {
    const {token, reads, changes} = await this.get("/v1/dashboard");
    this.takesToken = token !== "none";
    this.reads = reads;
    this.changes = changes;
  }
}
