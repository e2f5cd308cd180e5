// EpisodeAttention: what one decision looks back at, over episodes. `views/attention.py` says what each array holds.

function render({ model, el }) {
  const { clamp, make, set } = adkit;
  let data = model.get("data");
  const { episodes: E, horizon: H, window: W, layers: L, heads, actions: A, kind } = data;
  const [columns, rows] = kind === "arms" ? [0, 0] : [data.columns, data.rows]; // arms are no room to look back at
  if (!E) {
    el.append(make("p", { className: "adkit-view" }, "This lifetime has no episodes: there is nothing to look back at."));
    return;
  }
  let optimum, random, marks, numbers, lengths, starts, returns, cells, rewards, taken, chances, pooled, pooledScale, full, fullScale, whole;
  const fetched = new Map(); // rows the kernel has sent, by "lifetime/episode/step"
  let thumbnails = { dark: null, pictures: [] };

  /** Take the arrays of the lifetime that is there now. */
  function load() {
    data = model.get("data");
    ({ optimum, random } = data);
    marks = columns ? data.marks.filter(({ when }) => !when) : [];
    const get = (name) => adkit.array(data[name]);
    [numbers, lengths, starts, returns, cells, rewards, taken, chances] = ["numbers", "lengths", "starts", "returns", "cells", "rewards", "taken", "chances"].map(get);
    [pooled, pooledScale, full, fullScale] = ["pooled", "pooled_scale", "full", "full_scale"].map(get);
    whole = full.length > 0;
    fetched.clear();
    thumbnails = { dark: null, pictures: [] };
  }
  load();
  model.on("change:data", load);
  const ends = new Set([() => model.off("change:data", load)]); // what to undo when the view goes away
  const P = H + 1; // tokens of an episode
  const S = W * P; // tokens of a window
  const maps = heads + 2; // every head, their mean, attention rollout
  const headName = (h) => (h < heads ? `head ${h}` : h === heads ? "mean of heads" : "rollout");

  // ---- numbers ----

  function cursor() {
    const e = clamp(model.get("episode"), E - 1);
    const layer = clamp(model.get("layer"), L - 1);
    const head = clamp(model.get("head"), maps - 1);
    return { e, t: clamp(model.get("step"), lengths[e] - 1), layer, head, map: layer * maps + head, start: starts[e] };
  }

  /** Tokens a decision can see in each episode of its window. */
  const seen = ({ e, t, start }) => Array.from({ length: e - start + 1 }, (_, w) => (start + w < e ? lengths[start + w] + 1 : t + 1));

  /** Attention mass (raw or over uniform) of each episode of the window. */
  function masses(c) {
    const tokens = seen(c);
    const all = tokens.reduce((a, b) => a + b, 0);
    const at = ((c.e * H + c.t) * L * maps + c.map) * W;
    const raw = tokens.map((_, w) => (pooled[at + w] * pooledScale[c.map]) / 255);
    const uniform = tokens.map((n) => n / all);
    const normalised = model.get("normalised");
    return { raw, uniform, all, shown: normalised ? raw.map((m, w) => m / uniform[w]) : raw };
  }

  /** Attention on each token of the window, or null while the kernel is asked. */
  function row(c) {
    if (whole) {
      const at = ((c.e * H + c.t) * L * maps + c.map) * S;
      const values = new Float32Array(S);
      for (let k = 0; k < S; k++) values[k] = (full[at + k] * fullScale[c.map]) / 255;
      return values;
    }
    const known = fetched.get(`${data.lifetime}/${c.e}/${c.t}`);
    return known ? known.subarray(c.map * S, (c.map + 1) * S) : null;
  }

  /** The episode whose steps are shown: the one chosen, else the one attended to most. */
  function attended(c, shown) {
    const chosen = model.get("attended");
    if (chosen >= c.start && chosen <= c.e) return chosen;
    let best = 0;
    for (let w = 1; w < shown.length; w++) if (shown[w] > shown[best]) best = w;
    return c.start + best;
  }

  const cell = (e, t) => [Math.round(cells[2 * (e * P + t)]), Math.round(cells[2 * (e * P + t) + 1])];
  const scaled = (share) => (model.get("logarithmic") ? Math.log1p(99 * clamp(share, 1)) / Math.log(100) : clamp(share, 1));
  const short = adkit.short;

  // ---- panels ----

  const view = adkit.root(el, "EpisodeAttention", {
    ArrowLeft: () => move(-1),
    ArrowRight: () => move(1),
    ArrowUp: () => jump(model.get("episode") - 1),
    ArrowDown: () => jump(model.get("episode") + 1),
    " ": () => set(model, { playing: !model.get("playing") }),
    "[": () => choose(-1),
    "]": () => choose(1),
    Escape: () => set(model, { attended: -1 }),
  }, model);
  const { bar, panels, say } = adkit.parts(view, 3);

  const controls = [
    ...adkit.picker(model),
    adkit.slider(model, "episode", E - 1),
    adkit.slider(model, "step", H - 1),
    adkit.playButton(model),
    adkit.select(model, "speed", adkit.speeds),
    adkit.select(model, "layer", Array.from({ length: L }, (_, l) => [l, String(l)])),
    adkit.select(model, "head", Array.from({ length: maps }, (_, h) => [h, headName(h)])),
    adkit.checkbox(model, "normalised", "relative to uniform attention"),
    adkit.checkbox(model, "logarithmic", "log"),
    ...(marks.length ? [adkit.checkbox(model, "show_goal", adkit.showing(marks))] : []),
  ];
  ends.add(adkit.fillBar(bar, controls, model));
  ends.add(adkit.follows(model, view));

  function panel(title, height, area, meanings, shape) {
    const heading = make("h4", {}, title);
    const canvas = adkit.canvas(height, title, shape);
    const box = make("div", {}, heading, canvas, adkit.legend(...meanings));
    box.style.gridArea = area;
    panels.append(box);
    return { heading, canvas, box };
  }
  const headsHeight = Math.min(300, 34 + 44 * L);
  const attention = ["ramp", "hot", "attention"];
  const now = ["dot", "cursor", "now"];
  const uniform = ["line", "text", "if uniform"];
  const reward = ["triangle", "reward", "reward"];
  const hidden = marks.length ? [["box", "reward", adkit.showing(marks).replace("show ", "") + ", if shown"]] : [];
  const roomMeans = [["ramp", "hot", "attention on what was seen there"], now, ["ring", "good", "start"], ["line", "text", "way so far"], ["small", "faint", "earlier visits"], ...hidden];
  const room = panel("room", columns ? 292 : 30, "room", columns ? roomMeans : [], columns ? columns / rows : undefined);
  const returnsPanel = panel("return per episode", 118, "returns", [now, ["", "window", "what this decision can see"], "click or drag to jump"]);
  const massPanel = panel("attention per episode", 138, "masses", [["", "attention", "attention"], uniform, reward, ["box", "cursor", "steps shown below (click)"]]);
  const headsPanel = panel("layers × heads", headsHeight, "heads", [attention, ["box", "cursor", "selected (click)"], "row: layer", "column: head, mean, or attention rollout", "inside, down: the episode that decides", "across: how many episodes back"]);
  const strip = panel("attention per step", 118, "strip", [["", "attention", "attention"], uniform, reward, ["upright", "text", "restart"], ["box", "cursor", "now"]]);
  const actions = panel("action probabilities", 118, "actions", []);
  [massPanel, headsPanel].forEach((p) => p.canvas.classList.add("click"));
  room.canvas.classList.add("ad-room");
  returnsPanel.canvas.classList.add("ad-returns");
  massPanel.canvas.classList.add("ad-masses");
  headsPanel.canvas.classList.add("ad-heads");
  strip.canvas.classList.add("ad-strip");
  actions.canvas.classList.add("ad-actions");

  // ---- drawing ----

  function drawRoom(c, values, colours) {
    const [ctx, width, height] = room.canvas.begin();
    ctx.fillStyle = colours.faint;
    if (!columns) return ctx.fillText("this world has no map", 4, height / 2);
    const mass = new Float64Array(columns * rows);
    const tokens = new Float64Array(columns * rows);
    const visits = new Float64Array(columns * rows);
    const each = seen(c);
    const all = each.reduce((a, b) => a + b, 0);
    each.forEach((n, w) => {
      for (let t = 0; t < n; t++) {
        const [x, y] = cell(c.start + w, t);
        tokens[x * rows + y] += 1 / all;
        if (values) mass[x * rows + y] += values[w * P + t];
      }
    });
    for (let e = 0; e < c.e; e++) for (let t = 0; t <= lengths[e]; t++) visits[cell(e, t)[0] * rows + cell(e, t)[1]] += 1;
    const most = Math.max(1, ...visits);
    const shown = model.get("normalised") ? mass.map((m, i) => (tokens[i] ? m / tokens[i] : 0)) : mass;
    const top = Math.max(1e-9, ...shown);
    const path = Array.from({ length: c.t + 1 }, (_, t) => cell(c.e, t));
    const fill = (x, y) => adkit.mix(colours.cold, colours.hot, scaled(shown[x * rows + y] / top));
    const box = { left: 0, top: 0, width, height };
    const hidden = model.get("show_goal") ? marks : [];
    adkit.room(ctx, box, { kind, columns, rows, fill, visits: visits.map((v) => v / most), path, marks: hidden }, colours);
    room.canvas.setAttribute("aria-label", `Room: at cell ${path[c.t]}, step ${c.t} of episode ${numbers[c.e]}`);
    return Array.from(shown);
  }

  /** A frame with a scale on the left; returns where a value lies. */
  function frame(ctx, width, height, top, colours) {
    const box = { left: 38, right: width - 6, top: 8, bottom: height - 18 };
    const y = (v) => box.bottom - (box.bottom - box.top) * scaled(v / top);
    ctx.strokeStyle = colours.line;
    ctx.lineWidth = 1;
    ctx.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    ctx.fillStyle = colours.faint;
    ctx.textAlign = "right";
    ctx.fillText(short(top), box.left - 4, box.top + 3);
    ctx.fillText("0", box.left - 4, box.bottom - 3);
    return { ...box, y };
  }

  const returnX = (box, e) => (E === 1 ? (box.left + box.right) / 2 : box.left + 4 + ((box.right - box.left - 8) * e) / (E - 1));

  function drawReturns(c, colours) {
    const [ctx, width, height] = returnsPanel.canvas.begin();
    const lines = [[random, "random", colours.faint], [optimum, "optimum", colours.good]].filter(([v]) => v !== null);
    const [low, top] = adkit.extent([returns, lines.map(([v]) => v)]);
    const box = { left: 38, right: width - 6, top: 8, bottom: height - 18 };
    const y = (v) => box.bottom - ((box.bottom - box.top) * (v - low)) / (top - low);
    ctx.fillStyle = colours.window; // what this decision sees
    const edge = returnX(box, c.start) - 2;
    ctx.fillRect(edge, box.top, returnX(box, c.e) + 2 - edge, box.bottom - box.top);
    ctx.strokeStyle = colours.line;
    ctx.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    ctx.fillStyle = colours.faint;
    ctx.textAlign = "right";
    ctx.fillText(short(top), box.left - 4, box.top + 3);
    ctx.fillText(short(low), box.left - 4, box.bottom - 3);
    for (const [v, name, colour] of lines) {
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.setLineDash([5, 4]);
      ctx.beginPath();
      ctx.moveTo(box.left, y(v));
      ctx.lineTo(box.right, y(v));
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.fillText(name, box.right - 4, y(v) + (v > (top + low) / 2 ? 8 : -8));
    }
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    returns.forEach((v, e) => ctx[e ? "lineTo" : "moveTo"](returnX(box, e), y(v)));
    ctx.stroke();
    ctx.fillStyle = colours.cursor;
    ctx.fillRect(returnX(box, c.e) - 1, box.top, 2, box.bottom - box.top);
    ctx.beginPath();
    ctx.arc(returnX(box, c.e), y(returns[c.e]), 4, 0, 2 * Math.PI);
    ctx.fill();
    ctx.fillStyle = colours.faint;
    ctx.textAlign = "left";
    ctx.fillText(`episode ${numbers[0]}`, box.left, height - 7);
    ctx.textAlign = "right";
    ctx.fillText(String(numbers[E - 1]), box.right, height - 7);
    const none = returns.every((v) => v === 0);
    if (none) (ctx.textAlign = "center"), ctx.fillText("no reward in this lifetime", (box.left + box.right) / 2, (box.top + box.bottom) / 2);
    returnsPanel.canvas.setAttribute("aria-label", `Return per episode: ${short(returns[c.e])} in episode ${numbers[c.e]}`);
    return none;
  }

  function drawMasses(c, m, chosen, colours) {
    const [ctx, width, height] = massPanel.canvas.begin();
    const normalised = model.get("normalised");
    const top = Math.max(1e-9, ...m.shown, ...(normalised ? [1.2] : m.uniform));
    const box = frame(ctx, width, height, top, colours);
    const step = (box.right - box.left) / m.shown.length;
    m.shown.forEach((v, w) => {
      const e = c.start + w;
      const x = box.left + step * w;
      ctx.fillStyle = colours.attention;
      ctx.fillRect(x + step * 0.18, box.y(v), step * 0.64, box.bottom - box.y(v));
      const expected = box.y(normalised ? 1 : m.uniform[w]); // what uniform attention would give
      ctx.fillStyle = colours.text;
      ctx.fillRect(x + step * 0.08, expected - 0.75, step * 0.84, 1.5);
      const paid = e < c.e ? returns[e] > 0 : rewards.subarray(e * H, e * H + c.t).some((r) => r > 0); // so far
      if (paid) mark(ctx, x + step / 2, box.top + 6, colours.reward);
      if (e === chosen) {
        ctx.strokeStyle = colours.cursor;
        ctx.lineWidth = 2;
        ctx.strokeRect(x + 0.05 * step, box.top + 1, 0.9 * step, box.bottom - box.top - 2);
      }
      ctx.fillStyle = e === c.e ? colours.cursor : colours.faint;
      ctx.textAlign = "center";
      if (step > 22 || w === 0 || e === c.e) ctx.fillText(e === c.e ? "now" : String(numbers[e]), x + step / 2, height - 8);
    });
    massPanel.heading.textContent = `${normalised ? "attention over uniform" : "attention"} per episode`;
    massPanel.canvas.setAttribute("aria-label", `Attention per episode, mostly on episode ${numbers[chosen]}`);
  }

  function mark(ctx, x, y, colour) {
    ctx.fillStyle = colour;
    ctx.beginPath();
    ctx.moveTo(x - 5, y + 4);
    ctx.lineTo(x + 5, y + 4);
    ctx.lineTo(x, y - 5);
    ctx.fill();
  }

  function drawStrip(c, values, chosen, all, colours) {
    const [ctx, width, height] = strip.canvas.begin();
    strip.heading.textContent = `within episode ${numbers[chosen]}: attention per step`;
    if (!values) {
      ctx.fillStyle = colours.faint;
      const why = model.offline ? "This lifetime is too long for a file to hold every step; open it with a kernel." : trouble || "asking the kernel …";
      ctx.fillText(why, 40, height / 2);
      return null;
    }
    const n = chosen < c.e ? lengths[chosen] + 1 : c.t + 1;
    const scale = model.get("normalised") ? all : 1;
    const shown = Array.from(values.subarray((chosen - c.start) * P, (chosen - c.start) * P + n), (v) => v * scale);
    const top = Math.max(1e-9, ...shown, (1.2 * scale) / all);
    const box = frame(ctx, width, height, top, colours);
    const step = Math.min(48, (box.right - box.left) / P);
    shown.forEach((v, t) => {
      const x = box.left + step * t;
      ctx.fillStyle = colours.attention;
      const gap = Math.min(2, step * 0.15);
      ctx.fillRect(x + gap, box.y(v), step - 2 * gap, box.bottom - box.y(v));
      if (t > 0 && rewards[chosen * H + t - 1] > 0) mark(ctx, x + step / 2, box.top + 7, colours.reward);
      if (chosen === c.e && t === c.t) {
        ctx.strokeStyle = colours.cursor;
        ctx.lineWidth = 2;
        ctx.strokeRect(x, box.top + 1, step, box.bottom - box.top - 2);
      }
      ctx.fillStyle = colours.faint;
      ctx.textAlign = "center";
      const every = Math.ceil(24 / step);
      if (t % every === 0 && (t === 0 || x > box.left + 36)) ctx.fillText(t ? String(t) : "restart", x + (t ? step / 2 : 18), height - 8);
    });
    ctx.strokeStyle = colours.text;
    ctx.setLineDash([2, 3]);
    ctx.beginPath();
    ctx.moveTo(box.left + 1, box.top);
    ctx.lineTo(box.left + 1, box.bottom);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.fillStyle = colours.text;
    ctx.fillRect(box.left, box.y(scale / all) - 0.75, step * n, 1.5);
    strip.canvas.setAttribute("aria-label", `Attention on the ${n} tokens of episode ${numbers[chosen]}`);
    return shown;
  }

  // Thumbnails: down, the episode that decides; across, how many episodes back it looks, 0 on the left. Drawn once per theme.
  const tall = Math.min(E, 48);
  function pictures(colours) {
    if (thumbnails.dark === colours.dark) return thumbnails.pictures;
    thumbnails = { dark: colours.dark, pictures: [] };
    for (let map = 0; map < L * maps; map++) {
      const sum = new Float64Array(tall * W);
      const count = new Float64Array(tall * W);
      for (let e = 0; e < E; e++) {
        for (let w = 0; w <= e - starts[e]; w++) {
          const at = Math.floor((e * tall) / E) * W + (e - starts[e] - w);
          for (let t = 0; t < lengths[e]; t++) sum[at] += pooled[((e * H + t) * L * maps + map) * W + w];
          count[at] += lengths[e];
        }
      }
      const mean = sum.map((v, i) => (count[i] ? v / count[i] : 0));
      const top = Math.max(1e-9, ...mean);
      const picture = make("canvas", { width: W, height: tall });
      const ctx = picture.getContext("2d");
      mean.forEach((v, i) => {
        ctx.fillStyle = count[i] ? adkit.mix(colours.cold, colours.hot, v / top) : colours.back;
        ctx.fillRect(i % W, Math.floor(i / W), 1, 1);
      });
      thumbnails.pictures.push(picture);
    }
    return thumbnails.pictures;
  }

  const grid = (width) => ({ left: 16, top: 18, unit: Math.min(44, (width - 18) / maps, (headsHeight - 20) / L) });

  function drawHeads(c, colours) {
    const [ctx, width] = headsPanel.canvas.begin();
    const { left, top, unit } = grid(width);
    ctx.imageSmoothingEnabled = false;
    ctx.textAlign = "center";
    pictures(colours).forEach((picture, map) => {
      const x = left + (map % maps) * unit;
      const y = top + Math.floor(map / maps) * unit;
      ctx.drawImage(picture, x + 2, y + 2, unit - 4, unit - 4);
      ctx.strokeStyle = map === c.map ? colours.cursor : colours.line;
      ctx.lineWidth = map === c.map ? 3 : 1;
      ctx.strokeRect(x + 2, y + 2, unit - 4, unit - 4);
      if (map === c.map) {
        ctx.fillStyle = colours.cursor;
        ctx.fillRect(x - 1, y + 2 + ((c.e + 0.5) / E) * (unit - 4) - 1, 4, 2);
      }
    });
    ctx.fillStyle = colours.faint;
    for (let h = 0; h < maps; h++) ctx.fillText(h < heads ? `h${h}` : h === heads ? "mean" : "roll", left + (h + 0.5) * unit, 9);
    for (let l = 0; l < L; l++) ctx.fillText(String(l), 7, top + (l + 0.5) * unit);
    headsPanel.canvas.setAttribute("aria-label", `Layer ${c.layer}, ${headName(c.head)} of ${L} layers with ${heads} heads`);
  }

  function drawActions(c, without, colours) {
    const [ctx, width, height] = actions.canvas.begin();
    const bars = [["as it is", Array.from(chances.subarray((c.e * H + c.t) * A, (c.e * H + c.t + 1) * A)), colours.attention, "attention"]];
    if (without) {
      if (without.head) bars.push([`no ${c.head < heads ? `head ${c.head}` : "heads"}`, without.head, colours.reward, "reward"]);
      if (without.episode) bars.push(["episode removed", without.episode, colours.good, "good"]);
    }
    const names = data.action_names;
    const spoken = bars.map(([name, values]) => `${name}: ${values.map((v, a) => `${names[a]} ${short(v)}`).join(", ")}`);
    actions.canvas.setAttribute("aria-label", `Action probabilities, ${spoken.join("; ")}`);
    const step = (width - 8) / A;
    const bottom = height - 18;
    for (let a = 0; a < A; a++) {
      const x = 4 + a * step;
      bars.forEach(([, values, colour], i) => {
        ctx.fillStyle = colour;
        const wide = (step - 6) / bars.length;
        const tall = (bottom - 6) * values[a];
        ctx.fillRect(x + 3 + i * wide, bottom - tall, Math.max(1, wide - 1), tall);
      });
      ctx.fillStyle = a === taken[c.e * H + c.t] ? colours.cursor : colours.faint;
      ctx.textAlign = "center";
      if (A <= 16) ctx.fillText(names[a], x + step / 2, bottom + 9);
    }
    const missing = !without && trouble ? [`without the head, or the episode: ${trouble}`] : [];
    const words = JSON.stringify([missing, bars.map(([name]) => name)]);
    if (actions.words !== words) {
      actions.words = words;
      const meanings = bars.map(([name, , , colour]) => ["", colour, name]);
      actions.box.lastChild.replaceWith(adkit.legend(...meanings, ["dot", "cursor", "action taken"], ...missing));
    }
    ctx.fillStyle = colours.line;
    ctx.fillRect(4, bottom, width - 8, 1);
    return bars[0][1];
  }

  // ---- asking the kernel ----

  let asked = null; // the question about interventions that is out
  let wanted = null; // the row that is out: one at a time, so that a drag leaves no queue behind
  let answer = null;
  let later = 0;
  let trouble = model.offline ? "needs a kernel" : "";

  function send(message) {
    try {
      model.send(message);
    } catch {
      trouble = "the kernel is gone: run the cell again";
    }
  }

  /** What the probabilities would be without the selected head, and without the attended episode; null until known. */
  function without(c, chosen) {
    if (model.offline) return null;
    const question = { lifetime: data.lifetime, episode: c.e, step: c.t, layer: c.layer, head: c.head, attended: chosen };
    const key = JSON.stringify(question);
    if (answer && answer.key === key) return answer;
    if (asked !== key) {
      clearTimeout(later);
      later = setTimeout(() => ((asked = key), send({ ask: "without", key, ...question })), 250); // once the cursor rests
    }
    return null;
  }

  function fetchRow(c) {
    if (whole || model.offline || wanted || fetched.has(`${data.lifetime}/${c.e}/${c.t}`)) return;
    wanted = `${data.lifetime}/${c.e}/${c.t}`;
    send({ ask: "row", key: wanted, lifetime: data.lifetime, episode: c.e, step: c.t });
  }

  function heard(message, buffers) {
    if (message.key === wanted) wanted = null;
    if (message.tell === "row") {
      if (fetched.size > 400) fetched.clear();
      fetched.set(message.key, adkit.array({ dtype: "float32", bytes: buffers[0] }));
    }
    if (message.tell === "without") answer = message;
    trouble = message.tell === "failed" ? message.text : "";
    redraw();
  }

  // ---- one picture ----

  function draw() {
    const c = cursor();
    const colours = adkit.theme(view);
    const m = masses(c);
    const chosen = attended(c, m.shown);
    const values = row(c);
    const other = without(c, chosen);
    const painted = drawRoom(c, values, colours);
    const unpaid = drawReturns(c, colours);
    drawMasses(c, m, chosen, colours);
    drawHeads(c, colours);
    const steps = drawStrip(c, values, chosen, m.all, colours);
    const probabilities = drawActions(c, other, colours);
    const where = `Episode ${numbers[c.e]}, step ${c.t}: return ${short(returns[c.e])}. Layer ${c.layer}, ${headName(c.head)}`;
    const share = short(m.raw[chosen - c.start]);
    const text = `${where} puts ${share} of its attention on episode ${numbers[chosen]}.${unpaid ? " No reward in this lifetime." : ""}`;
    say.setAttribute("aria-live", model.get("playing") ? "off" : "polite");
    const shown = { lifetime: data.lifetime, episode: c.e, step: c.t, layer: c.layer, head: c.head, attended: chosen, masses: m.shown, steps, painted };
    const how = { normalised: model.get("normalised"), logarithmic: model.get("logarithmic"), dark: colours.dark };
    adkit.publish(view, say, text, { ...shown, ...how, probabilities, without: other });
    fetchRow(c);
  }

  const settle = () => {
    if (model.group) return; // others may go on longer
    const e = clamp(model.get("episode"), E - 1);
    if (model.get("step") >= lengths[e]) set(model, { step: lengths[e] - 1 });
  };
  const traits = ["data", "episode", "step", "layer", "head", "attended", "normalised", "logarithmic", "show_goal"];
  const [redraw, end] = adkit.follow(model, view, traits, draw, settle);
  ends.add(end);
  model.on("msg:custom", heard);
  ends.add(() => model.off("msg:custom", heard));
  ends.add(adkit.clock(model, () => move(1)));
  ends.add(() => clearTimeout(later));

  // ---- moving ----

  const last = adkit.slowest(model, (e) => lengths[e] - 1);

  function jump(episode) {
    const e = clamp(episode, E - 1);
    set(model, { episode: e, step: Math.min(model.get("step"), last(e)) });
  }

  function move(by) {
    const { e } = cursor();
    const t = Math.min(model.get("step"), last(e)) + by;
    if (t > last(e)) return e === E - 1 ? set(model, { playing: false }) : set(model, { episode: e + 1, step: 0 });
    if (t < 0) return e > 0 && set(model, { episode: e - 1, step: last(e - 1) });
    set(model, { step: t });
  }

  /** Show the steps of the episode before or after the one that is shown. */
  function choose(by) {
    const c = cursor();
    set(model, { attended: clamp(attended(c, masses(c).shown) + by, c.e) });
  }

  const at = (event) => [event.offsetX, event.offsetY];
  adkit.dragged(returnsPanel.canvas, (x) => {
    const box = { left: 38, right: returnsPanel.canvas.clientWidth - 6 };
    jump(Math.round(((x - box.left - 4) / (box.right - box.left - 8)) * (E - 1)));
  });
  massPanel.canvas.onclick = (event) => {
    const c = cursor();
    const step = (massPanel.canvas.clientWidth - 6 - 38) / (c.e - c.start + 1);
    const e = c.start + clamp(Math.floor((at(event)[0] - 38) / step), c.e - c.start);
    set(model, { attended: e === model.get("attended") ? -1 : e });
  };
  headsPanel.canvas.onclick = (event) => {
    const { left, top, unit } = grid(headsPanel.canvas.clientWidth);
    const [h, l] = [Math.floor((at(event)[0] - left) / unit), Math.floor((at(event)[1] - top) / unit)];
    if (h >= 0 && h < maps && l >= 0 && l < L) set(model, { layer: l, head: h });
  };

  redraw();
  return () => ends.forEach((end) => end());
}

export default { initialize: adkit.initialize, render };
