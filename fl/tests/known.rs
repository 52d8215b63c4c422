//! Layouts of the families that people have: names recognized, shapes verified.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress_fl::{Choice, Heads, Keep, Layout, Recognized, Role, Rule};
use layouts::Shapes;

/// Adds tensors to a model.
struct Model(Shapes);

impl Model {
    fn add(&mut self, name: &str, shape: &[usize]) -> &mut Self {
        self.0.push((name.to_owned(), shape.to_vec()));
        self
    }

    fn norm(&mut self, name: &str, n: usize) -> &mut Self {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            self.add(&format!("{name}.{part}"), &[n]);
        }
        self
    }

    fn dense(&mut self, name: &str, out: usize, input: usize) -> &mut Self {
        self.add(&format!("{name}.weight"), &[out, input]).add(&format!("{name}.bias"), &[out])
    }

    /// As a file has them.
    fn sorted(mut self) -> Shapes {
        self.0.sort();
        self.0
    }
}

/// ResNet with two stages of two blocks; three convolutions a block where `expansion` is above 1.
fn resnet(prefix: &str, expansion: usize, groups: usize) -> Shapes {
    let mut m = Model(Vec::new());
    let p = |name: &str| format!("{prefix}{name}");
    m.add(&p("conv1.weight"), &[16, 3, 7, 7]).norm(&p("bn1"), 16);
    let mut input = 16;
    for (stage, width) in [(1, 16), (2, 32)] {
        for i in 0..2 {
            let block = p(&format!("layer{stage}.{i}"));
            let conv = |i: usize| format!("{block}.conv{i}.weight");
            let output = width * expansion;
            if expansion == 1 {
                m.add(&conv(1), &[width, input, 3, 3]).norm(&format!("{block}.bn1"), width);
                m.add(&conv(2), &[width, width, 3, 3]).norm(&format!("{block}.bn2"), width);
            } else {
                m.add(&conv(1), &[width, input, 1, 1]).norm(&format!("{block}.bn1"), width);
                m.add(&conv(2), &[width, width / groups, 3, 3])
                    .norm(&format!("{block}.bn2"), width);
                m.add(&conv(3), &[output, width, 1, 1]).norm(&format!("{block}.bn3"), output);
            }
            if input != output {
                m.add(&format!("{block}.downsample.0.weight"), &[output, input, 1, 1]);
                m.norm(&format!("{block}.downsample.1"), output);
            }
            input = output;
        }
    }
    m.dense(&p("fc"), 10, input);
    m.sorted()
}

/// MobileNetV2 with three blocks, of which the last is added to its input.
fn mobilenet_v2() -> Shapes {
    let mut m = Model(Vec::new());
    m.add("features.0.0.weight", &[32, 3, 3, 3]).norm("features.0.1", 32);
    m.add("features.1.conv.0.0.weight", &[32, 1, 3, 3]).norm("features.1.conv.0.1", 32);
    m.add("features.1.conv.1.weight", &[16, 32, 1, 1]).norm("features.1.conv.2", 16);
    for (i, input) in [(2, 16), (3, 24)] {
        let (block, wide) = (format!("features.{i}.conv"), 6 * input);
        m.add(&format!("{block}.0.0.weight"), &[wide, input, 1, 1])
            .norm(&format!("{block}.0.1"), wide);
        m.add(&format!("{block}.1.0.weight"), &[wide, 1, 3, 3]).norm(&format!("{block}.1.1"), wide);
        m.add(&format!("{block}.2.weight"), &[24, wide, 1, 1]).norm(&format!("{block}.3"), 24);
    }
    m.add("features.4.0.weight", &[64, 24, 1, 1]).norm("features.4.1", 64);
    m.dense("classifier.1", 10, 64);
    m.sorted()
}

/// MobileNetV3: blocks with squeeze and excitation, two dense layers.
fn mobilenet_v3() -> Shapes {
    let mut m = Model(Vec::new());
    m.add("features.0.0.weight", &[16, 3, 3, 3]).norm("features.0.1", 16);
    m.add("features.1.block.0.0.weight", &[16, 1, 3, 3]).norm("features.1.block.0.1", 16);
    m.add("features.1.block.1.fc1.weight", &[8, 16, 1, 1]).add("features.1.block.1.fc1.bias", &[8]);
    m.add("features.1.block.1.fc2.weight", &[16, 8, 1, 1])
        .add("features.1.block.1.fc2.bias", &[16]);
    m.add("features.1.block.2.0.weight", &[16, 16, 1, 1]).norm("features.1.block.2.1", 16);
    m.add("features.2.block.0.0.weight", &[72, 16, 1, 1]).norm("features.2.block.0.1", 72);
    m.add("features.2.block.1.0.weight", &[72, 1, 5, 5]).norm("features.2.block.1.1", 72);
    m.add("features.2.block.2.0.weight", &[24, 72, 1, 1]).norm("features.2.block.2.1", 24);
    m.add("features.3.0.weight", &[96, 24, 1, 1]).norm("features.3.1", 96);
    m.dense("classifier.0", 128, 96).dense("classifier.3", 10, 128);
    m.sorted()
}

