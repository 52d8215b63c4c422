//! The picture: error over size, both on logarithmic axes, as SVG.

use crate::svg::{line, open, segment, text, upright};

/// A preset.
pub struct Point {
    /// Its name.
    pub name: &'static str,
    /// Bits per value.
    pub bits: f64,
    /// Error; 0 is drawn at the lower edge.
    pub nmse: f64,
}

/// A transform on a tensor, over the number of bits.
pub struct Curve {
    /// Gives the colour.
    pub transform: &'static str,
    /// Gives the dashes.
    pub tensor: &'static str,
    /// Bits per value, and error.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 560.0;
/// Bits per value, as powers of two.
const BITS: (i32, i32) = (-2, 5);
/// Errors, as powers of ten.
const ERRORS: (i32, i32) = (-6, 3);

fn x(bits: f64) -> f64 {
    let (low, high) = (f64::from(BITS.0), f64::from(BITS.1));
    LEFT + (RIGHT - LEFT) * (bits.log2() - low) / (high - low)
}

fn y(nmse: f64) -> f64 {
    let (low, high) = (f64::from(ERRORS.0), f64::from(ERRORS.1));
    BOTTOM - (BOTTOM - TOP) * (nmse.log10().clamp(low, high) - low) / (high - low)
}

/// The whole document.
pub fn draw(points: &[Point], curves: &[Curve]) -> String {
    let mut svg = open(WIDTH, HEIGHT);
    svg += &text(WIDTH / 2.0, 30.0, "middle", 18, "fedpress: error against size");
    axes(&mut svg);
    bound(&mut svg);
    for Curve { transform, tensor, points } in curves {
        svg += &curve(points, colour(transform), dashes(tensor));
        for (bits, nmse) in points {
            svg += &format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{}\"/>\n",
                x(*bits),
                y(*nmse),
                colour(transform)
            );
        }
    }
    presets(&mut svg, points);
    legend(&mut svg, curves);
    svg + "</svg>\n"
}

/// Colours of pipelines, in their order.
const COLOURS: [&str; 6] = ["#be123c", "#7c3aed", "#1d4ed8", "#15803d", "#b45309", "#0e7490"];

/// Pipelines by name, each with bits per value and error at some rates.
pub fn sweep(pipelines: &[(String, Vec<(f64, f64)>)]) -> String {
    let mut svg = open(WIDTH, HEIGHT);
    svg += &text(WIDTH / 2.0, 30.0, "middle", 18, "fedpress: error against size");
    axes(&mut svg);
    bound(&mut svg);
    let left = RIGHT + 20.0;
    for (i, (name, points)) in pipelines.iter().enumerate() {
        let stroke = COLOURS[i % COLOURS.len()];
        svg += &curve(points, stroke, "none");
        for (bits, nmse) in points {
            let (cx, cy) = (x(*bits), y(*nmse));
            svg += &format!("<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{stroke}\"/>\n");
        }
        let at = TOP + 24.0 * (i + 1) as f64;
        svg += &segment((left, at - 4.0), (left + 36.0, at - 4.0), stroke, "none");
        svg += &text(left, at + 10.0, "start", 9, name);
    }
    let at = TOP + 24.0 * (pipelines.len() + 2) as f64;
    svg += &segment((left, at - 4.0), (left + 36.0, at - 4.0), "#555", "1.5 4");
    svg += &text(left + 44.0, at, "start", 13, "bound 1/(4^R - 1)");
    svg + "</svg>\n"
}

fn colour(transform: &str) -> &'static str {
    match transform {
        "identity" => "#b45309",
        "hadamard" => "#1d4ed8",
        _ => "#15803d",
    }
}

fn dashes(tensor: &str) -> &'static str {
    if tensor == "weights" { "none" } else { "7 4" }
}

fn curve(points: &[(f64, f64)], stroke: &str, dashes: &str) -> String {
    line(points.iter().map(|(bits, nmse)| (x(*bits), y(*nmse))), stroke, dashes)
}

