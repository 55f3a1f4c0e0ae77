// Score against size and against latency; the models within the limits, ringed and in words.

const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP] = [700, 360, 44, 48, 40, 22];
const FIELD = (WIDTH - LEFT - GAP - 8) / 2;
const LOOKS = [[GREY, "square"], [BLUE, "circle"], [ORANGE, "diamond"]]; // an engine each
const COSTS = [["size_mb", "size on disk (MB)"], ["latency_ms_p50", "latency p50 (ms)"]];

// The smallest of those that pass: by the first cost, ties by the second (as in pareto.py).
function least(points, passes, first, second) {
  const found = points.filter(passes);
  return found.reduce(
    (best, p) => (!best || p[first] < best[first] || (p[first] === best[first] && p[second] < best[second]) ? p : best),
    null,
  );
}

function answers(points, within, sizeMB) {
  const [size, time] = ["size_mb", "latency_ms_p50"];
  const near = (p) => p.lost <= within;
  const small = (p) => p[size] <= sizeMB;
  return {
    smallest: least(points, near, size, time),
    fastest: least(points, small, time, size),
    both: least(points, (p) => near(p) && small(p), time, size),
  };
}

// 1, 2, 5, 10, ... from low to high
function niceTicks(low, high) {
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const digit of [1, 2, 5]) ticks.push(Number(`${digit}e${e}`));
  return ticks.filter((tick) => tick >= low && tick <= high);
}

function mark(svg, kind, x, y, attributes) {
  if (kind === "circle") return shape(svg, "circle", { cx: x, cy: y, r: 5, ...attributes });
  const path =
    kind === "square"
      ? `M${x - 4.5} ${y - 4.5}h9v9h-9z`
      : `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5 -6.5z`;
  return shape(svg, "path", { d: path, ...attributes });
}

