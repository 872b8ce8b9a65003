// Figures and times as text, and the text of others made harmless to read. Pure.

/** What others said, without what would be invisible, act on the line, or turn its direction. */
const plain = (text) => String(text ?? "").replace(
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g, "\ufffd");

/** "1.2 MiB": in steps of 1024, as `limpid flows` has them. */
const inBytes = (count) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (count >= 1023.5 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 || count >= 99.5 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
};
const inRate = (perSecond) => `${inBytes(perSecond)}/s`;
const inNumber = (count) => (count >= 10 || Number.isInteger(count) ? Math.round(count).toLocaleString("en") : count.toFixed(1));

/** "3 d 4 h", "5 m 12 s", "0.3 s". */
const inTime = (milliseconds) => {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const parts = [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]];
  for (const [large, one, small, other] of parts)
    if (whole >= large) return `${Math.floor(whole / large)} ${one} ${Math.floor((whole % large) / small)} ${other}`;
  return `${whole} s`;
};
