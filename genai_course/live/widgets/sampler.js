// A sampler that plays, pauses, goes step by step and starts again from other noise.
Live.figure((run, { shape, size, steps, choices, delay }, app) => {
  const left = Live.add(app, "div");
  const draw = Live.picture(left, shape, "The sample so far");
  const panel = Live.add(app, "div", { class: "panel" });
  const state = Live.add(panel, "p", { "aria-live": "polite" });
  const row = Live.add(panel, "div", { class: "row" });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let seed = 0;
  let choice = 0;
  let timer = null;
  let random, x, i;

  function show(ink) {
    draw(ink);
    state.setAttribute("aria-live", timer ? "off" : "polite"); // not every step of a run is read aloud
    state.textContent = `step ${i} of ${steps}, noise number ${seed + 1}`;
    play.textContent = timer ? "Pause" : i === steps ? "Play again" : "Play";
    next.disabled = i === steps;
    app.dataset.output = JSON.stringify({ i, seed, x: Array.from(x) });
  }

  function advance() {
    const arrays = [x, Float32Array.of(i), random.normals(size)];
    if (choices.length) arrays.push(Float32Array.from(choices[choice].value));
    const [moved, ink] = run(...arrays);
    x = moved.slice();
    i += 1;
    if (i === steps) stop();
    show(ink);
  }

  function restart() {
    stop();
    random = Live.random(seed);
    x = random.normals(size);
    i = 0;
    advance();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
  }

  // With reduced motion, Play shows the result without the way there.
  function toggle() {
    if (timer) {
      stop();
      play.textContent = "Play";
      return;
    }
    if (i === steps) restart();
    if (calm) {
      while (i < steps) advance();
      return;
    }
    timer = setInterval(advance, delay);
    play.textContent = "Pause";
  }

  const play = Live.button(row, "Play", toggle);
  const next = Live.button(row, "One step", () => { stop(); advance(); });
  Live.button(row, "Other noise", () => { seed += 1; restart(); });
  if (choices.length) Live.choose(row, choices, (k) => { choice = k; restart(); });
  restart();
});
