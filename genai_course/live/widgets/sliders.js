// One slider for each of the first coordinates of z; the others keep the values of the last draw.
Live.figure((run, { extent, shape, size, shown, choices }, app) => {
  const left = Live.add(app, "div");
  const draw = Live.picture(left, shape, "What the generator draws");
  const panel = Live.add(app, "div", { class: "panel" });
  const top = Live.add(panel, "div", { class: "row" });
  let seed = 0;
  let z = Live.random(seed).normals(size);
  let choice = 0;
  const inputs = [];

  function update() {
    const arrays = choices.length ? [z, Float32Array.from(choices[choice].value)] : [z];
    const [ink] = run(...arrays);
    draw(ink);
    app.dataset.output = JSON.stringify({ z: Array.from(z), choice });
  }

  Live.button(top, "New draw", () => {
    seed += 1;
    z = Live.random(seed).normals(size);
    inputs.forEach((input, i) => (input.value = z[i]));
    update();
  });
  if (choices.length) Live.choose(top, choices, (i) => { choice = i; update(); });
  for (let i = 0; i < shown; i++) {
    const row = Live.add(panel, "div", { class: "row" });
    const range = { min: -extent, max: extent, step: 0.05, value: z[i] };
    inputs.push(Live.slider(row, `z${i + 1}`, range, (value) => { z[i] = value; update(); }));
  }
  update();
});
