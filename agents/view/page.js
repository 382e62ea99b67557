"use strict";
// The page of `agents.view`; dream_env/agents/view/protocol.py describes the messages.
const $ = (id) => document.getElementById(id);
const TOGGLED = 700; // ms for which a toggle counts as acting, so that the dream moves on while a hand closes
const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Space: "space" };
const keyName = (code) => NAMES[code] || code.replace(/^(Key|Digit)/, "");
const number = (x) => (x == null ? "–" : Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 10 ? x.toFixed(1) : x.toFixed(2));

let socket, world, status = {}, now = null, points = [], driving = false;
let down = new Set(), pad = [0, 0], springs = {}, latched = {}, toggledAt = -1e9, pressed = null, stick = null, sent = "", seq = 0;
const sentAt = new Map();
const view = (window.dreamView = { frames: 0, latency: [], now: () => now, points: () => points, status: () => status });

// --- the socket

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : receive(data));
  socket.onclose = () => {
    document.body.classList.add("waiting");
    $("banner").textContent = "the viewer has stopped; this page reconnects when it runs again";
    setTimeout(connect, 1000);
  };
}
const say = (order) => socket.readyState === 1 && socket.send(JSON.stringify(order));

function hear(message) {
  if (message.type === "hello") begin(message);
  if (message.type === "role") {
    driving = message.driving;
    document.body.classList.toggle("watching", !driving);
    $("banner").textContent = driving ? "" : "another page is driving; this one can only watch";
  }
  if (message.type === "status") show(message);
  if (message.type === "refused") message.what === "reset" ? refuse(message.text) : toast(message.text);
  if (message.type === "saved") toast("saved: " + message.text);
}

function receive(data) {
  const size = new DataView(data).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  let at = 4 + size;
  const pictures = {};
  for (const one of head.pictures) {
    pictures[one.name] = new Blob([new Uint8Array(data, at, one.size)], { type: "image/png" });
    at += one.size;
  }
  ({ frame, begun, futures })[head.type](head, pictures);
}

// Enlarges smoothly: by interpolation, and by a blur of less than a pixel, which smooths the steps of slanted edges.
async function enlarged(blob, height) {
  const image = await createImageBitmap(blob), times = Math.max(1, Math.round(height / image.height));
  if (times === 1) return [image, 0];
  const [resizeWidth, resizeHeight] = [image.width * times, image.height * times];
  return [await createImageBitmap(image, { resizeWidth, resizeHeight, resizeQuality: "high" }), 0.4 * times];
}

async function paint(canvas, blob) {
  const [image, blur] = await enlarged(blob, 256), pen = canvas.getContext("2d");
  if (canvas.width !== image.width || canvas.height !== image.height) Object.assign(canvas, { width: image.width, height: image.height });
  pen.filter = "none";
  pen.drawImage(image, 0, 0); // below the blurred one, whose border is transparent
  if (!blur) return;
  pen.filter = `blur(${blur}px)`;
  pen.drawImage(image, 0, 0);
}

// --- messages of the server

function begin(hello) {
  world = hello;
  document.body.classList.remove("waiting");
  document.body.classList.toggle("plain", !hello.pictures);
  document.title = `A dream of ${hello.world.replace(/^.*:/, "")}`;
  $("world").textContent = hello.world.replace(/^.*:|-v\d+$/g, "");
  $("real").hidden = $("real-key").hidden = !hello.real;
  $("goal").hidden = !hello.goals || !hello.pictures;
  $("pictures").className = (hello.real ? "pair " : "") + ($("goal").hidden ? "" : "goal");
  $("say").hidden = !hello.instructions;
  $("sentences").replaceChildren(...hello.sentences.map((text) => new Option(text)));
  $("task").hidden = !hello.tasks.length;
  $("task").replaceChildren(new Option("any task", "all"), ...hello.tasks.map((name) => new Option(name)));
  $("task").value = hello.task;
  $("driver").replaceChildren(...hello.drivers.map((name) => new Option(name)));
  $("speed").replaceChildren(...[0.25, 0.5, 1, 2, 4].map((x) => new Option(`${x}×`, x)));
  $("curve-name").textContent = hello.goals ? "Distance to the goal" : "Sum of rewards";
  $("success").hidden = !hello.tells_success;
  $("doubt").hidden = !hello.tells_disagreement;
  buildControls(hello.controls);
}