fn bert() -> Shapes {
    let mut m = Model(Vec::new());
    m.add("bert.embeddings.word_embeddings.weight", &[100, 64]);
    for i in 0..2 {
        let layer = format!("bert.encoder.layer.{i}");
        for part in ["query", "key", "value"] {
            m.dense(&format!("{layer}.attention.self.{part}"), 64, 64);
        }
        m.dense(&format!("{layer}.attention.output.dense"), 64, 64);
        m.add(&format!("{layer}.attention.output.LayerNorm.weight"), &[64]);
        m.dense(&format!("{layer}.intermediate.dense"), 256, 64);
        m.dense(&format!("{layer}.output.dense"), 64, 256);
        m.add(&format!("{layer}.output.LayerNorm.weight"), &[64]);
    }
    m.dense("classifier", 2, 64);
    m.sorted()
}

/// GPT-2, whose weights are `[in, out]`, or a descendant without biases and with `[out, in]`.
fn gpt(transposed: bool) -> Shapes {
    let mut m = Model(Vec::new());
    m.add("wte.weight", &[100, 64]).add("h.0.attn.bias", &[1, 1, 64, 64]);
    m.add("h.0.ln_1.weight", &[64]);
    for (name, out, input) in [
        ("attn.c_attn", 192, 64),
        ("attn.c_proj", 64, 64),
        ("mlp.c_fc", 256, 64),
        ("mlp.c_proj", 64, 256),
    ] {
        let shape = if transposed { [input, out] } else { [out, input] };
        m.add(&format!("h.0.{name}.weight"), &shape);
        if transposed {
            m.add(&format!("h.0.{name}.bias"), &[out]);
        }
    }
    m.sorted()
}

/// Llama with 8 heads and 2 of keys and values.
fn llama() -> Shapes {
    let mut m = Model(Vec::new());
    m.add("model.embed_tokens.weight", &[100, 64]);
    let layer = "model.layers.0";
    for (name, out, input) in [
        ("self_attn.q_proj", 64, 64),
        ("self_attn.k_proj", 16, 64),
        ("self_attn.v_proj", 16, 64),
        ("self_attn.o_proj", 64, 64),
        ("mlp.gate_proj", 96, 64),
        ("mlp.up_proj", 96, 64),
        ("mlp.down_proj", 64, 96),
    ] {
        m.add(&format!("{layer}.{name}.weight"), &[out, input]);
    }
    m.add("model.layers.0.input_layernorm.weight", &[64]);
    m.sorted()
}

/// torchvision's ViT: one tensor for queries, keys and values.
fn vit() -> Shapes {
    let mut m = Model(Vec::new());
    m.add("conv_proj.weight", &[64, 3, 16, 16]).add("class_token", &[1, 1, 64]);
    let layer = "encoder.layers.encoder_layer_0";
    m.add(&format!("{layer}.self_attention.in_proj_weight"), &[192, 64]);
    m.add(&format!("{layer}.self_attention.in_proj_bias"), &[192]);
    m.dense(&format!("{layer}.self_attention.out_proj"), 64, 64);
    m.dense(&format!("{layer}.mlp.0"), 256, 64).dense(&format!("{layer}.mlp.3"), 64, 256);
    m.dense("heads.head", 10, 64);
    m.sorted()
}

/// A block of dense layers: name, outputs, inputs.
fn block(prefix: &str, layers: &[(&str, usize, usize)]) -> Shapes {
    let mut m = Model(Vec::new());
    m.add("embeddings.weight", &[100, 64]);
    for (name, out, input) in layers {
        m.dense(&format!("{prefix}.{name}"), *out, *input);
    }
    m.sorted()
}

