// Reads curves off under the pointer. The page says everything without it.
for (const svg of document.querySelectorAll("[data-plot]")) {
  const [left, right, top, bottom, nines, low, high] = svg.dataset.plot.split(" ").map(Number);
  const curves = [...svg.querySelectorAll("[data-system] polyline")].map((line) => [...line.points]);
  const outputs = svg.closest(".beside").querySelectorAll("output");
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cross.setAttribute("class", "cross");
  cross.setAttribute("y1", top);
  cross.setAttribute("y2", bottom);
  const time = (ns) =>
    ns >= 1e9 ? `${(ns / 1e9).toFixed(2)} s`
    : ns >= 1e6 ? `${(ns / 1e6).toFixed(2)} ms`
    : ns >= 1e3 ? `${(ns / 1e3).toFixed(1)} us`
    : `${ns.toFixed(0)} ns`;
  const height = (points, x) => {
    const next = points.findIndex((point) => point.x >= x);
    if (next < 0) return undefined;
    if (next === 0) return points[0].y;
    const [from, to] = [points[next - 1], points[next]];
    return from.y + ((to.y - from.y) * (x - from.x)) / (to.x - from.x || 1);
  };
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const x = Math.min(Math.max(at.x, left), right);
    const count = ((x - left) / (right - left)) * nines;
    const percentile = (100 * (1 - 10 ** -count)).toFixed(Math.max(0, Math.ceil(count) - 1));
    cross.setAttribute("x1", x);
    cross.setAttribute("x2", x);
    svg.append(cross);
    curves.forEach((points, index) => {
      const y = height(points, x);
      const log = low + ((bottom - y) / (bottom - top)) * (high - low);
      outputs[index].textContent = y === undefined ? "" : `p${percentile}: ${time(10 ** log)}`;
    });
  });
  svg.addEventListener("pointerleave", () => {
    cross.remove();
    outputs.forEach((output) => (output.textContent = ""));
  });
}
