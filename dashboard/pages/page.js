// The page of a run: asks once a second, shows what it hears, and says so when it hears nothing.

import { element, setText } from "./dom.js";
import { bytes, count, duration, figure, known, NOTHING, percent } from "./format.js";
import { get, mayChange, onToken, post } from "./run.js";
import { pill, setState, Table, unasked } from "./tables.js";
import { Tiles } from "./tiles.js";

const EVERY = 1000; // ms from one answer to the next question
const HISTORY_EVERY = 10; // questions
const HISTORY_LENGTH = 900; // points
const LONG = 3000; // ms without an answer after which the page says so, although one may still be on its way

const by = (id) => document.getElementById(id);
const tiles = new Tiles(by("figures"));
const list = (numbers) => (numbers?.length ? numbers.join(", ") : NOTHING);

const ranks = new Table(by("ranks"), [
  { title: "Rank", text: (rank) => String(rank.rank) },
  { title: "State", ...pill },
  { title: "Simulations", text: (rank) => count(rank.num_envs), kind: "number" },
  { title: "Decisions", text: (rank) => count(rank.decisions), kind: "number" },
  { title: "Episodes", text: (rank) => count(rank.episodes), kind: "number" },
  { title: "Queue", text: (rank) => percent(rank.figures?.queue_fill), kind: "number" },
  { title: "Waits", text: (rank) => percent(rank.figures?.wait_share), kind: "number" },
  { title: "Memory", text: (rank) => bytes(rank.figures?.memory_bytes), kind: "number" },
  { title: "Restarts", text: (rank) => count(rank.restarts), kind: "number" },
  { title: "Trouble", text: (rank) => rank.error ?? NOTHING, kind: "trouble" },
]);

const collectors = new Table(by("collectors"), [
  { title: "Rank", text: (row) => String(row.rank), kind: "rank" },
  { title: "Collector", text: (row) => String(row.collector) },
  { title: "State", ...pill },
  { title: "Envs", text: (row) => list(row.envs), kind: "number" },
  { title: "Decisions", text: (row) => count(row.decisions), kind: "number" },
  { title: "Episodes", text: (row) => count(row.episodes), kind: "number" },
  { title: "Version", text: (row) => count(row.version), kind: "number" },
  { title: "Restarts", text: (row) => count(row.restarts), kind: "number" },
  { title: "Process", text: (row) => String(row.pid ?? NOTHING), kind: "number" },
  { title: "SUMO", text: (row) => list(row.sumo), kind: "number" },
  { title: "Last trouble", text: (row) => row.trouble ?? NOTHING, kind: "trouble" },
  { title: "Steer", make: steeringOf, change: () => {}, kind: "steer" },
]);

const totals = ["Elapsed", "Version", "Simulations"].map((title) => {
  const value = element("dd", {}, NOTHING);
  by("totals").append(element("div", {}, element("dt", {}, title), value));
  return value;
});

let recent = []; // the history, and what was heard since
let heard = 0; // performance.now() of the last good answer, at first of the page's beginning
let scaleTouched = false;

function steeringOf({ rank, collector }) {
  const button = (word, command) => {
    const made = element("button", { type: "button", "data-changes": "", "aria-label": `${word} collector ${collector}, rank ${rank}` }, word);
    made.disabled = !mayChange();
    made.addEventListener("click", () => change(command, { collectors: [collector] }, `${command} collector ${collector}`));
    return made;
  };
  return element("div", { class: "buttons" }, button("Pause", "pause"), button("Resume", "resume"));
}

function show({ ranks: all, health }) {
  const answering = all.filter((rank) => rank.ok);
  const several = all.length > 1;
  const run = together(all, answering);
  const pausing = answering.some((rank) => rank.state === "pausing");
  setState(by("state"), health.state === "hanging" ? "hanging" : pausing ? "pausing" : health.state, reasons(answering));
  document.title = `Platoon · ${by("state").textContent}`;
  setText(totals[0], duration(run.figures.elapsed));
  setText(totals[1], count(run.version));
  setText(totals[2], several ? answering.map((rank) => rank.num_envs).join(" + ") || NOTHING : count(run.num_envs));
  tiles.draw(run);
  document.body.classList.toggle("several", several);
  by("ranks-section").hidden = by("figures-note").hidden = by("collectors-note").hidden = !several;
  ranks.draw(all.map((rank) => [rank.rank, { ...rank, paused_for: reasons([rank]) }]));
  collectors.draw(
    answering.flatMap((rank) => (rank.collectors ?? []).map((row) => [`${rank.rank}/${row.collector}`, { rank: rank.rank, ...row }])),
  );
  setText(by("num-envs-label"), several ? "Simulations per rank" : "Simulations");
  if (known(run.max_envs)) by("num-envs").max = run.max_envs;
  if (!scaleTouched && known(run.num_envs)) by("num-envs").value = run.num_envs;
  warn(health, all);
  return run;
}

