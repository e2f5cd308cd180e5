// PolicyField: bids and the policy they add up to, worked out here for every position of the sliders. `views/fields.py` says what each number is.

function render({ model, el }) {
  const { make } = adkit;
  const data = model.get("data");
  const { size, beta, w_food: wFood, strengths, distances } = data;
  const [heads, gates, hides, avoids, base, near] = ["heads", "gates", "hides", "avoids", "base", "near"].map((name) => adkit.array(data[name]));
  const [cells, hungers] = [size * size, gates.length / 3];
  const last = strengths[strengths.length - 1];
  const ends = new Set();
  const bump = (name, by, most) => adkit.set(model, { [name]: Math.min(most, Math.max(0, Math.round((model.get(name) + by) * 100) / 100)) });
  const view = adkit.root(el, "PolicyField", {
    ArrowLeft: () => bump("strength", -0.1, last),
    ArrowRight: () => bump("strength", 0.1, last),
    ArrowUp: () => bump("hunger", 1, hungers - 1),
    ArrowDown: () => bump("hunger", -1, hungers - 1),
  });

  const { bar, panels, say } = adkit.parts(view, 4);
  const controls = [
    adkit.slider(model, "hunger", hungers - 1),
    adkit.slider(model, "strength", last, { label: "strength of the cookie shard", step: 0.1, text: (v) => v.toFixed(1) }),
    ...(distances.length > 1 ? [adkit.slider(model, "task", distances.length - 1, { label: "cookie distance", text: (v) => `${distances[v]} steps` })] : []),
    adkit.checkbox(model, "full", "cookies in the jar"),
  ];
  ends.add(adkit.fillBar(bar, controls));
  const titles = { cookie: "the cookie shard bids", food: "the food shard bids", policy: "what it does" };
  const rooms = Object.entries(titles).map(([name, title]) => {
    const node = adkit.canvas(260, title);
    node.classList.add(`ad-${name}`);
    panels.append(make("div", {}, make("h4", {}, title), node));
    return node;
  });
  const curve = adkit.canvas(260, "probability that a planner hides the cookies, by strength");
  panels.append(make("div", {}, make("h4", {}, "a planner hides them"), curve));

  /** Bids (2 x cells x 8) and probabilities (cells x 8): the equations of cookieworld/shard.py, once all is learned. */
  function think(hunger, strength, task, full) {
    const bids = new Float64Array(2 * cells * 8);
    const policy = new Float64Array(cells * 8);
    for (let cell = 0; cell < cells; cell++) {
      const craves = full ? strength * gates[hungers * near[task * cells + cell] + hunger] : 0;
      const push = [craves, wFood * gates[2 * hungers + hunger]];
      let total = 0;
      for (let a = 0; a < 8; a++) {
        let logit = base[a];
        for (let shard = 0; shard < 2; shard++) {
          const bid = beta * push[shard] * heads[((task * 2 + shard) * cells + cell) * 8 + a];
          bids[(shard * cells + cell) * 8 + a] = bid;
          logit += bid;
        }
        total += policy[cell * 8 + a] = Math.exp(logit);
      }
      for (let a = 0; a < 8; a++) policy[cell * 8 + a] /= total;
    }
    return { bids, policy };
  }

  /** What the table (tasks x strengths x hunger) says between two of its strengths. */
  function between(table, task, strength, hunger) {
    const at = (strength / last) * (strengths.length - 1);
    const i = Math.min(strengths.length - 2, Math.floor(at));
    const value = (k) => table[(task * strengths.length + k) * hungers + hunger];
    return value(i) + (at - i) * (value(i + 1) - value(i));
  }

  function drawCurve(task, hunger, strength, full, chance, colours) {
    const [ctx, width, height] = curve.begin();
    const x = (w) => 26 + ((width - 36) * w) / last;
    const y = (p) => height - 30 - (height - 40) * p;
    ctx.strokeStyle = colours.line;
    ctx.strokeRect(x(0), y(1), x(last) - x(0), y(0) - y(1));
    ctx.fillStyle = colours.text;
    [0, 0.5, 1].forEach((p) => ctx.fillText(p, 4, y(p)));
    ctx.textAlign = "center";
    [0, 1, 2, 3].forEach((w) => ctx.fillText(w, x(w), height - 20));
    ctx.fillText("strength", width / 2, height - 6);
    ctx.textAlign = "start";
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    strengths.forEach((w, i) => ctx[i ? "lineTo" : "moveTo"](x(w), y(full ? hides[(task * strengths.length + i) * hungers + hunger] : chance)));
    ctx.stroke();
    ctx.fillStyle = colours.cursor;
    ctx.beginPath();
    ctx.arc(x(strength), y(chance), 5, 0, 2 * Math.PI);
    ctx.fill();
  }

  function draw() {
    const colours = adkit.theme(view);
    const [hunger, strength, task, full] = ["hunger", "strength", "task", "full"].map((name) => model.get(name));
    const { bids, policy } = think(hunger, strength, task, full);
    const chance = full ? between(hides, task, strength, hunger) : data.empty;
    const fewer = full ? between(avoids, task, strength, hunger) : 0;
    const loud = bids.map((bid) => bid / 4); // logits whose arrow has full length
    const place = { size, marks: data.marks[task], sites: data.sites[task] };
    arrows.draw(rooms[0], place, loud.subarray(0, cells * 8), colours.cursor, false, colours);
    arrows.draw(rooms[1], place, loud.subarray(cells * 8), colours.good, false, colours);
    arrows.draw(rooms[2], place, policy, colours.attention, true, colours);
    drawCurve(task, hunger, strength, full, chance, colours);
    const gate = (k) => gates[k * hungers + hunger].toFixed(2);
    const text = `Gates: cookie ${gate(0)} with none in sight, ${gate(1)} with one; food ${gate(2)}. ` +
      `A planner that wakes like this hides them with probability ${chance.toFixed(2)}, to eat ${fewer.toFixed(1)} fewer.`;
    const shown = { hunger, strength, task, full, policy: Array.from(policy), bids: Array.from(bids), hides: chance, avoids: fewer };
    adkit.publish(view, say, text, shown);
  }

  const [redraw, end] = adkit.follow(model, view, ["hunger", "strength", "task", "full"], draw);
  ends.add(end);
  redraw();
  return () => ends.forEach((end) => end());
}

export default { initialize: adkit.initialize, render };
