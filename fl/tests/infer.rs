//! Layouts from names and shapes: the plain models of the papers, with their published sizes, and
//! what is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress_fl::{Choice, Convention, Keep, Layout, Rule};
use layouts::{Shapes, all_cnn, cnn, cnn_toml};

const CONVENTIONS: [Convention; 3] = [Convention::Torch, Convention::Burn, Convention::Keras];

/// Values of the submodels that keep 1, 7/8, 3/4, 5/8 and 1/2 of each group.
fn counts(layout: &Layout) -> [usize; 5] {
    [1.0, 0.875, 0.75, 0.625, 0.5].map(|keep| {
        let choice = Choice { rule: Rule::Random { seed: 5 }, keep: Keep::from(keep) };
        layout.submodel(&choice.select(layout).unwrap()).unwrap().n_values()
    })
}

const MNIST: [usize; 5] = [1_663_370, 1_274_234, 936_874, 651_290, 417_482];
const EMNIST: [usize; 5] = [6_603_710, 5_070_190, 3_738_974, 2_610_062, 1_683_454];
const ALL_CNN_C: [usize; 5] = [1_369_738, 1_049_338, 771_562, 536_410, 343_882];

#[test]
fn submodels_have_the_sizes_of_the_papers() {
    for convention in CONVENTIONS {
        let count = |shapes: Shapes| counts(&Layout::infer(&shapes, convention).unwrap());
        assert_eq!(count(cnn(convention, 512, 10)), MNIST, "{convention:?}");
        assert_eq!(count(cnn(convention, 2048, 62)), EMNIST, "{convention:?}");
        assert_eq!(count(all_cnn(convention, 1)), ALL_CNN_C, "{convention:?}");
    }
    assert_eq!(counts(&Layout::from_toml(&cnn_toml(512, 10)).unwrap()), MNIST);
    assert_eq!(counts(&Layout::from_toml(&cnn_toml(2048, 62)).unwrap()), EMNIST);
}

#[test]
fn what_is_inferred_is_what_one_would_write() {
    let inferred = Layout::infer(&cnn(Convention::Torch, 512, 10), Convention::Torch).unwrap();
    assert_eq!(inferred, Layout::from_toml(&cnn_toml(512, 10)).unwrap());
}

/// The axes of a parameter, as in the layout file.
fn axes(layout: &Layout, name: &str) -> String {
    let text = layout.to_toml();
    let (_, after) = text.split_once(&format!("name = \"{name}\"\naxes = ")).unwrap();
    after.lines().next().unwrap().replace('"', "")
}

#[test]
fn conventions_differ_in_axes_and_in_flattening() {
    let layout = |c: Convention| Layout::infer(&cnn(c, 512, 10), c).unwrap();
    for (convention, conv2, fc1, inputs) in [
        (Convention::Torch, "[conv2, conv1, 5, 5]", "[fc1, conv2*49]", [1, 1]),
        (Convention::Burn, "[conv2, conv1, 5, 5]", "[conv2*49, fc1]", [1, 0]),
        (Convention::Keras, "[5, 5, conv1, conv2]", "[49*conv2, fc1]", [2, 0]),
    ] {
        let layout = layout(convention);
        assert_eq!(axes(&layout, "conv2.weight"), conv2);
        assert_eq!(axes(&layout, "fc1.weight"), fc1);
        assert_eq!([2, 4].map(|param: usize| layout.params()[param].inputs[0]), inputs);
    }
}

/// A name and a shape.
type Entry<'a> = (&'a str, &'a [usize]);

