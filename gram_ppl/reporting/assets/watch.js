"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const scene = data.scene, decides = data.decides, N = data.trajectories, S = data.steps.length, L = scene.places.length;
const spread = scene.marks.some(mark => mark.across);  // candidates stand in places of their own
const drawn = scene.marks.map((mark, v) => v).filter(v => scene.marks[v].text || scene.marks[v].fill);
const DECIDED = 1, CHANGED = 2;
const $ = id => document.getElementById(id);
const unpack = (text, Kind) => text && new Kind(Uint8Array.from(atob(text), char => char.charCodeAt(0)).buffer);
const tokens = unpack(data.tokens, Uint16Array), confidence = unpack(data.confidence, Uint8Array);
const flags = unpack(data.flags, Uint8Array), candidates = unpack(data.candidates, Uint32Array);

// Drawing -----------------------------------------------------------------------------------------------------------

const escaped = text => text.replace(/[&<>"]/g, char => `&#${char.charCodeAt(0)};`);
const look = fill => fill.startsWith("#") ? `fill="${fill}"` : `class="f-${fill}"`;
function shape(x, y, size, rest) {
  return scene.round ? `<circle cx="${x}" cy="${y}" r="${size / 2}" ${rest}/>`
    : `<rect x="${x - size / 2}" y="${y - size / 2}" width="${size}" height="${size}" ${rest}/>`;
}
const letter = (x, y, size, text, rest = "") =>
  `<text x="${x}" y="${y}" font-size="${size}" ${rest}>${escaped(text)}</text>`;
const scale = scene.marks.some(mark => mark.text.charCodeAt(0) > 0x2000) ? 0.95 : 0.7;  // signs are drawn smaller than digits
const spot = (i, v) => [scene.places[i][0] + scene.marks[v].across, scene.places[i][1]];

function full(i, v, sure) {  // the token itself, paler where it is less sure
  const mark = scene.marks[v], [x, y] = spot(i, v);
  if (mark.fill)
    return shape(x, y, 1, 'class="plate"') + shape(x, y, 1, `${look(mark.fill)} fill-opacity="${0.15 + 0.85 * sure}"`) +
      (mark.text ? letter(x, y, 0.55, mark.text, 'class="on-colour"') : "");
  if (!mark.text) return "";
  return shape(x, y, 1, `class="tint" fill-opacity="${0.04 + 0.3 * sure}"`) +
    letter(x, y, scale, mark.text, `opacity="${0.4 + 0.6 * sure}"`);
}

function pencil(i, v, sure, set) {  // the candidates, the likeliest one in bold
  const left = drawn.filter(k => set >>> k & 1), side = Math.ceil(Math.sqrt(drawn.length));
  return left.map(k => {
    const mark = scene.marks[k], rank = drawn.indexOf(k);
    let [x, y] = spot(i, k);
    if (spread)
      return k === v ? letter(x, y, scale, mark.text, `opacity="${0.15 + 0.6 * sure}"`)
        : `<circle cx="${x}" cy="${y}" r="0.1" class="pencil"/>`;
    const reach = scene.round ? 0.62 : 0.9;
    x += ((rank % side + 0.5) / side - 0.5) * reach;
    y += ((Math.floor(rank / side) + 0.5) / side - 0.5) * reach;
    if (mark.fill) return `<circle cx="${x}" cy="${y}" r="${(k === v ? 0.42 : 0.27) * reach / side}" ${look(mark.fill)}/>`;
    return letter(x, y, 0.8 / side, mark.text, k === v ? 'class="guess"' : 'class="pencil"');
  }).join("");
}

function place(i, v, sure, flag, set) {
  const open = decides && !(flag & DECIDED) && set !== null, mark = scene.marks[v] || {word: "", text: "", fill: "", across: 0};
  const [x, y] = scene.marks[v] ? spot(i, v) : scene.places[i];
  let text = scene.marks[v] ? (open ? pencil(i, v, sure, set) : full(i, v, sure)) : letter(x, y, 0.7, "?");
  if (decides && flag & DECIDED && (mark.text || mark.fill)) text += shape(x, y, 0.95, `class="decided${mark.fill ? " on-fill" : ""}"`);
  if (flag & CHANGED) text += spread && open ? `<rect x="${scene.places[i][0] - 0.47}" y="${y - 0.47}" width="${scene.width - 0.06}" height="0.94" class="changed"/>`
    : shape(x, y, scene.round ? 1.22 : 0.9, 'class="changed"');
  return text;
}

function board(label) {  // an empty board, with a group for each place
  const pad = 0.08, edge = scene.round ? "" : `<rect width="${scene.width}" height="${scene.height}" class="frame"/>`, links = scene.links.map(([a, b]) => {
    const [p, q] = [scene.places[a], scene.places[b]];
    return `<line class="link" x1="${p[0]}" y1="${p[1]}" x2="${q[0]}" y2="${q[1]}"/>`;
  });
  const back = scene.squares.map(([x, y, fill]) => `<rect x="${x - 0.5}" y="${y - 0.5}" width="1" height="1" ${look(fill)}/>`);
  const frames = scene.places.map(([x, y]) => (scene.round ? shape(x, y, 1, 'class="plate"') : "") +
    (scene.framed ? shape(x, y, 1, 'class="frame"') : ""));
  const rules = scene.lines.map(([a, b, c, d]) => `<line class="rule" x1="${a}" y1="${b}" x2="${c}" y2="${d}"/>`);
  const groups = scene.given.map((v, i) => {
    if (v < 0) return '<g class="place"></g>';
    const [x, y] = spot(i, v), mark = scene.marks[v];
    return '<g class="place given-place">' + (mark.fill ? full(i, v, 1) :
      shape(x, y, 1, 'class="given"') + letter(x, y, scale, mark.text, 'class="given-text"')) + "</g>";
  });
  const names = !scene.round ? [] : scene.places.map(([x, y], i) => {  // numbers outside of the circle
    const [right, down] = [x - scene.width / 2, y - scene.height / 2], far = 0.82 / Math.hypot(right, down);
    return letter(x + right * far, y + down * far, 0.36, String(i), 'class="pencil"');
  });
  return `<svg role="img" aria-label="${escaped(label)}" viewBox="${-pad} ${-pad} ${scene.width + 2 * pad} ${scene.height + 2 * pad}">` +
    [...back, edge, ...links, ...frames, ...groups, ...rules, ...names].join("") + "</svg>";
}

function broken(svg, values, known) {  // joined places with the same token
  svg.querySelectorAll(".link").forEach((line, k) => {
    const [a, b] = scene.links[k];
    line.classList.toggle("broken", known(a) && known(b) && values[a] === values[b]);
  });
}

// Trajectories ------------------------------------------------------------------------------------------------------

const cards = Array.from({length: N}, (_, n) => {
  const item = document.createElement("li");
  item.innerHTML = `<div class="word"><b>${n + 1}</b><span></span></div>` + board(`Trajectory ${n + 1}`);
  $("boards").append(item);
  const svg = item.querySelector("svg");
  return {item, svg, word: item.querySelector("span"), places: [...svg.querySelectorAll(".place")], shown: new Array(L)};
});
const answerOf = new Array(N).fill(-1);
data.answers.forEach((answer, k) => answer.trajectories.forEach(n => { answerOf[n] = k; }));

function verdict(s, n) {  // class and words for a trajectory
  const begun = data.restarts[s][n] - data.again[s][n], more = begun ? ` · try ${begun + 1}` : "";
  if (data.again[s][n] && data.running[s][n]) return ["bad", decides ? "↻ contradiction" : "↻ begins again"];
  if (data.running[s][n]) {
    if (decides) return ["", `${decidedIn(s, n)}/${L} decided${more}`];
    if (!data.judged) return ["", ""];
    return ["", data.verified[s][n] ? "valid now" : `${data.violations[s][n]} wrong${more}`];
  }
  if (!data.answered[s][n]) return ["bad", "– no answer"];
  if (!data.judged) return ["", "done"];
  return data.verified[s][n] ? ["good", `✓ verified, no. ${answerOf[n] + 1}`] : ["bad", `✗ wrong${more}`];
}
const decidedIn = (s, n) => {
  let sum = 0;
  for (let i = 0, at = (s * N + n) * L; i < L; i++) sum += flags[at + i] & DECIDED;
  return sum;
};

function draw(n, s) {
  const card = cards[n], at = (s * N + n) * L, changes = [];
  for (let i = 0; i < L; i++) {
    if (scene.given[i] >= 0 && s >= 0 && tokens[at + i] === scene.given[i] && !(flags[at + i] & CHANGED)) {
      if (card.shown[i]) { card.places[i].innerHTML = card.given[i]; card.shown[i] = ""; }
      continue;
    }
    const key = s < 0 ? "" : [tokens[at + i], confidence[at + i] >> 3, flags[at + i], candidates ? candidates[at + i] : 0].join();
    if (s >= 0 && flags[at + i] & CHANGED) changes.push(i);
    if (card.shown[i] === key) continue;
    card.given ||= card.places.map(group => group.innerHTML);
    card.places[i].innerHTML = s < 0 ? card.given[i] :
      place(i, tokens[at + i], confidence[at + i] / 255, flags[at + i], candidates ? candidates[at + i] : null);
    card.shown[i] = key;
  }
  const [kind, words] = s < 0 ? ["", "begins"] : verdict(s, n);
  card.item.className = kind;
  card.word.textContent = words;
  broken(card.svg, s < 0 ? [] : tokens.subarray(at, at + L),
    i => s >= 0 && (!decides || flags[at + i] & DECIDED) && Boolean(scene.marks[tokens[at + i]]?.fill));
  const said = changes.slice(0, 8).map(i => `${scene.names[i]}: ${(!decides || flags[at + i] & DECIDED) ? scene.marks[tokens[at + i]]?.word : "fewer candidates"}`);
  card.svg.setAttribute("aria-label", `Trajectory ${n + 1}: ${words}.` +
    (said.length ? ` Changed: ${said.join("; ")}${changes.length > 8 ? ` and ${changes.length - 8} more` : ""}.` : ""));
}

// Steps -------------------------------------------------------------------------------------------------------------

let now = -1, timer = null;
const total = data.solutions === null ? "" : ` of ${data.exact ? "" : "at least "}${data.solutions.toLocaleString("en")}`;
function show(step) {
  now = Math.max(0, Math.min(S, step));
  for (let n = 0; n < N; n++) draw(n, now - 1);
  const words = now ? `step ${data.steps[now - 1]} of ${data.steps[S - 1]}` : "before the first step";
  const found = now ? data.found[now - 1] : 0, running = now ? data.running[now - 1].reduce((a, b) => a + b) : N;
  const text = `${now ? "Supervision " : ""}${words} · ${found}${total} different answers · ${running} of ${N} still thinking`;
  $("step").value = now;
  $("step").setAttribute("aria-valuetext", words);
  $("where").textContent = text;
  if (timer === null) $("live").textContent = text;
  if (self === top) history.replaceState(null, "", `#step=${now}`);  // inside another page the address is not its own
}
function pause() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "▶ Play";
  show(now);
}
function play() {
  if (now === S) show(0);
  clearInterval(timer);
  timer = setInterval(() => { if (now < S) show(now + 1); if (now === S) pause(); }, 700 / Number($("speed").value));
  $("play").textContent = "❚❚ Pause";
}
const toggle = () => timer === null ? play() : pause();
const go = step => { if (timer !== null) pause(); show(step); };

$("step").max = S;
$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => go(now - 1));
$("on").addEventListener("click", () => go(now + 1));
$("step").addEventListener("input", () => go(Number($("step").value)));
$("speed").addEventListener("change", () => { if (timer !== null) play(); });
$("large").addEventListener("click", () => {
  const large = $("boards").classList.toggle("large");
  $("large").setAttribute("aria-pressed", String(large));
});
document.addEventListener("keydown", event => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("select")) return;
  if (event.key === " " && event.target.matches("button, summary")) return;  // presses it
  const moves = {" ": toggle, ArrowLeft: () => go(now - 1), ArrowRight: () => go(now + 1), Home: () => go(0), End: () => go(S)};
  if (!(event.key in moves)) return;
  event.preventDefault();
  moves[event.key]();
});

