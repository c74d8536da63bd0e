// A language model that goes on with what the reader has typed.
Live.figure((run, { tokens, context, start, length, first }, app) => {
  const panel = Live.add(app, "div", { class: "panel" });
  const top = Live.add(panel, "div", { class: "row" });
  const label = Live.add(top, "label", {}, "Your beginning");
  const input = Live.add(label, "input", { type: "text", value: start, maxlength: 200 });
  const below = Live.add(panel, "div", { class: "row" });
  const text = Live.add(panel, "p", { class: "text", "aria-live": "polite" });
  const longest = tokens.reduce((most, token) => Math.max(most, token.length), 1);
  const numbers = new Map(tokens.map((token, i) => [token, i]).filter(([token]) => token).reverse());
  let temperature = 0.8;
  let seed = 0;
  let timer = null;

  // The longest token that fits, again and again; what no token spells is left out.
  function encode(string) {
    const ids = [];
    for (let i = 0; i < string.length; ) {
      let n = Math.min(longest, string.length - i);
      while (n > 0 && !numbers.has(string.slice(i, i + n))) n -= 1;
      if (n > 0) ids.push(numbers.get(string.slice(i, i + n)));
      i += Math.max(n, 1);
    }
    return ids;
  }

  // A draw from softmax(logits / temperature) at the last place; at temperature 0 the likeliest token.
  function nextId(ids, random) {
    const recent = ids.slice(-context);
    const padded = Float32Array.from({ length: context }, (_, i) => recent[i] ?? 0);
    const [all] = run(padded);
    const logits = all.subarray((recent.length - 1) * tokens.length, recent.length * tokens.length);
    const most = logits.reduce((a, b) => Math.max(a, b));
    if (temperature === 0) return logits.indexOf(most);
    const weights = Array.from(logits, (v) => Math.exp((v - most) / temperature));
    let rest = random.uniform() * weights.reduce((a, b) => a + b, 0);
    const chosen = weights.findIndex((w) => (rest -= w) < 0);
    return chosen < 0 ? logits.indexOf(most) : chosen;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    go.textContent = "Go on";
  }

  function write() {
    if (timer) return stop();
    seed += 1;
    const random = Live.random(seed);
    const ids = [...(first === null ? [] : [first]), ...encode(input.value)];
    if (!ids.length) ids.push(0);
    text.replaceChildren(document.createTextNode(input.value));
    const answer = Live.add(text, "mark");
    let left = length;
    timer = setInterval(() => {
      const id = nextId(ids, random);
      ids.push(id);
      answer.textContent += tokens[id];
      app.dataset.output = JSON.stringify({ ids, seed, temperature });
      left -= 1;
      if (left === 0) stop();
    }, 15);
    go.textContent = "Stop";
  }

  const go = Live.button(below, "Go on", write);
  const shown = Live.add(below, "span", {}, "temperature 0.8");
  Live.slider(below, "", { min: 0, max: 1.5, step: 0.1, value: temperature }, (value) => {
    temperature = value;
    shown.textContent = `temperature ${value.toFixed(1)}`;
  }).setAttribute("aria-label", "Temperature");
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") write();
  });
});
