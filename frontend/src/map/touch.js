// The plot knows the mouse alone: one finger moves the map, or draws the lasso, two zoom it; a tap becomes the mouse's click by
// itself.

export function handleTouch(canvas, plot) {
  const stage = canvas.parentElement; // pictures lie over the canvas
  const fingers = new Map();
  const middle = () => {
    const all = [...fingers.values()];
    return [all.reduce((sum, f) => sum + f[0], 0) / all.length, all.reduce((sum, f) => sum + f[1], 0) / all.length];
  };
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  };
  const asMouse = (kind, event) =>
    canvas.dispatchEvent(new MouseEvent(kind, { bubbles: true, clientX: event.clientX, clientY: event.clientY, buttons: 1 }));
  const down = (event) => {
    if (event.pointerType !== "touch" || event.target.closest("button")) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (plot.lassoing) asMouse("mousedown", event);
  };
  const move = (event) => {
    if (!fingers.has(event.pointerId)) return;
    if (plot.lassoing && fingers.size === 1) {
      asMouse("mousemove", event);
      return;
    }
    const before = middle(), width = spread();
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = middle(), box = canvas.getBoundingClientRect();
    plot.pan((after[0] - before[0]) / box.width, (after[1] - before[1]) / box.height);
    if (width > 0) {
      const x = (2 * (after[0] - box.left)) / box.width - 1, y = 1 - (2 * (after[1] - box.top)) / box.height;
      plot.zoom(spread() / width, [x, y]);
    }
  };
  const up = (event) => {
    if (fingers.delete(event.pointerId) && plot.lassoing) asMouse("mouseup", event);
  };
  stage.addEventListener("pointerdown", down);
  stage.addEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, up);
  return () => {
    stage.removeEventListener("pointerdown", down);
    stage.removeEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) removeEventListener(name, up);
  };
}
