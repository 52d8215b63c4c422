//! Submodels of tensor files.

use crate::room::{Room, bytes, code, file_of, said, shared, weights};
use fedpress::DType;

#[test]
fn a_submodel_put_back_unchanged_changes_nothing() {
    let room = Room::with_model();
    for options in [
        "--keep 0.75 --seed 3",
        "--strategy ordered",
        "--strategy rolling --offset 150",
        "--strategy balanced --offset 3",
        "--keep-values 0.5",
    ] {
        room.ok(&format!("submodel pack model.safetensors -o sub.safetensors -f {options}"));
        let merge = "submodel merge model.safetensors sub.safetensors -o back.safetensors -f";
        room.ok(&format!("{merge} {options}"));
        room.ok("diff model.safetensors back.safetensors");
        assert_eq!(room.read("model.safetensors"), room.read("back.safetensors"), "{options}");
    }
}

#[test]
fn a_submodel_is_smaller_by_its_rows_and_columns() {
    let room = Room::with_model();
    let report = room.json("submodel inspect model.safetensors --keep 0.5");
    assert_eq!(report["groups"][0]["kept"], 100);
    let kept = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap();
        tensors.iter().find(|t| t["name"] == name).unwrap()["kept"].to_string()
    };
    assert_eq!(kept("fc1.weight"), "[100,200]");
    assert_eq!(kept("fc1.bias"), "[100]");
    assert_eq!(kept("fc2.weight"), "[25,100]");
    let report_by_cost = room.json("submodel inspect model.safetensors --keep-values 0.5");
    let count = |report: &serde_json::Value, key: &str| report[key].as_u64().unwrap();
    // Half of all but the counter, of which nothing can be dropped.
    assert!(2 * count(&report_by_cost, "values_kept") <= count(&report_by_cost, "values") + 1);
    room.ok("submodel pack model.safetensors -o sub.safetensors --keep 0.5");
    let listed = room.json("submodel inspect sub.safetensors --keep 1");
    assert_eq!(listed["values"], report["values_kept"]);
}

#[test]
fn another_seed_keeps_other_units_and_merge_writes_only_those() {
    let room = Room::with_model();
    room.ok("submodel pack model.safetensors -o a.safetensors --keep 0.5 --seed 1");
    room.ok("submodel pack model.safetensors -o b.safetensors --keep 0.5 --seed 2");
    assert_ne!(room.read("a.safetensors"), room.read("b.safetensors"));
    room.ok("submodel merge model.safetensors a.safetensors -o m.safetensors --keep 0.5 --seed 2");
    room.ok("submodel pack m.safetensors -o a2.safetensors --keep 0.5 --seed 2");
    assert_eq!(room.read("a.safetensors"), room.read("a2.safetensors"));
}

#[test]
fn a_printed_layout_is_one_that_is_read() {
    let room = Room::with_model();
    let layout = room.ok("submodel inspect model.safetensors --print-layout");
    room.write("layout.toml", layout.as_bytes());
    let line = "submodel inspect model.safetensors --print-layout --layout layout.toml";
    assert_eq!(room.ok(line), layout);
}

#[test]
fn mistakes_are_told() {
    let room = Room::with_model();
    room.write(
        "wrong.toml",
        b"[groups]\nfc1 = 7\n[[parameters]]\nname = \"fc1.weight\"\naxes = [\"fc1\", \"7\"]\n",
    );
    room.ok("submodel pack model.safetensors -o sub.safetensors --keep 0.5");
    for (line, says) in [
        ("submodel pack model.safetensors -o x.safetensors --keep 0", "fraction"),
        ("submodel pack model.safetensors -o x.safetensors --keep-group no=0.5", "no group"),
        ("submodel pack model.safetensors -o x.safetensors --layout wrong.toml", "fc1.weight"),
        ("submodel inspect model.safetensors --keep 0.5 --keep-values 0.5", "cannot be used with"),
        ("submodel inspect model.safetensors --keep-values 2", "fraction"),
        ("submodel pack model.safetensors --keep 0.5", "-o FILE"),
        ("submodel merge model.safetensors model.safetensors -o x.safetensors", "expected"),
    ] {
        let output = room.run(line);
        assert!(code(&output) != 0, "{line}");
        assert!(said(&output).contains(says), "{line}: {}", said(&output));
        assert!(!room.path("x.safetensors").exists());
    }
}

/// A safetensors file of weights of these shapes.
fn shaped(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let data: Vec<Vec<u8>> =
        tensors.iter().map(|(name, shape)| bytes(&weights(name, shape.iter().product()))).collect();
    let tensors: Vec<_> = tensors
        .iter()
        .zip(&data)
        .map(|((name, shape), data)| (*name, DType::F32, *shape, &data[..]))
        .collect();
    file_of(&tensors)
}

