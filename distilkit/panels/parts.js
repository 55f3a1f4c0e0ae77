// What the panels share: elements, a slider with its number box, Reset and Save.
// Plain JavaScript without a build step: Python puts this file in front of each panel's own.

const [INK, GREY, PALE, LINE] = ["#222222", "#666666", "#D9D9D9", "#E4E4E4"];
const [BLUE, ORANGE, VERMILLION] = ["#0072B2", "#E69F00", "#D55E00"]; // Okabe and Ito
const SVG = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(parent, tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

function newPicture(width) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("font-family", "DejaVu Sans, Verdana, sans-serif");
  svg.setAttribute("font-size", "12");
  svg.style.maxWidth = `${width}px`;
  return svg;
}

// An empty picture of this size; the white ground is saved with it.
function clear(svg, width, height) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  shape(svg, "rect", { width, height, fill: "white" });
}

const pen = document.createElement("canvas").getContext("2d");

// The text, cut with an ellipsis if it is wider than `room` px; letters differ in width.
function short(text, room, size = 12) {
  pen.font = `${size}px DejaVu Sans, Verdana, sans-serif`;
  if (pen.measureText(text).width <= room) return text;
  const letters = [...text].slice(0, Math.ceil(room)); // not half an emoji
  const cut = () => `${letters.join("")}…`;
  while (letters.length > 1 && pen.measureText(cut()).width > room) letters.pop();
  return cut();
}

// Three significant digits; only what is smaller than a thousandth has an exponent.
function numberText(number) {
  const small = number !== 0 && Math.abs(number) < 1e-3;
  return small ? number.toExponential(1) : String(Number(number.toPrecision(3)));
}

