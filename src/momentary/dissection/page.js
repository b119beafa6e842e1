"use strict";
const contents = JSON.parse(document.getElementById("contents").textContent);
for (const image of document.querySelectorAll("img[data-content]"))
  image.src = contents[image.dataset.content].picture;
for (const choice of document.querySelectorAll("select.label"))
  choice.addEventListener("change", () => {
    for (const unit of choice.closest("section").querySelectorAll(".unit"))
      unit.hidden = choice.value !== "" && !unit.dataset.labels.split(" ").includes(choice.value);
  });
