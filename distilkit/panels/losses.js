// Sentences with the losses of each token, and three weights with their effect on the gradient.

const WIDTH = 680;
const [CHIP, LINE_HEIGHT, SPACE] = [20, 28, 5];
const NAMES = { soft_target: "soft targets", mlm: "MLM", cosine: "cosine" };
const FATES = { masked: ["M", BLUE], kept: ["K", "#009E73"], replaced: ["R", VERMILLION] };

// White to orange.
function shade(share) {
  const mix = (a, b) => Math.round(a + (b - a) * Math.min(1, Math.max(0, share)));
  return `rgb(${mix(255, 230)}, ${mix(255, 159)}, ${mix(255, 0)})`;
}

// Norms and cosines of the weighted gradients, from their inner products G.
function pull(G, weights) {
  const length = G.map((row, i) => Math.sqrt(Math.max(0, row[i])));
  const cosine = (i, j) => (length[i] && length[j] ? G[i][j] / (length[i] * length[j]) : NaN);
  let square = 0;
  for (const [i, a] of weights.entries())
    for (const [j, b] of weights.entries()) square += a * b * G[i][j];
  return { weighted: length.map((x, i) => weights[i] * x), total: Math.sqrt(Math.max(0, square)), cosine };
}

function render({ model, el }) {
  const { terms, means, counts, products, sentences, temperature, start, about } = model.get("value");
  const tokens = sentences.flat();
  let { weights, token: chosen, shown } = structuredClone(model.get("settings"));
  const svg = newPicture(WIDTH);
  svg.setAttribute("role", "group");

  // a token's share of the weighted sum: each term is a mean over its own tokens
  const share = (token) =>
    shown === "total"
      ? token.losses.reduce((sum, loss, i) => sum + (weights[i] * (loss ?? 0)) / (counts[i] || 1), 0)
      : (token.losses[terms.indexOf(shown)] ?? 0);

  // ---- the sentences: drawn once, coloured again when weights or the chosen term change

  clear(svg, WIDTH, 100);
  const chips = [];
  let y = 8;
  for (const sentence of sentences) {
    let x = 4;
    for (const token of sentence) {
      const word = short(token.word, 140);
      const width = pen.measureText(word).width + 12 + (token.fate ? 15 : 0);
      if (x + width > WIDTH - 4) [x, y] = [4, y + LINE_HEIGHT];
      const number = chips.length;
      const group = shape(svg, "g", { role: "button", tabindex: number === chosen ? 0 : -1, class: "dk-token" });
      const [letter, colour] = FATES[token.fate] ?? ["", PALE];
      const box = { x, y, width, height: CHIP, rx: 3, stroke: colour, "stroke-width": letter ? 2 : 1 };
      const rect = shape(group, "rect", { ...box, "data-token": number });
      shape(group, "text", { x: x + 5, y: y + 14, fill: INK }, word);
      const mark = { x: x + width - 13, y: y + 14, fill: colour, "font-weight": "bold", "font-size": 11 };
      if (letter) shape(group, "text", mark, letter);
      group.setAttribute("aria-label", `${token.word}${token.fate ? `, ${token.fate}` : ""}`);
      group.setAttribute("data-lm-suppress-shortcuts", "true");
      group.addEventListener("click", () => choose(number));
      group.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1, Home: -chips.length, End: chips.length }[event.key];
        if (!by) return;
        event.preventDefault();
        choose(Math.min(chips.length - 1, Math.max(0, number + by)));
        chips[chosen].group.focus();
      });
      chips.push({ group, rect });
      x += width + SPACE;
    }
    y += LINE_HEIGHT + 8;
  }
  let x = 4;
  for (const [fate, [letter, colour]] of Object.entries(FATES)) {
    shape(svg, "text", { x, y: y + 10, fill: colour, "font-weight": "bold", "font-size": 11 }, letter);
    shape(svg, "text", { x: x + 14, y: y + 10, fill: INK, "font-size": 11 }, fate);
    x += 90;
  }
  shape(svg, "text", { x, y: y + 10, fill: INK, "font-size": 11 }, "the more orange, the larger the loss");
  y += 32;

  // ---- the chosen token, and the terms: two parts below

  const detail = shape(svg, "g", { transform: `translate(0 ${y})` });
  const parts = shape(svg, "g", { transform: `translate(0 ${y + 172})` });
  const height = y + 172 + 122;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.querySelector("rect").setAttribute("height", height);

  function drawDetail() {
    detail.replaceChildren();
    const token = tokens[chosen];
    const fate = token.fate && `, ${token.fate}; the word was “${token.original}”`;
    shape(detail, "text", { x: 4, y: 12, fill: INK, "font-size": 13 }, `“${token.word}”${fate}`);
    const losses = terms.map((term, i) => `${NAMES[term]} ${token.losses[i] === null ? "–" : numberText(token.losses[i])}`);
    shape(detail, "text", { x: 4, y: 30, fill: GREY }, losses.join(" · "));
    ["teacher", "student"].forEach((who, k) => {
      const left = 4 + k * 340;
      shape(detail, "text", { x: left + 100, y: 54, fill: INK }, `${who}, T = 1`);
      token[who].forEach(([word, p], i) => {
        const top = 60 + 20 * i;
        const name = { x: left + 92, y: top + 13, "text-anchor": "end", fill: INK };
        shape(detail, "text", name, short(word, 88));
        const bar = { x: left + 100, y: top + 2, width: 170 * p, height: 14, fill: k ? ORANGE : BLUE };
        shape(detail, "rect", { ...bar, "data-top": who });
        const amount = { x: left + 105 + 170 * p, y: top + 13, fill: INK, "font-size": 11 };
        shape(detail, "text", amount, `${(100 * p).toFixed(1)} %`);
      });
    });
  }

  function drawParts() {
    parts.replaceChildren();
    const { weighted, total, cosine } = pull(products, weights);
    const values = means.map((mean, i) => weights[i] * mean);
    const columns = [
      ["part of the loss", values, values.reduce((a, b) => a + b, 0)],
      ["length of the gradient", weighted, total],
    ];
    columns.forEach(([title, amounts, sum], k) => {
      const left = 4 + k * 340;
      const most = Math.max(...amounts, 1e-12);
      shape(parts, "text", { x: left, y: 12, fill: INK, "font-size": 13 }, `${title} (together ${numberText(sum)})`);
      terms.forEach((term, i) => {
        const top = 20 + 22 * i;
        const name = { x: left + 92, y: top + 14, "text-anchor": "end", fill: INK };
        shape(parts, "text", name, NAMES[term]);
        const length = (170 * amounts[i]) / most;
        const bar = { x: left + 100, y: top + 2, width: length, height: 16, fill: k ? GREY : BLUE };
        shape(parts, "rect", { ...bar, "data-term": term });
        const amount = { x: left + 105 + length, y: top + 14, fill: INK, "font-size": 11 };
        shape(parts, "text", amount, numberText(amounts[i]));
      });
    });
    const between = [[0, 1], [0, 2], [1, 2]].map(([i, j]) => {
      const value = cosine(i, j);
      const [a, b] = [NAMES[terms[i]], NAMES[terms[j]]];
      return `${a} and ${b} ${Number.isNaN(value) ? "–" : value.toFixed(2).replace("-", "−")}`;
    });
    shape(parts, "text", { x: 4, y: 110, fill: GREY }, `cosines between the gradients: ${between.join(" · ")}`);
    return { values, total };
  }

  function show() {
    const shares = tokens.map(share);
    const most = Math.max(...shares, 1e-12);
    chips.forEach(({ rect, group }, i) => {
      rect.setAttribute("fill", shade(shares[i] / most));
      rect.setAttribute("stroke-dasharray", i === chosen ? "4 2" : "");
      group.setAttribute("aria-pressed", i === chosen);
      group.setAttribute("tabindex", i === chosen ? 0 : -1);
    });
    drawDetail();
    const { values, total } = drawParts();
    const sum = terms.map((term, i) => `${numberText(weights[i])} · ${numberText(means[i])} (${NAMES[term]})`).join(" + ");
    panel.say(
      `Loss of these ${tokens.length} tokens: ${sum} = ${numberText(values.reduce((a, b) => a + b, 0))}, T = ${temperature}; ` +
        `its gradient has the length ${numberText(total)}. Chosen: “${tokens[chosen].word}”.`,
    );
  }
  const released = () => settings.tell({ weights, token: chosen, shown });
  function choose(number) {
    chosen = number;
    panel.guarded(show)();
    released();
  }

  const dials = terms.map((term, i) =>
    slider({
      label: `weight of ${NAMES[term]}`,
      low: 0,
      high: 10,
      value: weights[i],
      moved: (x) => {
        weights[i] = x;
        panel.guarded(show)();
      },
      released,
      complain: (...given) => panel.complain(...given),
    }),
  );
  const pick = element("select", { id: `dk-${Math.random().toString(36).slice(2)}` });
  pick.append(element("option", { value: "total" }, "the weighted sum"));
  pick.append(...terms.map((term) => element("option", { value: term }, NAMES[term])));
  pick.value = shown;
  pick.addEventListener("change", () => {
    shown = pick.value;
    panel.guarded(show)();
    released();
  });
  const colour = element("span", { class: "dk-field" }, element("label", { for: pick.id }, "colour by"), pick);

  function take(set) {
    ({ weights, token: chosen, shown } = structuredClone(set));
    dials.forEach(({ set }, i) => set(weights[i]));
    pick.value = shown;
    show();
  }
  const panel = frame({
    el,
    model,
    title: "the triple loss, token by token",
    name: "loss_panel",
    controls: [...dials.map(({ part }) => part), colour],
    svg,
    reset: () => {
      take(start);
      released();
    },
    about: () => ({ ...about, weights, T: temperature, token: tokens[chosen], means, products }),
  });
  const settings = settingsOf(model, panel.renewed(take));
  panel.guarded(show)();
  return () => {
    settings.end();
    panel.end();
  };
}

export default { render };
