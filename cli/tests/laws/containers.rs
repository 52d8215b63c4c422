//! Every container, in and out.

use crate::room::{FEDPRESS, Room, bytes, code, file_of, said, shared, weights};
use fedpress::DType;

#[test]
fn every_container_survives_lossless() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o all.fp --spec lossless");
    for name in ["all.safetensors", "all.npz"] {
        room.ok(&format!("decode all.fp -o {name}"));
        room.ok(&format!("encode {name} --spec lossless"));
        room.ok(&format!("decode {name}.fp -o again-{name}"));
        assert_eq!(room.read(name), room.read(&format!("again-{name}")));
        let diff = room.json(&format!("diff model.safetensors {name}"));
        assert_eq!(diff["total"]["different"], 0);
        assert_eq!(diff["total"]["values"], 45_201);
    }
    let values = bytes(&weights("w", 3000));
    room.write("w.raw", &values);
    room.ok("encode w.raw --dtype f32 --shape -1,3 --name w --spec lossless");
    for format in ["raw", "npy", "npz", "safetensors"] {
        room.ok(&format!("decode w.raw.fp -o w2.{format}"));
    }
    assert_eq!(room.read("w2.raw"), values);
    assert!(room.read("w2.npy").ends_with(&values));
    room.ok("encode w2.npy --name w --spec lossless");
    room.ok("decode w2.npy.fp --raw -o w3.raw");
    assert_eq!(room.read("w3.raw"), values);
    assert_eq!(room.json("diff w2.npz w2.safetensors")["total"]["different"], 0);
}

#[test]
fn a_safetensors_file_comes_back_byte_by_byte() {
    let Some(folder) = shared() else { return };
    let room = Room::new();
    let mut n = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            std::fs::copy(&path, room.path("in.safetensors")).unwrap();
            room.ok("encode in.safetensors -o s.fp --spec lossless -f --index --manifest");
            room.ok("decode s.fp -o out.safetensors -f");
            assert_eq!(room.read("in.safetensors"), room.read("out.safetensors"));
            n += 1;
        }
    }
    assert!(n > 0);
}

#[test]
fn shards_become_one_file() {
    let room = Room::new();
    let data = bytes(&weights("w", 100));
    room.write("1.safetensors", &file_of(&[("a", DType::F32, &[100], &data)]));
    room.write("2.safetensors", &file_of(&[("b", DType::F32, &[10, 10], &data)]));
    room.write(
        "model.safetensors.index.json",
        br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
    );
    room.ok("encode model.safetensors.index.json");
    room.ok("decode model.safetensors.fp");
    let diff = room.json("diff model.safetensors.index.json model.safetensors");
    assert_eq!((&diff["same_structure"], &diff["total"]["different"]), (&true.into(), &0.into()));
}

/// Two shards, of which the index omits a tensor.
fn sharded_room() -> Room {
    let room = Room::new();
    std::fs::create_dir(room.path("bert")).unwrap();
    let data = bytes(&weights("w", 100));
    let one = file_of(&[("a", DType::F32, &[100], &data), ("omitted", DType::F32, &[100], &data)]);
    room.write("bert/model-00001-of-00002.safetensors", &one);
    room.write(
        "bert/model-00002-of-00002.safetensors",
        &file_of(&[("b", DType::F32, &[10, 10], &data)]),
    );
    room.write("bert/config.json", b"{}");
    room.write(
        "bert/model.safetensors.index.json",
        br#"{"metadata":{"total_size":800},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
    );
    room
}

