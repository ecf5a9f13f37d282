"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const player = document.getElementById("player");
  const loop = document.getElementById("loop");
  let current = null;

  // Playing: one player for the page, and the side of a clip that it plays.

  const viewOf = (side) => side.querySelector(".view");
  const labelled = (side, playing) => {
    const button = side.querySelector(".play");
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^(Play|Pause) /, playing ? "Pause " : "Play "));
  };
  const leave = () => {
    if (!current) return;
    current.classList.remove("playing", "paused");
    labelled(current, false);
    viewOf(current).setAttribute("aria-valuenow", "0");
  };
  const draw = () => {
    if (!current || !player.duration) return;
    const share = player.currentTime / player.duration;
    const view = viewOf(current);
    view.querySelector(".head").style.left = `${100 * share}%`;
    view.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    view.setAttribute("aria-valuetext", `${player.currentTime.toFixed(2)} of ${player.duration.toFixed(2)} seconds`);
    if (!player.paused) requestAnimationFrame(draw);
  };
  const play = (side, share = null) => {
    let at = share;
    if (side !== current) {
      // Switching from dry to wet keeps the position.
      if (at === null && current && current.parentElement === side.parentElement && !player.paused)
        at = player.currentTime / player.duration;
      leave();
      current = side;
      player.src = side.dataset.sound;
    }
    const begin = () => {
      if (at !== null && player.duration) player.currentTime = at * player.duration;
      player.play().catch(() => side.classList.remove("playing"));
    };
    if (at !== null && player.readyState < 1) player.addEventListener("loadedmetadata", begin, { once: true });
    else begin();
  };
  const toggle = (side) => {
    if (side === current && !player.paused) player.pause();
    else play(side);
  };
  player.addEventListener("play", () => {
    current.classList.add("playing");
    current.classList.remove("paused");
    labelled(current, true);
    draw();
  });
  player.addEventListener("pause", () => {
    current.classList.remove("playing");
    current.classList.toggle("paused", !player.ended);
    labelled(current, false);
    draw();
  });
  player.addEventListener("seeked", draw);
  if (loop) loop.addEventListener("change", () => { player.loop = loop.checked; });

  const seek = (side, seconds) => {
    if (side !== current) return play(side, 0);
    player.currentTime = Math.min(Math.max(0, player.currentTime + seconds), Math.max(0, player.duration - 0.01));
  };
  for (const side of all(".side")) {
    const view = viewOf(side);
    side.querySelector(".play").addEventListener("click", () => toggle(side));
    view.addEventListener("click", (event) => {
      const box = view.getBoundingClientRect();
      play(side, Math.min(0.999, Math.max(0, (event.clientX - box.left) / box.width)));
    });
    view.addEventListener("keydown", (event) => {
      const step = Math.max(0.05, (player.duration || 1) / 20);
      const does = {
        ArrowLeft: () => seek(side, -step), ArrowRight: () => seek(side, step), ArrowDown: () => seek(side, -step),
        ArrowUp: () => seek(side, step), Home: () => play(side, 0), End: () => seek(side, 1e9),
        Enter: () => toggle(side), " ": () => toggle(side),
      }[event.key];
      if (does && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); does(); }
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    if (event.key === "r" && loop) { loop.checked = !loop.checked; player.loop = loop.checked; }
    if (event.key !== "j" && event.key !== "k") return;
    const buttons = all(".clip:not([hidden]) .play");
    const here = buttons.indexOf(document.activeElement.closest(".side")?.querySelector(".play"));
    const next = here < 0 ? 0 : here + (event.key === "j" ? 1 : -1);
    if (buttons[next]) { buttons[next].focus(); buttons[next].scrollIntoView({ block: "nearest" }); }
  });

  // Filtering: rows or clips whose text holds every word.

  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const input of all(".filter")) {
    const set = input.closest(".set");
    const things = () => all("tbody tr, .clip", set);
    const count = set.querySelector(".count");
    const texts = new Map();
    input.addEventListener("input", () => {
      const wanted = words(input.value);
      let left = 0;
      for (const thing of things()) {
        if (!texts.has(thing)) texts.set(thing, thing.textContent.toLowerCase());
        thing.hidden = !wanted.every((word) => texts.get(thing).includes(word));
        left += thing.hidden ? 0 : 1;
      }
      count.textContent = wanted.length ? `${left} of ${texts.size}` : "";
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { input.value = ""; input.dispatchEvent(new Event("input")); }
    });
  }

  // Sorting: numbers as numbers, words as words, and what is missing last either way.

  const compare = (a, b, down) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
    return down ? -order : order;
  };
  for (const table of all("table.data:not([data-fixed])")) {
    const body = table.tBodies[0];
    if (body.rows.length < 2) continue;
    all("thead th", table).forEach((head, column) => {
      if ("fixed" in head.dataset) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.replaceAll(",", "").replace("−", "-");
        body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), down)));
        // A metric's name stands once above its rows.
        if (table.classList.contains("metrics"))
          [...body.rows].forEach((row, at, rows) =>
            row.cells[0].classList.toggle("again", at > 0 && rows[at - 1].cells[0].textContent === row.cells[0].textContent));
      });
    });
  }
  for (const select of all(".order")) {
    const clips = select.closest(".set").querySelector(".clips");
    const drawn = [...clips.children];
    select.addEventListener("change", () => {
      const by = select.value;
      const order = by ? [...drawn].sort((a, b) => compare(a.dataset[by], b.dataset[by], by === "peak")) : drawn;
      clips.append(...order);
    });
  }

  // Where one is.

  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
  }, { rootMargin: "-25% 0px -75% 0px" });
  for (const section of all("main section")) watcher.observe(section);
})();
