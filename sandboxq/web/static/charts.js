// Charts: <div class="chart" data-chart='{"x": [s, …], "unit": "s", "series": [{label, values, colour, dash}]}'>
// The server writes the numbers; new ones come by morphing the attribute.
"use strict";

(() => {
  const drawn = new WeakMap();

  const written = {
    s(value) {
      if (value == null) return "–";
      if (value < 0.001) return value === 0 ? "0" : `${(value * 1e6).toFixed(0)} µs`;
      if (value < 1) return `${(value * 1000).toPrecision(3).replace(/\.?0+$/, "")} ms`;
      if (value < 60) return `${Number(value.toPrecision(3))} s`;
      if (value < 3600) return `${Number((value / 60).toPrecision(3))} min`;
      return `${Number((value / 3600).toPrecision(3))} h`;
    },
    bytes(value) {
      if (value == null) return "–";
      for (const unit of ["B", "kB", "MB", "GB"]) {
        if (value < 1024) return `${Number(value.toPrecision(3))} ${unit}`;
        value /= 1024;
      }
      return `${Number(value.toPrecision(3))} TB`;
    },
    share: (value) => (value == null ? "–" : `${Math.round(value * 100)} %`),
    count: (value) => (value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: 2 })),
  };

  function options(element, told) {
    const colour = sandboxq.colour;
    const axis = {
      stroke: colour("--faint"),
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    const write = written[told.unit] || written.count;
    return {
      width: element.clientWidth,
      height: element.clientHeight,
      padding: [8, 8, 0, 0],
      cursor: { points: { size: 6 }, drag: { x: true, y: false }, sync: { key: "page" } },
      legend: { live: true },
      scales: {
        x: { time: true },
        y: { range: (_, low, high) => [Math.min(0, low), told.top ?? (high > 0 ? high * 1.1 : 1)] },
      },
      axes: [
        { ...axis, grid: { show: false }, values: "{HH}:{mm}", space: 64 },
        { ...axis, size: 62, values: (_, ticks) => ticks.map(write), space: 34 },
      ],
      series: [
        { label: "At", value: "{HH}:{mm}:{ss}" },
        ...told.series.map((each) => ({
          label: each.label,
          stroke: colour(each.colour),
          width: 1.6,
          dash: each.dash,
          fill: each.fill && colour(each.fill),
          points: { show: false },
          spanGaps: false,
          value: (_, value) => write(value),
        })),
      ],
    };
  }

  function draw(element) {
    const told = JSON.parse(element.dataset.chart);
    const data = [told.x, ...told.series.map((each) => each.values)];
    const place = element.querySelector("[data-keep]");
    const before = drawn.get(element);
    if (before?.theme === sandboxq.theme() && before.shape === told.series.length) {
      if (before.text !== element.dataset.chart) before.plot.setData(data);
      before.text = element.dataset.chart;
      return;
    }
    before?.plot.destroy();
    const plot = new uPlot(options(place, told), data, place);
    drawn.set(element, {
      plot, theme: sandboxq.theme(), shape: told.series.length, text: element.dataset.chart,
    });
  }

  const all = () => [...document.querySelectorAll("[data-chart]")];
  const drawAll = () => all().forEach(draw);

  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      for (const element of all()) {
        const place = element.querySelector("[data-keep]");
        drawn.get(element)?.plot.setSize({ width: place.clientWidth, height: place.clientHeight });
      }
    });
  });
  document.addEventListener("sq:theme", drawAll);
  document.addEventListener("htmx:afterSettle", drawAll);
  drawAll();
})();
