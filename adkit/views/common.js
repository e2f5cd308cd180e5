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
    const [cold, hot] = dark ? [[32, 38, 46], [86, 180, 233]] : [[246, 248, 250], [0, 90, 156]]; // Okabe & Ito blue: attention
    const colours = {
      dark,
      cold,
      hot,
      window: mix(cold, hot, 0.15),
      text: read("--jp-ui-font-color1", dark ? "#eeeeee" : "#212121"),
      faint: dark ? "#9aa0a6" : "#5f6368",
      line: dark ? "#5a5f66" : "#c4c9cf",
      back: read("--jp-layout-color0", dark ? "#111111" : "#ffffff"),
      attention: dark ? "#56B4E9" : "#0072B2",
      cursor: dark ? "#FF8A4C" : "#D55E00", // where we are
      reward: "#E69F00",
      good: "#009E73", // start; optimum
    };
    if (node.dataset.dark !== String(dark)) { // for the legends
      node.dataset.dark = dark;
      for (const [name, colour] of Object.entries(colours)) node.style.setProperty(`--ad-${name}`, Array.isArray(colour) ? `rgb(${colour})` : colour);
    }
    return colours;
  }

  const mix = (a, b, share) => `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * share)).join()})`;

  /** A canvas as wide as its box, sharp on any screen; lower if it has a shape and the box is narrow. */
  function canvas(most, label, shape) {
    const node = make("canvas", { role: "img", "aria-label": label });
    node.style.cssText = `width:100%;display:block;${shape ? `aspect-ratio:${shape};max-height:${most}px` : `height:${most}px`}`;
    node.begin = () => {
      const ratio = window.devicePixelRatio || 1;
      const width = node.clientWidth || node.width / ratio; // while JupyterLab hides it, a canvas has no size: keep the last
      const height = node.clientHeight || node.height / ratio;
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

  /** Put controls into a bar, those that views share once into the bar of all; returns what ends them. */
  function fillBar(bar, controls, { group } = {}) {
    for (const [node, , name] of controls) {
      if (!group?.shared.includes(name)) bar.append(node);
      else if (!group.bar.querySelector(`[data-trait=${name}]`)) group.bar.append(node);
      node.dataset.trait = name;
    }
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
    const whose = model.group?.model ?? model;
    const tick = (now) => {
      if (!model.get("playing")) return (frame = 0);
      if (!playing.has(whose)) playing.set(whose, me);
      if (playing.get(whose) === me && now - last >= 1000 / model.get("speed")) {
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
      if (playing.get(whose) === me) playing.delete(whose);
      cancelAnimationFrame(frame);
      model.off("change:playing", start);
    };
  }

  /** The last step of an episode, for who moves the clock: of all views that share it, the one that goes on longest. */
  function slowest(model, last) {
    const all = (model.group ?? {}).lasts ?? [];
    all.push(last);
    return (episode) => Math.min(model.group?.limits.step ?? Infinity, Math.max(last(episode), ...all.map((other) => other(episode))));
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
    last = Math.min(last, model.group?.limits[name] ?? last);
    const node = make("input", { type: "range", min: 0, max: last, step, "aria-label": label, className: `ad-${name}` });
    const value = make("output", {});
    const show = (v) => {
      node.value = v;
      value.textContent = text(v);
    };
    const end = tie(model, node, name, { read: () => Number(node.value), show });
    return [make("label", {}, `${label} `, node, value), end, name];
  }

  function select(model, name, choices) {
    const node = make("select", { "aria-label": name, className: `ad-${name}` });
    choices.forEach(([value, text, disabled = false]) => node.append(make("option", { value: JSON.stringify(value), textContent: text, disabled })));
    const end = tie(model, node, name, { read: () => JSON.parse(node.value), show: (v) => (node.value = JSON.stringify(v)) });
    return [make("label", {}, `${name} `, node), end, name];
  }

  /** A play button, and one slider over all steps of all episodes, with a mark where each episode begins. `last(e)` is an episode's last step, `called(e)` its number. */
  function timeline(model, episodes, last, called) {
    const node = make("input", { type: "range", min: 0, step: 1, "aria-label": "time", className: "ad-time" });
    const marks = canvas(14, "");
    const value = make("output", {});
    let begins = [];
    const at = () => {
      const e = clamp(model.get("episode"), episodes - 1);
      return [e, clamp(model.get("step"), last(e))];
    };
    const show = () => {
      begins = [0];
      for (let e = 0; e < episodes; e++) begins.push(begins[e] + last(e) + 1);
      const [e, t] = at();
      node.max = begins[episodes] - 1;
      node.value = begins[e] + t;
      value.textContent = `episode ${called(e)}, step ${t}`;
      value.style.minWidth = `${`episode ${called(episodes - 1)}, step 99`.length}ch`;
      node.setAttribute("aria-valuetext", value.textContent);
    };
    const draw = () => {
      const [ctx, width] = marks.begin();
      const colours = theme(marks);
      ctx.fillStyle = colours.faint;
      ctx.textAlign = "center";
      const x = (e) => 8 + ((width - 16) * begins[e]) / Math.max(1, begins[episodes] - 1); // as the thumb moves, 16 pixels wide
      const apart = (width - 16) / episodes;
      const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((n) => n * apart > 28) || episodes;
      for (let e = 0; e < episodes; e++) {
        const named = e % every === 0;
        if (named || apart > 3) ctx.fillRect(x(e), 0, 1, named ? 4 : 2);
        if (named) ctx.fillText(called(e), x(e), 9);
      }
    };
    node.oninput = () => {
      const e = begins.findLastIndex((begin, i) => i < episodes && begin <= Number(node.value));
      set(model, { episode: e, step: Number(node.value) - begins[e] });
    };
    const names = ["change:episode", "change:step", "change:data"];
    names.forEach((name) => model.on(name, show));
    show();
    const unwatch = watch(marks, draw);
    const end = () => {
      names.forEach((name) => model.off(name, show));
      unwatch();
      endButton();
    };
    const [button, endButton] = playButton(model);
    return [make("span", { className: "time" }, button, make("span", { className: "track" }, node, marks), value), end, "episode"];
  }

  /** Call with the place across a canvas, 0 to its width, on a click and while it is dragged. */
  function dragged(node, call) {
    node.classList.add("click");
    node.onpointerdown = (event) => {
      node.setPointerCapture(event.pointerId);
      call(event.offsetX);
    };
    node.onpointermove = (event) => event.buttons & 1 && call(event.offsetX);
  }

  /** What the colours of a panel mean, in words: [shape, colour, meaning] each, or a plain sentence. */
  function legend(...entries) {
    const one = (entry) => {
      if (typeof entry === "string") return make("span", {}, entry);
      const [shape, colour, meaning] = entry;
      const swatch = make("i", { className: shape });
      swatch.style.setProperty("--c", `var(--ad-${colour})`);
      return make("span", {}, swatch, meaning);
    };
    return make("div", { className: "legend" }, ...entries.map(one));
  }

  function checkbox(model, name, text) {
    const node = make("input", { type: "checkbox", "aria-label": text, className: `ad-${name}` });
    const end = tie(model, node, name, { read: () => node.checked, show: (v) => (node.checked = v) });
    return [make("label", {}, node, ` ${text}`), end, name];
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
    return [node, () => model.off("change:playing", show), "playing"];
  }

  // ---- lifetimes ----

  /** Which lifetimes can be shown, in order: all where there is a kernel, else those that the page holds. */
  const there = (model) => model.get("lifetimes").map((_, n) => n).filter((n) => !model.offline || (model.group?.kept.includes(n) ?? model.get("kept")[n]));

  /** The control that picks a lifetime, by name, or the one before or after; none if there is but one. */
  function picker(model) {
    const names = model.get("lifetimes");
    if (names.length < 2) return [];
    if (model.offline) model.get("kept")[model.get("lifetime")] ||= model.get("data");
    const can = there(model);
    const [label, end] = select(model, "lifetime", names.map((name, n) => [n, can.includes(n) ? name : `${name} (needs a kernel)`, !can.includes(n)]));
    const go = (text, title, next) => {
      const node = make("button", { type: "button", textContent: text, title, "aria-label": title });
      node.onclick = () => {
        const n = next(model.get("lifetime"));
        if (n !== undefined) set(model, { lifetime: n });
      };
      return node;
    };
    const before = go("‹", "previous lifetime", (now) => can.findLast((n) => n < now));
    const after = go("›", "next lifetime", (now) => can.find((n) => n > now));
    const count = can.length < names.length ? `${can.length} of ${names.length} are kept here, the others need a kernel` : `of ${names.length}`;
    return [[make("span", { className: "picker" }, label, before, after, make("span", { className: "note" }, count)), end, "lifetime"]];
  }

  /** Keep the data of a view that of the lifetime picked: from the page, or as the kernel sends it. Meanwhile, say so. */
  function follows(model, view) {
    const note = make("p", { className: "wait", role: "status" });
    view.querySelector(".panels")?.before(note);
    let late = 0;
    const say = (text) => (note.textContent = text && `${model.get("lifetimes")[model.get("lifetime")]}: ${text}`);
    const changed = async () => {
      const picked = model.get("lifetime");
      const done = model.get("data").lifetime === picked;
      clearTimeout(late);
      view.classList.toggle("waiting", !done);
      if (done) return say("");
      const kept = model.offline && model.get("kept")[picked];
      if (model.offline && !kept) return say("this page does not hold it; run the cell, with a kernel, to see it");
      say("one moment …");
      if (!kept) late = setTimeout(() => say("the kernel has not sent it yet: it is busy, or gone, and then run the cell again"), 5000);
      const data = typeof kept === "string" ? await unpack(kept) : kept;
      if (data && model.get("lifetime") === picked) model.set("data", data);
    };
    const names = ["change:lifetime", "change:data"];
    names.forEach((name) => model.on(name, changed));
    changed();
    return () => {
      clearTimeout(late);
      names.forEach((name) => model.off(name, changed));
    };
  }

  const speeds = [2, 5, 10, 20, 50].map((n) => [n, `${n} steps/s`]);

  /** The box of a view: reachable by keyboard, with JupyterLab's own shortcuts kept out. */
  function root(el, name, keys, { group } = {}) {
    if (group) for (const key in keys) group.keys[key] ??= keys[key];
    const node = make("div", { className: `adkit-view ${name}`, tabIndex: 0, role: "group", "aria-label": name });
    node.dataset.lmSuppressShortcuts = "true";
    node.addEventListener("keydown", (event) => {
      const key = keys[event.key];
      const typing = ["SELECT", "BUTTON"].includes(event.target.tagName) || event.target.type === "checkbox";
      const arrows = event.target.type === "range" && event.target.className !== "ad-time" && event.key.startsWith("Arrow");
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
    .adkit-view .bar:empty { display: none }
    .adkit-view label { display: inline-flex; flex-wrap: wrap; gap: 4px; align-items: center }
    .adkit-view output { min-width: 3.2ch; font-variant-numeric: tabular-nums }
    .adkit-view { container-type: inline-size }
    .adkit-view .panels { display: grid; gap: 10px 18px; align-items: start; grid-template-columns: repeat(var(--columns, 4), minmax(0, 280px)) }
    .adkit-view .panels > div { min-width: 0 }
    .adkit-view select { max-width: min(100%, 34ch) }
    .adkit-view .picker { display: inline-flex; flex-wrap: wrap; gap: 4px; align-items: center }
    .adkit-view .note, .adkit-view .wait { opacity: .75 }
    .adkit-view .wait:empty { display: none }
    .adkit-view.waiting > .panels { opacity: .15 }
    .adkit-view.waiting > .say { visibility: hidden }
    .adkit-view .time { display: flex; flex: 1 1 100%; align-items: start; gap: 8px }
    .adkit-view .track { flex: 1 1 auto; min-width: 0 }
    .adkit-view .track input { display: block; width: 100%; margin: 0 }
    .adkit-view .time output { white-space: nowrap }
    .adkit-view .legend { font-size: 11px; line-height: 1.5; display: flex; flex-wrap: wrap; gap: 0 10px; margin-top: 3px }
    .adkit-view .legend > span { white-space: normal }
    .adkit-view .legend i { display: inline-block; box-sizing: border-box; width: 10px; height: 10px; margin-right: 4px; vertical-align: -1px; background: var(--c) }
    .adkit-view .legend i.ramp { width: 26px; background: linear-gradient(90deg, var(--ad-cold), var(--c)) }
    .adkit-view .legend i.dot, .adkit-view .legend i.ring { border-radius: 50% }
    .adkit-view .legend i.ring, .adkit-view .legend i.box { background: none; border: 2px solid var(--c) }
    .adkit-view .legend i.small { width: 5px; height: 5px; vertical-align: 1px }
    .adkit-view .legend i.line { width: 14px; height: 2px; vertical-align: 3px }
    .adkit-view .legend i.dashed { width: 16px; height: 0; background: none; border-top: 2px dashed var(--c); vertical-align: 3px }
    .adkit-view .legend i.upright { width: 0; background: none; border-left: 2px dotted var(--c) }
    .adkit-view .legend i.triangle { clip-path: polygon(50% 0, 100% 100%, 0 100%) }
    .adkit-view.SideBySide { max-width: none }
    .adkit-view.SideBySide > .panels { grid-template-columns: repeat(auto-fit, minmax(min(100%, 500px), 1fr)) }
    .SideBySide > .panels > div > h3 { font: 600 14px system-ui, sans-serif; margin: 0 0 4px }
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

  /** What Python's `compressed` packed, with its arrays as bytes. */
  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return revive(await new Response(stream).json());
  }

  function revive(value) {
    if (Array.isArray(value)) return value.map(revive);
    if (value && typeof value === "object") {
      if ("base64" in value) return new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, revive(part)]));
    }
    return value;
  }

  /** The part of a widget's model that views use, for a page without a kernel. */
  function offline(values) {
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
    const state = await unpack(packed);
    let end;
    const render = (model) => {
      if (end) end();
      place.replaceChildren();
      end = view.render({ model, el: place });
    };
    if (!widgets.has(state.key)) render(offline(state));
    whenThere(state.key, render);
  }

  /** Call with a widget as soon as there is one of this key. */
  function whenThere(key, call) {
    if (widgets.has(key)) call(widgets.get(key));
    else waiting.set(key, [...(waiting.get(key) || []), call]);
  }

  const kinds = {}; // front ends by the name of their class, for views within a view

  return {
    array, canvas, checkbox, clamp, clock, dragged, extent, fillBar, follow, follows, grid, initialize, kinds, legend, make, mix, offline, parts, picker,
    playButton, publish, root, room, select, set, short, show, showing, slider, slowest, speeds, theme, timeline, whenThere,
  };
})();
