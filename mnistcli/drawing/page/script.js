// The page of `mnist draw`: strokes or a picture -> /read -> boxes, digits and bars.

const byId = (id) => document.getElementById(id);
const [pad, ink, nib, boxes, cards, viewfinder] =
  ["pad", "ink", "nib", "boxes", "cards", "viewfinder"].map(byId);
const settings = await (await fetch("settings")).json();

// The sheet is a square of this many units, whatever its size on the screen.
const SIDE = 400;
// Of the picture that is sent: pixels per unit, the margin around the ink in units, the smallest
// side in pixels, and what its sides are multiples of: the server is faster with sizes it has seen.
const SCALE = 0.64, MARGIN = 24, LEAST = 96, STEP = 32;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// ---- The sheet: strokes, or a picture ----

const EMPTY = { strokes: [], picture: null };
let sheet = EMPTY;
const past = [];
const isEmpty = () => sheet.strokes.length === 0 && !sheet.picture;
const undo = () => past.length && setSheet(past.pop());
const clear = () => (isEmpty() ? closeCamera() : change(EMPTY));

function change(next) {
  past.push(sheet);
  setSheet(next);
}

function setSheet(next) {
  sheet = next;
  closeCamera();
  byId("undo").disabled = past.length === 0;
  byId("hint").hidden = !isEmpty();
  byId("kept").textContent = "";
  paintSheet();
  read();
}

function paintSheet() {
  const px = Math.round(pad.clientWidth * devicePixelRatio);
  if (ink.width !== px) ink.width = ink.height = px;
  const context = ink.getContext("2d");
  context.setTransform(px / SIDE, 0, 0, px / SIDE, 0, 0);
  context.clearRect(0, 0, SIDE, SIDE);
  const bitmap = sheet.picture?.bitmap;
  if (bitmap) {
    const { left, top, scale } = fit(bitmap.width, bitmap.height);
    context.drawImage(bitmap, left, top, bitmap.width * scale, bitmap.height * scale);
  }
  paintStrokes(context, getComputedStyle(pad).color);
}

function paintStrokes(context, color) {
  context.strokeStyle = color;
  context.lineCap = context.lineJoin = "round";
  for (const { width, points } of sheet.strokes) {
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(...points[0]);
    // Curves through the midpoints, bent towards the points where the pointer was.
    for (let i = 1; i < points.length; i++) {
      const [x, y] = points[i - 1], [nextX, nextY] = points[i];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}

// Where a whole picture of this size is on the sheet, and the units per pixel.
function fit(width, height) {
  const scale = SIDE / Math.max(width, height);
  return { left: (SIDE - width * scale) / 2, top: (SIDE - height * scale) / 2, scale };
}

// ---- The pen: mouse, finger, stylus or keyboard ----

let pointer = null, stroke = null;
let nibAt = [SIDE / 2, SIDE / 4];

function startStroke(point) {
  stroke = { width: Number(byId("width").value), points: [point] };
  change({ strokes: [...sheet.strokes, stroke], picture: null });
}

function extendStroke(...points) {
  // It may have been undone while the pen is down.
  if (!sheet.strokes.includes(stroke)) return;
  stroke.points.push(...points);
  paintSheet();
  read();
}

function position(event) {
  const { left, top, width } = ink.getBoundingClientRect();
  return [((event.clientX - left) * SIDE) / width, ((event.clientY - top) * SIDE) / width];
}

ink.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  ink.setPointerCapture(pointer);
  pad.classList.add("pointing");
  nib.classList.remove("down");
  startStroke(position(event));
});
ink.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  extendStroke(...(events.length ? events : [event]).map(position));
});
ink.addEventListener("lostpointercapture", () => (pointer = null));

