// Rooms of arrows, for PolicyField and ArrowFields; Python puts it after common.js.

const arrows = (() => {
  const REACH = 0.46; // cells: an arrow of full length

  /** A room with an arrow for every move that is worth something, and discs for EAT and, if asked, for what leads nowhere. */
  function draw(node, { size, marks, sites }, values, colour, waits, colours) {
    const [ctx, width, height] = node.begin();
    const unit = adkit.room(ctx, { left: 0, top: 0, width, height }, { kind: "grid", columns: size, rows: size, path: [], marks }, colours);
    const left = (width - unit * size) / 2;
    for (let cell = 0; cell < size * size; cell++) {
      const x = left + (Math.floor(cell / size) + 0.5) * unit;
      const y = ((cell % size) + 0.5) * unit;
      const value = (a) => Math.min(1, Math.max(0, values[cell * 8 + a]));
      const eat = sites.includes(cell) ? value(5) : 0;
      let rest = -eat;
      for (let a = 4; a < 8; a++) rest += values[cell * 8 + a];
      for (const [share, paint] of [[waits ? rest : 0, colours.line], [eat, colour]]) {
        if (share < 0.01) continue;
        ctx.fillStyle = paint;
        ctx.beginPath();
        ctx.arc(x, y, (unit * REACH * Math.sqrt(Math.min(1, share))) / 2, 0, 2 * Math.PI);
        ctx.fill();
      }
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.lineWidth = 2;
      [[0, -1], [0, 1], [1, 0], [-1, 0]].forEach(([dx, dy], a) => {
        const length = REACH * unit * value(a);
        if (length < 0.02 * unit) return;
        const barb = Math.min(5, 0.6 * length);
        const [tx, ty] = [x + dx * length, y + dy * length];
        ctx.beginPath();
        ctx.moveTo(x, y);
        ctx.lineTo(tx - dx * barb, ty - dy * barb);
        ctx.stroke();
        ctx.beginPath();
        ctx.moveTo(tx, ty);
        ctx.lineTo(tx - dx * barb - dy * barb * 0.7, ty - dy * barb - dx * barb * 0.7);
        ctx.lineTo(tx - dx * barb + dy * barb * 0.7, ty - dy * barb + dx * barb * 0.7);
        ctx.fill();
      });
    }
  }

  return { draw };
})();
