
// ---- tree: questions from left to right -----------------------------------------------------------------------
function drawTree(host, figure) {
  const grow = (content, parent) => {
    const line = node("div", { class: "question" }, parent), end = !content.branches.length;
    const box = node("div", { class: end ? "words end" : "words" }, line, content.words);
    if (content.note) node("div", { class: "of" }, box, content.note);
    if (end) return;
    const branches = node("div", { class: "branches" }, line);
    for (const [answer, below] of content.branches) {
      const branch = node("div", { class: "branch" }, branches);
      node("span", { class: "answer" }, branch, answer);
      grow(below, branch);
    }
  };
  const root = node("div", { class: "questions", role: "group", "aria-label": figure.title }, host);
  grow(figure.root, root);
}
draws.tree = drawTree;
