// The most probable words of each model for a gap, at T. Logits come from the kernel once a
// sentence; the temperature is applied here.

const [WIDTH, ROW, TOP, GAP, LABELS, AMOUNT] = [680, 24, 30, 20, 92, 56];

// Float32 numbers, in descending order, as Python packed them.
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// softmax(z / T) of the first `count` of the ordered logits, over all of them.
function mostProbable(logits, T, count) {
  let sum = 0;
  for (const z of logits) sum += Math.exp((z - logits[0]) / T);
  return Array.from(logits.subarray(0, count), (z) => Math.exp((z - logits[0]) / T) / sum);
}

// Columns of words and bars, one a model, two a row if there are many; returns the function that draws the bars at T.
function prepare(svg, answers) {
  const count = answers[0].words.length;
  const across = answers.length > 3 ? 2 : answers.length;
  const width = (WIDTH - GAP * (across - 1)) / across;
  const field = width - LABELS - AMOUNT;
  const high = TOP + count * ROW + 8;
  clear(svg, WIDTH, high * Math.ceil(answers.length / across));
  const columns = answers.map(({ model, words, logits }, k) => {
    const left = (k % across) * (width + GAP);
    const top = Math.floor(k / across) * high;
    shape(svg, "text", { x: left + LABELS, y: top + 16, fill: INK, "font-size": 13 }, short(model, width - LABELS, 13));
    const rows = words.map((word, i) => {
      const y = top + TOP + i * ROW;
      const middle = y + ROW / 2 + 4;
      const name = { x: left + LABELS - 8, y: middle, "text-anchor": "end", fill: INK };
      shape(shape(svg, "text", name, short(word, LABELS - 12)), "title", {}, word);
      const fill = k ? ORANGE : BLUE;
      const bar = { x: left + LABELS, y: y + 3, width: 0, height: ROW - 6, fill, "data-bar": model };
      return {
        bar: shape(svg, "rect", bar),
        amount: shape(svg, "text", { y: middle, fill: INK, "font-size": 11 }),
      };
    });
    return { model, words, logits: unpack(logits), rows, left };
  });
  return (T) =>
    columns.map(({ model, words, logits, rows, left }) => {
      const p = mostProbable(logits, T, rows.length);
      rows.forEach(({ bar, amount }, i) => {
        bar.setAttribute("width", p[i] * field);
        amount.setAttribute("x", left + LABELS + p[i] * field + 5);
        amount.textContent = `${(100 * p[i]).toFixed(1)} %`;
      });
      return { model, words, p };
    });
}

function render({ model, el }) {
  const { sentences, mask, start, about } = model.get("value");
  let { sentence, answers } = model.get("value");
  let { temperature: T } = model.get("settings");
  const svg = newPicture(WIDTH);
  let draw;
  let seen = []; // what the picture shows: { model, words, p } of each

  function show() {
    seen = draw(T);
    const lines = seen.map(({ model, words, p }) => {
      const best = words.slice(0, 3).map((word, i) => `${word} ${(100 * p[i]).toFixed(0)} %`);
      return `${model}: ${best.join(", ")}`;
    });
    panel.say(`T = ${numberText(T)}, “${sentence}”\n${lines.join("\n")}`);
  }
  function restart() {
    draw = prepare(svg, answers);
    show();
  }
  const released = () => settings.tell({ temperature: T });
  const dial = temperatureSlider({
    value: T,
    moved: (x) => {
      T = x;
      panel.guarded(show)();
    },
    released,
    complain: (...given) => panel.complain(...given),
  });

  const id = `dk-${Math.random().toString(36).slice(2)}`;
  const box = element("input", { type: "text", id, value: sentence, class: "dk-wide" });
  const pick = element("select", { id: `${id}-pick` });
  pick.append(...sentences.map((text) => element("option", { value: text }, text)));

  // sent only when a sentence is complete: on Enter, on leaving the box, on choosing one
  let waiting;
  function ask(wanted) {
    box.value = wanted;
    pick.value = wanted; // a typed sentence marks none of them
    clearTimeout(waiting);
    panel.complain("", "sentence");
    if (wanted === sentence) return;
    if (wanted.split(mask).length !== 2) {
      panel.complain(`write ${mask} once, where the word is to be guessed`, "sentence");
    } else if (!model.send) {
      panel.complain("another sentence needs a kernel: run the notebook", "sentence");
    } else {
      panel.complain("asking the models …", "sentence");
      const silent = () => panel.complain("no answer: is the kernel running, or busy?", "sentence");
      waiting = setTimeout(silent, 10_000);
      model.send({ ask: "sentence", sentence: wanted });
    }
  }
  box.addEventListener("change", () => ask(box.value.trim()));
  pick.addEventListener("change", () => ask(pick.value));

  const controls = [
    dial.part,
    element("span", { class: "dk-field" }, element("label", { for: id }, "sentence"), box),
    element("span", { class: "dk-field" }, element("label", { for: pick.id }, "or one of these"), pick),
  ];
  const take = (set) => {
    panel.complain("", "temperature T"); // what was said of the sentence stays
    T = set.temperature;
    dial.set(T);
    show();
  };
  const panel = frame({
    el,
    model,
    title: "words for a gap",
    name: "words_panel",
    controls,
    svg,
    reset: () => {
      take(start);
      released();
      ask(sentences[0]);
    },
    about: () => ({ ...about, T, sentence, answers: seen }),
  });
  const settings = settingsOf(model, panel.guarded(take));
  const answered = () => {
    ({ sentence, answers } = model.get("value"));
    ask(sentence);
    restart();
  };
  const changed = panel.guarded(answered);
  const refused = (message) => message.error && clearTimeout(waiting);
  model.on("change:value", changed);
  model.on("msg:custom", refused);
  panel.guarded(restart)();
  return () => {
    model.off("change:value", changed);
    model.off("msg:custom", refused);
    settings.end();
    panel.end();
  };
}

export default { render };