function show(message) {
  status = message;
  $("play").textContent = message.playing ? "Pause" : "Play";
  $("speed").value = message.speed;
  $("driver").value = message.driver;
  $("look").checked = message.looking;
  if (document.activeElement !== $("temperature")) $("temperature").value = message.temperature;
  $("heat").querySelector("output").textContent = message.temperature.toFixed(1);
  if (!message.looking) $("futures").replaceChildren();
}

function begun(head, pictures) {
  points = [];
  for (const one of head.points) points[one.step] = one;
  latched = {};
  sent = "";
  refuse("");
  if (document.activeElement !== $("sentence") || !now) $("sentence").value = head.instruction;
  if (pictures.goal) paint($("goal").querySelector("canvas"), pictures.goal);
}

async function frame(head, pictures) {
  await Promise.all(["dream", "real"].filter((name) => pictures[name]).map((name) => paint($(name).querySelector("canvas"), pictures[name])));
  if (head.seq && sentAt.has(head.seq)) {
    view.latency.push(performance.now() - sentAt.get(head.seq));
    sentAt.clear();
  }
  const jumped = now && head.step !== now.step + 1;
  now = head;
  view.frames++;
  points.length = Math.min(points.length, head.last + 1);
  points[head.step] = { latched: { ...latched }, ...points[head.step], ...head };
  if (jumped) latched = { ...points[head.step].latched };
  Object.assign($("history"), { min: head.first, max: head.last, value: head.step });
  $("at").textContent = `step ${head.step}` + (world.horizon && head.step <= world.horizon ? ` / ${world.horizon}` : "");
  for (const [id, on] of [["dream", head.solved], ["real", head.real_solved]]) {
    $(id).classList.toggle("solved", !!on);
    $(id).querySelector(".chip").hidden = !on;
  }
  const over = $("dream").querySelector(".over");
  over.hidden = !head.terminated;
  over.textContent = "the episode is over: go back, or start a new episode";
  $("distance").textContent = number(world.goals ? head.distance : head.total);
  meter("success", head.success, (x) => `${Math.round(100 * x)} %`, 1);
  meter("doubt", head.disagreement, (x) => (x == null ? "–" : x.toPrecision(2)), world.disagreement_threshold || Math.max(1e-9, ...points.map((p) => (p && p.disagreement) || 0)));
  const key = world.goals ? "distance" : "total";
  draw($("curve"), (p) => p[key], (p) => p[`real_${key}`], 0);
  if (!world.pictures) traces();
}

function meter(id, value, text, full) {
  $(id).querySelector("output").textContent = value == null ? "–" : text(value);
  $(id).querySelector("meter").value = value == null ? 0 : Math.min(1, value / full);
}

// Draws the observation of a world without pictures: each number as a curve.
function traces() {
  const place = $("dream").querySelector(".traces");
  const all = Object.entries(now.vectors).flatMap(([name, values]) => values.map((_, i) => [world.vectors[name][i] || `${name} ${i + 1}`, name, i])).slice(0, 8);
  if (place.childElementCount !== all.length)
    place.replaceChildren(...all.map(() => Object.assign(document.createElement("section"), { innerHTML: "<div><b></b><output></output></div><canvas></canvas>" })));
  all.forEach(([title, name, i], k) => {
    place.children[k].querySelector("b").textContent = title;
    place.children[k].querySelector("output").textContent = number(now.vectors[name][i]);
    draw(place.children[k].querySelector("canvas"), (p) => p.vectors[name][i], (p) => p.real_vectors?.[name][i]);
  });
}

