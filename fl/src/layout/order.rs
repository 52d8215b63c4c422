//! Orders of layers: which ones their shapes allow and the numbers in their names do not contradict.

use super::infer::Layer;
use std::collections::HashMap;

/// Most orders to name when there are several.
const MOST_NAMED: usize = 4;
/// Steps of the search, after which it gives up.
const MOST_STEPS: usize = 100_000;

/// All orders in which each layer takes what the one before gives, as far as they were looked for.
pub(super) struct Orders {
    /// Positions in the list of layers; at most [`MOST_NAMED`] orders.
    pub(super) found: Vec<Vec<usize>>,
    /// Whether the search ended before all were tried.
    pub(super) gave_up: bool,
}

/// Layers whose names differ in numbers alone (`conv2`, `conv10`; `net.0`, `net.2`) follow each other
/// in the order of these numbers; for all others only shapes decide.
pub(super) fn orders(layers: &[Layer<'_>]) -> Orders {
    let series = series(layers);
    let taken = vec![0; series.len()];
    Search { layers, series, taken, path: Vec::new() }.all()
}

/// Layers of one template of names each, in the order of their numbers.
fn series(layers: &[Layer<'_>]) -> Vec<Vec<usize>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut series: Vec<Vec<usize>> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let place = *places.entry(template(layer.name)).or_insert(series.len());
        if place == series.len() {
            series.push(Vec::new());
        }
        series[place].push(i);
    }
    for members in &mut series {
        members.sort_by_cached_key(|i| natural_key(layers[*i].name));
    }
    series
}

/// Depth first over what can come next: the first layer of each series that is not taken yet.
struct Search<'a> {
    layers: &'a [Layer<'a>],
    series: Vec<Vec<usize>>,
    /// How many of each series are in the path.
    taken: Vec<usize>,
    /// Series of each layer so far, and its position.
    path: Vec<(usize, usize)>,
}

impl Search<'_> {
    fn all(mut self) -> Orders {
        let mut orders = Orders { found: Vec::new(), gave_up: false };
        // For each layer of the path, and for the next one, the series that have not been tried.
        let mut untried = vec![0];
        for _ in 0..MOST_STEPS {
            let Some(from) = untried.last_mut() else { return orders };
            if let Some((series, layer)) = self.next(*from) {
                *from = series + 1;
                untried.push(0);
                self.taken[series] += 1;
                self.path.push((series, layer));
                continue;
            }
            if self.path.len() == self.layers.len() {
                orders.found.push(self.path.iter().map(|(_, layer)| *layer).collect());
                if orders.found.len() == MOST_NAMED {
                    return orders;
                }
            }
            untried.pop();
            if let Some((series, _)) = self.path.pop() {
                self.taken[series] -= 1;
            }
        }
        orders.gave_up = true;
        orders
    }

    /// The first layer that can follow, of the series from that one on.
    fn next(&self, from: usize) -> Option<(usize, usize)> {
        let last = self.path.last().map(|(_, last)| &self.layers[*last]);
        (from..self.series.len()).find_map(|i| {
            let next = *self.series[i].get(self.taken[i])?;
            let fits = last.is_none_or(|last| last.can_precede(&self.layers[next]));
            fits.then_some((i, next))
        })
    }
}

/// The order of names with numbers counted, for messages about layers that chain in no order.
pub(super) fn by_name(layers: &[Layer<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_cached_key(|i| natural_key(layers[*i].name));
    order
}

/// A name with its numbers left open.
pub(super) fn template(name: &str) -> String {
    let mut template = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            c if !c.is_ascii_digit() => template.push(c),
            _ if template.ends_with('#') => {}
            _ => template.push('#'),
        }
    }
    template
}

/// Text and numbers in turn; a number is compared by its digits without leading zeros.
pub(super) fn natural_key(name: &str) -> Vec<(String, usize, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(end);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at(end);
        let digits = digits.trim_start_matches('0');
        parts.push((text.to_owned(), digits.len(), digits.to_owned()));
        rest = after;
    }
    parts
}
