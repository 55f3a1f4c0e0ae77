// Losses, learning rate and speed of a run, drawn again whenever Python sends new values.

const WIDTH = 680;
const [FIELD_W, FIELD_H, LEFT, GAP] = [168, 96, 40, 20];
const CHARTS = [
  ["soft_target", "soft targets"],
  ["mlm", "MLM"],
  ["cosine", "cosine"],
  ["loss", "weighted sum"],
  ["learning_rate", "learning rate"],
  ["tokens_per_second", "tokens a second"],
];

// The ends of an axis that holds all values; speed and rate start at 0.
function ends(values, fromZero) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (fromZero) return [0, high > 0 ? high * 1.05 : 1];
  const room = 0.05 * (high - low) || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

function render({ model, el }) {
  const svg = newPicture(WIDTH);
  const rows = Math.ceil(CHARTS.length / 3);
  clear(svg, WIDTH, rows * (FIELD_H + 56));
  const charts = CHARTS.map(([key, title], i) => {
    const left = LEFT + (i % 3) * (FIELD_W + LEFT + GAP);
    const top = 26 + Math.floor(i / 3) * (FIELD_H + 56);
    const head = shape(svg, "text", { x: left, y: top - 8, fill: INK });
    shape(svg, "path", { d: `M${left} ${top}v${FIELD_H}h${FIELD_W}`, stroke: GREY, fill: "none" });
    const small = { fill: GREY, "font-size": 10 };
    const high = shape(svg, "text", { x: left - 4, y: top + 8, "text-anchor": "end", ...small });
    const low = shape(svg, "text", { x: left - 4, y: top + FIELD_H, "text-anchor": "end", ...small });
    const last = { x: left + FIELD_W, y: top + FIELD_H + 13, "text-anchor": "end", ...small };
    const line = shape(svg, "path", { stroke: BLUE, fill: "none", "stroke-width": 1.5, "data-curve": key });
    const marks = shape(svg, "path", { fill: VERMILLION, "data-validation": key });
    return { key, title, left, top, head, high, low, line, marks, end: shape(svg, "text", last) };
  });

  function draw() {
    panel.complain(""); // the last read succeeded
    const { train, validation, steps, state, name } = model.get("value");
    const all = train.step ?? [];
    const most = steps ?? all.at(-1) ?? 1;
    for (const chart of charts) {
      const { key, title, left, top, head, high, low, line, marks, end } = chart;
      const pairs = all.map((step, i) => [step, train[key]?.[i]]).filter(([, y]) => Number.isFinite(y));
      const held = (validation.step ?? [])
        .map((step, i) => [step, validation[key]?.[i]])
        .filter(([, y]) => Number.isFinite(y));
      head.textContent = pairs.length ? `${title} ${numberText(pairs.at(-1)[1])}` : title;
      end.textContent = `step ${most}`;
      if (!pairs.length) continue;
      const fromZero = key === "learning_rate" || key === "tokens_per_second";
      const [bottom, ceiling] = ends([...pairs, ...held].map(([, y]) => y), fromZero);
      [high.textContent, low.textContent] = [numberText(ceiling), numberText(bottom)];
      const x = (step) => left + (FIELD_W * step) / most;
      const y = (value) => top + FIELD_H * (1 - (value - bottom) / (ceiling - bottom));
      const points = pairs.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
      line.setAttribute("d", `M${points.join("L")}`);
      marks.setAttribute("d", held.map(([step, value]) => `M${x(step)} ${y(value) - 4}l4 4l-4 4l-4 -4z`).join(""));
    }
    const at = all.length ? `step ${all.at(-1)}${steps ? ` of ${steps}` : ""}` : "no step yet";
    const last = CHARTS.map(([key, title]) => [title, train[key]?.at(-1)])
      .filter(([, value]) => Number.isFinite(value))
      .map(([title, value]) => `${title} ${numberText(value)}`);
    panel.say([`${name}: ${state}, ${at}`, ...last].join(", "));
    stop.disabled = state !== "running";
    if (state !== "running") {
      clearTimeout(waiting);
      notice.textContent = state === "stopping" ? "stopping at the end of this step …" : "";
    }
  }

  let waiting;
  const stop = element("button", { type: "button" }, "Stop");
  const notice = element("span", { class: "dk-note", role: "status" });
  stop.addEventListener("click", () => {
    if (!model.send) return;
    model.send({ ask: "stop" });
    notice.textContent = "stopping …";
    const advice = "this front end does not reach a busy kernel: use the notebook's own stop button (■)";
    waiting = setTimeout(() => (notice.textContent = advice), 10_000); // the kernel answers at once
  });
  const panel = frame({
    el,
    model,
    title: "training",
    name: "training_panel",
    controls: [stop, notice],
    svg,
    about: () => {
      const { name, state, train, about } = model.get("value");
      const last = Object.entries(train).map(([key, values]) => [key, values.at(-1)]);
      return { ...about, run: name, state, ...Object.fromEntries(last) };
    },
  });
  const show = panel.guarded(draw);
  model.on("change:value", show);
  show();
  return () => {
    model.off("change:value", show);
    panel.end();
  };
}

export default { render };