/// Query, key, value and output of 64 channels, an MLP of 256.
fn plain(prefix: &str, names: [&str; 6]) -> Shapes {
    let [q, k, v, o, up, down] = names;
    let square = [q, k, v, o].map(|name| (name, 64, 64));
    block(prefix, &[&square[..], &[(up, 256, 64), (down, 64, 256)]].concat())
}

fn recognize(shapes: &Shapes, heads: Heads) -> Recognized {
    Layout::recognize(shapes, heads).unwrap().unwrap()
}

/// The axes of a parameter, as in the layout file.
fn axes(layout: &Layout, name: &str) -> String {
    let text = layout.to_toml();
    let (_, after) = text.split_once(&format!("name = \"{name}\"\naxes = ")).unwrap();
    after.lines().next().unwrap().replace('"', "")
}

/// Names and shapes of a submodel that keeps half of everything.
fn half(layout: &Layout) -> Shapes {
    let choice = Choice { rule: Rule::Random { seed: 5 }, keep: Keep::from(0.5) };
    let small = layout.submodel(&choice.select(layout).unwrap()).unwrap();
    let shape = |i: usize| (small.params()[i].name.clone(), small.shape(i));
    (0..small.params().len()).map(shape).collect()
}

#[test]
fn a_submodel_of_a_family_is_a_model_of_that_family() {
    let none = Heads::default();
    for (shapes, family, heads, heads_of_half) in [
        (resnet("", 1, 1), "torchvision ResNet", none, none),
        (resnet("model.", 4, 1), "torchvision ResNet", none, none),
        (resnet("", 4, 4), "torchvision ResNet", none, none),
        (mobilenet_v2(), "torchvision MobileNet", none, none),
        (mobilenet_v3(), "torchvision MobileNet", none, none),
        (bert(), "BERT-like transformer", Heads::new(8), Heads::new(4)),
        (bert(), "BERT-like transformer", none, none),
        (gpt(true), "GPT-2-like transformer", Heads::new(8), Heads::new(4)),
        (gpt(false), "GPT-2-like transformer", Heads::new(8), Heads::new(4)),
        (llama(), "Llama-like transformer", Heads::new(8), Heads::new(4)),
        (vit(), "torchvision ViT transformer", Heads::new(8), Heads::new(4)),
    ] {
        let full = recognize(&shapes, heads);
        assert_eq!(full.family, family);
        assert!(!full.layout.groups().is_empty(), "{family}");
        let small_shapes = half(&full.layout);
        let small = recognize(&small_shapes, heads_of_half);
        let units = |layout: &Layout| {
            layout.groups().iter().map(|g| (g.name.clone(), g.units)).collect::<Vec<_>>()
        };
        let halved: Vec<_> =
            units(&full.layout).into_iter().map(|(name, n)| (name, n.div_ceil(2))).collect();
        assert_eq!(units(&small.layout), halved, "{family}");
        assert!(small.layout.n_values() < full.layout.n_values(), "{family}");
    }
}

#[test]
fn transformers_of_many_names_have_heads_and_hidden_units() {
    let [q, k, v] = ["q_proj", "k_proj", "v_proj"];
    let within = |folder: &str, layer: &str| format!("{folder}.{layer}");
    for (prefix, folder, [q, k, v, o], up, down) in [
        // ViT of newer transformers, and HuBERT.
        ("layers.0", "attention", [q, k, v, "o_proj"], "mlp.fc1", "mlp.fc2"),
        (
            "encoder.layers.0",
            "attention",
            [q, k, v, "out_proj"],
            "feed_forward.intermediate_dense",
            "feed_forward.output_dense",
        ),
        ("layers.0", "self_attn", [q, k, v, "dense"], "mlp.fc1", "mlp.fc2"),
        ("h.0", "attn", [q, k, v, "out_proj"], "mlp.fc_in", "mlp.fc_out"),
        ("h.0", "attn.attention", [q, k, v, "out_proj"], "mlp.fc1", "mlp.fc2"),
        ("albert_layers.0", "attention", ["query", "key", "value", "dense"], "ffn", "ffn_output"),
    ] {
        let [q, k, v, o] = [q, k, v, o].map(|layer| within(folder, layer));
        let shapes = plain(prefix, [&q, &k, &v, &o, up, down]);
        let found = recognize(&shapes, Heads::new(8));
        assert_eq!((found.n_attentions, &found.notes), (1, &vec![]), "{prefix} {folder}");
        let units: Vec<_> = found.layout.groups().iter().map(|group| group.units).collect();
        assert_eq!(units, [256, 8], "{prefix} {folder}");
        let small = recognize(&half(&found.layout), Heads::new(4));
        assert_eq!(small.n_attentions, 1, "{prefix} {folder}");
    }
    // Phi-3: queries, keys and values in one layer, gate and hidden units in another.
    let layers = [
        ("self_attn.qkv_proj", 96, 64),
        ("self_attn.o_proj", 64, 64),
        ("mlp.gate_up_proj", 512, 64),
        ("mlp.down_proj", 64, 256),
    ];
    let found = recognize(&block("layers.0", &layers), Heads::new(8));
    assert_eq!(found.family, "Phi-3-like transformer");
    assert_eq!(axes(&found.layout, "layers.0.mlp.gate_up_proj.weight"), "[2*layers_0_mlp, 64]");
    let heads = "layers_0_self_attn_heads";
    assert_eq!(
        axes(&found.layout, "layers.0.self_attn.qkv_proj.weight"),
        format!("[{heads}*32+{heads}*8+{heads}*8, 64]")
    );
}