// Draws all that does not move; returns the function that draws the rest.
function prepare(svg, points, engines, [bottom, top, ticks]) {
  clear(svg, WIDTH, HEIGHT);
  // equal steps halve the distance to 100 (as in plots/frontier.py)
  const steps = (score) => -Math.log2(Math.max(100 - score, 0.05));
  const y = (score) => TOP + ((top - steps(score)) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  const teacher = points[0].score + points[0].lost;

  let at = LEFT;
  engines.forEach((engine, i) => {
    const [fill, kind] = LOOKS[i];
    mark(svg, kind, at + 6, 14, { fill });
    shape(svg, "text", { x: at + 17, y: 18, fill: INK }, engine);
    at += 7.4 * engine.length + 34;
  });

  const fields = COSTS.map(([cost, title], k) => {
    const left = LEFT + k * (FIELD + GAP);
    const values = points.map((p) => p[cost]);
    const [low, high] = [Math.min(...values) / 1.3, Math.max(...values) * 1.3];
    const x = (value) => left + (Math.log(value / low) / Math.log(high / low)) * FIELD;
    for (const score of ticks) {
      shape(svg, "line", { x1: left, x2: left + FIELD, y1: y(score), y2: y(score), stroke: LINE });
      const place = { x: left - 6, y: y(score) + 4, "text-anchor": "end", fill: GREY, "font-size": 11 };
      if (k === 0) shape(svg, "text", place, numberText(score));
    }
    const foot = HEIGHT - BOTTOM;
    shape(svg, "line", { x1: left, x2: left + FIELD, y1: foot, y2: foot, stroke: GREY });
    for (const tick of niceTicks(low, high)) {
      shape(svg, "line", { x1: x(tick), x2: x(tick), y1: foot, y2: foot + 4, stroke: GREY });
      const place = { x: x(tick), y: foot + 16, "text-anchor": "middle", fill: GREY, "font-size": 11 };
      shape(svg, "text", place, numberText(tick));
    }
    const middle = { x: left + FIELD / 2, y: HEIGHT - 6, "text-anchor": "middle", fill: INK };
    shape(svg, "text", middle, title);
    if (k === 0) shape(svg, "text", { x: left - 6, y: TOP - 10, fill: GREY, "font-size": 11 }, "score (points)");
    const edge = shape(svg, "line", { x1: left, x2: left + FIELD, stroke: BLUE, "stroke-dasharray": "5 3" });
    const wall = shape(svg, "line", { y1: TOP - 8, y2: foot, stroke: VERMILLION, "stroke-dasharray": "5 3" });
    const marks = points.map((p) => {
      const [fill, kind] = LOOKS[engines.indexOf(p.engine)];
      const group = shape(svg, "g", {});
      const whisker = { x1: x(p[cost]), x2: x(p[cost]), y1: y(p.score_low), y2: y(p.score_high) };
      shape(group, "line", { ...whisker, stroke: fill });
      const made = mark(group, kind, x(p[cost]), y(p.score), { fill });
      const words = `${p.variant}, ${p.engine}: ${numberText(p.score)} points, ${numberText(p[cost])} ${k ? "ms" : "MB"}`;
      shape(made, "title", {}, words);
      return group;
    });
    const rings = ["smallest", "fastest", "both"].map((name, i) => {
      const look = { r: 9 + 3 * i, fill: "none", "stroke-width": 1.8, "data-ring": name };
      const stroke = { smallest: BLUE, fastest: VERMILLION, both: INK }[name];
      const ring = shape(svg, "circle", { ...look, stroke });
      const text = { fill: stroke, "font-size": 11, "paint-order": "stroke", stroke: "white", "stroke-width": 3 };
      return { name, ring, label: shape(svg, "text", text) };
    });
    return { cost, left, x, edge, wall, marks, rings };
  });

  return (within, sizeMB) => {
    const found = answers(points, within, sizeMB);
    for (const { cost, left, x, edge, wall, marks, rings } of fields) {
      const line = Math.min(Math.max(y(teacher - within), TOP - 8), HEIGHT - BOTTOM);
      edge.setAttribute("y1", line);
      edge.setAttribute("y2", line);
      const bySize = cost === "size_mb";
      wall.setAttribute("visibility", bySize ? "visible" : "hidden");
      const limit = Math.min(Math.max(x(sizeMB), left), left + FIELD);
      wall.setAttribute("x1", limit);
      wall.setAttribute("x2", limit);
      points.forEach((p, i) => {
        const passes = p.lost <= within && p.size_mb <= sizeMB;
        marks[i].setAttribute("opacity", passes ? 1 : 0.25);
      });
      rings.forEach(({ name, ring, label }, i) => {
        const p = found[name];
        for (const part of [ring, label]) part.setAttribute("visibility", p ? "visible" : "hidden");
        if (!p) return;
        ring.setAttribute("cx", x(p[cost]));
        ring.setAttribute("cy", y(p.score));
        // above the ring, free of other marks; words for the same model are stacked
        const above = rings.slice(0, i).filter((other) => found[other.name] === p).length;
        const right = x(p[cost]) > left + 0.72 * FIELD;
        label.textContent = { smallest: "smallest", fastest: "fastest", both: "both at once" }[name];
        label.setAttribute("x", x(p[cost]) + (right ? 8 : -8));
        label.setAttribute("text-anchor", right ? "end" : "start");
        label.setAttribute("y", y(p.score) - 20 - 13 * above);
      });
    }
    return found;
  };
}

function render({ model, el }) {
  const { points, engines, most_lost, sizes, score_axis, start, about } = model.get("value");
  let { within, size_mb: sizeMB } = model.get("settings");
  const svg = newPicture(WIDTH);
  const teacher = points[0].score + points[0].lost;
  let draw, found;

  const cost = (p) =>
    `${p.variant}, ${p.engine}: ${numberText(p.size_mb)} MB, ${numberText(p.latency_ms_p50)} ms, ` +
    `${p.score.toFixed(1)} points (${p.lost > 0 ? "−" : "+"}${Math.abs(p.lost).toFixed(1)})`;
  const line = (question, p) => `${question}: ${p ? cost(p) : "no model"}.`;
  function show() {
    found = draw(within, sizeMB);
    panel.say(
      [
        line(`Smallest within ${numberText(within)} points of the teacher's ${teacher.toFixed(1)}`, found.smallest),
        line(`Fastest under ${numberText(sizeMB)} MB`, found.fastest),
        line("Fastest with both", found.both),
      ].join("\n"),
    );
  }
  const released = () => settings.tell({ within, size_mb: sizeMB });
  const complain = (...given) => panel.complain(...given);
  const points_lost = slider({
    ...{ label: "points below the teacher", low: 0, high: most_lost, value: within, released, complain },
    moved: (x) => {
      within = x;
      panel.guarded(show)();
    },
  });
  const most_mb = slider({
    ...{ label: "MB at most", low: sizes[0], high: sizes[1], value: sizeMB, logarithmic: true, released, complain },
    moved: (x) => {
      sizeMB = x;
      panel.guarded(show)();
    },
  });
  function take(set) {
    ({ within, size_mb: sizeMB } = set);
    points_lost.set(within);
    most_mb.set(sizeMB);
    show();
  }
  const named = (p) => p && { variant: p.variant, engine: p.engine };
  const panel = frame({
    el,
    model,
    title: "compression frontier",
    name: "frontier_panel",
    controls: [points_lost.part, most_mb.part],
    svg,
    reset: () => {
      take(start);
      released();
    },
    about: () => {
      const chosen = Object.entries(found).map(([name, p]) => [name, named(p)]);
      return { ...about, within, size_mb: sizeMB, ...Object.fromEntries(chosen) };
    },
  });
  const settings = settingsOf(model, panel.renewed(take)); // changed in another view or in Python
  panel.guarded(() => {
    draw = prepare(svg, points, engines, score_axis);
    show();
  })();
  return () => {
    settings.end();
    panel.end();
  };
}

export default { render };
