//! The layout of an [`Architecture`]: which axis of which parameter belongs to which units.

use super::Architecture;
use std::fmt::Write;

impl Architecture {
    /// The layout, in the text form that a [layout file](crate#the-design) has: each layer whose
    /// outputs may be dropped is a group of units. Channels of the image, logits, and channels that
    /// are added up are plain numbers, which never are. An axis under `inputs` is one that the layer
    /// sums over.
    pub fn layout_toml(&self) -> String {
        let mut text = "[groups]\n".to_owned();
        for stage in self.stages() {
            if let Some(units) = stage.units_out.filter(|units| stage.layer.name() == Some(units)) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{units} = {}", stage.output.channels);
            }
        }
        for parameter in self.parameter_specs() {
            let axes: Vec<String> = parameter.axes.iter().map(|axis| format!("{axis:?}")).collect();
            let (name, axes) = (&parameter.name, axes.join(", "));
            let _ = write!(text, "\n[[parameters]]\nname = \"{name}\"\naxes = [{axes}]\n");
            if let Some(input) = parameter.input {
                let _ = writeln!(text, "inputs = [{input}]");
            }
            if parameter.is_statistic() {
                text += "role = \"statistic\"\n";
            }
        }
        text
    }
}