const AUTOENCODER: [(&str, &[usize]); 4] = [
    ("decoder.0.weight", &[30, 12]),
    ("decoder.2.weight", &[64, 30]),
    ("encoder.0.weight", &[30, 64]),
    ("encoder.2.weight", &[12, 30]),
];

#[test]
fn an_order_without_evidence_is_refused_with_what_to_say_instead() {
    let room = Room::new();
    room.write("auto.safetensors", &shaped(&AUTOENCODER));
    let three: [(&str, &[usize]); 3] =
        [("one.weight", &[8, 8]), ("three.weight", &[8, 8]), ("two.weight", &[8, 8])];
    room.write("words.safetensors", &shaped(&three));
    for (file, order) in
        [("auto", "encoder.0,encoder.2,decoder.0,decoder.2"), ("words", "one,two,three")]
    {
        let output = room.run(&format!("submodel pack {file}.safetensors -o x.safetensors"));
        let text = said(&output);
        assert_eq!(code(&output), 2, "{text}");
        assert!(text.contains("chain in more than one order"), "{text}");
        assert!(text.contains(&format!("--order {order}\n")), "{text}");
        assert!(text.contains("[[parameters]]") && text.contains("[groups]"), "{text}");
        assert!(!room.path("x.safetensors").exists());

        // The text to start from is a layout.
        let start = room.run(&format!("submodel inspect {file}.safetensors --print-layout"));
        assert_eq!(code(&start), 2);
        room.write("start.toml", &start.stdout);
        room.ok(&format!("submodel inspect {file}.safetensors --layout start.toml"));
    }
    let order = "--order encoder.0,encoder.2,decoder.0,decoder.2";
    let report = room.json(&format!("submodel inspect auto.safetensors --keep 0.5 {order}"));
    let kept = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap();
        tensors.iter().find(|t| t["name"] == name).unwrap()["kept"].to_string()
    };
    assert_eq!(kept("encoder.0.weight"), "[15,64]", "inputs are whole");
    assert_eq!(kept("encoder.2.weight"), "[6,15]");
    assert_eq!(kept("decoder.2.weight"), "[64,15]", "outputs are whole");
    let wrong = room.run("submodel inspect auto.safetensors --order encoder.0,decoder.0");
    assert_eq!(code(&wrong), 2);
    assert!(said(&wrong).contains("lacks layer"), "{}", said(&wrong));
}

#[test]
fn what_is_recognized_is_said_and_comes_back_whole() {
    let room = Room::new();
    let conv: &[usize] = &[16, 16, 3, 3];
    room.write(
        "resnet.safetensors",
        &shaped(&[
            ("bn1.bias", &[16]),
            ("bn1.running_mean", &[16]),
            ("bn1.running_var", &[16]),
            ("bn1.weight", &[16]),
            ("conv1.weight", &[16, 3, 7, 7]),
            ("fc.bias", &[10]),
            ("fc.weight", &[10, 16]),
            ("layer1.0.bn1.bias", &[16]),
            ("layer1.0.bn1.weight", &[16]),
            ("layer1.0.bn2.bias", &[16]),
            ("layer1.0.bn2.weight", &[16]),
            ("layer1.0.conv1.weight", conv),
            ("layer1.0.conv2.weight", conv),
        ]),
    );
    let inspected = room.ok("submodel inspect resnet.safetensors --keep 0.5");
    assert!(inspected.contains("layout: recognized as torchvision ResNet"), "{inspected}");
    assert!(inspected.contains("layer1_0_conv1"), "{inspected}");
    let pack = room.run("submodel pack resnet.safetensors -o s.safetensors --keep 0.5 --seed 3");
    assert!(said(&pack).contains("torchvision ResNet"), "{}", said(&pack));
    let merge = "submodel merge resnet.safetensors s.safetensors -o back.safetensors";
    room.ok(&format!("{merge} --keep 0.5 --seed 3 -q"));
    assert_eq!(room.read("resnet.safetensors"), room.read("back.safetensors"));
    // The submodel is a ResNet, too.
    let small = room.json("submodel inspect s.safetensors --keep 1");
    assert_eq!(small["layout"], "recognized as torchvision ResNet");
    assert_eq!(small["groups"][0]["units"], 8);
}