#[test]
fn a_folder_is_an_input_and_what_its_index_omits_is_said() {
    let room = sharded_room();
    let report = room.json("encode bert/ -s lossless");
    assert_eq!(report["output"], "bert.fp");
    assert_eq!(report["tensors"].as_array().unwrap().len(), 2);
    let remark = &report["remarks"][0];
    assert_eq!((&remark["kind"], &remark["tensors"]), (&"left_out".into(), &1.into()));
    assert!(remark["message"].as_str().unwrap().contains("\"omitted\""), "{remark}");
    assert_eq!(code(&room.run("encode bert -o s.fp --strict -s lossless")), 1);
    let all = room.json("encode bert -o all.fp -s lossless --unlisted --strict");
    assert_eq!(all["tensors"].as_array().unwrap().len(), 3);
    assert_eq!(room.json("diff bert bert.fp")["total"]["different"], 0);
    assert_eq!(room.json("inspect bert")["total"]["tensors"], 2);

    std::fs::remove_file(room.path("bert/model-00002-of-00002.safetensors")).unwrap();
    let missing = room.run("encode bert -o m.fp");
    assert_eq!(code(&missing), 3);
    assert!(said(&missing).contains("model-00002-of-00002.safetensors"));
    room.write("bert/model.safetensors.index.json", br#"{"weight_map":{}}"#);
    assert_eq!(code(&room.run("encode bert -o m.fp")), 3);
}

#[test]
fn a_shard_that_the_index_omits_is_said_and_taken_if_asked() {
    let room = sharded_room();
    let data = bytes(&weights("w", 100));
    room.write(
        "bert/model.safetensors.index.json",
        br#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#,
    );
    let report = room.json("encode bert -s lossless -f");
    assert_eq!(report["remarks"][0]["tensors"], 2, "{report}");
    let said_so = said(&room.run("encode bert -s lossless -f"));
    assert!(said_so.contains("left out: \"omitted\" of model-00001"), "{said_so}");
    assert_eq!(code(&room.run("encode bert -o s.fp --strict -s lossless")), 1);
    let all = room.json("encode bert -s lossless -f --unlisted --strict");
    assert_eq!(all["tensors"].as_array().unwrap().len(), 3);
    // A second one of a name belongs to nobody.
    let twice =
        file_of(&[("b", DType::F32, &[100], &data), ("omitted", DType::F32, &[100], &data)]);
    room.write("bert/model-00002-of-00002.safetensors", &twice);
    let output = room.run("encode bert -o t.fp --unlisted");
    assert_eq!(code(&output), 3);
    assert!(said(&output).contains("\"omitted\" is both in"), "{}", said(&output));
    // One that cannot be read does no harm where it is not asked for.
    room.write("bert/model-00002-of-00002.safetensors", b"half");
    assert_eq!(room.json("encode bert -s lossless -f")["remarks"][0]["tensors"], 2);
    assert_eq!(code(&room.run("encode bert -o t.fp --unlisted")), 3);
    // Nor does a file that is no shard of this model.
    room.write("bert/adapter_model.safetensors", b"half");
    assert_eq!(room.json("encode bert -s lossless -f")["remarks"][0]["tensors"], 2);
}

#[test]
fn shards_without_an_index_are_a_model_if_all_are_there() {
    let room = sharded_room();
    std::fs::remove_file(room.path("bert/model.safetensors.index.json")).unwrap();
    let report = room.json("encode bert -s lossless --strict");
    assert_eq!(report["tensors"].as_array().unwrap().len(), 3);
    assert_eq!(room.json("diff bert bert.fp")["total"]["different"], 0);
    assert_eq!(room.json("inspect bert")["total"]["tensors"], 3);
    std::fs::remove_file(room.path("bert/model-00001-of-00002.safetensors")).unwrap();
    let missing = room.run("encode bert -f");
    assert_eq!(code(&missing), 3);
    assert!(said(&missing).contains("a shard is missing: number 1"), "{}", said(&missing));
}

#[test]
fn a_folder_without_a_model_says_what_to_do() {
    for (name, exit, part) in [
        ("pytorch_model.bin", 4, "torch.load('in/pytorch_model.bin'"),
        ("model.onnx", 4, "onnx.load('in/model.onnx')"),
        (".zgroup", 4, "zarr.open('in', mode='r')"),
        ("w.npz", 2, "name w.npz"),
        ("notes.txt", 2, "no safetensors file"),
    ] {
        let room = Room::new();
        std::fs::create_dir(room.path("in")).unwrap();
        room.write(&format!("in/{name}"), b"x");
        let output = room.run("encode in");
        assert_eq!(code(&output), exit, "{name}");
        assert!(said(&output).contains(part), "{name}: {}", said(&output));
        assert_eq!(room.files(), ["in"]);
    }
}

#[test]
fn a_stream_becomes_shards_again() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp -s lossless");
    std::fs::create_dir(room.path("out")).unwrap();
    room.ok("decode m.fp -o out/model.safetensors.index.json --shard-size 100K");
    let index: serde_json::Value =
        serde_json::from_slice(&room.read("out/model.safetensors.index.json")).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * 45_200 + 8);
    let shards: std::collections::BTreeSet<String> = index["weight_map"]
        .as_object()
        .unwrap()
        .values()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect();
    assert!(shards.len() > 1 && shards.iter().all(|s| room.path(&format!("out/{s}")).exists()));
    let diff = room.json("diff model.safetensors out");
    assert_eq!((&diff["same_structure"], &diff["total"]["different"]), (&true.into(), &0.into()));
    // Nothing is replaced, and nothing half written is left.
    let again = room.run("decode m.fp -o out/model.safetensors.index.json --shard-size 100K");
    assert_eq!(code(&again), 2);
    assert_eq!(std::fs::read_dir(room.path("out")).unwrap().count(), shards.len() + 1);
}