// Draws one number of the dream and of the real environment over the steps; a click goes back to that step.
function draw(canvas, dream, real, floor) {
  const ratio = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight, pen = canvas.getContext("2d");
  if (canvas.width !== Math.round(width * ratio)) Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const css = getComputedStyle(document.documentElement), color = (name) => css.getPropertyValue(name);
  const known = points.slice(now.first, now.last + 1).filter(Boolean), values = known.flatMap((p) => [dream(p), real(p)]).filter((x) => x != null);
  if (!values.length) return;
  const low = Math.min(...values, floor ?? Infinity), high = Math.max(low + 1e-6, ...values, floor ?? -Infinity), first = now.first, last = Math.max(now.last, first + 24);
  const x = (step) => 4 + ((width - 8) * (step - first)) / (last - first), y = (v) => height - 16 - ((height - 34) * (v - low)) / (high - low);
  pen.strokeStyle = color("--line");
  pen.beginPath(); pen.moveTo(0, y(floor ?? low)); pen.lineTo(width, y(floor ?? low)); pen.moveTo(x(now.step), 4); pen.lineTo(x(now.step), height - 16); pen.stroke();
  pen.fillStyle = color("--quiet"); pen.font = "12px system-ui"; pen.textAlign = "left";
  pen.fillText(number(high), 2, 11); pen.fillText(floor === 0 && low === 0 ? String(first) : number(low), 2, height - 2);
  pen.textAlign = "right"; pen.fillText(`step ${last}`, width - 2, height - 2);
  pen.lineJoin = "round"; pen.lineWidth = 2.2;
  for (const [value, name] of [[real, "--real"], [dream, "--dream"]]) {
    pen.strokeStyle = pen.fillStyle = color(name);
    for (const [part, alpha] of [[known.filter((p) => p.step <= now.step), 1], [known.filter((p) => p.step >= now.step), 0.3]]) {
      pen.beginPath(); pen.globalAlpha = alpha;
      for (const p of part) if (value(p) != null) pen.lineTo(x(p.step), y(value(p)));
      pen.stroke();
    }
    pen.globalAlpha = 1;
    if (value(now) == null) continue;
    pen.beginPath(); pen.arc(x(now.step), y(value(now)), 4, 0, 7); pen.fill();
  }
  pen.lineWidth = 1;
  canvas.onclick = (event) => say({ do: "rewind", to: Math.round(first + ((event.offsetX - 4) / (width - 8)) * (last - first)) });
}

async function futures(head, pictures) {
  if (!status.looking) return;
  const strips = await Promise.all(head.futures.map((_, i) => (pictures[i] ? enlarged(pictures[i], 128 * head.futures[0].steps) : null)));
  const cards = [...$("futures").children];
  head.futures.forEach((one, i) => {
    const card = cards[i] || $("futures").appendChild(document.createElement("button"));
    if (!cards[i]) card.innerHTML = "<canvas></canvas><span><b></b><small></small></span>";
    card.className = i || !one.scores ? "" : "best";
    card.title = `${one.label}, ${one.steps} steps`;
    card.querySelector("b").textContent = one.scores ? number(one.scores.at(-1)) : one.label;
    card.querySelector("small").textContent = one.success == null ? "" : `${Math.round(100 * one.success)} % success`;
    card.onclick = () => { card.blur(); say({ do: "follow", index: i }); };
    const canvas = card.querySelector("canvas");
    if (!strips[i]) return sketch(canvas, one.scores, head.futures);
    const strip = strips[i][0], height = strip.height / one.steps;
    if (canvas.width !== strip.width) Object.assign(canvas, { width: strip.width, height });
    const mine = (canvas.dataset.id = String(view.frames) + Math.random());
    let t = status.playing ? one.steps - 1 : 0; // while the dream runs, show only the last picture; when paused, play the strip once
    const draw = () => {
      if (canvas.dataset.id !== mine) return;
      canvas.getContext("2d").drawImage(strip, 0, t * height, strip.width, height, 0, 0, strip.width, height);
      if (++t < one.steps) setTimeout(draw, 110);
    };
    draw();
  });
  while ($("futures").children.length > head.futures.length) $("futures").lastChild.remove();
}

function sketch(canvas, scores, futures) { // draws the scores over the steps, for worlds without pictures
  const all = futures.flatMap((one) => one.scores || [0]), low = Math.min(...all), high = Math.max(...all, low + 1e-6), pen = canvas.getContext("2d");
  canvas.hidden = !scores;
  if (!scores) return;
  Object.assign(canvas, { width: 128, height: 52 });
  pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--dream");
  pen.lineWidth = 2;
  scores.forEach((score, t) => pen.lineTo(6 + (116 * t) / (scores.length - 1 || 1), 46 - (40 * (score - low)) / (high - low)));
  pen.stroke();
}

