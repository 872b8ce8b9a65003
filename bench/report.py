# The results as a table for people, and as a chart for the documentation.
import html
import statistics

# Colour-blind safe, in the order of the contenders (Okabe and Ito).
COLOURS = ("#999999", "#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#0072b2", "#d55e00", "#f0e442", "#000000", "#8c564b")


def median(samples, key="figure"):
    values = [sample[key] for sample in samples if key in sample]
    return statistics.median(values) if values else None


def _cell(samples, base, measurement):
    if not samples:
        return "–"
    figures = [sample["figure"] for sample in samples]
    text = f"{median(samples):.2f} ({min(figures):.2f}–{max(figures):.2f})"
    if measurement.more_is_better and base:
        text += f" ×{median(samples) / base:.2f}"
    return text


def _details(samples, measurement):
    """What belongs to the figure: CPU for each unit of work, latency, losses, kernel memory."""
    if not samples:
        return ""
    parts = []
    if measurement.work and (process := median(samples, "process_seconds_per_work")) is not None:
        parts.append(f"CPU {process * 1000:.0f}/{median(samples, 'machine_seconds_per_work') * 1000:.0f} ms")
    if (latency := median(samples, "latency_p50_ms")) is not None:
        parts.append(f"{latency:.2f}/{median(samples, 'latency_p99_ms'):.2f} ms")
    if (lost := median(samples, "lost")) is not None:
        parts.append(f"lost {lost:.0f}")
    if (slab := median(samples, "slab_kib")) is not None:
        parts.append(f"slab {slab:.1f}")
    if failed := median(samples, "failed"):
        parts.append(f"{failed:.0f} failed")
    return ", ".join(parts)


def table(results, measurements):
    names = list(results)
    lines = [f"{'median (min–max) × forwarding':38}" + "".join(f"{name:>30}" for name in names)]
    for measurement in measurements:
        base = median(results[names[0]][measurement.name])
        lines.append(f"{measurement.name + ', ' + measurement.unit:38}"
                     + "".join(f"{_cell(results[name][measurement.name], base, measurement):>30}" for name in names))
        lines.append(" " * 38 + "".join(f"{_details(results[name][measurement.name], measurement):>30}" for name in names))
    steal = max(sample["steal"] for by_name in results.values() for samples in by_name.values() for sample in samples)
    lines.append("CPU: the proxy's / the whole machine's, for each GB, or thousand requests, connections or echoes. Latency: median / 99th percentile.")
    lines.append(f"largest steal in one sample: {steal:.0%} of one CPU")
    return "\n".join(lines)


def _markdown_cell(samples, base, measurement):
    if not samples:
        return "–"
    middle = median(samples)
    if measurement.more_is_better and base:
        text = f"**{middle / base:.2f}** ({middle:.3g})"
    else:
        text = f"{middle:.2f}" if middle < 10 else f"{middle:.0f}"
    if measurement.work and (process := median(samples, "process_seconds_per_work")):
        text += f" {process * 1000:.0f}"
    return text


def markdown(results, measurements, circumstances):
    """The table of docs/performance.md: ratios first, because only they outlive the machine."""
    names = list(results)
    lines = [circumstances, "", "| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for measurement in measurements:
        base = median(results[names[0]][measurement.name])
        lines.append(f"| {measurement.name}, {measurement.unit} | " + " | ".join(_markdown_cell(results[name][measurement.name], base, measurement) for name in names) + " |")
    return "\n".join(lines)


def put_between_markers(text, figures):
    """`text` with what stands between its two markers replaced."""
    begin, end = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"no {begin} … {end}")
    return f"{before}{begin}\n{figures}\n{end}{after}"


def chart(results, measurements):
    """An SVG: for each measurement a group of bars, as ratios to the first contender."""
    names = list(results)
    shown = [m for m in measurements if m.more_is_better and median(results[names[0]][m.name])]
    bar, gap, left, top, height = 20, 28, 60, 50, 260
    group = bar * len(names) + gap
    width = left + group * len(shown) + 20
    most = max(1.0, *(median(results[name][m.name]) / median(results[names[0]][m.name])
                      for name in names for m in shown if results[name][m.name]))
    scale = height / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + height + 70}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{top + height + 70}" fill="white"/>',
           f'<text x="{left}" y="18" font-size="14">Through the router, as a ratio to kernel forwarding (higher is better)</text>']
    for at, name in enumerate(names):
        out.append(f'<rect x="{left + at * 110}" y="28" width="12" height="12" fill="{COLOURS[at % len(COLOURS)]}"/>'
                   f'<text x="{left + at * 110 + 17}" y="38">{html.escape(name)}</text>')
    for tick in (0, 0.25, 0.5, 0.75, 1.0):
        y = top + height - tick * scale
        out.append(f'<line x1="{left}" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/><text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for place, measurement in enumerate(shown):
        base = median(results[names[0]][measurement.name])
        x = left + place * group + gap / 2
        for at, name in enumerate(names):
            if not results[name][measurement.name]:
                continue
            ratio = median(results[name][measurement.name]) / base
            out.append(f'<rect x="{x + at * bar:.1f}" y="{top + height - ratio * scale:.1f}" width="{bar - 3}" height="{ratio * scale:.1f}" fill="{COLOURS[at % len(COLOURS)]}"/>'
                       f'<text x="{x + at * bar + (bar - 3) / 2:.1f}" y="{top + height - ratio * scale - 3:.1f}" text-anchor="middle" font-size="8">{ratio:.2f}</text>')
        for line, words in enumerate(measurement.name.split(", ")):
            out.append(f'<text x="{x + (group - gap) / 2:.1f}" y="{top + height + 18 + 13 * line}" text-anchor="middle">{html.escape(words)}</text>')
    out.append("</svg>\n")
    return "\n".join(out)