#[test]
fn more_shards_than_files_may_be_open_are_written() {
    let room = Room::new();
    let data = bytes(&weights("w", 4));
    let names: Vec<_> = (0..150).map(|i| format!("t{i:03}")).collect();
    let shape: &[usize] = &[4];
    let tensors: Vec<_> = names.iter().map(|n| (&n[..], DType::F32, shape, &data[..])).collect();
    room.write("m.safetensors", &file_of(&tensors));
    room.ok("encode m.safetensors -o m.fp -s lossless");
    let script =
        "ulimit -n 40 && exec \"$0\" decode m.fp -o out.safetensors.index.json --shard-size 1";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, FEDPRESS]).current_dir(room.path(""));
    let output = shell.output().unwrap();
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert_eq!(room.json("diff m.fp out.safetensors.index.json")["total"]["different"], 0);
    assert_eq!(room.files().iter().filter(|name| name.ends_with(".tmp")).count(), 0);
}

#[test]
fn shards_lose_no_tensor_that_is_called_as_another_one() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp -s lossless");
    let stream = room.read("m.fp");
    room.write("twice.fp", &[&stream[..], &stream].concat());
    std::fs::create_dir(room.path("out")).unwrap();
    let one = room.run("decode twice.fp -o out/model.safetensors");
    let line = "decode twice.fp -o out/model.safetensors.index.json --shard-size 100K";
    let shards = room.run(line);
    for refused in [&one, &shards] {
        assert!(said(refused).contains("two tensors called"), "{}", said(refused));
    }
    assert_eq!((code(&one), code(&shards)), (2, 2));
    assert_eq!(std::fs::read_dir(room.path("out")).unwrap().count(), 0);
}

#[test]
fn all_that_safetensors_holds_comes_back() {
    let room = Room::new();
    let data = bytes(&weights("w", 4096));
    let names = ["a=b", "nul\0inside", "größe/1", "with space", "q\"uote"];
    let tensors: Vec<_> =
        names.iter().map(|name| (*name, DType::F32, &[64usize, 64][..], &data[..])).collect();
    let file = file_of(&tensors);
    // The same with three MiB of metadata.
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&file[8..8 + length]).unwrap();
    let header = header.replacen(
        "\"format\":\"pt\"",
        &format!("\"format\":\"pt\",\"t\":\"{}\"", "a".repeat(3 << 20)),
        1,
    );
    let mut header = header.trim_end().to_owned();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let big =
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &file[8 + length..]].concat();
    room.write("m.safetensors", &big);
    room.ok("encode m.safetensors -o m.fp -s lossless --index --manifest");
    room.ok("decode m.fp -o back.safetensors");
    assert!(room.read("back.safetensors") == big);
    let words = ["encode", "m.safetensors", "-o", "r.fp", "-s", "lossless"];
    let rules = ["--rule", "a=b=q=4", "--rule", "nul?inside=q=3", "--json"];
    let output = room.run_words(words.iter().chain(&rules), b"");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let spec = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap();
        tensors.iter().find(|t| t["name"] == name).unwrap()["spec"].to_string()
    };
    assert_eq!(
        (spec("a=b"), spec("nul\0inside")),
        ("\"identity|q=4\"".into(), "\"identity|q=3\"".into())
    );
    assert_eq!(report["remarks"].as_array().unwrap().len(), 0);
}

