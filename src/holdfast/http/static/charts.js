// Bars from the table behind them: the figures are in the page, the chart only draws them.
"use strict";

const charts = new Map(); // plot element -> uPlot

const DAY = 86400;
const STEPS = [300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, ...[1, 2, 4, 7, 14, 28, 56, 112, 364].map((days) => days * DAY)];
const dayFormat = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });
const timeFormat = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: "UTC" });

function words(seconds, step) {
  const format = step < DAY && seconds % DAY ? timeFormat : dayFormat;
  return format.format(new Date(seconds * 1000));
}

// A row says when it is as a day, or as seconds since 1970.
function timeOf(row) {
  return row.dataset.at ? Number(row.dataset.at) : Date.parse(row.dataset.day + "T00:00:00Z") / 1000;
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
  const times = rows.map(timeOf);
  const step = times.length > 1 ? Math.min(...times.slice(1).map((time, n) => time - times[n])) : rows[0].dataset.at ? 60 : DAY;
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
        x: { range: () => [times[0] - step / 2, times[times.length - 1] + step / 2] },
        y: { range: (self, least, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, incrs: STEPS.filter((one) => one >= step), values: (self, ticks) => ticks.map((tick) => words(tick, step)) },
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
    [times, heights],
    plot,
  );
  charts.set(plot, chart);
  plot.onkeydown = (event) => moveAlong(event, chart, times.length);
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