// What stays --------------------------------------------------------------------------------------------------------

if (data.asked) $("puzzle").insertAdjacentHTML("afterbegin", board("The puzzle"));
else $("puzzle").remove();
const sample = (inside, text) => `<li><svg viewBox="0 0 1 1" aria-hidden="true">${inside}</svg>${text}</li>`;
const legend = [];
const box = '<rect x="0.05" y="0.05" width="0.9" height="0.9" class="frame"/>';
if (scene.given.some(v => v >= 0)) legend.push(sample('<rect width="1" height="1" class="given"/>' + box, "given"));
const kind = scene.marks.find(mark => mark.fill), shades = kind ? look(kind.fill) : 'class="tint"';
legend.push(sample(`<rect width="0.5" height="1" ${shades} fill-opacity="${kind ? 0.25 : 0.07}"/><rect x="0.5" width="0.5" height="1" ${shades} fill-opacity="${kind ? 1 : 0.34}"/>` + box, "confidence: pale is unsure"));
if (decides) legend.push(
  sample(`<rect x="0.05" y="0.05" width="0.9" height="0.9" class="decided${kind ? " on-fill" : ""}"/>`, "decided"),
  sample('<circle cx="0.3" cy="0.3" r="0.13" class="pencil"/><circle cx="0.7" cy="0.7" r="0.13" class="pencil"/>' + box, "small: still possible"));