/// An npy file.
fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
}

#[test]
fn arrays_of_any_order_are_read_right_and_one_odd_one_spoils_nothing() {
    let room = Room::new();
    let values = weights("w", 6);
    let at = |order: [usize; 6]| order.map(|i| values[i]);
    let c = bytes(&values);
    room.write("c.npy", &npy("<f4", "False", "(2, 3)", &c));
    room.write("fortran.npy", &npy("<f4", "True", "(2, 3)", &bytes(&at([0, 3, 1, 4, 2, 5]))));
    let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    room.write("big.npy", &npy(">f4", "False", "(2, 3)", &big));
    for file in ["fortran.npy", "big.npy"] {
        assert_eq!(room.json(&format!("diff c.npy {file}"))["total"]["different"], 0, "{file}");
        room.ok(&format!("encode {file} -o a.fp -f -s lossless"));
        room.ok("decode a.fp -o a.npy -f");
        assert!(room.read("a.npy").ends_with(&c), "{file}");
    }
    // bf16 as ml_dtypes writes it.
    room.write("bf16.npy", &npy("<V2", "False", "(3,)", &[0x80, 0x3f, 0, 0x40, 0, 0xc0]));
    let refused = room.run("inspect bf16.npy");
    assert!(code(&refused) == 4 && said(&refused).contains("--dtype bf16"), "{}", said(&refused));
    room.write("f8.npy", &npy("<V1", "False", "(3,)", &[1, 2, 3]));
    let refused = room.run("inspect f8.npy --dtype bf16");
    assert!(said(&refused).contains("--dtype f8_e4m3 or --dtype f8_e5m2"), "{}", said(&refused));
    let described = room.json("inspect bf16.npy --dtype bf16");
    assert_eq!(
        (&described["tensors"][0]["dtype"], &described["tensors"][0]["mean"]),
        (&"BF16".into(), &(1.0 / 3.0).into())
    );
    room.ok("encode bf16.npy --dtype bf16");

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in [
        ("a.npy", npy("<f4", "False", "(2, 3)", &c)),
        ("labels.npy", npy("<U1", "False", "(2,)", &[97, 0, 0, 0, 98, 0, 0, 0])),
        ("z.npy", npy("<f4", "True", "(2, 3)", &bytes(&at([0, 3, 1, 4, 2, 5])))),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &content).unwrap();
    }
    room.write("odd.npz", &zip.finish().unwrap().into_inner());
    let refused = room.run("encode odd.npz");
    assert!(code(&refused) == 4 && said(&refused).contains("labels"), "{}", said(&refused));
    assert!(said(&refused).contains("--skip-unsupported takes the others"), "{}", said(&refused));
    let report = room.json("encode odd.npz --skip-unsupported -s lossless");
    assert_eq!(report["tensors"].as_array().unwrap().len(), 2);
    assert_eq!(report["remarks"][0]["kind"], "left_out");
}

