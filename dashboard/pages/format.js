// Numbers as people read them. What is not known, null or missing, shows as a dash.

export const NOTHING = "–";

export const known = (value) => typeof value === "number" && Number.isFinite(value);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (value) => (known(value) ? whole.format(value) : NOTHING);

export function figure(value) {
  if (!known(value)) return NOTHING;
  return Math.abs(value) >= 100000 ? short.format(value) : Math.abs(value) >= 100 ? whole.format(value) : three.format(value);
}

export const percent = (value) => (known(value) ? `${Math.round(100 * value)} %` : NOTHING);

export function bytes(value) {
  if (!known(value)) return NOTHING;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (Math.abs(value) >= 1000 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${three.format(value)} ${units[power]}`;
}

// Seconds as 42 s, 3:07 min or 2:03:07 h.
export function duration(seconds) {
  if (!known(seconds)) return NOTHING;
  const total = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (hours) return `${hours}:${two(minutes)}:${two(rest)} h`;
  return minutes ? `${minutes}:${two(rest)} min` : `${rest} s`;
}
