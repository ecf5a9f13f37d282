"use strict";
// A listening study. State is one object, which is kept in the browser after every answer; screens are drawn from it.
(() => {
  const study = JSON.parse(document.getElementById("study").textContent);
  const { items: questions, scale, loops } = study.questions;
  const BLOCK = 12;              // trials among which one may go back
  const BREAK_MS = 12 * 60e3;
  const HEADPHONE_TRIALS = 6, HEADPHONE_RIGHT = 5;  // Woods et al. (2017), Attention, Perception & Psychophysics 79
  const get = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const now = () => new Date().toISOString();

  // State: kept under the study's digest and the listener's number.

  const prefix = `tonemill-survey/${study.digest}/`;
  const kept = {
    read(name) { try { return JSON.parse(localStorage.getItem(prefix + name)); } catch { return null; } },
    write(name, value) {
      try { localStorage.setItem(prefix + name, JSON.stringify(value)); } catch {
        trouble("This browser keeps nothing, perhaps in a private window. Do not close or reload the page before the end.");
      }
    },
  };
  const numberInAddress = Number(new URLSearchParams(location.search).get("listener")) || null;
  let state = kept.read(numberInAddress ?? kept.read("last") ?? "nobody");
  const fresh = (listener) => ({
    tonemill_survey: 1, study: study.digest, session: crypto.randomUUID?.() ?? random(16), listener,
    consent: { digest: study.consent_digest, at: now() }, facts: {}, headphones: { mode: study.headphones },
    browser: browser(), sample_rate: null, latency_ms: null, started: now(), finished: null, comment: "",
    screen: "level", step: 0, rested_ms: 0, active_ms: 0, trials: [],
  });
  const keep = () => { kept.write(state.listener, state); kept.write("last", state.listener); };
  const random = (bytes) => [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const browser = () => (navigator.userAgent.match(/(Firefox|Edg|OPR|Chrome|Version)\/\d+/) ?? ["other"])[0].replace("Version", "Safari");
  const order = () => study.orders[(state.listener - 1) % study.orders.length];
  const trial = () => order()[state.step];
  const record = () => state.trials[state.step] ??= { ...trial(), position: state.step, answers: {}, ms: {}, changes: 0, rounds: 0, seconds: 0, shown: now() };

  // Sound: clips are scripts, for a page on a disk may load scripts and fetch nothing.

  let context = null, gain = null, playing = null;
  const awaited = new Map(), sounds = new Map();
  window.clip = (id, base64) => awaited.get(id)?.(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
  const load = (id) => {
    if (!sounds.has(id)) {
      sounds.set(id, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        awaited.set(id, resolve);
        script.src = `clips/${id}.js`;
        script.onload = () => script.remove();
        script.onerror = () => { script.remove(); reject(new Error(id)); };
        document.head.append(script);
      }).then((data) => context.decodeAudioData(data)));
      sounds.get(id).catch(() => sounds.delete(id));
    }
    return sounds.get(id);
  };
  const soundOn = async () => {
    // At the clips' own rate, so that the page resamples nothing. Browsers let sound begin in a gesture only.
    context ??= new AudioContext({ sampleRate: study.sample_rate, latencyHint: "playback" });
    await context.resume();
    state.sample_rate = context.sampleRate;
    state.latency_ms = Math.round(1e3 * ((context.outputLatency || 0) + context.baseLatency));
  };
  // One node plays one buffer; the graph repeats it to the sample, whatever the page does meanwhile.
  const start = (buffer, loop, onended = null) => {
    stop();
    const node = context.createBufferSource();
    gain = context.createGain();
    node.buffer = buffer;
    node.loop = loop;
    node.onended = onended;
    node.connect(gain).connect(context.destination);
    const at = context.currentTime + 0.02;
    node.start(at);
    playing = { node, at, length: buffer.duration };
  };
  const stop = () => {
    if (!playing) return;
    // A few milliseconds of fade, for a cut would click; the clip itself is not touched.
    playing.node.onended = null;
    gain.gain.setTargetAtTime(0, context.currentTime, 0.004);
    playing.node.stop(context.currentTime + 0.03);
    playing = null;
  };
  const elapsed = () => (playing ? Math.max(0, context.currentTime - playing.at - (context.outputLatency || 0)) : 0);
  const made = (seconds, channels, sample) => {
    const buffer = context.createBuffer(channels, Math.round(seconds * context.sampleRate), context.sampleRate);
    for (let channel = 0; channel < channels; channel++) {
      const data = buffer.getChannelData(channel);
      for (let n = 0; n < data.length; n++) data[n] = sample(n / context.sampleRate, channel);
    }
    return buffer;
  };
  // Pink noise by three poles (Kellet's filter), at the power of a tone of the study's loudness: within 1 LU of it.
  const pink = () => {
    let a = 0, b = 0, c = 0;
    const buffer = made(4, 1, () => {
      const white = Math.random() * 2 - 1;
      a = 0.99765 * a + white * 0.099046; b = 0.963 * b + white * 0.2965164; c = 0.57 * c + white * 1.0526913;
      return a + b + c + white * 0.1848;
    });
    const data = buffer.getChannelData(0);
    const power = data.reduce((sum, one) => sum + one * one, 0) / data.length;
    const level = 10 ** (study.loudness_lufs / 20) / Math.sqrt(power);
    data.forEach((one, n) => { data[n] = one * level; });
    return buffer;
  };
  const quiet = () => made(1, 1, (t) => 10 ** ((study.loudness_lufs - 30) / 20) * Math.sin(2 * Math.PI * 1000 * t));

  // Screens.

  const trouble = (text) => { get("trouble").textContent = text; get("trouble").hidden = !text; };
  const show = (name) => {
    stop();
    for (const one of all("[data-screen]")) one.hidden = one.dataset.screen !== name;
    const heading = document.querySelector(`[data-screen="${name}"] h1`);
    draws[name]?.();
    const share = state ? Math.round(100 * state.step / order().length) : 0;
    get("bar").hidden = name !== "trial" && name !== "break";
    get("bar").setAttribute("aria-valuenow", share);
    get("bar").firstElementChild.style.width = `${share}%`;
    scrollTo(0, 0);
    heading.focus();
  };
  const go = (name) => { state.screen = name; keep(); show(name); };
  const after = {
    level: () => "headphones",
    practice: () => "trial",
    ready: () => "trial",
    break: () => { state.rested_ms = state.active_ms; return "trial"; },
    resume: () => state.screen,
  };
  const draws = {
    welcome: () => { get("numbered").hidden = numberInAddress !== null; },
    headphones: () => drawHeadphones(),
    trial: () => drawTrial(),
    end: () => drawEnd(),
  };
  for (const button of all("[data-next]")) {
    button.addEventListener("click", async () => {
      await soundOn();
      go(after[button.closest("section").dataset.screen]());
    });
  }
  get("start").addEventListener("submit", async (event) => {
    event.preventDefault();
    const listener = numberInAddress ?? (Number(get("listener").value) || 1 + crypto.getRandomValues(new Uint32Array(1))[0] % study.orders.length);
    // Answers of another person with this number, at this computer, stay there under their own session.
    const earlier = kept.read(listener);
    if (earlier) kept.write(`${listener}/${earlier.session}`, earlier);
    state = fresh(listener);
    for (const one of all("[data-fact]")) if (one.value) state.facts[one.dataset.fact] = one.value;
    await soundOn();
    go("level");
  });
  for (const [id, buffer] of [["noise", pink], ["tone", quiet]]) {
    get(id).addEventListener("click", async () => {
      await soundOn();
      const on = get(id).getAttribute("aria-pressed") === "true";
      for (const one of ["noise", "tone"]) get(one).setAttribute("aria-pressed", "false");
      if (on) return stop();
      get(id).setAttribute("aria-pressed", "true");
      start(buffer(), true);
    });
  }

  // Headphones: of three tones of 200 Hz, one is 6 dB softer and one is turned over in one ear, where loudspeakers
  // cancel it and headphones do not (Woods et al., 2017).

  const drawHeadphones = () => {
    const ask = study.headphones === "ask";
    get("ask").hidden = !ask;
    get("check").hidden = ask;
    state.headphones.trials ??= [];
    get("tried").textContent = `${state.headphones.trials.length + 1} of ${HEADPHONE_TRIALS}`;
    for (const one of all("[data-quietest]")) one.disabled = true;
  };
  for (const one of all("[data-wear]")) one.addEventListener("click", () => { state.headphones.wears = one.dataset.wear; go("practice"); });
  let quietest = 0;
  get("tones").addEventListener("click", async () => {
    await soundOn();
    const kinds = ["soft", "turned", "plain"].map((kind) => [Math.random(), kind]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
    quietest = 1 + kinds.indexOf("soft");
    const level = 10 ** ((study.loudness_lufs + 6) / 20);
    start(made(4, 2, (t, channel) => {
      const kind = kinds[Math.floor(t / 1.5)], at = t % 1.5;
      if (at >= 1) return 0;
      const edge = Math.min(1, at / 0.1, (1 - at) / 0.1);
      return level * edge * (kind === "soft" ? 0.5 : 1) * (kind === "turned" && channel ? -1 : 1) * Math.sin(2 * Math.PI * 200 * at);
    }), false);
    for (const one of all("[data-quietest]")) one.disabled = false;
  });
  for (const one of all("[data-quietest]")) {
    one.addEventListener("click", () => {
      const tries = state.headphones.trials;
      tries.push(Number(one.dataset.quietest) === quietest);
      if (tries.length < HEADPHONE_TRIALS) { keep(); return show("headphones"); }
      state.headphones.right = tries.filter(Boolean).length;
      state.headphones.passed = state.headphones.right >= HEADPHONE_RIGHT;
      go("practice");
    });
  }

  // Trials.

  let before = 0, opened = 0;     // rounds and seconds of earlier plays of this screen; when its answers opened
  const fieldset = (name) => document.querySelector(`[data-question="${name}"]`);
  const needed = (one) => (trial().clip ? (loops ? one.rounds : 1) : 0);
  const complete = () => questions.every((one) => record().answers[one.name]);
  const drawTrial = () => {
    const one = record(), counted = order().filter((each) => each.kind !== "training").length;
    const nth = order().slice(0, state.step).filter((each) => each.kind !== "training").length + 1;
    get("title").textContent = one.kind === "training" ? `Practice ${state.step + 1}` : `${nth} of ${counted}`;
    get("sound").hidden = !one.clip;
    get("instruction").hidden = !!one.clip;
    if (!one.clip) get("instruction").textContent = `This screen has no sound. To show that you read it, choose ${one.answer} (${scale[one.answer - 1]}) everywhere.`;
    before = one.rounds;
    opened = performance.now();
    for (const input of all("input", get("answers"))) input.checked = one.answers[input.name] === Number(input.value);
    // One may go back within a block, and not from what counts into practice.
    const ended = one.kind !== "training" && order()[state.step - 1]?.kind === "training";
    get("back").disabled = state.step % BLOCK === 0 || ended;
    refresh();
    const here = state.step;
    if (one.clip) {
      load(one.clip).then(() => trouble(""), () => trouble("A clip cannot be loaded. Is the folder whole, and the server there? Press play to try again."));
      const following = order()[here + 1]?.clip;
      if (following) load(following).catch(() => {});
    }
    for (const id of [...sounds.keys()]) if (!order().slice(Math.max(0, here - 1), here + 3).some((each) => each.clip === id)) sounds.delete(id);
  };
  const refresh = () => {
    const one = record(), inRound = playing ? elapsed() / playing.length : 0;
    if (playing) one.rounds = Math.max(one.rounds, Math.min(before + inRound, loops ? Infinity : before + 1));
    for (const each of questions) {
      const locked = one.rounds < needed(each);
      if (fieldset(each.name).disabled && !locked) opened = performance.now();
      fieldset(each.name).disabled = locked;
    }
    get("next").disabled = !complete();
    get("play").classList.toggle("on", !!playing);
    get("play").setAttribute("aria-label", playing ? "Stop" : "Play");
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector(".hand").style.strokeDashoffset = playing && !still ? 1 - (loops ? inRound % 1 : Math.min(1, inRound)) : 1;
    const locked = questions.filter((each) => one.rounds < needed(each));
    const left = Math.max(0, ...locked.map(needed)) - Math.floor(one.rounds);
    const rounds = loops ? `Round ${Math.floor(one.rounds) + 1}. ` : "";
    const text = !locked.length ? `${playing ? rounds : ""}All questions are open.` : `${playing ? rounds : "Press play. "}${locked.length === questions.length ? "Questions" : "More questions"} open after ${left} more ${loops ? "round" : "time"}${left > 1 ? "s" : ""}.`;
    if (get("state").textContent !== text) get("state").textContent = text;
  };
  setInterval(() => { if (state?.screen === "trial" && playing) refresh(); }, 50);
  const toggle = async () => {
    const one = record();
    if (!one.clip) return;
    if (playing) return halt();
    try {
      await soundOn();
      const buffer = await load(one.clip);
      if (one !== record() || playing) return;
      trouble("");
      // Rounds count from where earlier plays ended: a round is whole only if it was played in one piece.
      before = Math.floor(one.rounds);
      one.started ??= now();
      start(buffer, loops, () => halt());
      refresh();
    } catch { trouble("A clip cannot be loaded. Is the folder whole, and the server there? Press play to try again."); }
  };
  const halt = () => {
    if (!playing) return;
    const one = record(), seconds = elapsed(), length = playing.length;
    one.seconds += loops ? seconds : Math.min(seconds, length);
    one.rounds = Math.max(one.rounds, loops ? before + seconds / length : seconds > length - 0.15 ? before + 1 : before);
    stop();
    keep();
    refresh();
  };
  get("play").addEventListener("click", toggle);
  const answer = (name, value) => {
    const one = record(), each = questions.find((each) => each.name === name);
    if (one.rounds < needed(each)) return;
    if (one.answers[name] && one.answers[name] !== value) one.changes += 1;
    one.answers[name] = value;
    one.ms[name] = Math.round(performance.now() - opened);
    const input = document.querySelector(`input[name="${name}"][value="${value}"]`);
    input.checked = true;
    keep();
    refresh();
  };
  get("answers").addEventListener("change", (event) => answer(event.target.name, Number(event.target.value)));
  get("answers").addEventListener("submit", (event) => event.preventDefault());
  const step = (by) => {
    if (by > 0 && !complete() || by < 0 && get("back").disabled) return;
    halt();
    const one = record();
    if (by > 0 && !one.finished) {
      one.finished = now();
      state.active_ms += Math.min(120e3, Date.parse(one.finished) - Date.parse(one.shown));
    }
    state.step += by;
    if (state.step >= order().length) return finish();
    if (by > 0 && one.kind === "training" && trial().kind !== "training") return go("ready");
    if (by > 0 && state.step % BLOCK === 0 && state.active_ms - state.rested_ms > BREAK_MS) return go("break");
    go("trial");
  };
  get("next").addEventListener("click", () => step(1));
  get("back").addEventListener("click", () => step(-1));
  const focused = () => document.activeElement.closest?.("[data-question]")?.dataset.question ?? questions.find((one) => !record().answers[one.name])?.name ?? questions[0].name;
  const focusOn = (name) => (document.querySelector(`input[name="${name}"]:checked`) ?? document.querySelector(`input[name="${name}"]`)).focus();
  document.addEventListener("keydown", (event) => {
    if (state?.screen !== "trial" || get("title").closest("section").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
    const onButton = document.activeElement.tagName === "BUTTON" && document.activeElement !== get("play");
    const names = questions.map((one) => one.name), place = names.indexOf(focused());
    const digit = Number(event.key);
    if (event.key === " " && !onButton) toggle();
    else if (event.key === "Enter" && !onButton) step(1);
    else if (event.key === "Backspace") step(-1);
    else if (event.key === "ArrowDown") focusOn(names[Math.min(place + 1, names.length - 1)]);
    else if (event.key === "ArrowUp") focusOn(names[Math.max(place - 1, 0)]);
    else if (Number.isInteger(digit) && digit >= 1 && digit <= scale.length && event.key !== " ") {
      answer(names[place], digit);
      if (record().answers[names[place]] === digit) focusOn(names[Math.min(place + 1, names.length - 1)]);
    } else return;
    event.preventDefault();
  });

  // The end: answers are handed over as a file, as text, or to a server.

  const result = () => {
    const { screen, step, rested_ms, ...rest } = state;
    return JSON.stringify({ ...rest, comment: get("comment").value || state.comment });
  };
  const finish = () => { state.finished ??= now(); go("end"); if (get("send").hidden === false) send(); };
  const address = study.post ?? (location.protocol.startsWith("http") ? "answers" : null);
  const drawEnd = () => {
    state.step = order().length;
    get("comment").value = state.comment;
    get("send").hidden = !address;
    get("again").hidden = numberInAddress !== null;
  };
  get("comment").addEventListener("input", () => { state.comment = get("comment").value; keep(); });
  get("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([result()], { type: "application/json" }));
    link.download = `answers-${study.digest.slice(0, 8)}-${state.listener}-${state.session.slice(0, 8)}.json`;
    link.click();
    get("handed").textContent = `${link.download} is saved. Send it to the person who gave you this study.`;
  });
  get("copy").addEventListener("click", async () => {
    get("text").value = result();
    get("text").hidden = false;
    get("text").select();
    try { await navigator.clipboard.writeText(result()); get("handed").textContent = "Your answers are copied. Paste them into a message."; }
    catch { get("handed").textContent = "Copy the text below, and paste it into a message."; }
  });
  const send = async () => {
    for (const wait of [0, 1e3, 4e3]) {
      await new Promise((done) => setTimeout(done, wait));
      try {
        const got = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: result() });
        if (got.ok) { get("handed").textContent = "Your answers have arrived. You may close this page."; return; }
        if (got.status < 500 || got.status === 501) break;
      } catch { /* the next try */ }
    }
    get("handed").textContent = "Your answers could not be sent. Save them as a file, or copy them as text.";
  };
  get("send").addEventListener("click", send);
  get("again").addEventListener("click", () => { kept.write("last", null); state = null; show("welcome"); });

  addEventListener("pagehide", () => { if (state?.screen === "trial") { halt(); keep(); } });
  if (!state) show("welcome");
  else if (state.screen === "end") show("end");
  else show("resume");
})();
