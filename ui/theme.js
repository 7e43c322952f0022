// Runs before anything is drawn (a plain script in the head), so that a chosen theme never flashes.
(function () {
  try {
    var theme = JSON.parse(localStorage.getItem('chiasm.theme'));
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden: the system's theme it is.
  }
})();
