// Before anything is painted: the colours that were chosen here last.
(() => {
  const chosen = () => {
    try {
      return localStorage.getItem("theme") || "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  };
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
  };
  apply(chosen());
  addEventListener("DOMContentLoaded", () => {
    const current = document.querySelector(`#theme [value="${CSS.escape(chosen())}"]`);
    if (current) current.checked = true;
    document.getElementById("theme").addEventListener("change", (event) => {
      apply(event.target.value);
      try {
        localStorage.setItem("theme", event.target.value);
      } catch {
        // then it holds for this visit
      }
    });
  });
})();