legend.push(sample('<rect x="0.08" y="0.08" width="0.84" height="0.84" class="changed"/>', decides ? "changed by this decision" : "changed in this step"));
if (scene.links.length) legend.push(sample('<line x1="0" y1="0.5" x2="1" y2="0.5" class="link broken"/>', "broken"));
$("legend").innerHTML = legend.join("");

const MOST = 60, missing = data.exact ? Math.max(0, data.solutions - data.answers.length) : 0;
$("number").textContent = data.answers.length ? `${data.answers.length}${total} found${data.judged ? ", each checked by the task's exact verifier" : ""}.` : "None was found.";
$("answers").innerHTML = data.answers.slice(0, MOST).map((answer, k) => {
  const times = answer.trajectories.length;
  return `<li><div class="word"><b>${k + 1}</b><span>${times} of ${N}</span></div>${board(`Answer ${k + 1}, found by ${times} of ${N} trajectories`)}</li>`;
}).join("") + (missing ? `<li class="missing">${missing.toLocaleString("en")} not found</li>` : "");
$("answers").querySelectorAll("svg").forEach((svg, k) => {
  svg.querySelectorAll(".place").forEach((group, i) => {
    const v = data.answers[k].tokens[i];
    if (scene.given[i] !== v) group.innerHTML = full(i, v, 1);
  });
  svg.setAttribute("aria-label", `${svg.getAttribute("aria-label")}: ` + data.answers[k].tokens.map((v, i) => `${scene.names[i]} ${scene.marks[v].word}`).join(", "));
});
const asked = /^#step=(\d+)$/.exec(location.hash);
show(asked ? Number(asked[1]) : 0);
