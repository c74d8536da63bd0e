// A plane of codes: drag the point, or move it with the arrow keys, and the decoder draws what stands there.
Live.figure((run, { extent, shape, points, colors }, app) => {
  const SIZE = 320;
  const map = Live.add(app, "canvas", { id: "map", width: SIZE, height: SIZE, tabindex: 0, role: "application" });
  map.setAttribute("aria-label", "Plane of codes. Drag, or use the arrow keys.");
  const panel = Live.add(app, "div", { class: "panel" });
  const draw = Live.picture(panel, shape, "What the decoder draws");
  const place = Live.add(panel, "p", { "aria-live": "polite" });
  const context = map.getContext("2d");
  const code = Float32Array.of(0, 0);
  const toPixel = (v) => ((v + extent) / (2 * extent)) * SIZE;

  function dot(x, y, radius, fill, stroke) {
    context.beginPath();
    context.arc(toPixel(x), SIZE - toPixel(y), radius, 0, 2 * Math.PI);
    context.fillStyle = fill;
    context.fill();
    if (stroke) {
      context.strokeStyle = stroke;
      context.lineWidth = 2;
      context.stroke();
    }
  }

  function update() {
    const [ink] = run(code);
    draw(ink);
    context.clearRect(0, 0, SIZE, SIZE);
    for (const [x, y, label] of points) dot(x, y, 2, colors[label % colors.length]);
    dot(code[0], code[1], 8, "#fff", "#000");
    place.textContent = `z = (${code[0].toFixed(2)}, ${code[1].toFixed(2)})`;
    app.dataset.output = JSON.stringify({ code: Array.from(code) });
  }

  function moveTo(x, y) {
    code[0] = Math.min(extent, Math.max(-extent, x));
    code[1] = Math.min(extent, Math.max(-extent, y));
    update();
  }

  function follow(event) {
    const box = map.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * 2 * extent - extent;
    moveTo(x, extent - ((event.clientY - box.top) / box.height) * 2 * extent);
  }

  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    follow(event);
  });
  map.addEventListener("pointermove", (event) => {
    if (event.buttons) follow(event);
  });
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [x, y] = moves[event.key];
    moveTo(code[0] + (x * extent) / 30, code[1] + (y * extent) / 30);
  });
  update();
});