#[test]
fn heads_are_told_or_stand_in_the_config() {
    let room = Room::new();
    let block = "vit.encoder.layer.0";
    let name = |layer: &str| format!("{block}.{layer}.weight");
    let [q, k, v] = ["query", "key", "value"].map(|n| name(&format!("attention.attention.{n}")));
    let (out, up, down) =
        (name("attention.output.dense"), name("intermediate.dense"), name("output.dense"));
    room.write(
        "vit.safetensors",
        &shaped(&[
            (&q, &[32, 32]),
            (&k, &[32, 32]),
            (&v, &[32, 32]),
            (&out, &[32, 32]),
            (&up, &[64, 32]),
            (&down, &[32, 64]),
        ]),
    );
    let groups = |line: &str| {
        let report = room.json(&format!("submodel inspect vit.safetensors{line}"));
        (report["groups"].as_array().unwrap().len(), report["notes"].to_string())
    };
    let (n, notes) = groups("");
    assert_eq!(n, 1, "the hidden units of the MLP");
    assert!(notes.contains("shapes do not show how many"), "{notes}");
    assert_eq!(groups(" --heads 4"), (2, "[]".into()));
    room.write("config.json", br#"{"num_attention_heads": 4, "model_type": "vit"}"#);
    assert_eq!(groups(""), (2, "[]".into()));
    // Heads that are told, and of no use, are no mistake that goes by.
    let t5 = |layer: &str| format!("block.0.layer.{layer}.weight");
    room.write(
        "t5.safetensors",
        &shaped(&[
            (&t5("0.SelfAttention.o"), &[32, 32]),
            (&t5("0.SelfAttention.q"), &[32, 32]),
            (&t5("1.DenseReluDense.wi"), &[64, 32]),
            (&t5("1.DenseReluDense.wo"), &[32, 64]),
        ]),
    );
    let in_vain = room.run("submodel inspect t5.safetensors --heads 4");
    assert_eq!(code(&in_vain), 2);
    assert!(said(&in_vain).contains("all layers share"), "{}", said(&in_vain));
    let wrong = room.run("submodel inspect vit.safetensors --heads 5");
    assert_eq!(code(&wrong), 2);
    assert!(said(&wrong).contains("no 5 heads"), "{}", said(&wrong));
}

#[test]
fn adapters_of_different_modules_are_no_chain() {
    let room = Room::new();
    room.write(
        "lora.safetensors",
        &shaped(&[
            ("q.lora_A.weight", &[8, 256]),
            ("q.lora_B.weight", &[256, 8]),
            ("v.lora_A.weight", &[8, 256]),
            ("v.lora_B.weight", &[128, 8]),
        ]),
    );
    let report = room.json("submodel inspect lora.safetensors --keep 0.5");
    assert_eq!(report["layout"], "recognized as LoRA");
    let kept: Vec<_> =
        report["tensors"].as_array().unwrap().iter().map(|t| t["kept"].to_string()).collect();
    assert_eq!(kept, ["[4,256]", "[256,4]", "[4,256]", "[128,4]"]);
}

#[test]
fn wild_models_get_no_guessed_order() {
    let Some(folder) = shared() else { return };
    let room = Room::new();
    let wild = folder.join("wild");
    if !wild.is_dir() {
        return println!("skipped: there is no {}", wild.display());
    }
    for name in ["autoencoder", "lora-fresh"] {
        let file = format!("{name}.safetensors");
        std::fs::copy(wild.join(&file), room.path(&file)).unwrap();
    }
    assert_eq!(code(&room.run("submodel pack autoencoder.safetensors -o x.safetensors")), 2);
    let lora = room.json("submodel inspect lora-fresh.safetensors");
    assert_eq!(lora["layout"], "recognized as LoRA");
}

#[test]
fn heads_are_what_the_config_in_the_folder_of_the_model_says() {
    let room = Room::new();
    std::fs::create_dir(room.path("bert")).unwrap();
    let (square, up, down): (&[usize], &[usize], &[usize]) = (&[8, 8], &[16, 8], &[8, 16]);
    let model = shaped(&[
        ("layer.0.attention.output.dense.weight", square),
        ("layer.0.attention.self.key.weight", square),
        ("layer.0.attention.self.query.weight", square),
        ("layer.0.attention.self.value.weight", square),
        ("layer.0.intermediate.dense.weight", up),
        ("layer.0.output.dense.weight", down),
    ]);
    room.write("bert/model.safetensors", &model);
    for (config, heads) in [
        (r#"{"num_attention_heads": 4}"#, Some(4)),
        (r#"{"n_head": 4, "num_attention_heads": 4}"#, Some(4)),
        (r#"{"n_heads": 2}"#, Some(2)),
        // Of each stage, as in Swin and SegFormer.
        (r#"{"num_heads": [2, 4]}"#, None),
        (r#"{"num_attention_heads": null}"#, None),
    ] {
        room.write("bert/config.json", config.as_bytes());
        for place in ["bert", "bert/", "bert/model.safetensors"] {
            let report = room.json(&format!("submodel inspect {place}"));
            let groups = report["groups"].as_array().unwrap();
            let units: Vec<_> = groups.iter().filter_map(|group| group["units"].as_u64()).collect();
            assert_eq!(
                units.iter().find(|units| **units != 16).copied(),
                heads,
                "{config} {place}"
            );
        }
    }
}