#[test]
fn equal_arrays_of_an_npz_arrive_through_a_pipe() {
    let room = Room::new();
    let data = bytes(&weights("w", 3000));
    let matrix: &[usize] = &[30, 100];
    room.write(
        "m.safetensors",
        &file_of(&[("a", DType::F32, matrix, &data), ("b", DType::F32, matrix, &data)]),
    );
    room.ok("encode m.safetensors -s lossless -o m.fp");
    room.ok("decode m.fp -o m.npz");
    for line in ["encode - -s lossless -o p.fp -f", "encode - -s auto -o p.fp -f --target-ratio 4"]
    {
        let output = room.pipe(line, &room.read("m.npz"));
        assert_eq!(code(&output), 0, "{line}: {}", said(&output));
        let limit = if line.contains("lossless") { "0" } else { "0.01" };
        room.ok(&format!("diff m.npz p.fp --fail-above nmse={limit}"));
    }
}

#[test]
fn wild_files_are_read() {
    let Some(folder) = shared() else { return };
    let wild = folder.join("wild");
    if !wild.is_dir() {
        return println!("skipped: there is no {}", wild.display());
    }
    let room = Room::new();
    for name in [
        "big-metadata.safetensors",
        "f4.safetensors",
        "fortran.npy",
        "one-fortran.npz",
        "tied.safetensors",
    ] {
        std::fs::copy(wild.join(name), room.path(name)).unwrap();
        room.ok(&format!("encode {name} -o w.fp -f -s lossless"));
        let diff = room.json(&format!("diff {name} w.fp"));
        assert_eq!(
            (&diff["same_structure"], &diff["total"]["different"]),
            (&true.into(), &0.into()),
            "{name}"
        );
    }
}

#[test]
fn a_pickle_is_refused_with_the_conversion() {
    let room = Room::new();
    for (name, content) in [("model.pt", &b""[..]), ("model", b"\x80\x02}q\x00.")] {
        room.write(name, content);
        let output = room.run(&format!("encode {name}"));
        assert_eq!(code(&output), 4);
        assert!(
            said(&output).contains("torch.load(") && said(&output).contains("s.save_file("),
            "{}",
            said(&output)
        );
        assert_eq!(room.files().len(), 1);
        std::fs::remove_file(room.path(name)).unwrap();
    }
}

#[test]
fn nothing_is_written_under_a_name_of_another_kind() {
    let room = Room::new();
    room.write("w.raw", &bytes(&weights("w", 100)));
    room.ok("encode w.raw --dtype f32 --shape 100 -o w.fp -s lossless");
    for name in ["w.pt", "w.bin", "w.h5", "w.onnx", "w.gguf", "w.zarr"] {
        let output = room.run(&format!("decode w.fp -o {name}"));
        assert_eq!(code(&output), 2, "{name}");
        assert!(said(&output).contains("not written here"), "{}", said(&output));
        assert!(!room.path(name).exists());
    }
    room.ok("decode w.fp -o w.bin --raw");
    assert_eq!(room.read("w.bin"), room.read("w.raw"));
}

#[test]
fn a_keras_archive_is_refused_with_the_conversion_of_what_is_in_it() {
    let room = Room::new();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["metadata.json", "config.json", "model.weights.h5"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    }
    room.write("m.keras", &zip.finish().unwrap().into_inner());
    let output = room.run("encode m.keras");
    assert_eq!(code(&output), 4);
    let text = said(&output);
    assert!(text.contains("unpack it") && text.contains("File('model.weights.h5')"), "{text}");
    // What older versions wrote under that name.
    room.write("m.keras", b"\x89HDF\r\n\x1a\n");
    let text = said(&room.run("encode m.keras"));
    assert!(text.contains("File('m.keras')"), "{text}");
}

#[test]
fn a_dimension_of_zero_makes_nothing_of_any_others() {
    let room = Room::new();
    room.write("w.npy", &npy("<f4", "False", "(4294967296, 4294967296, 0)", &[]));
    assert_eq!(room.json("inspect w.npy")["total"]["values"], 0);
    assert_eq!(room.json("diff w.npy w.npy")["total"]["values"], 0);
}

