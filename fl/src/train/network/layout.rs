//! The layout of an [`Architecture`]: which axis of which parameter belongs to which units.

use super::flow::Stage;
use super::{Architecture, LayerSpec};
use std::fmt::Write;

impl Architecture {
    /// The layout, in the text form that a [layout file](crate#the-design) has: each layer but the
    /// last is a group of units, which may be dropped; channels of the image and logits are plain
    /// numbers, which never are. An axis under `inputs` is one that the layer sums over.
    pub fn layout_toml(&self) -> String {
        let stages: Vec<Stage<'_>> = self.stages().filter(|s| s.layer.name().is_some()).collect();
        let (mut groups, mut parameters) = ("[groups]\n".to_owned(), String::new());
        for (i, stage) in stages.iter().enumerate() {
            let droppable = i + 1 < stages.len();
            let (Some(name), out) = (stage.layer.name(), stage.output.channels) else { continue };
            let output = if droppable { name.to_owned() } else { out.to_string() };
            if droppable {
                // Writing to a string cannot fail.
                let _ = writeln!(groups, "{name} = {out}");
            }
            let (axes, inputs) = weight_axes(stage, &output);
            let _ = write!(
                parameters,
                "\n[[parameters]]\nname = \"{name}.weight\"\naxes = [{axes}]\ninputs = [{inputs}]\n\
                 \n[[parameters]]\nname = \"{name}.bias\"\naxes = [\"{output}\"]\n"
            );
        }
        groups + &parameters
    }
}

/// The axes of a weight, quoted, and which of them are inputs.
fn weight_axes(stage: &Stage<'_>, output: &str) -> (String, usize) {
    let input = stage.input;
    match stage.layer {
        LayerSpec::Conv { kernel, .. } => {
            let channels = stage.units.map_or(input.channels.to_string(), str::to_owned);
            (format!("\"{output}\", \"{channels}\", \"{kernel}\", \"{kernel}\""), 1)
        }
        _ => {
            let features = match (stage.units, input.height * input.width) {
                (None, _) => input.features().to_string(),
                (Some(units), 1) => units.to_owned(),
                (Some(units), pixels) => format!("{units}*{pixels}"),
            };
            (format!("\"{features}\", \"{output}\""), 0)
        }
    }
}
