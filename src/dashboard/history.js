// What the answers of two moments say about the time between them, as `limpid top` counts it. Bounded: five minutes, and the flows of the last answers.

const kWindowMs = 300_000;
const kForgetMs = 30_000;
const kRefusals = ["refused_direct", "refused_self", "refused_forbidden_target", "refused_limit", "rejected", "dropped", "refused_proxy_header"];

const grown = (now, before) => Math.max(0, now - before);

class History {
  points = [];
  flows = [];
  #last = null;
  #seen = new Map();

  /** `at`: milliseconds of a clock that never goes back. */
  take(at, status, counters, flows) {
    const counts = counters.counters;
    const reading = {
      at, uptime: status.uptime_ms, name: status.name, up: counts.bytes_up, down: counts.bytes_down,
      connections: counts.flows_total, sessions: counts.udp_sessions_total,
      refusals: kRefusals.reduce((sum, name) => sum + (counts[name] ?? 0), 0),
    };
    const last = this.#last;
    // Another process answers now: its counters began anew.
    const anew = last && (reading.uptime < last.uptime || reading.name !== last.name || reading.connections < last.connections);
    if (anew) {
      this.#last = null;
      this.#seen.clear();
      this.points = [];
    }
    const seconds = this.#last ? (at - this.#last.at) / 1000 : 0;
    let cutUp = 0;
    let cutDown = 0;
    this.flows = flows.map((flow) => {
      const before = this.#seen.get(flow.id);
      let up = null;
      let down = null;
      if (before && at > before.at) {
        up = grown(flow.bytes_up, before.up) * 1000 / (at - before.at);
        down = grown(flow.bytes_down, before.down) * 1000 / (at - before.at);
      } else if (!before && seconds > 0 && !flow.cut_through && flow.age_ms < seconds * 1000) {
        // It began since: all of its bytes have moved since.
        up = flow.bytes_up / seconds;
        down = flow.bytes_down / seconds;
      }
      // The relay's own counters do not have what is forwarded past it.
      if (flow.cut_through) {
        cutUp += up ?? 0;
        cutDown += down ?? 0;
      }
      this.#seen.set(flow.id, {at, up: flow.bytes_up, down: flow.bytes_down});
      return {...flow, up, down, rate: up === null ? -1 : up + down, bytes: flow.bytes_up + flow.bytes_down};
    });
    for (const [id, each] of this.#seen) if (at - each.at > kForgetMs) this.#seen.delete(id);
    if (seconds > 0) {
      const before = this.#last;
      this.points.push({
        at, up: grown(reading.up, before.up) / seconds + cutUp, down: grown(reading.down, before.down) / seconds + cutDown,
        connections: (grown(reading.connections, before.connections) + grown(reading.sessions, before.sessions)) / seconds,
        refusals: grown(reading.refusals, before.refusals) / seconds, tcp: status.flows.tcp, udp: status.flows.udp,
      });
    }
    this.points = this.points.filter((point) => at - point.at <= kWindowMs);
    this.#last = reading;
  }
}
