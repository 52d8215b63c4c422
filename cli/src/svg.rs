//! The few elements of SVG that pictures are made of.

/// The opening tag of a picture of this size, white behind.
pub fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

/// Text; `anchor` is `start`, `middle` or `end`. It may hold elements, so what comes from outside is
/// to be escaped first.
pub fn text(x: f64, y: f64, anchor: &str, size: u32, text: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
         fill=\"#111\">{text}</text>\n"
    )
}

/// Text beside a vertical axis, centred at `y`.
pub fn upright(x: f64, y: f64, size: u32, label: &str) -> String {
    format!("<g transform=\"rotate(-90 {x} {y})\">\n{}</g>\n", text(x, y, "middle", size, label))
}

/// A straight line.
pub fn segment(from: (f64, f64), to: (f64, f64), stroke: &str, dashes: &str) -> String {
    format!(
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\" \
         stroke-width=\"1.5\" stroke-dasharray=\"{dashes}\"/>\n",
        from.0, from.1, to.0, to.1
    )
}

/// A line through points.
pub fn line(points: impl Iterator<Item = (f64, f64)>, stroke: &str, dashes: &str) -> String {
    let path: Vec<_> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"1.8\" \
         stroke-dasharray=\"{dashes}\"/>\n",
        path.join(" ")
    )
}