#[test]
fn heads_that_are_kept_whole_are_said() {
    let t5 = [("SelfAttention.q", 64, 64), ("SelfAttention.o", 64, 64)];
    let mut shapes = block("block.0.layer.0", &t5);
    shapes.extend(block(
        "block.0.layer.1",
        &[("DenseReluDense.wi", 256, 64), ("DenseReluDense.wo", 64, 256)],
    ));
    shapes.sort();
    shapes.dedup();
    let attn = |o| {
        [
            "attention.attn.q",
            "attention.attn.k",
            "attention.attn.v",
            o,
            "intermediate.dense",
            "output.dense",
        ]
    };
    let names =
        ["a_attention.x", "a_attention.y", "a_attention.z", "a_attention.o", "mlp.fc1", "mlp.fc2"];
    for (shapes, why) in [
        (shapes, "all layers share"),
        (plain("layer.0", attn("attention.attn.o")), "all layers share"),
        (plain("layers.0", names), "names of their layers are not known"),
    ] {
        let found = recognize(&shapes, Heads::new(8));
        assert_eq!((found.n_attentions, found.layout.groups().len()), (0, 1));
        assert!(found.notes.len() == 1 && found.notes[0].contains(why), "{:?}", found.notes);
    }
}

#[test]
fn shortcuts_of_a_stage_share_a_group_and_blocks_have_their_own() {
    let plain = recognize(&resnet("", 1, 1), Heads::default());
    assert_eq!(plain.notes, Vec::<String>::new());
    let layout = &plain.layout;
    assert_eq!(axes(layout, "layer1.1.conv2.weight"), "[conv1, layer1_1_conv1, 3, 3]");
    assert_eq!(axes(layout, "layer2.1.bn2.running_var"), "[layer2_0_conv2]");
    assert_eq!(axes(layout, "layer2.0.downsample.0.weight"), "[layer2_0_conv2, conv1, 1, 1]");
    assert_eq!(axes(layout, "fc.weight"), "[10, layer2_0_conv2]");
    let variance = layout.params().iter().find(|p| p.name == "bn1.running_var").unwrap();
    assert_eq!(variance.role, Role::Statistic);

    let grouped = recognize(&resnet("", 4, 4), Heads::default()).layout;
    assert_eq!(axes(&grouped, "layer1.0.conv1.weight"), "[4*layer1_0_conv1, conv1, 1, 1]");
    assert_eq!(axes(&grouped, "layer1.0.conv2.weight"), "[4*layer1_0_conv1, layer1_0_conv1, 3, 3]");
}

#[test]
fn what_reads_the_blocks_unseen_keeps_their_channels_whole() {
    let mut shapes = resnet("backbone.", 1, 1);
    shapes.push(("neck.weight".into(), vec![8, 16, 1, 1]));
    let found = recognize(&shapes, Heads::default());
    assert!(found.notes[0].contains("neck.weight"), "{:?}", found.notes);
    let layout = found.layout;
    let inner = "backbone_layer1_0_conv1";
    assert_eq!(axes(&layout, "backbone.layer1.0.conv1.weight"), format!("[{inner}, 16, 3, 3]"));
    assert_eq!(axes(&layout, "backbone.fc.weight"), "[10, 32]");
    let mut headless = resnet("", 1, 1);
    headless.retain(|(name, _)| !name.starts_with("fc"));
    assert!(recognize(&headless, Heads::default()).notes[0].contains("no last layer"));
}

