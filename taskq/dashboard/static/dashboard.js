// Live numbers: one event stream per page feeds the charts (uPlot), and tells htmx to fetch the parts that change.
"use strict";

(() => {
  const body = document.body;
  const charts = [];
  const pulse = document.getElementById("pulse");
  const PAST_SECONDS = 2 * 3600;

  const colour = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const soft = (text) => `color-mix(in srgb, ${text} 12%, transparent)`;

  const shown = (unit) => (_, value) => {
    if (value == null) return "–";
    if (unit === "s") return value < 0.1 ? `${Math.round(value * 1000)} ms` : `${+value.toPrecision(3)} s`;
    const text = value >= 1000 ? `${+(value / 1000).toPrecision(3)}k` : `${+value.toPrecision(3)}`;
    return text + unit;
  };

  const clock = (at, seconds) => new Date(at * 1000).toLocaleTimeString("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });

  const times = (chart, ticks) => ticks.map((at) => clock(at, ticks.length > 1 && ticks[1] - ticks[0] < 60));

  // without a pointer over the chart its legend tells the newest numbers
  const newest = (chart) => {
    if (!(chart.cursor.left >= 0)) chart.setLegend({ idx: chart.data[0].length - 1 }, false);
  };

  const draw = (figure, past) => {
    const plot = figure.querySelector(".plot");
    const unit = figure.dataset.unit;
    const columns = figure.dataset.series.split(",").map((one) => one.split(":"));
    const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const line = ([key, label, name]) => {
      const stroke = colour(name);
      return { label, stroke, width: 1.75, fill: columns.length === 1 ? soft(stroke) : undefined, points: { show: false }, value: shown(unit), spanGaps: true };
    };
    const options = {
      width: plot.clientWidth, height: 170, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"), legend: { live: true }, cursor: { points: { size: 6 }, drag: { x: true, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, unit === "s" ? 0.01 : 1) * 1.1] } },
      axes: [{ ...axis, space: 80, size: 24, values: times }, { ...axis, size: 48, values: (u, ticks) => ticks.map((tick) => shown(unit)(u, tick)) }],
      series: [{ label: "UTC", value: (_, at) => (at == null ? "–" : clock(at, true)) }, ...columns.map(line)],
    };
    const data = [past.at, ...columns.map(([key]) => past[key])];
    figure.chart?.destroy();
    figure.chart = new uPlot(options, data, plot);
    newest(figure.chart);
    return { figure, plot, keys: columns.map(([key]) => key), data };
  };

  const add = (moment) => {
    for (const chart of charts) {
      const times = chart.data[0];
      if (times.length && moment.at <= times[times.length - 1]) continue;
      times.push(moment.at);
      chart.keys.forEach((key, n) => chart.data[n + 1].push(moment[key]));
      const old = times.findIndex((at) => at >= moment.at - PAST_SECONDS);
      if (old > 0) chart.data.forEach((column) => column.splice(0, old));
      chart.figure.chart.setData(chart.data);
      newest(chart.figure.chart);
    }
  };

  const say = (text, lost) => {
    pulse.hidden = false;
    pulse.textContent = text;
    pulse.classList.toggle("lost", lost);
  };

  let source;
  const connect = () => {
    source?.close();
    source = new EventSource(body.dataset.live);
    source.addEventListener("moment", (event) => {
      add(JSON.parse(event.data));
      say("live", false);
      htmx.trigger(body, "moment");
    });
    source.addEventListener("trouble", () => {
      say("Redis does not answer", true);
      htmx.trigger(body, "moment");
    });
    source.addEventListener("error", () => say("Disconnected, reconnecting…", true));
  };

  const redraw = () => charts.forEach((chart, n) => {
    charts[n] = draw(chart.figure, Object.fromEntries([["at", chart.data[0]], ...chart.keys.map((key, k) => [key, chart.data[k + 1]])]));
  });

  const begin = async () => {
    const figures = [...document.querySelectorAll(".chart[data-series]")];
    if (figures.length && body.dataset.past) {
      const answer = await fetch(body.dataset.past, { headers: { "HX-Request": "true" } });
      if (answer.ok) {
        const past = await answer.json();
        for (const figure of figures) charts.push(draw(figure, structuredClone(past)));
      }
      addEventListener("resize", () => charts.forEach((chart) => chart.figure.chart.setSize({ width: chart.plot.clientWidth, height: 170 })));
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    }
    if (!body.dataset.live) return;
    connect();
    document.addEventListener("visibilitychange", () => (document.hidden ? source.close() : connect()));
  };

  document.addEventListener("keydown", (event) => {
    const search = document.querySelector("[data-search]");
    if (event.key === "/" && search && !/^(input|textarea|select)$/i.test(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    }
  });

  // what is typed replaces the address, a choice is a step that Back undoes: the server is told which it was
  body.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.triggeringEvent?.type === "input") event.detail.headers["X-Typed"] = "1";
  });

  // what was typed or chosen before this script ran counts, too
  const caughtUp = () => {
    const form = document.getElementById("filters");
    const changed = (field) => field.matches("select") ? field.value !== (field.querySelector("[selected]") ?? field.options[0])?.value : field.value !== field.defaultValue;
    if (form && [...form.querySelectorAll("input, select")].some(changed)) htmx.trigger(form, "submit");
  };
  addEventListener("load", caughtUp);

  document.querySelector("nav [aria-current=page]")?.scrollIntoView({ inline: "center", block: "nearest" });
  begin();
})();
