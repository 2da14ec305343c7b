// Bars from the table behind them: the figures are in the page, the chart only draws them.
"use strict";

const charts = new Map(); // plot element -> uPlot

const STEPS = [1, 2, 4, 7, 14, 28, 56, 112, 364].map((days) => days * 86400);
const dayFormat = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });

function dayWords(seconds) {
  return dayFormat.format(new Date(seconds * 1000));
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function compact(value) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(value);
}

function drawChart(figure) {
  const plot = figure.querySelector(".plot");
  const rows = [...figure.querySelectorAll("tbody tr")];
  if (!rows.length) return;
  charts.get(plot)?.destroy();
  const days = rows.map((row) => Date.parse(row.dataset.day + "T00:00:00Z") / 1000);
  const heights = rows.map((row) => Number(row.dataset.height));
  const readout = figure.querySelector(".readout");
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const chart = new uPlot(
    {
      width: plot.clientWidth,
      height: plot.clientHeight,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { range: () => [days[0] - 43200, days[days.length - 1] + 43200] },
        y: { range: (self, least, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, incrs: STEPS, values: (self, ticks) => ticks.map(dayWords) },
        { ...axis, size: 52, space: 36, values: (self, ticks) => ticks.map(compact) },
      ],
      series: [
        {},
        {
          fill: colour("--accent"),
          stroke: colour("--accent"),
          width: 0,
          points: { show: false },
          paths: uPlot.paths.bars({ size: [0.72, 28], radius: 0.2 }),
        },
      ],
      hooks: {
        setCursor: [
          (self) => {
            const row = rows[self.cursor.idx];
            readout.textContent = row ? `${row.cells[0].textContent}: ${row.cells[1].textContent}` : "";
          },
        ],
      },
    },
    [days, heights],
    plot,
  );
  charts.set(plot, chart);
  plot.onkeydown = (event) => moveAlong(event, chart, days.length);
  plot.onblur = () => chart.setCursor({ left: -10, top: -10 });
}

function moveAlong(event, chart, length) {
  const step = { ArrowLeft: -1, ArrowRight: 1, Home: -length, End: length }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const from = chart.cursor.idx ?? (step > 0 ? -1 : length);
  const index = Math.max(0, Math.min(length - 1, from + step));
  chart.setCursor({ left: chart.valToPos(chart.data[0][index], "x"), top: 10 });
}

function drawCharts(root = document) {
  for (const [plot, chart] of charts) {
    if (plot.isConnected) continue;
    chart.destroy();
    charts.delete(plot);
  }
  root.querySelectorAll("[data-chart]").forEach(drawChart);
}

addEventListener("resize", () => {
  for (const [plot, chart] of charts) chart.setSize({ width: plot.clientWidth, height: plot.clientHeight });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawCharts());