#[test]
fn names_of_a_family_with_other_shapes_are_refused() {
    let change = |mut shapes: Shapes, name: &str, shape: &[usize]| {
        let found = shapes.iter_mut().find(|(n, _)| n == name);
        match found {
            Some((_, old)) => *old = shape.to_vec(),
            None => shapes.push((name.to_owned(), shape.to_vec())),
        }
        shapes
    };
    for (shapes, why) in [
        (change(resnet("", 1, 1), "layer1.0.conv2.weight", &[16, 8, 3, 3]), "expected shape"),
        (change(resnet("", 1, 1), "layer1.1.bn1.bias", &[15]), "expected shape"),
        (change(resnet("", 1, 1), "layer1.0.se.weight", &[16, 16]), "no part of a ResNet"),
        (change(resnet("", 1, 1), "fc.weight", &[10, 33]), "takes 33 inputs"),
        (change(mobilenet_v2(), "features.3.conv.1.0.weight", &[24, 1, 3, 3]), "expected shape"),
        (change(bert(), "bert.encoder.layer.0.intermediate.dense.bias", &[255]), "expected shape"),
        (
            change(bert(), "bert.encoder.layer.0.attention.output.dense.bias", &[63]),
            "expected shape",
        ),
    ] {
        let error = Layout::recognize(&shapes, Heads::new(8)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = Layout::recognize(&bert(), Heads::new(7)).unwrap_err().to_string();
    assert!(error.contains("64 channels are no 7 heads"), "{error}");
    let few = Heads::new(8).with_keys(4);
    assert!(Layout::recognize(&llama(), few).unwrap_err().to_string().contains("shapes say 2"));
}

#[test]
fn heads_are_units_where_their_number_is_known() {
    let name = "model.layers.0.self_attn";
    let query = format!("{name}.q_proj.weight");
    let unknown = recognize(&llama(), Heads::default());
    assert_eq!(axes(&unknown.layout, &query), "[64, 64]");
    assert!(unknown.notes[0].contains("heads") && unknown.notes[0].contains(name));
    let told = recognize(&llama(), Heads::new(8));
    assert_eq!(told.notes, Vec::<String>::new());
    let heads = "model_layers_0_self_attn_heads";
    assert_eq!(axes(&told.layout, &query), format!("[{heads}*32, 64]"));
    assert_eq!(axes(&told.layout, &format!("{name}.k_proj.weight")), format!("[{heads}*8, 64]"));
    assert_eq!(axes(&told.layout, &format!("{name}.o_proj.weight")), format!("[64, {heads}*32]"));
    // A norm over the channels of a head shows how many these are.
    let mut shown = llama();
    shown.push((format!("{name}.q_norm.weight"), vec![8]));
    assert_eq!(
        axes(&recognize(&shown, Heads::default()).layout, &query),
        format!("[{heads}*32, 64]")
    );
    // What is not known and may be of the heads keeps them whole.
    let mut strange = llama();
    strange.push((format!("{name}.sub_norm.weight"), vec![64]));
    let strange = recognize(&strange, Heads::new(8));
    assert_eq!(axes(&strange.layout, &query), "[64, 64]");
    assert!(strange.notes[0].contains("sub_norm"));
    let fused = recognize(&gpt(true), Heads::new(8)).layout;
    assert_eq!(axes(&fused, "h.0.attn.c_attn.weight"), "[64, 3*h_0_attn_heads*8]");
    assert_eq!(axes(&fused, "h.0.mlp.c_fc.weight"), "[64, h_0_mlp]");
    let other = recognize(&gpt(false), Heads::new(8)).layout;
    assert_eq!(axes(&other, "h.0.attn.c_attn.weight"), "[3*h_0_attn_heads*8, 64]");
    assert_eq!(axes(&other, "h.0.mlp.c_fc.weight"), "[h_0_mlp, 64]");
    assert_eq!(axes(&other, "h.0.attn.bias"), "[1, 1, 64, 64]");
}

#[test]
fn adapters_are_pairs_of_a_module_never_a_chain() {
    let pair = |module: &str, end: &str, input: usize, out: usize, rank: usize| -> Shapes {
        vec![
            (format!("{module}.lora_A{end}"), vec![rank, input]),
            (format!("{module}.lora_B{end}"), vec![out, rank]),
        ]
    };
    let alone = [pair("layers.q", "", 256, 256, 8), pair("layers.v", "", 256, 128, 8)].concat();
    let found = recognize(&alone, Heads::default());
    assert_eq!(found.family, "LoRA");
    assert_eq!(axes(&found.layout, "layers.q.lora_A"), "[layers_q_rank, 256]");
    assert_eq!(axes(&found.layout, "layers.v.lora_B"), "[128, layers_v_rank]");

    // On a model, what an adapter gives are the heads of its module.
    let module = "bert.encoder.layer.0.attention.self.query";
    let mut with_base = bert();
    for (name, _) in &mut with_base {
        *name = name.replace(&format!("{module}."), &format!("{module}.base_layer."));
    }
    with_base.extend(pair(module, ".default.weight", 64, 64, 4));
    let found = recognize(&with_base, Heads::new(8));
    assert_eq!(found.family, "BERT-like transformer with LoRA");
    let rank = "bert_encoder_layer_0_attention_self_query_rank";
    let heads = "bert_encoder_layer_0_attention_heads";
    let up = format!("{module}.lora_B.default.weight");
    assert_eq!(axes(&found.layout, &up), format!("[{heads}*8, {rank}]"));
    let base = format!("{module}.base_layer.weight");
    assert_eq!(axes(&found.layout, &base), format!("[{heads}*8, 64]"));

    // What variants have beside the halves goes with the outputs, or with the ranks.
    let mut variants = with_base.clone();
    for (part, shape) in [
        ("lora_B.default.bias", vec![64]),
        ("lora_magnitude_vector.default.weight", vec![64]),
        ("lora_E.default.weight", vec![4, 1]),
    ] {
        variants.push((format!("{module}.{part}"), shape));
    }
    let layout = recognize(&variants, Heads::new(8)).layout;
    for part in ["lora_B.default.bias", "lora_magnitude_vector.default.weight"] {
        assert_eq!(axes(&layout, &format!("{module}.{part}")), format!("[{heads}*8]"));
    }
    let of_ranks = format!("{module}.lora_E.default.weight");
    assert_eq!(axes(&layout, &of_ranks), format!("[{rank}, 1]"));
    // What is not known keeps them whole.
    variants.push((format!("{module}.lora_core.default"), vec![4, 4]));
    let found = recognize(&variants, Heads::new(8));
    assert_eq!(axes(&found.layout, &of_ranks), "[4, 1]");
    assert!(found.notes.iter().any(|note| note.contains("lora_core")), "{:?}", found.notes);

    for (shapes, why) in [
        (vec![("q.lora_A.weight".to_owned(), vec![8, 256])], "no other half"),
        (vec![("q.lora_B.weight".to_owned(), vec![256, 8])], "no other half"),
        (
            vec![("q.lora_A".to_owned(), vec![8, 256]), ("q.lora_B".to_owned(), vec![256, 4])],
            "do not multiply",
        ),
    ] {
        let error = Layout::recognize(&shapes, Heads::default()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn other_models_are_no_family() {
    for shapes in [
        layouts::cnn(fedpress_fl::Convention::Torch, 512, 10),
        vec![("fc1.weight".to_owned(), vec![8, 4]), ("fc2.weight".to_owned(), vec![4, 8])],
        vec![("mlp.0.weight".to_owned(), vec![8, 4]), ("mlp.3.weight".to_owned(), vec![4, 8])],
        vec![],
    ] {
        assert_eq!(Layout::recognize(&shapes, Heads::new(8)).unwrap(), None);
    }
}

#[test]
fn tensors_without_values_are_left_out() {
    let mut model = Model(Vec::new());
    model.add("conv1.weight", &[0, 3, 7, 7]).norm("bn1", 0);
    model.add("layer1.0.conv1.weight", &[0, 0, 3, 3]).norm("layer1.0.bn1", 0);
    model.add("layer1.0.conv2.weight", &[0, 0, 3, 3]).norm("layer1.0.bn2", 0);
    model.dense("fc", 10, 64);
    let recognized = Layout::recognize(&model.sorted(), Heads::default());
    assert!(recognized.unwrap().is_none());
    // Sizes that no memory holds.
    let huge = usize::MAX / 2;
    let mut block = Model(Vec::new());
    block.add("h.0.attention.query_key_value.weight", &[huge, 1]);
    block.add("h.0.attention.dense.weight", &[1, huge]);
    block.add("h.0.mlp.dense_h_to_4h.weight", &[8, 4]);
    block.add("h.0.mlp.dense_4h_to_h.weight", &[4, 8]);
    let recognized = Layout::recognize(&block.0, Heads::new(1));
    assert!(recognized.is_err() || recognized.unwrap().is_some());
}
