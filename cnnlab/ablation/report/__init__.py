"""Shows a study: terminal, HTML, Markdown, CSV, LaTeX, TensorBoard, the page of claims."""
