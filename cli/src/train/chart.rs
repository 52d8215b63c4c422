//! Line charts as SVG.

use crate::svg::{line, open, segment, text, upright};

/// A line with its name.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// Ascending in x.
    pub points: Vec<(f64, f64)>,
}

/// What a chart shows.
pub struct Chart {
    /// Under the x axis.
    pub x_label: &'static str,
    /// Whether powers of ten are equally far apart on it.
    pub x_log: bool,
    /// Beside the y axis.
    pub y_label: &'static str,
    /// Whether points are marked.
    pub dots: bool,
    /// In the order of the legend.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 360.0;
const COLOURS: [&str; 8] =
    ["#1d4ed8", "#be123c", "#15803d", "#b45309", "#7e22ce", "#0e7490", "#4b5563", "#a16207"];

/// One axis: from values to places.
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let usable = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (low, high) =
            usable.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let (low, high) = match log {
            true => (low.log10(), high.log10()),
            false => (low, high),
        };
        let high = if high > low { high } else { low + 1.0 };
        // Room for a mark at either end.
        let room = 0.03 * (high - low);
        let (low, high) = (low - room, high + room);
        Self { low, high, log, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (self.to - self.from) * (value - self.low) / (self.high - self.low)
    }

    /// Round values inside the scale.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let multiples: &[f64] =
                if self.high - self.low > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let powers = self.low.floor() as i32..=self.high.ceil() as i32;
            let ticks =
                powers.flat_map(|power| multiples.iter().map(move |m| m * 10f64.powi(power)));
            return ticks.filter(|v| (self.low..=self.high).contains(&v.log10())).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(power);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.high + step / 1e6).collect()
    }
}

impl Chart {
    /// An SVG element that can stand in a page.
    pub fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x = Scale::new(all().map(|p| p.0), self.x_log, LEFT, RIGHT);
        let y = Scale::new(all().map(|p| p.1), false, BOTTOM, TOP);
        let legend = TOP + 20.0 * self.lines.len() as f64 + 10.0;
        let mut svg = open(WIDTH, HEIGHT.max(legend));
        self.axes(&mut svg, &x, &y);
        for (i, given) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let dashes = ["none", "7 4", "2 3"][i / COLOURS.len() % 3];
            let drawn = given.points.iter().filter(|p| !self.x_log || p.0 > 0.0);
            let places: Vec<_> = drawn.map(|p| (x.at(p.0), y.at(p.1))).collect();
            places.iter().filter(|_| self.dots).for_each(|at| svg += &dot(*at, colour));
            svg += &line(places.into_iter(), colour, dashes);
            let (left, row) = (RIGHT + 16.0, TOP + 14.0 + 20.0 * i as f64);
            svg += &segment((left, row - 4.0), (left + 30.0, row - 4.0), colour, dashes);
            svg += &text(left + 36.0, row, "start", 13, &escaped(&given.name));
        }
        svg + "</svg>\n"
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let grid = |from, to| segment(from, to, "#e5e7eb", "none");
        for tick in x.ticks() {
            *svg += &grid((x.at(tick), TOP), (x.at(tick), BOTTOM));
            *svg += &text(x.at(tick), BOTTOM + 18.0, "middle", 13, &label(tick));
        }
        for tick in y.ticks() {
            *svg += &grid((LEFT, y.at(tick)), (RIGHT, y.at(tick)));
            *svg += &text(LEFT - 8.0, y.at(tick) + 4.0, "end", 13, &label(tick));
        }
        *svg += &text((LEFT + RIGHT) / 2.0, BOTTOM + 44.0, "middle", 13, self.x_label);
        let middle = (TOP + BOTTOM) / 2.0;
        *svg += &upright(16.0, middle, 13, self.y_label);
    }
}

/// The mark of a point.
fn dot(at: (f64, f64), fill: &str) -> String {
    format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{fill}\"/>\n", at.0, at.1)
}

/// A number as short as it can be.
fn label(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if value.abs() >= 1e5 { format!("{value:e}") } else { text.to_owned() }
}

/// Text that cannot be taken for markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_lines_and_no_nan() {
        let given =
            |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.to_vec() };
        let lines = [
            given("a<b", &[(0.0, 0.5), (10.0, 0.9), (1000.0, 0.95)]),
            given("empty", &[]),
            given("one", &[(5.0, 0.1)]),
        ];
        for x_log in [false, true] {
            let lines = lines.iter().map(|l| given(&l.name, &l.points)).collect();
            let svg = Chart { x_label: "x", x_log, y_label: "y", dots: true, lines }.svg();
            assert!(svg.contains("a&lt;b") && !svg.contains("NaN") && !svg.contains("inf"));
            assert_eq!(svg.matches("<polyline").count(), 3);
            assert_eq!(svg.matches("<circle").count(), if x_log { 3 } else { 4 });
        }
        let chart = |lines| Chart { x_label: "x", x_log: true, y_label: "y", dots: false, lines };
        assert!(!chart(vec![]).svg().contains("NaN"));
        // A legend of any length is inside the picture.
        let svg = chart((0..40).map(|_| given("", &[])).collect()).svg();
        assert!(svg.contains("viewBox=\"0 0 860 830\""));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::new([0.113, 0.987].into_iter(), false, 0.0, 1.0);
        assert_eq!(
            scale.ticks().iter().map(|t| label(*t)).collect::<Vec<_>>(),
            ["0.2", "0.4", "0.6", "0.8", "1"]
        );
        let ticks = |low, high| Scale::new([low, high].into_iter(), true, 0.0, 1.0).ticks();
        assert_eq!(ticks(180.0, 13_300.0), [200.0, 500.0, 1e3, 2e3, 5e3, 1e4]);
        assert_eq!(ticks(2.0, 5e4), [10.0, 100.0, 1e3, 1e4]);
    }
}