ink.addEventListener("keydown", (event) => {
  if (event.key === " ") {
    if (nib.classList.toggle("down")) startStroke(nibAt);
  } else if (event.key in ARROWS) {
    const step = event.shiftKey ? 3 : 12;
    nibAt = nibAt.map((at, i) => Math.min(SIDE, Math.max(0, at + step * ARROWS[event.key][i])));
    [nib.style.left, nib.style.top] = nibAt.map((at) => `${(100 * at) / SIDE}%`);
    if (nib.classList.contains("down")) extendStroke(nibAt);
  } else return;
  pad.classList.remove("pointing");
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  const isUndo = event.key === "z" && (event.ctrlKey || event.metaKey);
  if (event.target === byId("label") || (!isUndo && event.key !== "Escape")) return;
  event.preventDefault();
  nib.classList.remove("down");
  (isUndo ? undo : clear)();
});

// ---- Pictures: dropped, pasted, opened or photographed ----

async function openPicture(file) {
  if (!file) return;
  byId("text").ariaBusy = true;
  try {
    // Read before the sheet changes: a file that is not a picture leaves it as it is.
    const answer = await recognize(file);
    // What only the server can decode is read without being shown.
    const bitmap = await createImageBitmap(file).catch(() => null);
    change({ strokes: [], picture: { blob: file, bitmap, answer } });
  } catch (error) {
    byId("note").textContent = error.message;
    byId("text").ariaBusy = isReading;
  }
}

for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    pad.classList.toggle("dragging", type === "dragover");
    if (type === "drop") openPicture(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => openPicture(event.clipboardData.files[0]));
byId("file").addEventListener("change", ({ target }) => {
  openPicture(target.files[0]);
  target.value = "";  // The same file may be opened again.
});

// The camera's picture covers the sheet until it is taken; any change of the sheet closes it.
byId("camera").hidden = !navigator.mediaDevices;
byId("camera").addEventListener("click", async ({ target }) => {
  target.disabled = true;
  await (viewfinder.hidden ? openCamera() : takePicture()).catch((error) => {
    byId("note").textContent = `The camera cannot be used: ${error.message}.`;
  });
  target.disabled = false;
});

async function openCamera() {
  const video = { facingMode: "environment", width: { ideal: 1280 } };
  viewfinder.srcObject = await navigator.mediaDevices.getUserMedia({ video });
  await viewfinder.play();
  showCamera(true);
}

function closeCamera() {
  viewfinder.srcObject?.getTracks().forEach((track) => track.stop());
  viewfinder.srcObject = null;
  showCamera(false);
}

function showCamera(isOpen) {
  viewfinder.hidden = !isOpen;
  byId("camera").textContent = isOpen ? "Take picture" : "Camera";
  byId("clear").disabled = isEmpty() && !isOpen;
}

async function takePicture() {
  const canvas = new OffscreenCanvas(viewfinder.videoWidth, viewfinder.videoHeight);
  canvas.getContext("2d").drawImage(viewfinder, 0, 0);
  await openPicture(await canvas.convertToBlob());
}

// ---- Reading: one request at a time; the sheet is sent again if it has changed meanwhile ----

let isReading = false, isStale = false, shown = null;

async function read() {
  isStale = true;
  if (isReading) return;
  byId("text").ariaBusy = byId("submit").disabled = isReading = true;
  while (isStale) {
    isStale = false;
    await readOnce().catch((error) => {
      show(null, null);
      byId("note").textContent = error.message;
    });
  }
  byId("text").ariaBusy = isReading = false;
  byId("submit").disabled = !shown;
}

async function readOnce() {
  const picture = isEmpty() ? null : sheet.picture ?? await strokesAsPicture();
  const answer = picture && (picture.answer ?? await recognize(picture.blob));
  const duration = answer ? ` ·\u00a0${answer.ms}\u00a0ms` : "";
  byId("networks").textContent = settings.networks.join(", ") + duration;
  show(answer, picture);
  await Promise.all([...cards.querySelectorAll("details[open]")].map(showMaps));
}

