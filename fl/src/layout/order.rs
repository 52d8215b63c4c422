//! Orders of layers: which ones their shapes allow and the numbers in their names do not contradict.

use super::infer::Layer;

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
    let mut search = Search {
        layers,
        series: series(layers),
        taken: Vec::new(),
        path: Vec::new(),
        steps: 0,
        orders: Orders { found: Vec::new(), gave_up: false },
    };
    search.taken = vec![0; search.series.len()];
    search.extend();
    search.orders
}

/// Layers of one template of names each, in the order of their numbers.
fn series(layers: &[Layer<'_>]) -> Vec<Vec<usize>> {
    let mut templates: Vec<String> = Vec::new();
    let mut series: Vec<Vec<usize>> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let template = template(layer.name);
        match templates.iter().position(|known| *known == template) {
            Some(known) => series[known].push(i),
            None => {
                templates.push(template);
                series.push(vec![i]);
            }
        }
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
    taken: Vec<usize>,
    path: Vec<usize>,
    steps: usize,
    orders: Orders,
}

impl Search<'_> {
    fn extend(&mut self) {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            self.orders.gave_up = true;
            return;
        }
        if self.path.len() == self.layers.len() {
            self.orders.found.push(self.path.clone());
            return;
        }
        for i in 0..self.series.len() {
            let Some(next) = self.series[i].get(self.taken[i]).copied() else { continue };
            let last = self.path.last().map(|last| &self.layers[*last]);
            if last.is_some_and(|last| !last.can_precede(&self.layers[next])) {
                continue;
            }
            self.taken[i] += 1;
            self.path.push(next);
            self.extend();
            self.path.pop();
            self.taken[i] -= 1;
            if self.orders.gave_up || self.orders.found.len() == MOST_NAMED {
                return;
            }
        }
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
