// What the browser keeps for this page: a few settings, and what uploads were called. Storage may be full or forbidden; then nothing is kept.

export function recall(key, otherwise) {
  try {
    const text = localStorage.getItem(`chiasm.${key}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function keep(key, value) {
  try {
    if (value === null) localStorage.removeItem(`chiasm.${key}`);
    else localStorage.setItem(`chiasm.${key}`, JSON.stringify(value));
  } catch {
    // Nothing is kept, nothing is lost.
  }
}
