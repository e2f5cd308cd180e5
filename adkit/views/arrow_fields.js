// ArrowFields: one room of arrows for each field. `views/fields.py` says what each number is.

function render({ model, el }) {
  const { make } = adkit;
  const { names, ...place } = model.get("data");
  const values = adkit.array(place.values);
  const size = values.length / names.length;
  const view = adkit.root(el, "ArrowFields", {});
  const panels = adkit.grid(Math.min(4, names.length));
  view.append(panels);
  const rooms = names.map((name) => {
    const node = adkit.canvas(260, name);
    panels.append(make("div", {}, make("h4", {}, name), node));
    return node;
  });

  function draw() {
    const colours = adkit.theme(view);
    const shards = { cookie: colours.cursor, food: colours.good };
    rooms.forEach((node, i) => {
      const field = values.subarray(i * size, (i + 1) * size);
      arrows.draw(node, place, field, shards[names[i]] || colours.attention, false, colours);
    });
    view.dataset.shown = JSON.stringify({ names });
  }

  const [redraw, end] = adkit.follow(model, view, [], draw);
  redraw();
  return end;
}

export default { initialize: adkit.initialize, render };