// softmax(z / T), [C]; the largest logit is subtracted first, so that nothing overflows.
function softmax(logits, T) {
  const most = Math.max(...logits);
  const powers = logits.map((z) => Math.exp((z - most) / T));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// A slider and a number box with one value. `moved` is called at each change, `released` at the
// last one of a drag, `complain` for an invalid number (and with "" when it is valid again).
// `set` shows a number without calling them.
function slider({ label, low, high, value, logarithmic = false, moved, released, complain }) {
  const STEPS = 200;
  const id = `dk-${Math.random().toString(36).slice(2)}`;
  const range = element("input", { type: "range", id, min: 0, max: STEPS, step: 1 });
  const box = element("input", { type: "number", min: low, max: high, step: "any" });
  box.setAttribute("aria-label", `${label}, as a number`);
  const at = (step) =>
    logarithmic ? low * (high / low) ** (step / STEPS) : low + ((high - low) * step) / STEPS;
  const stepOf = (x) =>
    STEPS * (logarithmic ? Math.log(x / low) / Math.log(high / low) : (x - low) / (high - low));

  function set(x, { keepBox = false } = {}) {
    range.value = stepOf(x);
    range.setAttribute("aria-valuetext", `${label} = ${numberText(x)}`);
    if (!keepBox) box.value = numberText(x);
  }
  range.addEventListener("input", () => {
    const x = Number(at(range.valueAsNumber).toPrecision(3));
    set(x);
    complain("", label);
    moved(x);
  });
  box.addEventListener("input", () => {
    const x = box.valueAsNumber;
    if (!(x >= low && x <= high)) {
      complain(`${label}: give a number from ${low} to ${high}`, label);
      return;
    }
    set(x, { keepBox: true });
    complain("", label);
    moved(x);
  });
  for (const input of [range, box]) input.addEventListener("change", released);
  box.addEventListener("keydown", ({ key }) => key === "Enter" && released()); // "change" is on leaving
  set(value);
  return { part: element("span", { class: "dk-slider" }, element("label", { for: id }, label), range, box), set };
}

// The slider for T that the panels share.
function temperatureSlider({ value, moved, released, complain }) {
  const dial = { label: "temperature T", low: 0.1, high: 20, logarithmic: true };
  return slider({ ...dial, value, moved, released, complain });
}

// A panel's frame in `el`: controls, a line of text on the picture, the picture, buttons.
function frame({ el, model, title, name, controls, svg, reset, about }) {
  const status = element("p", { class: "dk-status", role: "status" });
  const problem = element("p", { class: "dk-problem", role: "alert" });
  const note = element("span", { class: "dk-note", role: "status" });
  const resetButton = element("button", { type: "button" }, "Reset"); // if there is anything to
  const saveButton = element("button", { type: "button" }, "Save");
  const buttons = element("div", { class: "dk-buttons" }, ...(reset ? [resetButton] : []), saveButton, note);
  const panel = element(
    "div",
    { class: "dk-panel", role: "group", "aria-label": title },
    element("div", { class: "dk-controls" }, ...controls),
    status,
    problem,
    svg,
    buttons,
  );
  el.append(panel);

  // VS Code acts on keys that reach the window: Delete on a slider would delete the cell.
  panel.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey || event.altKey)) event.stopPropagation();
  });
  for (const control of el.querySelectorAll("input, button, select"))
    control.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab moves cells by arrow

  // Errors by control: valid input in one does not remove the error of another.
  const complaints = new Map();
  let words = "";
  function tell() {
    problem.textContent = [...complaints.values()].join("\n");
    // the picture still shows the last valid input
    svg.classList.toggle("dk-stale", complaints.size > 0);
    status.textContent = complaints.size ? "" : words;
    svg.setAttribute("aria-label", status.textContent);
  }
  function complain(text, who = "") {
    if (text) complaints.set(who, text);
    else complaints.delete(who);
    tell();
  }
  function say(text) {
    words = text;
    tell();
  }
  // Show errors of this script in the panel, not only in the browser's console.
  function guarded(action) {
    return (...given) => {
      try {
        complaints.delete("fault");
        action(...given);
      } catch (error) {
        complain(`the panel failed: ${error.message}`, "fault");
      }
    };
  }
  // Settings from Reset, Python or another view are valid: what was complained of is gone.
  const renewed = (action) =>
    guarded((...given) => {
      complaints.clear();
      action(...given);
    });
  resetButton.addEventListener("click", () => {
    note.textContent = "";
    renewed(reset)();
  });
  let waiting;
  saveButton.addEventListener("click", async () => {
    if (svg.classList.contains("dk-stale")) {
      note.textContent = "nothing to save: see the message above";
      return;
    }
    note.textContent = "saving …";
    try {
      const { text, png } = await filesOf(svg, about());
      if (!model.send) {
        download(`${name}.svg`, new Blob([text], { type: "image/svg+xml" }));
        download(`${name}.png`, png);
        note.textContent = `downloaded ${name}.svg and ${name}.png`;
        return;
      }
      waiting = setTimeout(() => (note.textContent = "no answer: is the kernel running?"), 10_000);
      const request = { ask: "save", name, svg: text, about: about() };
      model.send(request, undefined, [await png.arrayBuffer()]);
    } catch (error) {
      note.textContent = `not saved: ${error.message}`;
    }
  });
  const heard = (message) => {
    if (message.saved || message.error) clearTimeout(waiting);
    if (message.saved) note.textContent = `saved ${message.saved.join(" and ")}`;
    if (message.error && message.request === "save") note.textContent = `not saved: ${message.error}`;
    else if (message.error) complain(message.error, message.request);
  };
  model.on("msg:custom", heard);
  return { say, complain, guarded, renewed, end: () => model.off("msg:custom", heard) };
}

// The settings, held by the model: all views of a panel and Python share them.
function settingsOf(model, take) {
  let current = JSON.stringify(model.get("settings"));
  const changed = () => {
    const incoming = JSON.stringify(model.get("settings"));
    if (incoming === current) return;
    current = incoming;
    take(JSON.parse(incoming));
  };
  model.on("change:settings", changed);
  return {
    tell(settings) {
      current = JSON.stringify(settings);
      model.set("settings", JSON.parse(current)); // a copy, since the model does not notice changes in place
      model.save_changes();
    },
    end: () => model.off("change:settings", changed),
  };
}

// The picture as a file of its own, and as an image of twice its size.
async function filesOf(svg, about) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const copy = svg.cloneNode(true);
  copy.removeAttribute("style");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const metadata = document.createElementNS(SVG, "metadata");
  metadata.textContent = JSON.stringify(about);
  copy.prepend(metadata);
  const forbidden = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g; // by XML
  const text = new XMLSerializer().serializeToString(copy).replace(forbidden, "");
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = element("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
  const png = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return { text, png };
}

function download(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Stands in for the kernel's model in a page without a kernel.
function standalone(state) {
  return {
    get: (key) => state[key],
    set: (key, changed) => (state[key] = changed),
    save_changes() {},
    on() {},
    off() {},
  };
}
