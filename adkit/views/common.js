// Shared by every view; Python puts it in front of the view's own module. Plain JavaScript: no bundler, nothing from the network.

const adkit = (() => {
  const ARRAYS = { uint8: Uint8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };

  /** A typed array from what Python's `packed` sent. */
  function array({ dtype, bytes }) {
    const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength); // aligned
    return new ARRAYS[dtype](copy);
  }

  /** An element with properties and children; text is always text, never markup. */
  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node) node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  /** Colours of JupyterLab's theme, or of the reader's system outside it. */
  function theme(node) {
    const flag = document.body.dataset.jpThemeLight;
    const dark = flag ? flag === "false" : matchMedia("(prefers-color-scheme: dark)").matches;
    const css = getComputedStyle(node);
    const read = (name, fallback) => css.getPropertyValue(name).trim() || fallback;
    return {
      dark,
      text: read("--jp-ui-font-color1", dark ? "#eeeeee" : "#212121"),
      faint: dark ? "#9aa0a6" : "#5f6368",
      line: dark ? "#5a5f66" : "#c4c9cf",
      back: read("--jp-layout-color0", dark ? "#111111" : "#ffffff"),
      cold: dark ? [32, 38, 46] : [246, 248, 250],
      hot: dark ? [86, 180, 233] : [0, 90, 156], // Okabe & Ito blue: attention
      attention: dark ? "#56B4E9" : "#0072B2",
      cursor: dark ? "#FF8A4C" : "#D55E00", // where we are
      reward: "#E69F00",
      good: "#009E73", // start; optimum
    };
  }

  const mix = (a, b, share) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * share)).join()})`;

  /** A canvas as wide as its box, sharp on any screen. */
  function canvas(height, label) {
    const node = make("canvas", { role: "img", "aria-label": label });
    node.style.cssText = `width:100%;height:${height}px;display:block`;
    node.begin = () => {
      const ratio = window.devicePixelRatio || 1;
      const width = node.clientWidth || node.width / ratio; // while JupyterLab hides it, a canvas has no width: keep the last
      if (node.width !== Math.round(width * ratio)) node.width = Math.round(width * ratio);
      if (node.height !== Math.round(height * ratio)) node.height = Math.round(height * ratio);
      const ctx = node.getContext("2d");
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      ctx.clearRect(0, 0, width, height);
      ctx.font = "11px system-ui, sans-serif";
      ctx.textBaseline = "middle";
      return [ctx, width, height];
    };
    return node;
  }

  // ---- glyphs: lines around (0, 0), in cells; y points down ----

  const circle = (x, y, radius) => Array.from({ length: 49 }, (_, i) => [x + radius * Math.cos((i * Math.PI) / 24), y + radius * Math.sin((i * Math.PI) / 24)]);
  const square = (left, top, right, bottom) => [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]];
  const target = [square(-0.38, -0.38, 0.38, 0.38)];
  const GLYPHS = {
    goal: target,
    best: target,
    key: [circle(-0.2, 0, 0.16), [[-0.04, 0], [0.38, 0], [0.38, 0.16]], [[0.22, 0], [0.22, 0.13]]],
    door: [square(-0.24, -0.4, 0.24, 0.4), circle(0.12, 0.03, 0.04)],
    home: [[[-0.36, 0.4], [-0.36, -0.05], [0, -0.42], [0.36, -0.05], [0.36, 0.4], [-0.36, 0.4]]],
    jar: [[[-0.2, -0.2], [-0.3, -0.1], [-0.3, 0.4], [0.3, 0.4], [0.3, -0.1], [0.2, -0.2]]],
    garden: [[[0, 0.4], [0, -0.1]], [[-0.3, -0.15], [0, 0.15], [0.3, -0.15]], [[-0.2, -0.4], [0, -0.1], [0.2, -0.4]]],
    "lid open": [[[-0.24, -0.26], [0.16, -0.46]]],
    "lid closed": [[[-0.24, -0.26], [0.24, -0.26]], [[-0.06, -0.26], [-0.06, -0.34], [0.06, -0.34], [0.06, -0.26]]],
    cookies: [circle(-0.12, 0.26, 0.09), circle(0.12, 0.26, 0.09), circle(0, 0.06, 0.09)],
    gift: [square(0.05, 0.1, 0.32, 0.36), [[0.185, 0.36], [0.185, 0.1], [0.1, 0], [0.27, 0], [0.185, 0.1]]],
    hide: [square(-0.3, 0.14, -0.02, 0.36), [[-0.24, 0.14], [-0.24, 0], [-0.08, 0], [-0.08, 0.14]]],
  };

  /** The lines of a mark; the Watermaze's platform is a circle of its true radius. */
  function glyph({ name, x, y, radius }) {
    const lines = name === "platform" ? [circle(0, 0, radius)] : GLYPHS[name];
    return lines.map((line) => line.map(([dx, dy]) => [x + dx, y + dy]));
  }

  /** What a checkbox that reveals marks says. */
  const showing = (marks) => `show ${[...new Set(marks.map(({ name }) => (name === "best" ? "best arm" : name)))].join(" and ")}`;

  /** A room: what cells look like, the way so far, and where one stands. `fill(x, y)` is a colour or nothing. */
  function room(ctx, box, spec, colours) {
    const { kind, columns, rows, fill, visits, path, marks, heading, counts } = spec;
    const unit = Math.floor(Math.min(box.width / columns, box.height / rows));
    const left = box.left + (box.width - unit * columns) / 2;
    const centre = ([x, y]) => [left + (x + 0.5) * unit, box.top + (y + 0.5) * unit];
    for (let x = 0; x < columns; x++) {
      for (let y = 0; y < rows; y++) {
        if (kind === "round" && Math.hypot(x + 0.5 - columns / 2, y + 0.5 - rows / 2) > columns / 2) continue;
        ctx.fillStyle = (fill && fill(x, y)) || mix(colours.cold, colours.hot, 0);
        ctx.fillRect(left + x * unit, box.top + y * unit, unit - 1, unit - 1);
        const seen = visits ? visits[x * rows + y] : 0;
        if (seen > 0) {
          ctx.fillStyle = colours.faint;
          ctx.globalAlpha = 0.25 + 0.6 * seen;
          const size = Math.max(2, unit * 0.14);
          ctx.fillRect(left + (x + 1) * unit - size - 3, box.top + (y + 1) * unit - size - 3, size, size);
          ctx.globalAlpha = 1;
        }
      }
    }
    const draw = (points, colour, width) => {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width;
      ctx.beginPath();
      points.forEach((point, i) => ctx[i ? "lineTo" : "moveTo"](...centre(point)));
      ctx.stroke();
    };
    if (kind === "round") {
      ctx.strokeStyle = colours.line;
      ctx.lineWidth = 2;
      ctx.beginPath();
      ctx.arc(left + (columns * unit) / 2, box.top + (rows * unit) / 2, (columns * unit) / 2 - 1, 0, 2 * Math.PI);
      ctx.stroke();
    }
    for (const mark of marks) glyph(mark).forEach((line) => draw(line, colours.reward, 3));
    if (counts) {
      ctx.fillStyle = colours.text;
      ctx.textAlign = "center";
      counts.forEach((n, i) => ctx.fillText(n, ...centre([Math.floor(i / rows), (i % rows) + 0.9])));
      ctx.textAlign = "start";
    }
    const way = path.filter(([x]) => x >= 0); // before the first pull there is no arm
    if (!way.length) return unit;
    draw(way, colours.text, 2);
    const size = kind === "round" ? 2 : 1; // cells of a round room are small
    const ring = (cell, radius, colour, filled) => {
      ctx.beginPath();
      ctx.arc(...centre(cell), unit * size * radius, 0, 2 * Math.PI);
      ctx.lineWidth = 3;
      ctx.strokeStyle = ctx.fillStyle = colour;
      if (filled) ctx.fill();
      else ctx.stroke();
    };
    const now = way[way.length - 1];
    ring(way[0], 0.26, colours.good, false);
    if (heading != null) draw([now, [now[0] + 1.4 * Math.cos(heading), now[1] - 1.4 * Math.sin(heading)]], colours.cursor, 4);
    ring(now, 0.2, colours.back, true);
    ring(now, 0.15, colours.cursor, true);
    return unit;
  }

  /** Call `draw` before the next frame, once, however often it was asked for. */
  function once(draw) {
    let asked = 0;
    const ask = () => {
      asked ||= requestAnimationFrame(() => {
        asked = 0;
        draw();
      });
    };
    ask.stop = () => cancelAnimationFrame(asked);
    return ask;
  }

  /** Redraw when the theme or the width changes, or the view comes into sight; returns what ends it. */
  function watch(node, draw) {
    const changes = new MutationObserver(draw);
    changes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
    const sizes = new ResizeObserver(draw);
    sizes.observe(node);
    const sight = new IntersectionObserver(draw);
    sight.observe(node);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", draw);
    return () => {
      changes.disconnect();
      sizes.disconnect();
      sight.disconnect();
      system.removeEventListener("change", draw);
    };
  }

  /** Redraw when one of these traits changes, after `settle`, or what `watch` sees; returns how to redraw, and what ends it. */
  function follow(model, view, traits, draw, settle = () => {}) {
    const redraw = once(draw);
    const changed = () => {
      settle();
      redraw();
    };
    traits.forEach((name) => model.on(`change:${name}`, changed));
    const unwatch = watch(view, redraw);
    const end = () => {
      traits.forEach((name) => model.off(`change:${name}`, changed));
      unwatch();
      redraw.stop();
    };
    return [redraw, end];
  }

  /** Publish what is drawn: as a sentence, and as numbers on the element of the view. */
  function publish(view, say, text, shown) {
    if (say.textContent !== text) say.textContent = text;
    view.dataset.shown = JSON.stringify(shown);
    view.dataset.frames = Number(view.dataset.frames || 0) + 1;
  }

  /** The grid of a view's panels, of so many columns where there is room; common.js has its rules. */
  function grid(columns) {
    const panels = make("div", { className: "panels" });
    panels.style.setProperty("--columns", columns);
    return panels;
  }

  /** The parts of a view with controls: their bar, its panels, and a sentence on what is shown. */
  function parts(view, columns) {
    const bar = make("div", { className: "bar" });
    const panels = grid(columns);
    const say = make("p", { className: "say", "aria-live": "polite" });
    view.append(bar, panels, say);
    return { bar, panels, say };
  }

  /** Put controls into a bar; returns what ends them. */
  function fillBar(bar, controls) {
    controls.forEach(([node]) => bar.append(node));
    return () => controls.forEach(([, end]) => end());
  }

  /** A whole number from 0 to the last one. */
  const clamp = (v, last) => Math.max(0, Math.min(last, v));

  /** A number as a person would write it. */
  function short(v) {
    if (v === 0) return "0";
    if (Math.abs(v) < 0.01) return v.toExponential(1);
    return Math.abs(v) >= 100 ? String(Math.round(v)) : String(Number(v.toPrecision(3)));
  }

  /** Least and most of several arrays, 0 included, never the same. */
  function extent(arrays) {
    let [low, top] = [0, 0];
    for (const values of arrays) for (const v of values) [low, top] = [Math.min(low, v), Math.max(top, v)];
    return [low, top > low ? top : low + 1];
  }

  const playing = new WeakMap(); // which of a widget's views keeps its clock: one, or it would run twice as fast

  /** Play: `step()` so many times a second while `playing`. */
  function clock(model, step) {
    let last = 0;
    let frame = 0;
    const me = {};
    const tick = (now) => {
      if (!model.get("playing")) return (frame = 0);
      if (!playing.has(model)) playing.set(model, me);
      if (playing.get(model) === me && now - last >= 1000 / model.get("speed")) {
        last = now;
        step();
      }
      frame = requestAnimationFrame(tick);
    };
    const start = () => {
      frame ||= requestAnimationFrame(tick);
    };
    model.on("change:playing", start);
    start();
    return () => {
      if (playing.get(model) === me) playing.delete(model);
      cancelAnimationFrame(frame);
      model.off("change:playing", start);
    };
  }

  function set(model, values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  }

  /** A control tied both ways to a trait of the model. */
  function tie(model, node, name, { read, show }) {
    const update = () => show(model.get(name));
    node.addEventListener("input", () => set(model, { [name]: read() }));
    model.on(`change:${name}`, update);
    update();
    return () => model.off(`change:${name}`, update);
  }

  /** A slider from 0 to the last value of a trait; `text` says what its value means. */
  function slider(model, name, last, { label = name, step = 1, text = String } = {}) {
    const node = make("input", { type: "range", min: 0, max: last, step, "aria-label": label, className: `ad-${name}` });
    const value = make("output", {});
    const show = (v) => {
      node.value = v;
      value.textContent = text(v);
    };
    const end = tie(model, node, name, { read: () => Number(node.value), show });
    return [make("label", {}, `${label} `, node, value), end];
  }

  function select(model, name, choices) {
    const node = make("select", { "aria-label": name, className: `ad-${name}` });
    choices.forEach(([value, text]) => node.append(make("option", { value: JSON.stringify(value), textContent: text })));
    const end = tie(model, node, name, { read: () => JSON.parse(node.value), show: (v) => (node.value = JSON.stringify(v)) });
    return [make("label", {}, `${name} `, node), end];
  }

  function checkbox(model, name, text) {
    const node = make("input", { type: "checkbox", "aria-label": text, className: `ad-${name}` });
    const end = tie(model, node, name, { read: () => node.checked, show: (v) => (node.checked = v) });
    return [make("label", {}, node, ` ${text}`), end];
  }

  function playButton(model) {
    const node = make("button", { type: "button", className: "ad-playing" });
    const show = () => {
      const playing = model.get("playing");
      node.textContent = playing ? "⏸ pause" : "▶ play";
      node.setAttribute("aria-pressed", playing);
    };
    node.onclick = () => set(model, { playing: !model.get("playing") });
    model.on("change:playing", show);
    show();
    return [node, () => model.off("change:playing", show)];
  }

  const speeds = [2, 5, 10, 20, 50].map((n) => [n, `${n} steps/s`]);

  /** The box of a view: reachable by keyboard, with JupyterLab's own shortcuts kept out. */
  function root(el, name, keys) {
    const node = make("div", { className: `adkit-view ${name}`, tabIndex: 0, role: "group", "aria-label": name });
    node.dataset.lmSuppressShortcuts = "true";
    node.addEventListener("keydown", (event) => {
      const key = keys[event.key];
      const typing = ["SELECT", "BUTTON"].includes(event.target.tagName) || event.target.type === "checkbox";
      const arrows = event.target.type === "range" && event.key.startsWith("Arrow");
      if (!key || typing || arrows) return;
      event.preventDefault();
      event.stopPropagation();
      key();
    });
    node.append(make("style", { textContent: STYLE }));
    el.append(node);
    return node;
  }

  const STYLE = `
    .adkit-view { color: var(--jp-ui-font-color1, inherit); font: 13px system-ui, sans-serif; max-width: 1060px; outline-offset: 4px }
    .adkit-view .bar { display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; margin: 4px 0 8px }
    .adkit-view label { display: inline-flex; flex-wrap: wrap; gap: 4px; align-items: center }
    .adkit-view output { min-width: 3.2ch; font-variant-numeric: tabular-nums }
    .adkit-view { container-type: inline-size }
    .adkit-view .panels { display: grid; gap: 10px 18px; align-items: start; grid-template-columns: repeat(var(--columns, 4), minmax(0, 280px)) }
    .adkit-view .panels > div { min-width: 0 }
    .EpisodeAttention .panels { grid-template: "room returns heads" "room masses heads" "strip strip actions" / minmax(230px, 300px) minmax(280px, 1fr) minmax(190px, 300px) }
    @container (max-width: 735px) {
      .adkit-view .panels { grid-template-columns: repeat(min(2, var(--columns, 4)), minmax(0, 320px)) }
      .EpisodeAttention .panels { grid-template: "room returns" "room masses" "strip strip" "heads actions" / minmax(0, 43%) minmax(0, 1fr) }
    }
    @container (max-width: 440px) {
      .adkit-view .panels { grid-template-columns: minmax(0, 1fr) }
      .EpisodeAttention .panels { grid-template: "room" "returns" "masses" "strip" "heads" "actions" / minmax(0, 1fr) }
    }
    .adkit-view h4 { font: 600 12px system-ui, sans-serif; margin: 0 0 3px }
    .adkit-view .say { min-height: 1.4em; margin: 6px 0 0 }
    .adkit-view canvas.click { cursor: pointer }
    .adkit-view:focus-visible { outline: 2px solid #0072B2 }`;

  /** The part of a widget's model that views use, for a page without a kernel. */
  function offline(state) {
    const revive = (value) => {
      if (Array.isArray(value)) return value.map(revive);
      if (value && typeof value === "object") {
        if ("base64" in value) return new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
        return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, revive(part)]));
      }
      return value;
    };
    const values = revive(state);
    const heard = {};
    return {
      offline: true,
      get: (name) => values[name],
      set(name, value) {
        if (values[name] === value) return;
        values[name] = value;
        (heard[`change:${name}`] || []).forEach((call) => call());
      },
      save_changes() {},
      send() {},
      on(names, call) {
        names.split(" ").forEach((name) => (heard[name] ||= []).push(call));
      },
      off(names, call) {
        names.split(" ").forEach((name) => (heard[name] = (heard[name] || []).filter((other) => other !== call)));
      },
    };
  }

  // ---- with a kernel and without ----

  // Widgets that a kernel keeps, and who waits for one, by key; shared by all outputs of a page.
  const { widgets, waiting } = (globalThis.adkitWidgets ??= { widgets: new Map(), waiting: new Map() });

  /** Tell saved outputs that their widget is there; anywidget calls it when a widget is made. */
  function initialize({ model }) {
    const key = model.get("key");
    widgets.set(key, model);
    (waiting.get(key) || []).forEach((call) => call(model));
    return () => widgets.delete(key);
  }

  /** Render a view from the state that its output holds, and again when its widget is there. */
  async function show(place, view, packed) {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const state = await new Response(stream).json();
    let end;
    const render = (model) => {
      if (end) end();
      place.replaceChildren();
      end = view.render({ model, el: place });
    };
    const widget = widgets.get(state.key);
    render(widget || offline(state));
    if (!widget) waiting.set(state.key, [...(waiting.get(state.key) || []), render]);
  }

  return {
    array, canvas, checkbox, clamp, clock, extent, fillBar, follow, grid, initialize, make, mix, parts, playButton, publish, root, room, select, set, short,
    show, showing, slider, speeds, theme,
  };
})();
