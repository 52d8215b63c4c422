//! What layers are made of, as layout files, with gathers worked out by hand.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress_fl::{Gather, Layout, Selection, gains};
use layouts::mask;

/// The kept elements of each parameter.
fn kept(toml: &str, masks: &[&str]) -> (Layout, Vec<Vec<usize>>) {
    let layout = Layout::from_toml(toml).unwrap();
    let masks = masks.iter().map(|text| mask(text)).collect();
    let selection = Selection::from_masks(&layout, masks).unwrap();
    let elements = |param| {
        let gather = Gather::new(&layout, &selection, param).unwrap();
        gather.gather(&(0..gather.n_full()).collect::<Vec<usize>>())
    };
    let all = (0..layout.params().len()).map(elements).collect();
    (layout, all)
}

#[test]
fn flattening_channel_first_keeps_blocks() {
    let toml = "[groups]\nconv = 3\n[[parameters]]\nname = \"w\"\naxes = [\"2\", \"conv*4\"]\n";
    let (_, all) = kept(toml, &["x.x"]);
    assert_eq!(all[0], [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23]);
}

#[test]
fn flattening_channel_last_keeps_every_nth() {
    let toml = "[groups]\nconv = 3\n[[parameters]]\nname = \"w\"\naxes = [\"2\", \"4*conv\"]\n";
    let (_, all) = kept(toml, &["..x"]);
    assert_eq!(all[0], [2, 5, 8, 11, 14, 17, 20, 23]);
}

/// Two ways to drop channels of a convolution with 2 groups of 2 inputs and 3 outputs.
#[test]
fn grouped_convolutions_drop_groups_or_channels_of_each() {
    let by_group = "[groups]\ng = 2\n\
        [[parameters]]\nname = \"before.bias\"\naxes = [\"g*2\"]\n\
        [[parameters]]\nname = \"grouped.weight\"\naxes = [\"g*3\", \"2\"]\n\
        [[parameters]]\nname = \"after.weight\"\naxes = [\"1\", \"g*3\"]\ninputs = [1]\n";
    let (_, all) = kept(by_group, &[".x"]);
    assert_eq!(all, [vec![2, 3], vec![6, 7, 8, 9, 10, 11], vec![3, 4, 5]]);
    let by_channel = "[groups]\nin = 2\nout = 3\n\
        [[parameters]]\nname = \"before.bias\"\naxes = [\"2*in\"]\n\
        [[parameters]]\nname = \"grouped.weight\"\naxes = [\"2*out\", \"in\"]\ninputs = [1]\n";
    let (_, all) = kept(by_channel, &[".x", "x.x"]);
    assert_eq!(all, [vec![1, 3], vec![1, 5, 7, 11]]);
}

#[test]
fn depthwise_convolutions_tie_input_and_output() {
    let toml = "[groups]\nc = 3\nd = 2\n\
        [[parameters]]\nname = \"before.weight\"\naxes = [\"c\", \"1\", \"1\", \"1\"]\ninputs = [1]\n\
        [[parameters]]\nname = \"depthwise.weight\"\naxes = [\"c\", \"1\", \"1\", \"2\"]\n\
        [[parameters]]\nname = \"pointwise.weight\"\naxes = [\"d\", \"c\", \"1\", \"1\"]\ninputs = [1]\n";
    let (layout, all) = kept(toml, &["x.x", ".x"]);
    assert_eq!(all, [vec![0, 2], vec![0, 1, 4, 5], vec![3, 5]]);
    let masks = vec![mask("x.x"), mask(".x")];
    let selection = Selection::from_masks(&layout, masks).unwrap();
    // A depthwise layer sums over its kernel alone, of which nothing is dropped.
    assert_eq!(gains(&layout, &selection), [1.0, 1.0, 1.5]);
}

#[test]
fn norms_follow_their_units() {
    let toml = "[groups]\nc = 4\n\
        [[parameters]]\nname = \"norm.weight\"\naxes = [\"c\"]\n\
        [[parameters]]\nname = \"norm.running_mean\"\naxes = [\"c\"]\nrole = \"statistic\"\n\
        [[parameters]]\nname = \"temperature\"\naxes = []\n";
    let (_, all) = kept(toml, &[".xx."]);
    assert_eq!(all, [vec![1, 2], vec![1, 2], vec![0]]);
}

/// A group norm pools the channels of each of its groups. So that what is left is pooled with what it
/// was pooled with, drop the same channels of each group, or whole groups: as with a grouped convolution.
#[test]
fn group_norms_drop_the_same_channels_of_each_group_or_whole_groups() {
    let both = |axis: &str, group: &str| {
        format!(
            "[groups]\n{group}\n[[parameters]]\nname = \"before.bias\"\naxes = [\"{axis}\"]\n\
             [[parameters]]\nname = \"norm.weight\"\naxes = [\"{axis}\"]\n\
             [[parameters]]\nname = \"after.weight\"\naxes = [\"1\", \"{axis}\"]\ninputs = [1]\n"
        )
    };
    // Six channels in two groups of three: channels 0 and 2 of each, or the second group.
    let (_, all) = kept(&both("2*c", "c = 3"), &["x.x"]);
    assert_eq!(all, vec![vec![0, 2, 3, 5]; 3]);
    let (_, all) = kept(&both("g*3", "g = 2"), &[".x"]);
    assert_eq!(all, vec![vec![3, 4, 5]; 3]);
}

#[test]
fn layers_that_are_added_share_their_units() {
    let toml = "[groups]\nstream = 3\ninside = 2\n\
        [[parameters]]\nname = \"stem.weight\"\naxes = [\"stream\", \"1\"]\ninputs = [1]\n\
        [[parameters]]\nname = \"block.0.weight\"\naxes = [\"inside\", \"stream\"]\ninputs = [1]\n\
        [[parameters]]\nname = \"block.1.weight\"\naxes = [\"stream\", \"inside\"]\ninputs = [1]\n";
    let (_, all) = kept(toml, &["xx.", ".x"]);
    assert_eq!(all, [vec![0, 1], vec![3, 4], vec![1, 3]]);
}

/// A vocabulary of 2, a width of 4 in 2 heads of 2: query, key and value in one tensor.
#[test]
fn attention_drops_heads_in_all_three_parts() {
    let toml = "[groups]\nheads = 2\n\
        [[parameters]]\nname = \"embedding\"\naxes = [\"2\", \"heads*2\"]\n\
        [[parameters]]\nname = \"qkv.bias\"\naxes = [\"3*heads*2\"]\n\
        [[parameters]]\nname = \"proj.weight\"\naxes = [\"1\", \"heads*2\"]\ninputs = [1]\n";
    let (_, all) = kept(toml, &[".x"]);
    assert_eq!(all, [vec![2, 3, 6, 7], vec![2, 3, 6, 7, 10, 11], vec![2, 3]]);
}

#[test]
fn concatenations_are_segments_in_a_row() {
    let toml = "[groups]\na = 2\nb = 3\n\
        [[parameters]]\nname = \"w\"\naxes = [\"2\", \"a+2+b*2\"]\ninputs = [1]\n";
    let (layout, all) = kept(toml, &["x.", ".x."]);
    // Of 10 columns: a at 0 and 1, two whole ones, b at 4-5, 6-7, 8-9.
    assert_eq!(all[0], [0, 2, 3, 6, 7, 10, 12, 13, 16, 17]);
    let masks = vec![mask("x."), mask(".x.")];
    let selection = Selection::from_masks(&layout, masks).unwrap();
    assert_eq!(gains(&layout, &selection), [2.0]);
}
