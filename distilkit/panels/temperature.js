// softmax(z / T) and the plain softmax; with a student also KL, T²·KL and their gradients.

const [WIDTH, LABELS, ROW, TOP, BOTTOM] = [680, 96, 28, 26, 22];
const AMOUNT = 52; // pixels for a number after the longest bar
const FIELD = (WIDTH - LABELS) / 2 - AMOUNT;

// Entropy in nats; its exponential is the number of equally likely classes that would have it.
function entropy(p) {
  return -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
}

// KL(softmax(t / T) || softmax(s / T)) in nats, and its gradient with respect to s (Hinton et al.
// 2015, equation 2). Logarithms are formed from logits: a probability may be too small for one.
function compare(teacher, student, T) {
  const [p, q] = [softmax(teacher, T), softmax(student, T)];
  const logSum = (z) => {
    const most = Math.max(...z) / T;
    return most + Math.log(z.reduce((sum, x) => sum + Math.exp(x / T - most), 0));
  };
  const [a, b] = [logSum(teacher), logSum(student)];
  const terms = p.map((x, i) => (x > 0 ? x * (teacher[i] / T - a - (student[i] / T - b)) : 0));
  const KL = Math.max(0, terms.reduce((sum, x) => sum + x, 0));
  return { p, q, KL, gradient: q.map((x, i) => (x - p[i]) / T) };
}