async function recognize(blob) {
  const start = performance.now(), answer = await post("read", blob);
  return { ...answer, ms: Math.round(performance.now() - start) };
}

// The strokes black on white, cropped to the ink, and where on the sheet that is.
async function strokesAsPicture() {
  const [[left, width], [top, height]] = [0, 1].map((axis) => {
    let low = SIDE, high = 0;
    for (const stroke of sheet.strokes) {
      for (const point of stroke.points) {
        low = Math.min(low, point[axis] - stroke.width / 2 - MARGIN);
        high = Math.max(high, point[axis] + stroke.width / 2 + MARGIN);
      }
    }
    const px = Math.ceil(((high - low) * SCALE) / STEP) * STEP;
    const side = Math.min(SIDE * SCALE, Math.max(LEAST, px));
    const start = Math.round(((low + high) * SCALE - side) / 2);
    return [Math.min(SIDE * SCALE - side, Math.max(0, start)), side];
  });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.setTransform(SCALE, 0, 0, SCALE, -left, -top);
  paintStrokes(context, "#000");
  const place = { left: left / SCALE, top: top / SCALE, scale: 1 / SCALE };
  return { blob: await canvas.convertToBlob(), place };
}

async function post(path, body) {
  const response = await fetch(path, { method: "POST", body }).catch(() => {
    throw new Error("No answer: mnist draw is not running any more.");
  });
  const isJson = response.headers.get("content-type").includes("json");
  const answer = isJson ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// ---- What was read ----

const percent = (share) => `${(100 * share).toFixed(2)}\u00a0%`;
const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
const toBytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

function show(answer, picture) {
  const { read: text = "", digits = [], left_out: leftOut = [], doubts = [] } = answer ?? {};
  shown = picture?.blob;
  byId("label").value = text;
  if (byId("text").value !== text) byId("text").value = text;
  byId("note").textContent = !answer ? "Every stroke is read while you draw."
    : !text ? "No digit found." : leftOut.length ? sentence(doubts.at(-1)) : "";
  const place = picture?.place ?? fit(...(answer?.size ?? [1, 1]));
  matchChildren(boxes, digits.length + leftOut.length, () => document.createElement("div"));
  [...digits, ...leftOut].forEach((found, i) => showBox(boxes.children[i], found, place));
  // Without a digit, an empty card shows where it will be.
  matchChildren(cards, Math.max(1, digits.length), newCard);
  [...cards.children].forEach((card, i) => showDigit(card, digits[i]));
}

function matchChildren(parent, count, create) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(create());
}

function showBox(box, { box: [left, top, right, bottom], digit, doubt, reason }, place) {
  const share = (units) => `${(100 * units) / SIDE}%`;
  box.className = digit ? "box" : "box left-out";
  box.classList.toggle("doubtful", Boolean(doubt));
  box.classList.toggle("high", place.top + top * place.scale < SIDE / 12);
  box.dataset.label = digit ?? reason;
  box.style.left = share(place.left + left * place.scale);
  box.style.top = share(place.top + top * place.scale);
  box.style.width = share((right - left) * place.scale);
  box.style.height = share((bottom - top) * place.scale);
}

const fromTemplate = (id) => byId(id).content.firstElementChild.cloneNode(true);

function newCard() {
  const card = fromTemplate("card"), details = card.querySelector("details");
  const point = (event) => boxes.children[[...cards.children].indexOf(card)]
    ?.classList.toggle("pointed", event.type === "pointerenter");
  card.addEventListener("pointerenter", point);
  card.addEventListener("pointerleave", point);
  details.addEventListener("toggle", () => details.open && showMaps(details));
  return card;
}

