//! The worked example of FORMAT.md is a stream that this crate writes and reads.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fedpress::{DType, EncodeOptions, Seeds, TensorDesc, TensorView, Writer};

const VALUES: [f32; 4] = [0.5, -1.0, 2.0, 0.25];

/// The bytes in the example: two hex digits each, at the start of lines, up to two spaces.
fn example() -> Vec<u8> {
    let text = include_str!("../FORMAT.md");
    let section = text.split("## 10. A worked example").nth(1).unwrap();
    let block = section.split("```text").nth(1).unwrap().split("```").next().unwrap();
    block
        .lines()
        .flat_map(|line| line.split("  ").next().unwrap().split(' '))
        .filter(|digits| !digits.is_empty())
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

#[test]
fn the_worked_example_is_what_the_encoder_writes() {
    let seeds = Seeds::new(7, 1).in_round(3);
    let mut options = EncodeOptions::new(seeds);
    options.min_values = 0;
    let mut writer = Writer::new(Vec::new(), options).unwrap();
    let n = TensorView { name: "n", dtype: DType::U16, shape: &[], data: &[0x39, 0x05] };
    writer.tensor(&n, &"none".parse().unwrap()).unwrap();
    let w = TensorDesc::open("w", DType::F32, &[2]);
    writer.begin(&w, &"hadamard|q=4".parse().unwrap()).unwrap();
    VALUES.iter().for_each(|v| writer.push(&v.to_le_bytes()).unwrap());
    writer.end().unwrap();
    let bytes = writer.finish().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x} ")).collect::<String>();
    assert_eq!(hex(&bytes), hex(&example()));
}

#[test]
fn the_worked_example_decodes_as_it_says() {
    let tensors = fedpress::decode(&example(), &Default::default()).unwrap();
    assert_eq!((tensors[0].name.as_str(), tensors[0].data.as_slice()), ("n", &[0x39, 0x05][..]));
    assert_eq!(tensors[1].shape, [2, 2]);
    let text = include_str!("../FORMAT.md");
    let decoded = format!("{:?}", tensors[1].to_f32().unwrap());
    assert!(text.contains(&decoded), "FORMAT.md does not name {decoded}");
}