fn axes(svg: &mut String) {
    for power in BITS.0..=BITS.1 {
        let bits = f64::from(power).exp2();
        let at = x(bits);
        *svg += &segment((at, TOP), (at, BOTTOM), "#e5e7eb", "none");
        *svg += &segment((at, BOTTOM), (at, BOTTOM + 6.0), "#111", "none");
        *svg += &text(at, BOTTOM + 22.0, "middle", 13, &bits.to_string());
    }
    for power in ERRORS.0..=ERRORS.1 {
        let at = y(10f64.powi(power));
        *svg += &segment((LEFT, at), (RIGHT, at), "#e5e7eb", "none");
        *svg += &segment((LEFT - 6.0, at), (LEFT, at), "#111", "none");
        let label = match power {
            0 => "1".to_owned(),
            _ => format!("10<tspan dy=\"-5\" font-size=\"10\">{power}</tspan>"),
        };
        *svg += &text(LEFT - 12.0, at + 4.0, "end", 13, &label);
    }
    *svg += &segment((LEFT, TOP), (LEFT, BOTTOM), "#111", "none");
    *svg += &segment((LEFT, BOTTOM), (RIGHT, BOTTOM), "#111", "none");
    *svg += &text((LEFT + RIGHT) / 2.0, BOTTOM + 50.0, "middle", 15, "bits per value");
    let middle = (TOP + BOTTOM) / 2.0;
    *svg += &upright(30.0, middle, 15, "NMSE (0 is exact, 1 is as bad as zeros)");
}

/// The least error of any unbiased code for normal values: 1 / (4^R - 1).
fn bound(svg: &mut String) {
    let points: Vec<_> = (0..=80)
        .map(|i| 0.25 * f64::from(i).mul_add(5.4 / 80.0, 0.0).exp2())
        .map(|bits| (bits, 1.0 / (4f64.powf(bits) - 1.0)))
        .filter(|(_, nmse)| *nmse >= 10f64.powi(ERRORS.0))
        .collect();
    *svg += &curve(&points, "#555", "1.5 4");
}

fn presets(svg: &mut String, points: &[Point]) {
    let mut labels: Vec<(f64, f64)> = Vec::new();
    for point in points {
        let (cx, cy) = (x(point.bits), y(point.nmse));
        *svg += &format!(
            "<path d=\"M{cx:.1} {:.1} l7 7 l-7 7 l-7 -7 z\" fill=\"#be123c\" stroke=\"white\"/>\n",
            cy - 7.0
        );
        // Below the labels that are already near.
        let mut at = (cx + 11.0, cy - 4.0);
        while labels.iter().any(|l| (l.0 - at.0).abs() < 70.0 && (l.1 - at.1).abs() < 14.0) {
            at.1 += 14.0;
        }
        labels.push(at);
        let exact = if point.nmse == 0.0 { " (exact)" } else { "" };
        let label = format!("<tspan font-weight=\"bold\">{}</tspan>{exact}", point.name);
        *svg += &halo(&text(at.0, at.1, "start", 13, &label));
    }
}

/// Text that stays readable on top of lines.
fn halo(text: &str) -> String {
    text.replacen("<text", "<text paint-order=\"stroke\" stroke=\"white\" stroke-width=\"4\"", 1)
}

fn legend(svg: &mut String, curves: &[Curve]) {
    let left = RIGHT + 20.0;
    let mut row = TOP + 10.0;
    let mut next = || {
        row += 24.0;
        row
    };
    *svg += &text(left, next() - 14.0, "start", 13, "q = 1 to 8 (right to left: fewer)");
    for curve in curves {
        let at = next();
        let stroke = colour(curve.transform);
        *svg += &segment((left, at - 4.0), (left + 36.0, at - 4.0), stroke, dashes(curve.tensor));
        let label = format!("{}, {}", curve.transform, curve.tensor);
        *svg += &text(left + 44.0, at, "start", 13, &label);
    }
    let at = next();
    *svg += &segment((left, at - 4.0), (left + 36.0, at - 4.0), "#555", "1.5 4");
    *svg += &text(left + 44.0, at, "start", 13, "bound 1/(4^R - 1)");
    let at = next();
    *svg += &format!(
        "<path d=\"M{:.1} {:.1} l7 7 l-7 7 l-7 -7 z\" fill=\"#be123c\"/>\n",
        left + 18.0,
        at - 11.0
    );
    *svg += &text(left + 44.0, at, "start", 13, "preset, all tensors");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_every_point_and_no_nan() {
        let points = [
            Point { name: "one", bits: 4.0, nmse: 0.01 },
            Point { name: "exact", bits: 27.0, nmse: 0.0 },
        ];
        let curve = Curve { transform: "kashin", tensor: "weights", points: vec![(1.0, 0.5)] };
        let svg = draw(&points, &[curve]);
        assert!(svg.contains(">one<") && svg.contains(">exact<") && svg.contains("(exact)"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(x(0.25) == LEFT && y(1e-6) == BOTTOM && y(0.0) == BOTTOM);
    }
}