function showDigit(card, digit) {
  card.classList.toggle("blank", !digit);
  card.classList.toggle("doubtful", Boolean(digit?.doubt));
  card.querySelector(".doubt").textContent = digit?.doubt ? sentence(digit.doubt) : "";
  card.querySelector("details").hidden = !digit;
  card.pixels = digit ? toBytes(digit.input) : new Uint8Array(28 * 28);
  const seen = card.querySelector(".seen canvas");
  seen.ariaLabel = digit ? `What the networks are given of the ${digit.digit}` : "Nothing yet";
  paintGray(seen, card.pixels);
  const charts = card.querySelector(".charts"), names = settings.networks;
  matchChildren(charts, names.length, newChart);
  names.forEach((name, i) => showChart(charts.children[i], digit?.networks[i],
    names.length > 1 ? name : ""));
}

function newChart() {
  const chart = fromTemplate("chart");
  for (const name of settings.classes) {
    const bar = Object.assign(document.createElement("div"), { className: "bar" });
    bar.append(document.createElement("i"), name);
    chart.querySelector(".bars").append(bar);
  }
  return chart;
}

function showChart(chart, probabilities, name) {
  const ranked = (probabilities ?? []).map((share, i) => [share, settings.classes[i]])
    .sort(([first], [second]) => second - first);
  const [share, label] = ranked[0] ?? [];
  chart.querySelector(".name").textContent = name;
  chart.querySelector("b").textContent = label ?? "–";
  chart.querySelector(".share").textContent = label ? percent(share) : "";
  // What a screen reader says of the bars.
  const spoken = ranked.slice(0, 3).map(([value, digit]) => `${digit} ${percent(value)}`);
  chart.ariaLabel = [name || "Probabilities", ...spoken].join(", ");
  chart.querySelectorAll(".bar").forEach((bar, i) => {
    const height = probabilities?.[i] ?? 0;
    bar.classList.toggle("top", settings.classes[i] === label);
    bar.firstChild.style.setProperty("--share", height);
    bar.title = percent(height);
  });
}

function paintGray(canvas, values) {
  const image = new ImageData(canvas.width, canvas.height);
  values.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function showMaps(details) {
  const maps = details.querySelector(".maps");
  return post("feature-maps", details.closest(".card").pixels)
    .then((layers) => maps.replaceChildren(...layers.length ? layers.flatMap(showLayer)
      : ["A network without convolutions has none."]))
    .catch((error) => (maps.textContent = error.message));
}

function showLayer({ network, layer, num_maps: total, shape: [count, height, width], maps }) {
  const heading = document.createElement("h2"), grid = document.createElement("div");
  const name = settings.networks.length > 1 ? `${network}, ${layer}` : layer;
  heading.textContent = `${name}, ${width}\u00a0×\u00a0${height}: ${count} of ${total} maps`;
  const values = toBytes(maps), size = width * height;
  for (let i = 0; i < count; i++) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    paintGray(canvas, values.subarray(i * size, (i + 1) * size));
    grid.append(canvas);
  }
  return [heading, grid];
}

// ---- Keeping pictures with their labels, and the start ----

byId("keep").addEventListener("submit", async (event) => {
  event.preventDefault();
  const label = byId("label").value;
  const answer = await post(`keep?label=${encodeURIComponent(label)}`, shown ?? "")
    .catch((error) => ({ error: error.message }));
  if (answer.file) clear();
  byId("kept").textContent = answer.error ?? `Kept as ${label} in ${answer.file}.`;
});
byId("undo").addEventListener("click", undo);
byId("clear").addEventListener("click", clear);
const dark = matchMedia("(prefers-color-scheme: dark)");
byId("theme").addEventListener("click", () => {
  const { style } = document.documentElement;
  style.colorScheme = (style.colorScheme || (dark.matches && "dark")) === "dark" ? "light" : "dark";
  paintSheet();
});
dark.addEventListener("change", paintSheet);
new ResizeObserver(paintSheet).observe(pad);
byId("keep").hidden = !settings.keep;
for (const [name, color] of Object.entries(settings.colors)) {
  document.documentElement.style.setProperty(`--${name}`, color);
}
setSheet(EMPTY);
