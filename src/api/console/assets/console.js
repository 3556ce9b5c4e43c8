// What makes the console's pages better than they are without it: times in the reader's words, keys, copying, and parts
// that follow what happens. Nothing here is needed.
"use strict";

// Times: the reader's own, and in words where that says more.

const two = (number) => String(number).padStart(2, "0");
const dayOf = (moment) => `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
const timeOf = (moment) => [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(two).join(":");

// The day too, unless it is this one.
function asClock(moment) {
  const day = dayOf(moment);
  return day === dayOf(new Date()) ? timeOf(moment) : `${day} ${timeOf(moment)}`;
}

const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { style: "narrow" });

function inWords(moment) {
  const seconds = Math.round((moment - Date.now()) / 1000);
  const [unit, length] = units.find(([, length]) => Math.abs(seconds) >= length) ?? units[3];
  return Math.abs(seconds) < 1 ? "now" : relative.format(Math.trunc(seconds / length), unit);
}

function tellTimes(within) {
  for (const time of within.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const text = "words" in time.dataset ? inWords(moment) : asClock(moment);
    if (time.textContent !== text) time.textContent = text;
  }
}

// Blocks of text get a button that copies them.

function offerCopies(within) {
  if (!navigator.clipboard) return;
  for (const block of within.querySelectorAll("pre[data-copy]")) {
    if (block.querySelector("button")) continue;
    const text = block.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
}

function improve(within) {
  tellTimes(within);
  offerCopies(within);
}

improve(document);
setInterval(() => tellTimes(document), 1000);

// Parts that follow what happens.

const main = document.getElementById("main");
const hold = document.querySelector("[data-hold]");
const follows = document.querySelector(".follows");
let isHeld = false;

// Whether somebody is at work in a part: what they see must not go away under their hands.
function isInUse(part) {
  const selection = document.getSelection();
  const isSelected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  return isSelected || part.querySelector("details[open]") || part.querySelector("form :focus");
}

function replace(part, markup) {
  const row = part.querySelector("tr.at a.row, a.row:focus")?.getAttribute("href");
  const hadFocus = part.contains(document.activeElement);
  part.innerHTML = markup;
  improve(part);
  const again = row && [...part.querySelectorAll("a.row")].find((link) => link.getAttribute("href") === row);
  if (again) stand(again, hadFocus);
}

// What has come for a part that must stay as it is for now.
const waiting = new Map();

function show(name, markup) {
  const part = document.getElementById(`live-${name}`);
  if (!part) return;
  if (isHeld || isInUse(part)) {
    waiting.set(name, markup);
  } else {
    waiting.delete(name);
    replace(part, markup);
  }
}

function showWaiting() {
  for (const [name, markup] of waiting) show(name, markup);
}

let source = null;

function say(word, state) {
  if (!follows) return;
  follows.hidden = false;
  follows.textContent = word;
  follows.dataset.state = state;
}

function sayHow() {
  if (isHeld) say("held", "held");
  else say("following", "well");
}

function follow() {
  source?.close();
  source = null;
  // A page that nobody looks at is not followed.
  if (document.hidden) return;
  source = new EventSource(main.dataset.changes);
  source.addEventListener("open", sayHow);
  source.addEventListener("parts", (event) => {
    sayHow();
    for (const [name, markup] of Object.entries(JSON.parse(event.data))) show(name, markup);
  });
  source.addEventListener("stale", () => say("the bus does not answer", "bad"));
  // The session is: the page that comes then says so.
  source.addEventListener("over", () => location.reload());
  source.addEventListener("error", () => {
    say("not following", "bad");
    // The browser tries again by itself, but for what it was refused.
    if (source?.readyState === EventSource.CLOSED) setTimeout(follow, 10000);
  });
}

if (main?.dataset.changes) {
  follow();
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => source?.close());
  setInterval(showWaiting, 1000);
  if (hold) {
    hold.hidden = false;
    hold.addEventListener("click", () => {
      isHeld = !isHeld;
      hold.textContent = isHeld ? "Go on" : "Hold";
      sayHow();
      showWaiting();
    });
  }
}

// Keys.

const keys = document.getElementById("keys");
let goes = false;

function stand(link, focuses) {
  document.querySelector("tr.at")?.classList.remove("at");
  link.closest("tr").classList.add("at");
  if (focuses) link.focus();
}

function step(by) {
  const rows = [...document.querySelectorAll("main a.row")];
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.closest("tr").classList.contains("at"));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
  stand(rows[next], true);
}

function isWriting(target) {
  return target instanceof Element && target.matches("input, select, textarea");
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
  if (goes) {
    goes = false;
    const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
    }
    return;
  }
  if (event.key === "g") {
    goes = true;
    setTimeout(() => { goes = false; }, 1500);
  } else if (event.key === "/") {
    const search = document.querySelector("[data-search]") ?? document.querySelector(".filters input, .filters select");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select?.();
    }
  } else if (event.key === "?") {
    if (keys?.open) keys.close();
    else keys?.showModal();
  } else if (event.key === "j") {
    step(1);
  } else if (event.key === "k") {
    step(-1);
  }
});
