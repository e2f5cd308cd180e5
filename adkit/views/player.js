// Player: several lifetimes side by side on one clock. `views/player.py` says what each array holds.

function render({ model, el }) {
  const { clamp, make, set } = adkit;
  const { horizon: H, lifetimes } = model.get("data");
  const { kind, columns, rows } = lifetimes[0];
  const lives = lifetimes.map(({ name }) => ({ name }));

  /** Take the arrays of the lifetimes that are there now. */
  function load() {
    model.get("data").lifetimes.forEach((sent, i) => {
      for (const name of ["cells", "headings", "lengths", "returns", "numbers"]) lives[i][name] = adkit.array(sent[name]);
      lives[i].marks = sent.marks.map((mark) => (mark.when ? { ...mark, when: adkit.array(mark.when) } : mark));
    });
  }
  load();
  model.on("change:data", load);
  const ends = new Set([() => model.off("change:data", load)]); // what to undo when the view goes away
  const E = Math.max(...lives.map((life) => life.lengths.length));
  const view = adkit.root(el, "Player", {
    ArrowLeft: () => move(-1),
    ArrowRight: () => move(1),
    ArrowUp: () => jump(model.get("episode") - 1),
    ArrowDown: () => jump(model.get("episode") + 1),
    " ": () => set(model, { playing: !model.get("playing") }),
  }, model);
  if (!E) {
    view.append("These lifetimes have no episodes: there is nothing to play.");
    return;
  }

  const { bar, panels, say } = adkit.parts(view, Math.min(4, lives.length));
  // the clock waits for the slowest
  const last = adkit.slowest(model, (episode) => Math.max(0, ...lives.map((life) => life.lengths[episode] ?? 0)));
  const called = (e) => (lives.every((life) => life.numbers[e] === lives[0].numbers[e]) ? lives[0].numbers[e] : e);
  const byEpisode = model.group?.kinds.includes("EpisodeAttention"); // which has a slider for each
  const controls = [
    ...adkit.picker(model),
    ...(byEpisode ? [adkit.slider(model, "episode", E - 1), adkit.slider(model, "step", H), adkit.playButton(model)] : []),
    adkit.select(model, "speed", adkit.speeds),
    ...(lives.some((life) => life.marks.length) ? [adkit.checkbox(model, "show_goal", adkit.showing(lives.flatMap((life) => life.marks.filter(({ when }) => !when))))] : []),
    ...(byEpisode ? [] : [adkit.timeline(model, E, last, called)]),
  ];
  ends.add(adkit.fillBar(bar, controls, model));
  ends.add(adkit.follows(model, view));
  for (const life of lives) {
    life.heading = make("h4", {}, life.name);
    life.room = adkit.canvas(kind === "arms" ? 52 : lives.length > 2 ? 210 : 260, life.name);
    life.curve = adkit.canvas(64, `return per episode of ${life.name}`);
    adkit.dragged(life.curve, (x) => jump(Math.round((x / life.curve.clientWidth) * (E - 1))));
    panels.append(make("div", {}, life.heading, life.room, life.curve));
  }
  const always = lives.flatMap((life) => life.marks).filter(({ when }) => !when);
  const means = [["dot", "cursor", "now"], ["ring", "good", "start"], ["line", "text", "way so far"], ["ramp", "hot", "earlier visits"]];
  if (always.length) means.push(["box", "reward", `${adkit.showing(always).replace("show ", "")}, if shown`]);
  panels.after(adkit.legend(...means, "curve: return per episode; click or drag to jump"));

  /** Where a lifetime is when the clock shows an episode and a step; one that is over, or has arrived, stands still. */
  function place(life) {
    if (!life.lengths.length) return null;
    const e = clamp(model.get("episode"), life.lengths.length - 1);
    const over = model.get("episode") > e;
    return { e, t: over ? life.lengths[e] : clamp(model.get("step"), life.lengths[e]), over };
  }

  const cell = (life, e, t) => [life.cells[2 * (e * (H + 1) + t)], life.cells[2 * (e * (H + 1) + t) + 1]];

  function drawLife(life, [low, top], colours) {
    const at = place(life);
    const [ctx, width, height] = life.room.begin();
    if (!at) {
      ctx.fillStyle = colours.faint;
      ctx.fillText("no episodes", 4, height / 2);
      return null;
    }
    const visits = new Float64Array(columns * rows);
    for (let e = 0; e < at.e; e++) {
      for (let t = 0; t <= life.lengths[e]; t++) {
        const [x, y] = cell(life, e, t).map(Math.round);
        if (x >= 0) visits[x * rows + y] += 1; // before the first pull there is no arm
      }
    }
    const most = visits.reduce((a, b) => Math.max(a, b), 1);
    const path = Array.from({ length: at.t + 1 }, (_, t) => cell(life, at.e, t));
    const fill = (x, y) => adkit.mix(colours.cold, colours.hot, 0.5 * Math.sqrt(visits[x * rows + y] / most));
    const box = { left: 0, top: 0, width, height };
    const marks = model.get("show_goal") ? life.marks.filter(({ when }) => !when || when[at.e * (H + 1) + at.t]) : [];
    const heading = kind === "round" ? life.headings[at.e * (H + 1) + at.t] : null;
    adkit.room(ctx, box, { kind, columns, rows, fill, path, marks, heading, counts: kind === "arms" ? visits : null }, colours);
    const where = { arms: "arm", grid: "cell", round: "place" }[kind];
    life.room.setAttribute("aria-label", `${life.name}: at ${where} ${path[at.t].map(adkit.short)}, step ${at.t} of episode ${life.numbers[at.e]}`);

    const [line, wide, tall] = life.curve.begin();
    const x = (e) => (E === 1 ? wide / 2 : 4 + ((wide - 8) * e) / (E - 1));
    const y = (v) => tall - 5 - ((tall - 10) * (v - low)) / (top - low);
    line.strokeStyle = colours.line;
    line.strokeRect(0.5, 0.5, wide - 1, tall - 1);
    line.strokeStyle = colours.text;
    line.lineWidth = 1.5;
    line.beginPath();
    life.returns.forEach((v, e) => line[e ? "lineTo" : "moveTo"](x(e), y(v)));
    line.stroke();
    line.fillStyle = colours.cursor;
    line.fillRect(x(at.e) - 1, 1, 2, tall - 2);
    return { ...at, cell: path[at.t], return: life.returns[at.e] };
  }

  function draw() {
    const colours = adkit.theme(view);
    const range = adkit.extent(lives.map((life) => life.returns));
    const places = lives.map((life) => drawLife(life, range, colours));
    const told = lives.map((life, i) => {
      const at = places[i];
      return at ? `${life.name}: return ${adkit.short(at.return)} in episode ${life.numbers[at.e]}${at.over ? ", its last" : ""}` : `${life.name}: no episodes`;
    });
    const nothing = lives.every((life) => life.returns.every((v) => v === 0));
    const text = `${told.join(" · ")}.${nothing ? " No reward in any of these lifetimes." : ""}`;
    say.setAttribute("aria-live", model.get("playing") ? "off" : "polite");
    adkit.publish(view, say, text, { lifetime: model.get("data").lifetime, episode: model.get("episode"), step: model.get("step"), places });
  }

  const [redraw, end] = adkit.follow(model, view, ["data", "episode", "step", "show_goal"], draw);
  ends.add(end);
  ends.add(adkit.clock(model, () => move(1)));

  const jump = (episode) => set(model, { episode: clamp(episode, E - 1) });

  function move(by) {
    const e = clamp(model.get("episode"), E - 1);
    const t = Math.min(model.get("step"), last(e)) + by;
    if (t > last(e)) return e === E - 1 ? set(model, { playing: false }) : set(model, { episode: e + 1, step: 0 });
    if (t < 0) return e > 0 && set(model, { episode: e - 1, step: last(e - 1) });
    set(model, { step: t });
  }

  redraw();
  return () => ends.forEach((end) => end());
}

export default { initialize: adkit.initialize, render };
