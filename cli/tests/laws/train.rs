//! Training: the same seed is the same result, whatever happens on the way.

use crate::room::{FEDPRESS, Room, code, said};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SMALL: &str = "
clients = 6
clients_per_round = 3
train_examples = 240
test_examples = 100
rounds = 3
seed = 5
down = \"hadamard|q=4|zstd\"
up = \"hadamard|q=2,nearest|zstd\"
keep = 0.75
feedback = true
[local]
learning_rate = 0.05
";

/// The log without what depends on the clock.
fn log(room: &Room, run: &str) -> Vec<serde_json::Value> {
    let path = if run.contains('/') { run.to_owned() } else { format!("{run}/run") };
    let text = String::from_utf8(room.read(&format!("{path}/log.jsonl"))).unwrap();
    let mut lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        let (seconds, share) = (line.remove("seconds").unwrap(), line.remove("codec_share"));
        let part = |name: &str| seconds[name].as_f64().unwrap();
        let codec = part("encode") + part("decode");
        let expected = codec / (codec + part("train") + part("server"));
        assert!((share.unwrap().as_f64().unwrap() - expected).abs() < 1e-12);
    }
    lines
}

#[test]
fn threads_do_not_show_and_resumed_is_uninterrupted() {
    let room = Room::new();
    room.write("small.toml", SMALL.as_bytes());
    room.ok("train small.toml --out one -T 1");
    room.ok("train small.toml --out two -T 3");
    room.ok("train small.toml --out cut --rounds 1");
    room.ok("train small.toml --out cut --resume");
    assert_eq!(log(&room, "one").len(), 3);
    for other in ["two", "cut"] {
        assert_eq!(log(&room, "one"), log(&room, other), "{other}");
        let model = |run: &str| room.read(&format!("{run}/run/model.fp"));
        assert!(model("one") == model(other), "{other}");
    }
    room.ok("decode one/run/model.fp -o model.safetensors");
    let page = String::from_utf8(room.read("one/report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("http://www.w3.org/1999"));
    assert!(!page.contains("src=") && !page.contains("href="), "opens offline");
}

/// Runs that differ in their seeds alone are compared seed by seed with the first.
#[test]
fn seeds_are_taken_together() {
    let room = Room::new();
    let runs = "[[run]]\nname = \"a\"\n[[run]]\nname = \"b\"\ndown = \"none\"\n";
    let shared = SMALL.replace("seed = 5", "seeds = [1, 2]");
    room.write("seeds.toml", format!("{shared}{runs}").as_bytes());
    let told = room.ok("train seeds.toml --out out --rounds 1");
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row.first() == Some(&name)).unwrap();
    assert_eq!(row("a")[1..5], ["2", row("a")[2], "+0.00", "+0.00..+0.00"]);
    assert_eq!(row("a")[5..], ["1.00x"; 4]);
    let accuracy = |run: &str| -> f64 {
        let text = String::from_utf8(room.read(&format!("out/{run}/log.jsonl"))).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        100.0 * line["accuracy"].as_f64().unwrap()
    };
    let [d1, d2] = [1, 2].map(|s| accuracy(&format!("b-s{s}")) - accuracy(&format!("a-s{s}")));
    assert_eq!(row("b")[3], format!("{:+.2}", (d1 + d2) / 2.0));
    // The standard error of two is half of their distance; 12.706 is t of one degree of freedom.
    let [mean, half] = [(d1 + d2) / 2.0, 12.706 * (d1 - d2).abs() / 2.0];
    assert_eq!(row("b")[4], format!("{:+.2}..{:+.2}", mean - half, mean + half));
    let markdown = room.ok("train seeds.toml --out out --rounds 1 --resume --markdown");
    let line = format!("| a | 2 | {} | +0.00 | +0.00..+0.00 | 1.00x |", row("a")[2]);
    assert!(markdown.contains(&line), "{markdown}");
    let page = String::from_utf8(room.read("out/report.html")).unwrap();
    assert!(page.contains("Seeds taken together"));
    // Pictures have a line for each name, not for each seed: rounds, bytes, and where they end.
    assert_eq!(page.matches("<polyline").count(), 3 * 2);
    let frontier = String::from_utf8(room.read("out/frontier.svg")).unwrap();
    assert_eq!(frontier.matches("<circle").count(), 2);
    // One of them alone, which is that of the same name.
    room.ok("train seeds.toml --out one --rounds 1 --seed 2");
    let model = |run: &str| room.read(&format!("{run}/a-s2/model.fp"));
    assert!(model("one") == model("out") && !room.path("one/a-s1").exists());
}

const GKT: &str = "
algorithm = \"fedgkt\"
clients = 3
train_examples = 90
test_examples = 50
rounds = 3
seed = 5
[local]
batch = 10
[gkt]
augment = \"crop-flip\"
[gkt.training]
epochs = 1
batch = 30
[gkt.pace]
quorum = 2
lead = 1
[gkt.clock]
spread = 1.0
";

#[test]
fn fedgkt_is_reported_and_resumed_like_fedavg() {
    let room = Room::new();
    room.write("gkt.toml", GKT.as_bytes());
    let told = room.ok("train gkt.toml --out one -T 1");
    assert!(told.contains("edge_parameters") && told.contains("split_learning"), "{told}");
    room.ok("train gkt.toml --out cut --rounds 1 -T 2");
    room.ok("train gkt.toml --out cut --resume");
    assert_eq!(log(&room, "one").len(), 3);
    assert_eq!(log(&room, "one"), log(&room, "cut"));
    let model = |run: &str| room.read(&format!("{run}/run/model.fp"));
    assert!(model("one") == model("cut"));
    room.ok("decode one/run/model.fp -o networks.safetensors");
    let page = String::from_utf8(room.read("one/report.html")).unwrap();
    assert!(page.contains("What the edge pays") && page.contains("virtual seconds"));
    let refused = room.run("train gkt.toml --algorithm fedgkt --out other");
    assert_eq!(code(&refused), 2);
    let mistaken =
        room.run("train --algorithm fedgkt --dataset demo --model mnist-cnn --out other");
    assert_eq!(code(&mistaken), 2, "{}", said(&mistaken));
}

#[test]
fn what_is_there_is_not_overwritten_unasked() {
    let room = Room::new();
    room.write("small.toml", SMALL.as_bytes());
    room.ok("train small.toml --out out --rounds 1");
    let again = room.run("train small.toml --out out --rounds 1");
    assert_eq!(code(&again), 2);
    assert!(said(&again).contains("--resume"), "{}", said(&again));
    let other = room.run("train small.toml --out out --rounds 1 --resume --keep 1");
    assert_eq!(code(&other), 2);
    assert!(said(&other).contains("keep"), "{}", said(&other));
    room.ok("train small.toml --out out --rounds 1 --keep 1 --force");
}

#[test]
fn mistakes_are_told() {
    let room = Room::new();
    room.write("bad.toml", b"rouns = 3\n");
    room.write("feedback.toml", b"feedback = true\nup = 'hadamard|q=2'\n");
    for (line, says) in [
        ("train", "--demo"),
        ("train bad.toml", "rouns"),
        ("train --dataset mnist", "files"),
        ("train --dataset demo --down nonsense", "nonsense"),
        ("train --dataset demo --keep 0", "fraction"),
        ("train --dataset demo --clients 3", "clients"),
        ("train feedback.toml", "nearest"),
        ("train --demo --device gpu", "cuda:INDEX"),
        (
            "train --demo --device cuda:9999",
            if cfg!(feature = "train-cuda") { "GPUs" } else { "train-cuda" },
        ),
    ] {
        let output = room.run(line);
        assert_eq!(code(&output), 2, "{line}: {}", said(&output));
        assert!(said(&output).contains(says), "{line}: {}", said(&output));
    }
}

/// Training that diverges is told, and the other runs of a file are trained.
#[test]
fn a_run_that_diverges_does_not_keep_the_others_waiting() {
    let room = Room::new();
    let runs =
        "[[run]]\nname = \"wild\"\nlocal = { learning_rate = 1e30 }\n[[run]]\nname = \"tame\"\n";
    room.write("two.toml", format!("{SMALL}{runs}").as_bytes());
    let told = room.ok("train two.toml --out out --rounds 2");
    assert!(told.contains("wild: training diverged on 6 clients"), "{told}");
    assert!(!told.contains("0.00x") && !told.contains("tame: "), "{told}");
    let line = &log(&room, "out/wild")[1];
    assert_eq!((&line["updates"], &line["clients_missing"]), (&0.into(), &3.into()));
    assert!(line["train_loss"].is_null() && line["accuracy"].is_number());
    room.ok("train two.toml --out out --rounds 3 --resume");
}

/// Who has what, what papers would count, and where each training ended, are written down.
#[test]
fn a_report_has_class_counts_formula_and_frontier() {
    let room = Room::new();
    let runs = "[[run]]\nname = \"all\"\nkeep = 1.0\n[[run]]\nname = \"less\"\nkeep = 0.5\n";
    room.write("two.toml", format!("{}{runs}", SMALL.replace("keep = 0.75", "")).as_bytes());
    room.ok("train two.toml --out out --rounds 1");
    let counts = room.read("out/less/class-counts.json");
    let counts: Vec<Vec<u64>> = serde_json::from_slice(&counts).unwrap();
    assert_eq!((counts.len(), counts.iter().flatten().sum::<u64>()), (6, 240));
    assert!(counts.iter().all(|client| client.len() == 10 && client.iter().sum::<u64>() == 40));
    let svg = String::from_utf8(room.read("out/frontier.svg")).unwrap();
    assert!(svg.contains(">all<") && svg.contains(">less<") && svg.matches("<circle").count() == 2);
    let page = String::from_utf8(room.read("out/report.html")).unwrap();
    assert!(page.contains("<td>all</td><td>8.00x</td>"), "4 of 32 bits down");
    // What leaves a part of the model out on its way down is pointed out.
    let told = said(&room.run(
        "train --dataset demo --clients 10 --rounds 1 --out s --down hadamard|subsample=0.5|q=4",
    ));
    assert!(told.contains("leaves out part of the model"), "{told}");
    // By the name of a preset, too; and not up, where others bring what one leaves out.
    let (down, up) = ("--down paper-hadamard", "--down lossless --up paper-hadamard");
    for (spec, is_told) in [(down, true), (up, false)] {
        let line = format!("train --dataset demo --clients 10 --rounds 1 -f --out s {spec}");
        assert_eq!(said(&room.run(&line)).contains("leaves out"), is_told, "{spec}");
    }
}

/// Files that have moved are the same files.
#[test]
fn data_may_lie_elsewhere_when_a_training_goes_on() {
    let room = Room::new();
    let config = SMALL.replace("240", "20").replace("100", "20");
    room.write("png.toml", format!("dataset = \"folders\"\n{config}").as_bytes());
    for (set, class) in [("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")] {
        std::fs::create_dir_all(room.path(&format!("here/{set}/{class}"))).unwrap();
        for i in 0..20u8 {
            room.write(
                &format!("here/{set}/{class}/{i}.png"),
                &png(if class == "a" { i } else { 255 - i }),
            );
        }
    }
    room.ok("train png.toml --data here --out out --rounds 1");
    std::fs::rename(room.path("here"), room.path("there")).unwrap();
    room.ok("train png.toml --data there --out out --rounds 2 --resume");
    room.ok("train png.toml --data there --out whole --rounds 2");
    assert_eq!(log(&room, "out"), log(&room, "whole"));
    // Others are not, whatever their names.
    room.write("there/train/a/0.png", &png(99));
    let output = room.run("train png.toml --data there --out out --rounds 3 --resume");
    assert_eq!(code(&output), 2);
    assert!(said(&output).contains("other data"), "{}", said(&output));
    // The first 20 examples of 40 are of both classes.
    let counts = room.read("out/run/class-counts.json");
    let counts: Vec<Vec<u64>> = serde_json::from_slice(&counts).unwrap();
    let of_class = |class: usize| counts.iter().map(|client| client[class]).sum::<u64>();
    assert_eq!([of_class(0), of_class(1)], [10, 10]);
}

/// An image of 16 by 16 pixels of one grey.
fn png(grey: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 16, 16);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[grey; 256]).unwrap();
    file
}

