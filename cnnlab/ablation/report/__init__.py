"""How a study is shown: terminal, HTML, Markdown, CSV, LaTeX, TensorBoard, the page of claims."""