#[test]
fn raw_bytes_need_a_type_and_a_shape_that_fit() {
    let room = Room::new();
    room.write("w.raw", &[0; 40]);
    assert_eq!(code(&room.run("encode w.raw --dtype f32")), 2);
    assert_eq!(code(&room.run("encode w.raw --shape 10")), 2);
    assert_eq!(code(&room.run("encode w.raw --dtype f32 --shape 11")), 3);
    assert_eq!(code(&room.run("encode w.raw --dtype f32 --shape -1,3")), 3);
    assert_eq!(code(&room.run("encode w.raw --dtype float --shape 10")), 2);
    assert_eq!(room.files(), ["w.raw"]);
    room.ok("encode w.raw --dtype f32 --shape 2,5");
}

#[test]
fn one_tensor_is_decoded_with_and_without_an_index() {
    let room = Room::with_model();
    for (flags, has) in [("", false), (" --index", true), (" --index --manifest", true)] {
        room.ok(&format!("encode model.safetensors -o m.fp -f --spec lossless{flags}"));
        assert_eq!(room.json("inspect m.fp")["index"], has);
        let bias = bytes(&weights("bias", 200));
        let raw = room.run("decode m.fp --tensor fc1.bias --raw -c");
        assert_eq!(raw.stdout, bias);
        let piped = room.pipe("decode - --tensor fc1.bias --raw", &room.read("m.fp"));
        assert_eq!(piped.stdout, bias, "{}", said(&piped));
        room.ok("decode m.fp --tensor steps -o steps.npz -f");
        assert_eq!(room.json("diff steps.npz steps.npz")["tensors"][0]["name"], "steps");
        let missing = room.run("decode m.fp --tensor nothing --raw -c");
        assert_eq!(code(&missing), 2);
        assert!(said(&missing).contains("\"nothing\""));
    }
}

#[test]
fn one_tensor_is_decoded_in_less_memory_than_it_takes() {
    let room = Room::new();
    let values = bytes(&weights("w", 2_000_000));
    let small = bytes(&weights("small", 10));
    let stream = "encode - --dtype f32 --chunk-values 4K -s lossless";
    let closed = room.pipe(&format!("{stream} --shape 2000000 --name w"), &values).stdout;
    let open = room.pipe(&format!("{stream} --shape -1,2 --name w"), &values).stdout;
    let small = room.pipe(&format!("{stream} --shape 10 --name small"), &small).stdout;
    for (name, middle) in [("closed.fp", closed), ("open.fp", open)] {
        room.write(name, &[&small[..], &middle, &small].concat());
        for format in ["raw", "npy", "npz", "safetensors"] {
            let out = format!("{name}.{format}");
            room.ok(&format!("decode {name} --tensor w -o {out} --memory-limit 1M"));
            let found = room.read(&out).windows(4096).any(|w| w == &values[values.len() - 4096..]);
            assert!(found, "{out}");
        }
        assert_eq!(room.read(&format!("{name}.raw")), values);
        let npy = room.run(&format!("decode {name} --tensor w --to npy -c")).stdout;
        assert_eq!(npy, room.read(&format!("{name}.npy")));
    }
    assert_eq!(room.json("diff open.fp.npz open.fp.safetensors")["total"]["different"], 0);
}

#[test]
fn with_an_index_damage_elsewhere_does_not_matter() {
    let room = Room::with_model();
    room.ok("encode model.safetensors -o m.fp --spec lossless --index");
    let place =
        room.json("inspect m.fp")["tensors"].as_array().unwrap().iter().find_map(|t| {
            (t["name"] == "fc1.weight").then(|| t["offset"].as_u64().unwrap() + 1000)
        });
    let mut damaged = room.read("m.fp");
    damaged[place.unwrap() as usize] ^= 1;
    room.write("m.fp", &damaged);
    assert_eq!(code(&room.run("decode m.fp -o all.npz")), 3);
    assert_eq!(room.run("decode m.fp --tensor fc1.bias --raw -c").stdout.len(), 800);
    assert_eq!(code(&room.run("decode m.fp --tensor fc1.weight --raw -c")), 3);
}
