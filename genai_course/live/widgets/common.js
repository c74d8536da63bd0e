// What all live figures share. `Live.figure(build)` checks the graph, then calls build(run, settings, app).
(function () {
  "use strict";

  const read = (id) => JSON.parse(document.getElementById(id).textContent);

  // Recompute the reference pairs that Python has stored. The largest error, relative to the size of the numbers.
  Live.selfCheck = function (run, reference) {
    let worst = 0;
    for (const { inputs, every, outputs } of reference) {
      const found = run(...inputs.map((x) => Float32Array.from(x)));
      outputs.forEach((expected, k) => {
        const scale = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 1);
        expected.forEach((v, i) => {
          const error = Math.abs(found[k][i * every[k]] - v) / scale;
          worst = Number.isNaN(error) ? Infinity : Math.max(worst, error);
        });
      });
    }
    return worst;
  };

  // The picture stays if anything is wrong: a graph that cannot be run, or one that computes other numbers.
  Live.figure = function (build) {
    try {
      const started = performance.now();
      const run = Live.load(read("graph"));
      const error = Live.selfCheck(run, read("reference"));
      document.body.dataset.error = error;
      if (error > read("settings").tolerance) throw new Error(`the figure differs from JAX by ${error}`);
      const app = document.getElementById("app");
      build(run, read("settings"), app);
      document.getElementById("poster").hidden = true;
      app.hidden = false;
      document.body.dataset.ready = performance.now() - started;
    } catch (error) {
      document.body.dataset.failed = error.message;
    }
  };

  Live.add = function (parent, tag, attributes = {}, text = "") {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    parent.append(element);
    return element;
  };

  Live.button = function (parent, text, action) {
    const button = Live.add(parent, "button", { type: "button" }, text);
    button.addEventListener("click", action);
    return button;
  };

  Live.slider = function (parent, text, { min, max, step, value }, action) {
    const label = Live.add(parent, "label", {}, text);
    const input = Live.add(label, "input", { type: "range", min, max, step, value });
    input.addEventListener("input", () => action(Number(input.value)));
    return input;
  };

  // A menu of choices, each with a name.
  Live.choose = function (parent, choices, action) {
    const label = Live.add(parent, "label", {}, "Show");
    const select = Live.add(label, "select");
    choices.forEach(({ name }, i) => Live.add(select, "option", { value: i }, name));
    select.addEventListener("change", () => action(Number(select.value)));
    return select;
  };

  // A canvas of height × width pixels, and a function that draws numbers from 0 (paper) to 1 (ink) on it.
  Live.picture = function (parent, [height, width], label) {
    const canvas = Live.add(parent, "canvas", { class: "picture", width, height, role: "img", "aria-label": label });
    const context = canvas.getContext("2d");
    const image = new ImageData(width, height);
    return function draw(ink) {
      for (let i = 0; i < height * width; i++) {
        const gray = Math.round(255 * (1 - Math.min(1, Math.max(0, ink[i]))));
        image.data.set([gray, gray, gray, 255], 4 * i);
      }
      context.putImageData(image, 0, 0);
    };
  };

  // Random numbers from a seed: mulberry32 for uniform ones, Box and Muller (1958) for normal ones.
  Live.random = function (seed) {
    let state = seed >>> 0;
    function uniform() {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return { uniform, normals: (n) => Float32Array.from({ length: n }, normal) };
  };
})();
