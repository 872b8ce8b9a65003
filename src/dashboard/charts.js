// Graphs of the history: two lines each, their present values and the peak as text, so that nobody has to see them.

const kGraphs = [
  {title: "Throughput", lines: [["up", "up"], ["down", "down"]], text: inRate},
  {title: "New each second", lines: [["connections", "flows"], ["refusals", "refused"]], text: inNumber},
  {title: "Open flows", lines: [["tcp", "TCP"], ["udp", "UDP"]], text: inNumber},
];
const kWidth = 300;
const kHeight = 80;
const kSvg = "http://www.w3.org/2000/svg";
/** A young history is drawn as if it were a minute: it would be a dot otherwise. */
const kLeastMs = 60_000;
/** Longer without an answer, and the line is broken. */
const kGapMs = 6000;

const pathOf = (points, member, most, now) => {
  const span = Math.min(kWindowMs, Math.max(kLeastMs, points.length === 0 ? 0 : now - points[0].at));
  let path = "";
  let before = null;
  for (const point of points) {
    const x = kWidth * (1 - (now - point.at) / span);
    const y = kHeight - 2 - (kHeight - 4) * (point[member] / most);
    path += `${before === null || point.at - before > kGapMs ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    before = point.at;
  }
  return path;
};

const makeGraphs = (parent) => kGraphs.map(({title, lines, text}) => {
  const svg = document.createElementNS(kSvg, "svg");
  for (const [name, value] of [["viewBox", `0 0 ${kWidth} ${kHeight}`], ["preserveAspectRatio", "none"], ["role", "img"]]) svg.setAttribute(name, value);
  const paths = lines.map((_, index) => {
    const path = document.createElementNS(kSvg, "path");
    path.setAttribute("class", index === 0 ? "first" : "second");
    svg.append(path);
    return path;
  });
  const values = lines.map((_, index) => make("span", {class: index === 0 ? "first" : "second"}));
  const peak = make("span", {class: "faint"});
  parent.append(make("figure", {}, make("figcaption", {}, make("b", {}, title), ...values, peak), svg));
  return (points, now) => {
    const highest = Math.max(0, ...points.flatMap((point) => lines.map(([member]) => point[member])));
    const latest = points.at(-1);
    lines.forEach(([member, label], index) => {
      paths[index].setAttribute("d", pathOf(points, member, highest || 1, now));
      setText(values[index], `${label} ${latest ? text(latest[member]) : "–"}`);
    });
    setText(peak, `peak ${text(highest)}`);
    svg.setAttribute("aria-label", `${title}: ${values.map((each) => each.textContent).join(", ")}, ${peak.textContent}`);
  };
});
