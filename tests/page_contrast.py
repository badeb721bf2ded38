"""How well the text of a page can be told from what is behind it, as the browser paints it."""

# All text that can be seen, each as [contrast by WCAG 2, text, tag and classes].
MEASURE = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const layersOf = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.unshift(getComputedStyle(one).backgroundColor);
    return layers;
  };
  const painted = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of ["white", ...layers]) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const { width, height } = element.getBoundingClientRect();
    const isUnseen = width < 2 || height < 2 || element.closest(".unseen, script, noscript, :disabled");
    if (isUnseen || !node.data.trim()) continue;
    const behind = layersOf(element);
    const [a, b] = [painted(behind), painted([...behind, getComputedStyle(element).color])].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, node.data.trim(), `${element.tagName}.${element.className}`]);
  }
  return found;
}
"""
