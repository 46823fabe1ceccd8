// Relative times as the server writes them (console/times.py), kept true while the page stays open.

const rendered = Date.parse(document.documentElement.dataset.now);
const skew = Number.isNaN(rendered) ? 0 : rendered - Date.now();
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

export const serverNow = () => Date.now() + skew;

export function ago(milliseconds) {
  const seconds = (serverNow() - milliseconds) / 1000;
  const span = Math.abs(seconds);
  if (span < 1) return "now";
  if (span >= 7 * 86400) return null;
  const text = largestUnit(span);
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function largestUnit(span) {
  if (span < 60) return `${Math.floor(span)} s`;
  if (span < 3600) return `${Math.floor(span / 60)} min`;
  if (span < 86400) return `${Math.floor(span / 3600)} h`;
  return `${Math.floor(span / 86400)} d`;
}

export function duration(seconds) {
  const two = (large, unit, small, smallUnit) => (small ? `${large} ${unit} ${small} ${smallUnit}` : `${large} ${unit}`);
  const whole = Math.round(Math.max(seconds, 0));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

function refresh() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const at = Date.parse(time.dateTime);
    write(time, ago(at));
    const title = exact.format(at);
    if (time.title !== title) time.title = title;
  }
  for (const time of document.querySelectorAll("time[data-since]")) {
    write(time, duration((serverNow() - Date.parse(time.dateTime)) / 1000));
  }
}

function write(element, text) {
  if (text !== null && element.textContent !== text) element.textContent = text;
}

export function keepTimes() {
  refresh();
  setInterval(refresh, 1000);
}

export { refresh as refreshTimes };