/// Whether whoever started the tests ignores interrupts, as a shell does for a job in the background: children
/// inherit that. Known on Linux alone.
fn interrupts_are_ignored() -> bool {
    const SIGINT: u32 = 2;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.unwrap_or(0) >> (SIGINT - 1) & 1 == 1
}

#[test]
fn an_interrupt_saves() {
    if interrupts_are_ignored() {
        return println!("skipped: whoever started this ignores interrupts");
    }
    let room = Room::new();
    room.write("small.toml", SMALL.as_bytes());
    let mut child = Command::new(FEDPRESS)
        .args(["train", "small.toml", "--rounds", "1000", "--out", "out", "-v"])
        .current_dir(room.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let mut kill = Command::new("kill");
    assert!(kill.args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "does not stop");
        std::thread::sleep(Duration::from_millis(20));
    };
    if status.code().is_none() {
        return println!("skipped: signals are ignored here, or came before anything was set up");
    }
    assert_eq!(status.code(), Some(130));
    let rounds = log(&room, "out").len();
    assert!(rounds < 1000);
    room.ok(&format!("train small.toml --out out --resume --rounds {}", rounds + 1));
    assert_eq!(log(&room, "out").len(), rounds + 1);
}

#[test]
fn train_compresses_unless_told_otherwise_and_says_how_to_compare() {
    let room = Room::new();
    let line = "train --dataset demo --clients 4 --clients-per-round 2 --rounds 1";
    let output = room.run(&format!("{line} --out a"));
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(said(&output).contains("--down none --up none"), "{}", said(&output));
    let raw = room.run(&format!("{line} --down none --up none --out b"));
    assert!(!said(&raw).contains("to compare"), "{}", said(&raw));
    let bytes = |folder: &str| {
        let log = String::from_utf8(room.read(&format!("{folder}/run/log.jsonl"))).unwrap();
        let record: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
        [&record["bytes_down"], &record["bytes_up"]].map(|n| n.as_u64().unwrap())
    };
    let ([down, up], [raw_down, raw_up]) = (bytes("a"), bytes("b"));
    assert!(4 * down < raw_down && 6 * up < raw_up, "{down} {up} {raw_down} {raw_up}");
}
