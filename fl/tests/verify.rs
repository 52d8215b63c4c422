//! Laws of verification: a layout passes with the network it is of, and not with another axis.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use fedpress_fl::{Layout, Parameter, Result};

/// Width of the residual stream, tokens, and values a head.
const WIDTH: usize = 4;
const TOKENS: usize = 3;
const HEAD: usize = 2;

/// One block of a transformer with a low-rank adapter on its queries: units are heads, hidden units of
/// the MLP, and ranks.
const BLOCK: &str = r#"
    [groups]
    heads = 4
    hidden = 6
    rank = 3
    [[parameters]]
    name = "q"
    axes = ["heads*2", "4"]
    [[parameters]]
    name = "q.lora_A"
    axes = ["rank", "4"]
    [[parameters]]
    name = "q.lora_B"
    axes = ["heads*2", "rank"]
    inputs = [1]
    [[parameters]]
    name = "k"
    axes = ["heads*2", "4"]
    [[parameters]]
    name = "v"
    axes = ["heads*2", "4"]
    [[parameters]]
    name = "o"
    axes = ["4", "heads*2"]
    inputs = [1]
    [[parameters]]
    name = "up"
    axes = ["hidden", "4"]
    [[parameters]]
    name = "up.bias"
    axes = ["hidden"]
    [[parameters]]
    name = "down"
    axes = ["4", "hidden"]
    inputs = [1]
"#;

fn value(i: usize) -> f32 {
    ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0
}

fn model(layout: &Layout) -> Vec<Parameter> {
    let mut at = 0;
    let mut parameter = |i: usize| {
        let mut parameter = Parameter::zeros(layout.params()[i].name.clone(), &layout.shape(i));
        parameter.values.iter_mut().for_each(|v| {
            at += 1;
            *v = value(at);
        });
        parameter
    };
    (0..layout.params().len()).map(&mut parameter).collect()
}

/// `x` is rows of `shape[1]` values; what comes out, rows of `shape[0]`.
fn linear(weight: &Parameter, x: &[f32]) -> Vec<f32> {
    let rows = x.chunks(weight.shape[1]);
    let dot = |row: &[f32], w: &[f32]| row.iter().zip(w).map(|(a, b)| a * b).sum::<f32>();
    rows.flat_map(|row| weight.values.chunks(weight.shape[1]).map(move |w| dot(row, w))).collect()
}

fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// softmax(q k^T) v of each head, head by head.
fn attention(q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let width = q.len() / TOKENS;
    let mut out = vec![0.0; q.len()];
    for head in 0..width / HEAD {
        let of = |x: &[f32], token: usize, i: usize| x[token * width + head * HEAD + i];
        for token in 0..TOKENS {
            let score = |other| (0..HEAD).map(|i| of(q, token, i) * of(k, other, i)).sum::<f32>();
            let weights: Vec<f32> = (0..TOKENS).map(|other| score(other).exp()).collect();
            let sum: f32 = weights.iter().sum();
            for i in 0..HEAD {
                let values = (0..TOKENS).map(|other| weights[other] * of(v, other, i));
                out[token * width + head * HEAD + i] = values.sum::<f32>() / sum;
            }
        }
    }
    out
}

fn block(model: &[Parameter]) -> Result<Vec<f32>> {
    let [q, lora_a, lora_b, k, v, o, up, bias, down] = model else { return Ok(Vec::new()) };
    let x: Vec<f32> = (0..TOKENS * WIDTH).map(|i| value(1000 + i)).collect();
    let q = add(&linear(q, &x), &linear(lora_b, &linear(lora_a, &x)));
    let attended = attention(&q, &linear(k, &x), &linear(v, &x));
    let x = add(&x, &linear(o, &attended));
    let hidden = linear(up, &x);
    let bias = bias.values.iter().cycle();
    let hidden: Vec<f32> = hidden.iter().zip(bias).map(|(h, b)| (h + b).max(0.0)).collect();
    Ok(add(&x, &linear(down, &hidden)))
}

fn why(text: &str) -> Option<String> {
    let layout = Layout::from_toml(text).unwrap();
    layout.verify(&model(&layout), 1e-4, block).err().map(|error| error.to_string())
}

#[test]
fn a_transformer_with_adapters_passes() {
    assert_eq!(why(BLOCK), None);
}

/// Every shape is right in each of these, and what is trained would be nonsense.
#[test]
fn an_axis_in_another_order_is_found_and_its_group_named() {
    for (name, group) in [("q", "heads"), ("q.lora_B", "heads"), ("o", "heads")] {
        let (head, rest) = BLOCK.split_once(&format!("name = \"{name}\"")).unwrap();
        let wrong = format!("{head}name = \"{name}\"{}", rest.replacen("heads*2", "2*heads", 1));
        let why = why(&wrong).unwrap();
        assert!(why.contains(&format!("group {group}")), "{why}");
    }
}

/// A group that nobody reads would pass whatever it says.
#[test]
fn units_that_outputs_do_not_depend_on_show_nothing() {
    let layout = Layout::from_toml(BLOCK).unwrap();
    let mut model = model(&layout);
    model[8].values.fill(0.0);
    let error = layout.verify(&model, 1e-4, block).unwrap_err().to_string();
    assert!(error.contains("hidden") && error.contains("shows nothing"), "{error}");
}
