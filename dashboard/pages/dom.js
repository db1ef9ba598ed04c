// Elements made and changed by the DOM's own functions: whatever the run says stays text.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function shape(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Changes a text only where it differs: what did not change is neither repainted nor read out again.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
