// The schedule is built once and read on any day: mark the first meeting that is not over on the reader's own.
document.addEventListener("DOMContentLoaded", () => {
  const now = new Date();
  const today = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
  const next = [...document.querySelectorAll("tr[data-date]")].find((row) => row.dataset.date >= today);
  if (next) next.classList.add("next");
});