fn shapes(list: &[Entry<'_>]) -> Shapes {
    list.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

#[test]
fn numbers_in_names_order_layers_and_otherwise_shapes_must_leave_one_order() {
    // As text, conv10 to conv16 sort before conv8; parameters stay where the file has them.
    let mut sorted = all_cnn(Convention::Torch, 8);
    let right = Layout::infer(&sorted, Convention::Torch).unwrap();
    sorted.sort();
    let layout = Layout::infer(&sorted, Convention::Torch).unwrap();
    assert_eq!(layout.groups(), right.groups());
    assert_eq!(layout.params()[0].name, "conv10.bias");
    assert_eq!(counts(&layout), ALL_CNN_C);
    // Names that say nothing: no other order fits.
    let named = shapes(&[("z.weight", &[8, 4]), ("a.weight", &[3, 8])]);
    assert_eq!(axes(&Layout::infer(&named, Convention::Torch).unwrap(), "a.weight"), "[3, z]");
}

#[test]
fn names_become_identifiers_that_differ() {
    let model = shapes(&[
        ("0.weight", &[8, 4]),
        ("a.b/weight", &[6, 8]),
        ("a_b.kernel:0", &[5, 6]),
        ("z/kernel", &[2, 5]),
        ("z/bias:0", &[2]),
    ]);
    let layout = Layout::infer(&model, Convention::Torch).unwrap();
    let names: Vec<&str> = layout.groups().iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["layer0", "a_b", "a_b_2"]);
}

#[test]
fn one_layer_has_nothing_to_drop() {
    let layout = Layout::infer(&shapes(&[("weight", &[8, 4]), ("bias", &[8])]), Convention::Torch);
    assert!(layout.unwrap().groups().is_empty());
}

#[test]
fn everything_else_is_refused_with_the_reason() {
    let linear: Entry<'_> = ("a.weight", &[8, 4]);
    let cases: [(&[Entry<'_>], &str); 21] = [
        (&[], "at least one parameter"),
        (&[linear, ("norm.weight", &[8])], "\"norm.weight\" has shape [8]"),
        (&[linear, ("norm.bias", &[8])], "\"norm.bias\" has no weight beside it"),
        (&[linear, ("norm.running_mean", &[8])], "neither a weight nor a bias"),
        (&[linear, ("scale", &[])], "neither a weight nor a bias"),
        (&[linear, ("b.weight", &[8, 4, 3])], "has shape [8, 4, 3]"),
        (&[linear, ("a.bias", &[4])], "its layer 8 outputs"),
        (&[linear, ("a.bias", &[1, 8])], "its layer 8 outputs"),
        (&[linear, ("a/weight", &[2, 8])], "second weight"),
        (&[linear, ("a.bias", &[8]), ("a/bias", &[8])], "second bias"),
        (&[("a.weight", &[0, 4]), ("b.weight", &[2, 0])], "which is empty"),
        (&[("token_embedding.weight", &[8, 8]), linear], "looks like an embedding"),
        // Two heads on one trunk.
        (
            &[linear, ("b.weight", &[5, 8]), ("c.weight", &[2, 8])],
            "takes 8 inputs and cannot follow",
        ),
        // Depthwise.
        (
            &[("a.weight", &[8, 3, 3, 3]), ("b.weight", &[8, 1, 3, 3])],
            "\"b\" (convolution) takes 1",
        ),
        (&[linear, ("b.weight", &[8, 8, 3, 3])], "cannot follow \"a\" (dense)"),
        // A dense layer flattens no dense layer.
        (&[linear, ("b.weight", &[2, 16])], "takes 16 inputs and cannot follow"),
        (&[("z.weight", &[8, 8]), ("y.weight", &[8, 8])], "chain in more than one order"),
        // An autoencoder, which safetensors writes decoder first.
        (
            &[
                ("decoder.0.weight", &[30, 12]),
                ("decoder.2.weight", &[64, 30]),
                ("encoder.0.weight", &[30, 64]),
                ("encoder.2.weight", &[12, 30]),
            ],
            "chain in more than one order",
        ),
        (
            &[("one.weight", &[8, 8]), ("three.weight", &[8, 8]), ("two.weight", &[8, 8])],
            "chain in more than one order",
        ),
        // Pairs of two modules that would chain in one way only.
        (&[("k.lora_A.weight", &[2, 8]), ("k.lora_B.weight", &[6, 2])], "half of a LoRA adapter"),
        // The only order that fits is the other one than the numbers say.
        (&[("fc1.weight", &[3, 8]), ("fc2.weight", &[8, 4])], "\"fc2\" (dense) takes 4"),
    ];
    for (list, why) in cases {
        let error = Layout::infer(&shapes(list), Convention::Torch).unwrap_err().to_string();
        assert!(error.contains(why), "{list:?}: {error}");
    }
}

#[test]
fn the_users_word_orders_what_nothing_else_does() {
    let model =
        shapes(&[("one.weight", &[8, 8]), ("three.weight", &[8, 8]), ("two.weight", &[8, 8])]);
    let candidates = Layout::candidates(&model, Convention::Torch);
    let right = ["one", "two", "three"].map(str::to_owned);
    assert!(candidates.len() > 1 && candidates.contains(&right.to_vec()), "{candidates:?}");
    let layout = Layout::infer_in_order(&model, Convention::Torch, &right).unwrap();
    assert_eq!(axes(&layout, "three.weight"), "[8, two]");
    for (order, why) in [
        (&["one", "two"][..], "lacks layer \"three\""),
        (&["one", "two", "two"], "named twice"),
        (&["one", "two", "four"], "no layer \"four\""),
    ] {
        let order: Vec<_> = order.iter().map(|name| (*name).to_owned()).collect();
        let error = Layout::infer_in_order(&model, Convention::Torch, &order).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let order = ["b", "a"].map(str::to_owned);
    let pair = shapes(&[("a.weight", &[8, 4]), ("b.weight", &[3, 8])]);
    assert!(Layout::infer_in_order(&pair, Convention::Torch, &order).is_err(), "does not chain");
}

#[test]
fn many_orders_are_not_all_tried() {
    let names: Vec<String> = (b'a'..=b'z').map(|c| format!("{}.weight", char::from(c))).collect();
    // 25 layers fit anywhere, one nowhere.
    let shape = |i: usize| if i == 25 { vec![3, 5] } else { vec![8, 8] };
    let model: Shapes = names.iter().enumerate().map(|(i, n)| (n.clone(), shape(i))).collect();
    let error = Layout::infer(&model, Convention::Torch).unwrap_err().to_string();
    assert!(error.contains("too many ways"), "{error}");
}

#[test]
fn a_chain_of_any_length_is_ordered() {
    let layer = |i: usize| (format!("layers.{i}.weight"), vec![1, 1]);
    let model: Shapes = (0..20_000).map(layer).collect();
    let layout = Layout::infer(&model, Convention::Torch).unwrap();
    assert_eq!(layout.groups().len(), 19_999);
}
