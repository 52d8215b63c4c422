//! LoRA: of each adapted module the rank is a group; what it takes and gives is that of the module,
//! where that is there and known.

use super::super::Axis;
use super::Kept;
use super::wiring::{Flow, Wiring};
use crate::{Error, Result};

/// How the two halves are called, `[rank, in]` and `[out, rank]`.
const HALVES: [(&str, &str); 4] = [
    ("lora_A", "lora_B"),
    ("lora_down", "lora_up"),
    ("lora_a", "lora_b"),
    ("lora_embedding_A", "lora_embedding_B"),
];

/// Two tensors of a module.
struct Pair {
    module: String,
    down: String,
    up: String,
}

/// Wires all adapters; false where there are none.
pub(super) fn wire(wiring: &mut Wiring<'_>, kept: &mut Kept) -> Result<bool> {
    let names = wiring.names();
    let mut ranks = Vec::new();
    for name in &names {
        if let Some(pair) = pair_of(name) {
            let units = wire_pair(wiring, &pair)?;
            ranks.push((pair.module, units));
        }
    }
    let found = !ranks.is_empty();
    for (module, units) in ranks {
        if let Some(stranger) = stranger(wiring, &module) {
            wiring.keep_whole(units);
            kept.note("ranks", &module, &format!("{stranger:?} may belong to them"));
        }
    }
    let is_half = |name: &&str| HALVES.iter().any(|(_, up)| split(name, up).is_some());
    match names.iter().map(String::as_str).filter(is_half).find(|up| wiring.wired(up).is_none()) {
        Some(up) => Err(Error::invalid("has no other half").in_parameter(up)),
        None => Ok(found),
    }
}

/// What stands before and behind a part of a name.
fn split<'n>(name: &'n str, part: &str) -> Option<(&'n str, &'n str)> {
    let (module, rest) = name.split_once(part)?;
    let is_part = module.is_empty() || module.ends_with('.');
    let ends = rest.is_empty() || rest.starts_with('.');
    (is_part && ends).then_some((module, rest))
}

/// The pair of which a name is the first half.
fn pair_of(name: &str) -> Option<Pair> {
    HALVES.iter().find_map(|(down, up)| {
        let (module, rest) = split(name, down)?;
        let up = format!("{module}{up}{rest}");
        Some(Pair { module: module.trim_end_matches('.').to_owned(), down: name.to_owned(), up })
    })
}

fn wire_pair(wiring: &mut Wiring<'_>, pair: &Pair) -> Result<Flow> {
    let lacks = || Error::invalid("has no other half").in_parameter(&pair.down);
    let down = wiring.shape(&pair.down)?;
    let up = if wiring.has(&pair.up) { wiring.shape(&pair.up)? } else { return Err(lacks()) };
    let (Some((rank, rest)), [outputs, other, ..]) = (down.split_first(), up) else {
        let message = format!("expected two dimensions or more, found {up:?}");
        return Err(Error::invalid(message).in_parameter(&pair.up));
    };
    if rank != other || rest.is_empty() {
        let message = format!("is {up:?}, the other half {down:?}: they do not multiply");
        return Err(Error::invalid(message).in_parameter(&pair.up));
    }
    let units = wiring.flow(&format!("{}_rank", pair.module), *rank);
    let (taken, given) = sides(wiring, &pair.module, rest[0], *outputs);
    let whole = |shape: &[usize]| shape.iter().copied().map(Axis::whole).collect::<Vec<_>>();
    let down_axes = [vec![units.axis(), taken], whole(&rest[1..])].concat();
    wiring.set(&pair.down, down_axes, &[1])?;
    let up_axes = [vec![given.clone(), units.axis()], whole(&up[2..])].concat();
    wiring.set(&pair.up, up_axes, &[1])?;
    wire_beside(wiring, pair, units, &given)?;
    Ok(units)
}

/// What variants of LoRA have beside the two halves: a bias, DoRA's length of each output, AdaLoRA's
/// weight of each rank.
fn wire_beside(wiring: &mut Wiring<'_>, pair: &Pair, units: Flow, given: &Axis) -> Result<()> {
    if let Some(up) = pair.up.strip_suffix(".weight") {
        wiring.set_if_there(&format!("{up}.bias"), given.clone())?;
    }
    let of_ranks = pair.down.replacen("lora_A", "lora_E", 1);
    for name in beside(wiring, &pair.module) {
        let is_length = split(&name, "lora_magnitude_vector").is_some();
        let axes = match wiring.shape(&name)? {
            [_] if is_length => vec![given.clone()],
            [1, _, 1, 1] if is_length => {
                vec![Axis::whole(1), given.clone(), Axis::whole(1), Axis::whole(1)]
            }
            [_, 1] if name == of_ranks => vec![units.axis(), Axis::whole(1)],
            _ => continue,
        };
        wiring.set(&name, axes, &[])?;
    }
    Ok(())
}

/// Tensors of the adapters of a module that nothing was said about.
fn beside(wiring: &Wiring<'_>, module: &str) -> Vec<String> {
    let folder = if module.is_empty() { "lora_".to_owned() } else { format!("{module}.lora_") };
    let open = |name: &&str| wiring.wired(name).is_none() && pair_of(name).is_none();
    let is_up = |name: &&str| HALVES.iter().any(|(_, up)| split(name, up).is_some());
    let names = wiring.within(&folder).filter(open).filter(|name| !is_up(name));
    names.map(str::to_owned).collect()
}

/// The same of more than one value.
fn stranger(wiring: &Wiring<'_>, module: &str) -> Option<String> {
    let is_large =
        |name: &String| wiring.shape(name).is_ok_and(|shape| shape.iter().any(|n| *n > 1));
    beside(wiring, module).into_iter().find(is_large)
}

/// What the adapted module takes and gives.
fn sides(wiring: &Wiring<'_>, module: &str, inputs: usize, outputs: usize) -> (Axis, Axis) {
    let base = wiring.wired(&format!("{module}.weight"));
    let known = base.and_then(|base| match (base.inputs.first()?, base.axes.len()) {
        (input @ (0 | 1), 2) | (input @ 1, 4) => {
            Some((base.axes[*input].clone(), base.axes[1 - input].clone()))
        }
        _ => None,
    });
    known.unwrap_or((Axis::whole(inputs), Axis::whole(outputs)))
}
