// Many points on a plane, drawn with WebGL: pan, zoom, pick, lasso. Knows nothing of what they stand for.

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; uniform vec2 centre; uniform vec2 scale; uniform float size; out vec4 shade;
void main() {
  gl_Position = vec4((place - centre) * scale, 0.0, 1.0);
  gl_PointSize = size;
  shade = colour;
}`;
const FRAGMENT = `#version 300 es
precision highp float; in vec4 shade; uniform float size; out vec4 result;
void main() {
  float inside = (0.5 - length(gl_PointCoord - 0.5)) * size;
  float alpha = shade.a * clamp(inside + 0.5, 0.0, 1.0);
  result = vec4(shade.rgb * alpha, alpha);
}`;
const TOOLS = 56; // pixels at the top that the buttons take
const NEAR = 9; // pixels from the pointer within which a point is meant
const STEP = 60; // pixels that an arrow key moves
const SLOW = 45, FAST = 22; // milliseconds between two pictures of a moving map: with more, fewer points are drawn
const LEAST = 10_000; // points that are drawn even so
const REST = 160; // milliseconds after which all are drawn again

export class Plot {
  // canvas takes the points and the pointer; overlay, above it, takes marks and the lasso.
  constructor(canvas, overlay, { hovered, picked, enclosed, moved }) {
    this.canvas = canvas;
    this.overlay = overlay;
    this.told = { hovered, picked, enclosed, moved };
    this.count = 0;
    this.marks = [];
    this.lassoing = false;
    this.share = 1; // of the points, while it moves
    this.moving = 0;
    this.path = null;
    this.pointers = new Map();
    this.view = { x: 0, y: 0, scale: 1 };
    this.gl = canvas.getContext("webgl2", { antialias: false, alpha: true });
    if (!this.gl) return;
    this.prepare();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  get works() {
    return Boolean(this.gl);
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.uniforms = Object.fromEntries(["centre", "scale", "size"].map((name) => [name, gl.getUniformLocation(program, name)]));
    this.buffers = { places: gl.createBuffer(), colours: gl.createBuffer(), order: gl.createBuffer() };
    const attribute = (name, buffer, size, type, normalised) => {
      const at = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, type, normalised, 0, 0);
    };
    attribute("place", this.buffers.places, 2, gl.FLOAT, false);
    attribute("colour", this.buffers.colours, 4, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.order);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // ---- what is shown

  setPoints(places, bounds) {
    // Places that are NaN are not there.
    this.places = places;
    this.bounds = bounds;
    this.fill(this.buffers.places, places);
    this.cells = cellsOf(places, bounds);
    this.count = this.cells.members.length;
  }

  setColours(colours, back, front) {
    // Four bytes for each point; lists of the points that are drawn, and of those above them.
    const order = new Uint32Array(back.length + front.length);
    spread(back, order, 0);
    spread(front, order, back.length);
    Object.assign(this, { colours, order, back, front });
    this.fill(this.buffers.colours, colours);
    const { gl } = this;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.order);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
    this.redraw();
  }

  setMarks(marks) {
    // Each { x, y, kind, colour }: a "ring" or a "dot" around that place.
    this.marks = marks;
    this.redraw();
  }

  fill(buffer, values) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
  }

  // ---- where one looks

  get width() {
    return this.canvas.clientWidth;
  }

  get height() {
    return this.canvas.clientHeight;
  }

  fitted() {
    const [left, bottom, right, top] = this.bounds ?? [-1, -1, 1, 1];
    const room = (size, extent) => (0.92 * Math.max(size, 1)) / Math.max(extent, 1e-6);
    const scale = Math.min(room(this.width, right - left), room(this.height - TOOLS, top - bottom), 1e5);
    return { x: (left + right) / 2, y: (bottom + top) / 2 + TOOLS / 2 / scale, scale };
  }

  fit() {
    this.whole = true;
    this.look(this.fitted());
  }

  look(view) {
    const least = this.fitted().scale;
    this.view = { ...view, scale: Math.min(Math.max(view.scale, least / 4), least * 4000) };
    this.keepMoving();
    this.redraw();
    this.told.moved?.();
  }

  /** Part of the plane, as `seen` gives it. */
  see({ x, y, span }) {
    this.whole = false;
    this.look({ x, y, scale: this.width / span });
  }

  /** What is seen: the centre and the width, in units of the plane; null for all of it. */
  get seen() {
    return this.whole ? null : { x: this.view.x, y: this.view.y, span: this.width / this.view.scale };
  }

  keepMoving() {
    // A machine that cannot draw all points fast enough draws some of them, from all over, until it stands still.
    clearTimeout(this.moving);
    this.moving = setTimeout(() => {
      this.moving = 0;
      this.last = 0;
      if (this.share < 1) this.redraw();
    }, REST);
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    // About a point of the screen, which stays where it is.
    const [worldX, worldY] = this.toWorld(x, y);
    this.whole = false;
    this.look({ ...this.view, scale: this.view.scale * factor });
    const [movedX, movedY] = this.toWorld(x, y);
    this.look({ ...this.view, x: this.view.x + worldX - movedX, y: this.view.y + worldY - movedY });
  }

  pan(dx, dy) {
    this.whole = false;
    this.look({ ...this.view, x: this.view.x - dx / this.view.scale, y: this.view.y + dy / this.view.scale });
  }

  show(x, y) {
    // Come closer to a place that is out of sight, or too far away to be told from others.
    const [left, top] = this.toScreen(x, y);
    const inside = left > 20 && top > 20 && left < this.width - 20 && top < this.height - 20;
    if (!inside) this.look({ ...this.view, x, y });
  }

  toWorld(x, y) {
    return [this.view.x + (x - this.width / 2) / this.view.scale, this.view.y - (y - this.height / 2) / this.view.scale];
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.view.x) * this.view.scale, this.height / 2 - (y - this.view.y) * this.view.scale];
  }

  // ---- drawing

  resize() {
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.overlay]) {
      canvas.width = Math.max(Math.round(this.width * ratio), 1);
      canvas.height = Math.max(Math.round(this.height * ratio), 1);
    }
    if (this.whole) this.view = this.fitted();
    this.redraw();
    this.told.moved?.();
  }

  redraw() {
    if (this.waiting || !this.gl) return;
    this.waiting = true;
    requestAnimationFrame((now) => {
      this.waiting = false;
      const took = now - this.last;
      if (this.moving && this.last) {
        if (took > SLOW) this.share = Math.max(this.share * 0.6, Math.min(LEAST / (this.count + 1), 1));
        else if (took < FAST) this.share = Math.min(this.share * 1.1, 1);
      }
      this.last = this.moving ? now : 0;
      this.draw();
    });
  }

  diameter() {
    // In pixels of the page: smaller where there are many, larger as one comes closer.
    const base = Math.min(Math.max(10.5 - 1.5 * Math.log10(this.count + 1), 2.2), 8);
    return Math.min(base * Math.max(this.view.scale / this.fitted().scale, 0.3) ** 0.3, 18);
  }

  draw() {
    const { gl } = this;
    const ratio = this.canvas.width / Math.max(this.width, 1);
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (this.order?.length) {
      const { x, y, scale } = this.view;
      gl.uniform2f(this.uniforms.centre, x, y);
      gl.uniform2f(this.uniforms.scale, (2 * scale) / Math.max(this.width, 1), (2 * scale) / Math.max(this.height, 1));
      gl.uniform1f(this.uniforms.size, this.diameter() * ratio + 1);
      const share = this.moving ? this.share : 1;
      gl.drawElements(gl.POINTS, Math.ceil(share * this.back.length), gl.UNSIGNED_INT, 0);
      gl.drawElements(gl.POINTS, Math.ceil(share * this.front.length), gl.UNSIGNED_INT, 4 * this.back.length);
    }
    this.drawOver(ratio);
    this.canvas.dataset.drawn = String(this.order?.length ?? 0);
    this.canvas.dataset.view = JSON.stringify(this.view);
  }

  drawOver(ratio) {
    const pen = this.overlay.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const style = getComputedStyle(this.canvas);
    const rings = this.marks.filter(({ kind }) => kind === "ring").map(({ x, y }) => this.toScreen(x, y));
    for (const { x, y, kind, colour } of this.marks) {
      const [left, top] = this.toScreen(x, y);
      if (kind === "dot" && rings.some(([a, b]) => Math.hypot(a - left, b - top) < 18)) continue; // within the ring
      const radius = kind === "ring" ? 12 : this.diameter() / 2 + 4;
      for (const [width, stroke] of [[kind === "ring" ? 7 : 4, style.backgroundColor], [kind === "ring" ? 3.5 : 2, colour ?? style.color]]) {
        pen.beginPath();
        pen.arc(left, top, radius, 0, 2 * Math.PI);
        pen.lineWidth = width;
        pen.strokeStyle = stroke;
        pen.stroke();
      }
      if (kind === "ring") {
        pen.beginPath();
        pen.arc(left, top, 2.5, 0, 2 * Math.PI);
        pen.fillStyle = colour ?? style.color;
        pen.fill();
      }
    }
    if (!this.path) return;
    pen.beginPath();
    this.path.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](...this.toScreen(x, y)));
    pen.closePath();
    pen.globalAlpha = 0.12;
    pen.fillStyle = style.color;
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.setLineDash([5, 4]);
    pen.strokeStyle = style.color;
    pen.stroke();
    pen.setLineDash([]);
  }

  // ---- which points

  pick(x, y) {
    // The point nearest to a place of the screen, within reach; -1 for none.
    if (!this.cells) return -1;
    const reach = Math.max(NEAR, this.diameter() / 2 + 2);
    const [worldX, worldY] = this.toWorld(x, y);
    let best = -1, least = (reach / this.view.scale) ** 2;
    this.within(worldX - reach / this.view.scale, worldY - reach / this.view.scale, worldX + reach / this.view.scale, worldY + reach / this.view.scale, (point) => {
      const distance = (this.places[2 * point] - worldX) ** 2 + (this.places[2 * point + 1] - worldY) ** 2;
      if (distance <= least) [best, least] = [point, distance];
    });
    return best;
  }

  within(left, bottom, right, top, visit) {
    const { side, starts, members, column, row } = this.cells;
    const [fromX, toX, fromY, toY] = [column(left), column(right), row(bottom), row(top)];
    for (let j = fromY; j <= toY; j++) {
      for (let at = starts[j * side + fromX]; at < starts[j * side + toX + 1]; at++) visit(members[at]);
    }
  }

  inside(path) {
    // Points within a closed line, given in the map's own units.
    const xs = path.map(([x]) => x), ys = path.map(([, y]) => y);
    const found = [];
    this.within(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (point) => {
      const x = this.places[2 * point], y = this.places[2 * point + 1];
      let odd = false;
      for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
        if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) odd = !odd;
      }
      if (odd) found.push(point);
    });
    return found.sort((a, b) => a - b);
  }

  // ---- pointer and keys

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.at(event));
      this.travelled = this.pointers.size > 1 ? Infinity : 0;
      if (this.lassoing && this.pointers.size === 1) this.path = [this.toWorld(...this.at(event))];
      else if (this.path) this.path = null; // a second finger zooms
      this.told.hovered?.(-1, 0, 0);
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = this.at(event);
      const before = this.pointers.get(event.pointerId);
      if (!before) {
        this.told.hovered?.(this.lassoing ? -1 : this.pick(x, y), x, y);
        return;
      }
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      this.pointers.set(event.pointerId, [x, y]);
      this.travelled += Math.hypot(x - before[0], y - before[1]);
      if (others.length) {
        const [other] = others;
        const spread = ([a, b]) => Math.max(Math.hypot(a - other[0], b - other[1]), 1);
        this.zoom(spread([x, y]) / spread(before), (x + other[0]) / 2, (y + other[1]) / 2);
        this.pan((x - before[0]) / 2, (y - before[1]) / 2);
      } else if (this.path) {
        const [lastX, lastY] = this.toScreen(...this.path.at(-1));
        if (Math.hypot(x - lastX, y - lastY) >= 3) this.path.push(this.toWorld(x, y));
        this.redraw();
      } else if (this.travelled > 3) {
        this.pan(x - before[0], y - before[1]);
      }
    });
    const ended = (event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      if (this.path) {
        const path = this.path;
        this.path = null;
        this.redraw();
        if (event.type === "pointerup" && path.length > 2) this.told.enclosed?.(this.inside(path));
      } else if (event.type === "pointerup" && this.travelled <= 3) {
        this.told.picked?.(this.pick(...this.at(event)));
      }
    };
    canvas.addEventListener("pointerup", ended);
    canvas.addEventListener("pointercancel", ended);
    canvas.addEventListener("pointerleave", () => this.told.hovered?.(-1, 0, 0));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * [1, 18, 400][event.deltaMode];
      this.zoom(Math.exp(-Math.min(Math.max(pixels, -250), 250) * 0.002), ...this.at(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const done = {
        ArrowLeft: () => this.pan(STEP, 0), ArrowRight: () => this.pan(-STEP, 0), ArrowUp: () => this.pan(0, STEP), ArrowDown: () => this.pan(0, -STEP),
        "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit(),
        Enter: () => this.told.picked?.(this.pick(this.width / 2, this.height / 2)),
      }[event.key];
      if (!done) return;
      event.preventDefault();
      done();
    });
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      if (!this.places) return;
      this.setPoints(this.places, this.bounds);
      this.setColours(this.colours, this.back, this.front);
    });
  }
}

function spread(points, order, from) {
  // In an order in which any first part of them comes from all over, and none lies on top for standing late in the table.
  const count = points.length;
  let step = Math.max(Math.floor(count * 0.618), 1);
  const common = (a, b) => (b ? common(b, a % b) : a);
  while (common(step, count) > 1) step++;
  for (let i = 0, at = 0; i < count; i++, at = (at + step) % count) order[from + i] = points[at];
}

function cellsOf(places, [left, bottom, right, top]) {
  // Points by the cell of a grid that they lie in, so that those near a place are found at once.
  const count = places.length / 2;
  const side = Math.max(1, Math.min(512, Math.round(Math.sqrt(count / 2))));
  const to = (low, high) => (value) => Math.min(Math.max(Math.floor((side * (value - low)) / Math.max(high - low, 1e-9)), 0), side - 1);
  const column = to(left, right), row = to(bottom, top);
  const cell = new Int32Array(count).fill(-1);
  const starts = new Uint32Array(side * side + 1);
  for (let i = 0; i < count; i++) {
    if (Number.isNaN(places[2 * i])) continue;
    cell[i] = row(places[2 * i + 1]) * side + column(places[2 * i]);
    starts[cell[i] + 1]++;
  }
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const members = new Uint32Array(starts[side * side]);
  const next = starts.slice();
  for (let i = 0; i < count; i++) if (cell[i] >= 0) members[next[cell[i]]++] = i;
  return { side, starts, members, column, row };
}
