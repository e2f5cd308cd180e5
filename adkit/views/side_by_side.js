// SideBySide: views beside each other, and the controls that they share. `views/side_by_side.py` says which.

/** The model of a view within: shared traits are those of the model around it. */
function member(own, group) {
  const of = (name) => (group.shared.includes(name.replace("change:", "")) ? group.model : own);
  return {
    group,
    offline: own.offline,
    get: (name) => of(name).get(name),
    set: (name, value) => of(name).set(name, value),
    save_changes() {
      own.save_changes();
      group.model.save_changes();
    },
    send: (...message) => own.send(...message),
    on: (name, call) => of(name).on(name, call),
    off: (name, call) => of(name).off(name, call),
  };
}

function render({ model, el }) {
  const { make } = adkit;
  const { views, shared, limits } = model.get("data");
  const keys = {};
  const view = adkit.root(el, "SideBySide", keys);
  const bar = make("div", { className: "bar" });
  const panels = make("div", { className: "panels" });
  view.append(bar, panels);
  const group = { model, shared, limits, bar, keys, lasts: [], kinds: views.map(([, kind]) => kind) };
  const states = model.offline ? model.get("states").map(adkit.offline) : null;
  if (states) group.kept = states.reduce((both, own) => both.filter((n) => own.get("kept")[n] || n === own.get("lifetime")), views.length ? states[0].get("lifetimes").map((_, n) => n) : []);

  const ends = new Set();
  let ended = false;
  views.forEach(([name, kind, key], i) => {
    const place = make("div", {}, make("h3", {}, name));
    panels.append(place);
    const start = (own) => ended || ends.add(adkit.kinds[kind].render({ model: member(own, group), el: place }));
    if (states) start(states[i]);
    else adkit.whenThere(key, start);
  });
  return () => {
    ended = true;
    ends.forEach((end) => end?.());
  };
}

export default { initialize: adkit.initialize, render };
