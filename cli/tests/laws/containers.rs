//! Every container, in and out.

use crate::room::{Room, bytes, code, file_of, said, shared, weights};
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

#[test]
fn a_pickle_is_refused_with_the_conversion() {
    let room = Room::new();
    for (name, content) in [("model.pt", &b""[..]), ("model", b"\x80\x02}q\x00.")] {
        room.write(name, content);
        let output = room.run(&format!("encode {name}"));
        assert_eq!(code(&output), 4);
        assert!(said(&output).contains("s.save_file(torch.load("), "{}", said(&output));
        assert_eq!(room.files().len(), 1);
        std::fs::remove_file(room.path(name)).unwrap();
    }
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