// One run of several ranks. Figures are those of the first, which the history is made of; counts add up, and so does
// what the ranks use `altogether`.
function together([first], answering) {
  const sum = (value) => answering.map(value).reduce((all, one) => (known(one) ? (all ?? 0) + one : all), undefined);
  const altogether = { memory: sum((rank) => rank.figures?.memory_bytes), restarts: sum((rank) => rank.restarts) };
  return {
    ...first,
    figures: first.figures ?? {},
    queue: first.queue ?? {},
    decisions: sum((rank) => rank.decisions),
    episodes: sum((rank) => rank.episodes),
    altogether: answering.length > 1 ? altogether : null,
  };
}

// Why collectors of these ranks rest.
function reasons(some) {
  return [...new Set(some.flatMap((rank) => rank.collectors ?? []).flatMap((row) => row.paused_for ?? []))];
}

// What is wrong although the server answers.
function warn(health, all) {
  const silent = all.filter((rank) => !rank.ok).map((rank) => `rank ${rank.rank}`);
  const hanging = health.state === "hanging";
  const what = hanging ? "The run hangs." : silent.length ? `No answer from ${silent.join(", ")}.` : "";
  notice(what, hanging ? `no progress for ${duration(health.seconds_since_progress)}` : "");
}

function notice(what, since) {
  setText(by("silence-what"), what);
  setText(by("silence-since"), since);
  by("silence").hidden = !what;
}

function silence(reason) {
  setState(by("state"), "no answer");
  by("main").classList.add("stale");
  document.title = "Platoon · no answer";
  const waited = `No answer for ${duration((performance.now() - heard) / 1000)}`;
  notice("The run does not answer.", `${waited}: ${reason}. Trying again every second.`);
}

async function poll(turn, wasSilent) {
  let silent = false;
  try {
    const [status, past] = await Promise.all([
      get("/api/status"),
      turn % HISTORY_EVERY === 0 || wasSilent ? get("/api/history") : null,
    ]);
    heard = performance.now();
    by("main").classList.remove("stale");
    const run = show(status);
    recent = past ? past.history : [...recent, { ...run.figures, time: status.time }].slice(-HISTORY_LENGTH);
    tiles.drawHistory(recent);
  } catch (error) {
    silent = true;
    silence(error.message);
  }
  setTimeout(poll, EVERY, turn + 1, silent);
}

async function change(command, fields, words) {
  setText(by("outcome"), `${words} …`);
  try {
    const { replies } = await post(command, fields);
    setText(by("outcome"), `${words}: done${command === "resume" ? restingStill(replies, fields.collectors) : ""}`);
  } catch (error) {
    setText(by("outcome"), `${words}: ${error.message}`);
  }
}

// What resuming does not end: a rest that nobody asked for.
function restingStill(replies, chosen) {
  const rows = replies
    .flatMap((rank) => rank.collectors ?? [])
    .filter((row) => row.envs.length && unasked(row.paused_for).length && (chosen ?? [row.collector]).includes(row.collector));
  if (!rows.length) return "";
  const why = [...new Set(rows.flatMap((row) => unasked(row.paused_for)))].join(", ");
  return `, but ${rows.length} collector${rows.length > 1 ? "s still rest" : " still rests"} for ${why}`;
}

function unlock() {
  for (const control of document.querySelectorAll("[data-changes]")) control.disabled = !mayChange();
  by("locked").hidden = mayChange();
}

function onSubmit(form, action) {
  by(form).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

onSubmit("pause", () => {
  const minutes = by("minutes").valueAsNumber;
  if (known(minutes)) change("pause", { seconds: 60 * minutes }, `pause all for ${figure(minutes)} minutes`);
  else change("pause", {}, "pause all");
});
onSubmit("resume", () => change("resume", {}, "resume all"));
onSubmit("scale", () => {
  scaleTouched = false;
  const wanted = by("num-envs").valueAsNumber;
  change("scale", { num_envs: wanted }, `scale to ${wanted} simulations`);
});
by("num-envs").addEventListener("input", () => (scaleTouched = true));
onToken(unlock);
setInterval(() => {
  if (performance.now() - heard > LONG && !by("main").classList.contains("stale")) silence("it takes long");
}, EVERY);
unlock();
poll(0, false);
