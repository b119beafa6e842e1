"use strict";
const player = document.getElementById("player");
let button = null, stopAt = 0;
function stop() { player.pause(); if (button) button.classList.remove("on"); button = null; }
player.addEventListener("timeupdate", () => { if (player.currentTime >= stopAt) stop(); });
player.addEventListener("ended", stop);
document.addEventListener("click", async (event) => {
  const pressed = event.target.closest("button.play");
  if (!pressed) return;
  const again = pressed === button;
  stop();
  if (again) return;
  player.src = contents[pressed.dataset.content].audio;
  await new Promise((ready, failed) => { player.onloadedmetadata = ready; player.onerror = failed; });
  player.currentTime = Number(pressed.dataset.start);
  stopAt = Number(pressed.dataset.stop);
  button = pressed;
  pressed.classList.add("on");
  await player.play();
  pressed.dataset.played = "yes";
});