const refuse = (text) => { $("refused").hidden = !text; $("refused").textContent = text; };
let fading;
function toast(text) {
  $("toast").hidden = false;
  $("toast").textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => ($("toast").hidden = true), 5000);
}

// --- driving

function buildControls(controls) {
  const place = $("keys"), plane = controls.axes.filter((axis) => !axis.toggle).length > 1;
  $("pad").hidden = !plane;
  $("hands").classList.toggle("nopad", !plane);
  $("strength").hidden = !controls.axes.length;
  place.replaceChildren();
  const keys = (codes) => codes.map((code) => `<kbd data-code="${code}">${keyName(code)}</kbd>`).join("");
  controls.axes.forEach((axis, i) => {
    const way = place.appendChild(document.createElement("div"));
    way.className = "way";
    if (axis.toggle) {
      way.innerHTML = `<div>${keys(axis.minus)}<button>${axis.label}</button></div>`;
      way.querySelector("button").onclick = ({ target }) => { target.blur(); toggle(i); };
      return;
    }
    way.innerHTML = `<div>${keys(axis.minus.slice(0, 1))}${keys(axis.plus.slice(0, 1))}<em>${axis.label}</em></div>`;
    if (plane && i < 2) return;
    const slider = way.appendChild(Object.assign(document.createElement("input"), { type: "range", min: -1, max: 1, step: 0.01, value: 0 }));
    slider.setAttribute("aria-label", axis.label);
    slider.oninput = () => { springs[i] = +slider.value; send(); };
    const rest = () => { slider.value = springs[i] = 0; slider.blur(); send(); };
    slider.onpointerup = slider.onpointercancel = slider.onblur = () => springs[i] && rest();
  });
  if (!controls.choices.length) return;
  const box = place.appendChild(document.createElement("div"));
  box.className = "choices";
  for (const choice of controls.choices) {
    const button = box.appendChild(document.createElement("button"));
    button.innerHTML = `${keys(choice.keys.slice(-1))} `;
    button.append(choice.label);
    button.onpointerdown = () => { pressed = choice.value; send(); };
    button.onpointerup = button.onpointerleave = button.onpointercancel = () => { if (pressed === choice.value) { pressed = null; send(); } };
  }
}

function toggle(i) {
  latched[i] = latched[i] > 0 ? -1 : 1;
  toggledAt = performance.now();
  send();
  setTimeout(send, TOGGLED + 10);
}

function wish() { // returns the requested action, and whether the user is acting
  const { axes, choices, rest } = world.controls, held = (codes) => codes.some((code) => down.has(code));
  if (choices.length) {
    const chosen = choices.find((choice) => held(choice.keys)), value = pressed ?? chosen?.value ?? stick?.choice ?? null;
    return [value, value !== null];
  }
  const force = $("force").value * (down.has("ShiftLeft") || down.has("ShiftRight") ? 0.35 : 1), action = [...rest];
  let acts = performance.now() - toggledAt < TOGGLED;
  axes.forEach((axis, i) => {
    const keys = axis.toggle ? 0 : force * (held(axis.plus) - held(axis.minus));
    const u = axis.toggle ? latched[i] || 0 : Math.max(-1, Math.min(1, keys + (pad[i] || 0) + (springs[i] || 0) + (stick?.axes[i] || 0)));
    acts ||= !axis.toggle && u !== 0;
    (u > 0 ? axis.up : axis.down).forEach((x, k) => (action[k] += Math.abs(u) * x));
  });
  return [action, acts];
}

function send() {
  if (!world || !driving) return;
  const [value, active] = wish(), text = JSON.stringify([value, active]);
  if (text === sent) return;
  const was = sent && JSON.parse(sent)[1];
  sent = text;
  seq++;
  if (active && !was) { sentAt.clear(); sentAt.set(seq, performance.now()); }
  say({ do: "action", value, active, seq });
}