// The next round number for an axis.
function roundUp(x) {
  if (!(x > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(x));
  return power * [1, 2, 3, 4, 5, 6, 8, 10].find((digit) => digit * power >= x);
}

const norm = (values) => Math.hypot(...values);

function numbers(text) {
  return text
    .split(/[\s,;]+/)
    .filter((part) => part)
    .map(Number);
}

function check(labels, given) {
  for (const [who, logits] of given) {
    if (!logits.length) return `${who}: give at least one number`;
    if (!logits.every(Number.isFinite)) return `${who}: every logit must be a finite number`;
    if (logits.length !== labels.length)
      return `${who}: ${labels.length} classes, but ${logits.length} logits`;
  }
  return "";
}

// The names of the classes, and a field of bars for each of `titles`.
function fields(svg, top, labels, titles, ticks) {
  const bottom = top + TOP + labels.length * ROW;
  labels.forEach((label, i) => {
    const y = top + TOP + i * ROW + ROW / 2 + 4;
    const text = shape(svg, "text", { x: LABELS - 8, y, "text-anchor": "end", fill: INK }, short(label, LABELS - 12));
    shape(text, "title", {}, label);
  });
  return titles.map((title, k) => {
    const left = LABELS + k * (FIELD + AMOUNT);
    shape(svg, "text", { x: left, y: top + 14, fill: INK, "font-size": 13 }, title);
    const at = (x) => left + ((x - ticks[k][0]) / (ticks[k].at(-1) - ticks[k][0])) * FIELD;
    for (const tick of ticks[k]) {
      const line = { x1: at(tick), x2: at(tick), y1: top + TOP - 4, y2: bottom };
      shape(svg, "line", { ...line, stroke: tick === 0 ? GREY : LINE });
      const place = { x: at(tick), y: bottom + 15, "text-anchor": "middle", fill: GREY };
      shape(svg, "text", { ...place, "font-size": 11 }, numberText(tick).replace("-", "−"));
    }
    return { at, within: (x) => Math.min(Math.max(x, left), left + FIELD) };
  });
}

function bars(svg, field, top, count, { fill, name, from = 0.15, to = 0.85 }) {
  const made = Array.from({ length: count }, (_, i) => {
    const y = top + TOP + (i + from) * ROW;
    return shape(svg, "rect", { x: field.at(0), y, width: 0, height: (to - from) * ROW, fill, "data-bar": name });
  });
  return (values) =>
    values.forEach((value, i) => {
      const [a, b] = [field.at(Math.min(0, value)), field.at(Math.max(0, value))].map(field.within);
      made[i].setAttribute("x", a);
      made[i].setAttribute("width", b - a);
    });
}

function amounts(svg, field, top, count) {
  const made = Array.from({ length: count }, (_, i) =>
    shape(svg, "text", { y: top + TOP + (i + 0.5) * ROW + 4, fill: INK, "font-size": 11 }),
  );
  return (values) =>
    values.forEach((value, i) => {
      made[i].setAttribute("x", field.at(value) + 5);
      made[i].textContent = `${(100 * value).toFixed(1)} %`;
    });
}

function legend(svg, x, y, entries) {
  for (const [fill, text] of entries) {
    shape(svg, "rect", { x, y: y - 10, width: 12, height: 10, fill });
    x += 18;
    shape(svg, "text", { x, y, fill: INK, "font-size": 12 }, text);
    x += 7.2 * text.length + 14;
  }
}

// Draws all that does not depend on T; returns the function that draws the rest.
function prepare(svg, labels, teacher, student) {
  const C = labels.length;
  const upper = TOP + C * ROW + BOTTOM;
  clear(svg, WIDTH, student ? 2 * upper + 34 : upper);
  const shares = [0, 0.25, 0.5, 0.75, 1];
  const who = student ? "teacher: " : "";
  const titles = [`${who}softmax(z), T = 1`, `${who}softmax(z / T)`];
  const [plain, soft] = fields(svg, 0, labels, titles, [shares, shares]);
  const one = softmax(teacher, 1);
  bars(svg, plain, 0, C, { fill: GREY, name: "plain" })(one);
  amounts(svg, plain, 0, C)(one);
  const drawSoft = bars(svg, soft, 0, C, { fill: BLUE, name: "soft" });
  const writeSoft = amounts(svg, soft, 0, C);
  if (!student)
    return (T) => {
      const p = softmax(teacher, T);
      drawSoft(p);
      writeSoft(p);
      return p;
    };

  const top = upper + 34;
  const pair = [[BLUE, "teacher"], [ORANGE, "student"]];
  legend(svg, LABELS, top - 8, pair);
  legend(svg, LABELS + FIELD + AMOUNT, top - 8, [[GREY, "of KL"], [VERMILLION, "of T²·KL"]]);
  // one scale for T >= 1, to show which gradient shrinks; below 1, bars are cut at its end
  let most = 0;
  for (let T = 1; T <= 20; T *= 1.05) {
    const { gradient } = compare(teacher, student, T);
    most = Math.max(most, ...gradient.map((g) => Math.abs(g) * T * T));
  }
  const limit = roundUp(most);
  const signed = [-limit, -limit / 2, 0, limit / 2, limit];
  const names = ["both at T", "gradient for the student's logits"];
  const [both, slopes] = fields(svg, top, labels, names, [shares, signed]);
  const upperHalf = { from: 0.12, to: 0.48 };
  const lowerHalf = { from: 0.52, to: 0.88 };
  const draw = [
    bars(svg, both, top, C, { fill: BLUE, name: "teacher", ...upperHalf }),
    bars(svg, both, top, C, { fill: ORANGE, name: "student", ...lowerHalf }),
    bars(svg, slopes, top, C, { fill: GREY, name: "gradient", ...upperHalf }),
    bars(svg, slopes, top, C, { fill: VERMILLION, name: "gradient-T2", ...lowerHalf }),
  ];
  const place = { x: slopes.within(Infinity), y: top - 8, "text-anchor": "end", fill: INK };
  const beyond = shape(svg, "text", { ...place, "font-size": 11 });
  return (T, { p, q, gradient }) => {
    drawSoft(p);
    writeSoft(p);
    const scaled = gradient.map((g) => g * T * T);
    [p, q, gradient, scaled].forEach((values, i) => draw[i](values));
    const largest = Math.max(...gradient.concat(scaled).map(Math.abs));
    beyond.textContent = largest > limit ? `cut off: up to ${numberText(largest)}` : "";
    return p;
  };
}

function render({ model, el }) {
  const { labels, start, about } = model.get("value");
  let { temperature: T, logits: teacher, student_logits: student } = model.get("settings");
  const svg = newPicture(WIDTH);
  let draw;

  const problem = () => {
    const given = [[student ? "teacher's logits" : "logits", teacher]];
    if (student) given.push(["student's logits", student]);
    return check(labels, given);
  };
  function show() {
    if (problem()) return; // shown already, and the picture is marked
    const compared = student && compare(teacher, student, T);
    const p = draw(T, compared);
    const best = p.indexOf(Math.max(...p));
    const [now, plain] = [p, softmax(teacher, 1)].map(entropy);
    let text =
      `T = ${numberText(T)}: ${labels[best]} has ${(100 * p[best]).toFixed(1)} %, entropy ${now.toFixed(2)} nats, ` +
      `effective number of classes ${Math.exp(now).toFixed(2)} (at T = 1: ${Math.exp(plain).toFixed(2)}).`;
    if (student) {
      const { KL, gradient } = compared;
      text +=
        `\nKL ${numberText(KL)}, T²·KL ${numberText(T * T * KL)} nats; length of the gradient: ` +
        `${numberText(norm(gradient))} of KL, ${numberText(T * T * norm(gradient))} of T²·KL.`;
    }
    panel.say(text);
  }
  function restart() {
    const wrong = problem();
    panel.complain(wrong, "logits");
    if (wrong) return;
    draw = prepare(svg, labels, teacher, student);
    show();
  }
  // sent to the kernel without waiting for it
  function released() {
    if (!problem()) settings.tell({ temperature: T, logits: teacher, student_logits: student });
  }
  function logitsBox(label, logits, changed) {
    const id = `dk-${Math.random().toString(36).slice(2)}`;
    const box = element("input", { type: "text", id, value: logits.join(", ") });
    box.addEventListener("input", () => {
      changed(numbers(box.value));
      panel.guarded(restart)();
    });
    box.addEventListener("change", released);
    return { box, part: element("span", { class: "dk-field" }, element("label", { for: id }, label), box) };
  }

  const dial = temperatureSlider({
    value: T,
    moved: (x) => {
      T = x;
      panel.guarded(show)();
    },
    released,
    complain: (...given) => panel.complain(...given),
  });
  const boxes = [logitsBox(student ? "teacher's logits" : "logits", teacher, (z) => (teacher = z))];
  if (student) boxes.push(logitsBox("student's logits", student, (z) => (student = z)));

  function take(set) {
    ({ temperature: T, logits: teacher, student_logits: student } = set);
    dial.set(T);
    boxes.forEach(({ box }, i) => (box.value = [teacher, student][i].join(", ")));
    restart();
  }
  const panel = frame({
    el,
    model,
    title: "softmax with temperature",
    name: student ? "temperature_panel_student" : "temperature_panel",
    controls: [dial.part, ...boxes.map(({ part }) => part)],
    svg,
    reset: () => {
      take(start);
      released();
    },
    about: () => ({ ...about, T, labels, logits: teacher, ...(student && { student_logits: student }) }),
  });
  const settings = settingsOf(model, panel.renewed(take)); // changed in another view or in Python
  panel.guarded(restart)();
  return () => {
    settings.end();
    panel.end();
  };
}

export default { render };
