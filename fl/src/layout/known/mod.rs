//! Layouts of the families of models that people have, recognized from their names and verified
//! against their shapes.

mod attention;
mod lora;
mod mobilenet;
mod resnet;
mod transformer;
mod wiring;

use super::Layout;
use super::order::template;
use crate::Result;
use wiring::Wiring;

/// A layout that was recognized.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Recognized {
    /// The layout.
    pub layout: Layout,
    /// What it was recognized as, such as `torchvision ResNet`.
    pub family: String,
    /// What is kept whole although it could be units if more were known, each in a sentence.
    pub notes: Vec<String>,
    /// Attention layers whose heads are units.
    pub n_attentions: usize,
}

/// What shapes do not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Heads {
    /// Heads of each attention layer; without it, heads are units only where a tensor shows their
    /// width.
    pub query: Option<usize>,
    /// Heads of keys and values, where there are fewer (grouped queries); else what the shapes say.
    pub key: Option<usize>,
}

impl Heads {
    /// So many heads in each attention layer.
    pub fn new(query: usize) -> Self {
        Self { query: Some(query), key: None }
    }

    /// With so many heads of keys and values.
    pub fn with_keys(self, key: usize) -> Self {
        Self { key: Some(key), ..self }
    }
}

/// What is kept whole, and why.
#[derive(Default)]
struct Kept {
    /// What, the first layer, how many, and why.
    notes: Vec<(&'static str, String, usize, String)>,
    /// Attention layers of which it is not so.
    n_attentions: usize,
}

impl Kept {
    /// Units of a layer are kept whole; layers with the same reason are counted.
    fn note(&mut self, what: &'static str, layer: &str, why: &str) {
        let same = |note: &&mut (&'static str, _, usize, String)| {
            note.0 == what && template(&note.3) == template(why)
        };
        match self.notes.iter_mut().find(same) {
            Some((_, _, n, _)) => *n += 1,
            None => self.notes.push((what, layer.to_owned(), 1, why.to_owned())),
        }
    }

    fn sentences(self) -> Vec<String> {
        let sentence = |(what, first, n, why): (_, _, usize, _)| match n {
            1 => format!("{what} of {first} are kept whole: {why}"),
            n => format!("{what} of {first} and {} more are kept whole: {why}", n - 1),
        };
        self.notes.into_iter().map(sentence).collect()
    }
}

pub(super) fn recognize(
    shapes: &[(String, Vec<usize>)],
    heads: Heads,
) -> Result<Option<Recognized>> {
    let mut wiring = Wiring::new(shapes);
    let mut kept = Kept::default();
    let mut families: Vec<String> = Vec::new();
    if let Some(prefix) = resnet::prefix(&wiring) {
        resnet::wire(&mut wiring, &prefix, &mut kept)?;
        families.push("torchvision ResNet".to_owned());
    } else if let Some(prefix) = mobilenet::prefix(&wiring) {
        mobilenet::wire(&mut wiring, &prefix, &mut kept)?;
        families.push("torchvision MobileNet".to_owned());
    } else {
        families.extend(transformer::wire(&mut wiring, heads, &mut kept)?);
    }
    if lora::wire(&mut wiring, &mut kept)? {
        families.push("LoRA".to_owned());
    }
    if families.is_empty() {
        return Ok(None);
    }
    let family = families.join(" with ");
    let (layout, n_attentions) = (wiring.finish()?, kept.n_attentions);
    Ok(Some(Recognized { layout, family, notes: kept.sentences(), n_attentions }))
}