const COMMANDS = {
  KeyP: () => say({ do: "play", on: !status.playing }),
  Period: () => say({ do: "step" }),
  Comma: () => say({ do: "rewind", to: now.step - 1 }),
  KeyN: () => say({ do: "reset", task: $("task").value || null }),
};
const typing = (target) => target.matches("input:not([type=checkbox]), select, textarea");
const light = () => document.querySelectorAll("#keys kbd").forEach((key) => key.classList.toggle("down", down.has(key.dataset.code)));

window.addEventListener("keydown", (event) => {
  if (!world || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const drives = [...world.controls.axes.flatMap((axis) => [...axis.minus, ...axis.plus]), ...world.controls.choices.flatMap((choice) => choice.keys)];
  if (drives.includes(event.code) || event.code === "Space") event.preventDefault();
  if (event.repeat) return;
  if (!drives.includes(event.code) && COMMANDS[event.code]) return COMMANDS[event.code]();
  down.add(event.code);
  const i = world.controls.axes.findIndex((axis) => axis.toggle && axis.minus.includes(event.code));
  i >= 0 ? toggle(i) : send();
  light();
});
window.addEventListener("keyup", (event) => { down.delete(event.code); send(); light(); });
window.addEventListener("blur", () => { down.clear(); pad = [0, 0]; send(); light(); });

function drag(event) {
  const box = $("pad").getBoundingClientRect(), half = box.width / 2;
  let x = (event.clientX - box.left - half) / (half - 20), y = -(event.clientY - box.top - half) / (half - 20);
  const far = Math.max(1, Math.hypot(x, y));
  pad = event.type === "pointerup" || event.type === "pointercancel" ? [0, 0] : [x / far, y / far];
  $("knob").style.transform = `translate(${pad[0] * (half - 20)}px, ${-pad[1] * (half - 20)}px)`;
  $("pad").classList.toggle("held", event.type === "pointermove");
  send();
}
$("pad").onpointerdown = (event) => { $("pad").setPointerCapture(event.pointerId); drag(event); };
$("pad").onpointermove = (event) => event.buttons && drag(event);
$("pad").onpointerup = $("pad").onpointercancel = drag;

let held = [];
function gamepad() {
  const found = [...navigator.getGamepads()].find(Boolean);
  if (!found) { stick = null; return send(); }
  const soft = (x) => (Math.abs(x || 0) < 0.15 ? 0 : +x.toFixed(2)), [x, y, a, b] = found.axes, buttons = found.buttons.map((one) => one.pressed);
  const choices = world?.controls.choices || [], pushed = buttons.findIndex(Boolean);
  const choice = choices[pushed] || (soft(x) < -0.5 ? choices[0] : soft(x) > 0.5 ? choices.at(-1) : null);
  stick = { axes: [soft(x), -soft(y), -soft(b), soft(a)], choice: choice ? choice.value : null };
  world?.controls.axes.filter((axis) => axis.toggle).forEach((axis, i) => buttons[i] && !held[i] && toggle(world.controls.axes.indexOf(axis)));
  held = buttons;
  send();
  requestAnimationFrame(gamepad);
}
window.addEventListener("gamepadconnected", () => requestAnimationFrame(gamepad));

// --- buttons and settings

$("say").onsubmit = (event) => { event.preventDefault(); refuse(""); $("sentence").blur(); say({ do: "reset", instruction: $("sentence").value }); };
$("play").onclick = COMMANDS.KeyP;
$("step").onclick = COMMANDS.Period;
$("back").onclick = COMMANDS.Comma;
$("new").onclick = COMMANDS.KeyN;
$("history").oninput = () => say({ do: "rewind", to: +$("history").value });
$("task").onchange = COMMANDS.KeyN;
$("speed").onchange = () => say({ do: "set", speed: +$("speed").value });
$("temperature").oninput = () => say({ do: "set", temperature: +$("temperature").value });
$("driver").onchange = () => say({ do: "drive", name: $("driver").value });
$("look").onchange = () => say({ do: "look", on: $("look").checked });
$("gif").onclick = () => say({ do: "save", what: "gif" });
$("episode").onclick = () => say({ do: "save", what: "episode" });
for (const one of document.querySelectorAll("button, select, input[type=range], input[type=checkbox]")) // give the keyboard back to the controls
  one.addEventListener(one.matches("button") ? "click" : "change", (event) => event.isTrusted && one.blur());

connect();
