//! How fast one core folds updates, and how little memory it takes: clients of the convolutional
//! network of McMahan et al. 2017 (1,663,370 parameters), each with three quarters of the units, at
//! 2 bits a value, folded one after the other; then the same in a tree of four aggregators.
//!
//! `cargo run --release -p fedpress-fl --example aggregate -- 10000`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod mnist_cnn;

use fedpress_fl::{
    Aggregator, AggregatorOptions, Broadcast, Choice, Digest, Download, Error, Keep, Layout,
    Parameter, Received, RoundingSeed, Rule, pack,
};
use mnist_cnn::layout;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LEAVES: u64 = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n_clients: u64 = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    let layout = Arc::new(layout()?);
    let change = change(&layout);
    println!("{n_clients} clients, {} parameters", layout.n_values());

    // What an update takes to be made, and nothing of sums.
    update(&layout, &change, 0)?;
    let before = peak_memory();
    let mut flat = aggregator(&layout)?;
    let mut n_bytes = 0;
    let mut folding = Duration::ZERO;
    for client in 0..n_clients {
        let update = update(&layout, &change, client)?;
        n_bytes += update.len();
        folding += fold(&mut flat, client, &update)?;
    }
    if let (Some(before), Some(late)) = (before, peak_memory()) {
        println!("peak memory: {before} KiB without sums, {late} KiB after {n_clients} clients");
        // What the documentation of `Aggregator` allows: 21 bytes for each coordinate, of which the system hands pages
        // out when sums first need them, a decoded update, and for each that is expected; and room for what
        // allocators do.
        let documented = layout.n_values() as u64 * (21 + 4) / 1024 + n_clients / 4;
        if late > before + documented + 4096 {
            return Err("memory is not what the documentation says".into());
        }
    }
    println!("bytes of an update: {}", n_bytes as u64 / n_clients.max(1));
    let rate = n_clients as f64 / folding.as_secs_f64();
    println!("clients folded a second, on one core: {rate:.0}");

    let mut root = aggregator(&layout)?;
    for leaf in 0..LEAVES {
        let mut sums = aggregator(&layout)?;
        for client in (leaf..n_clients).step_by(LEAVES as usize) {
            fold(&mut sums, client, &update(&layout, &change, client)?)?;
        }
        root.merge(&sums.save()?, &Default::default())?;
    }
    let same = (0..layout.params().len()).all(|i| bits(&root, i) == bits(&flat, i));
    if !same || root.save()? != flat.save()? {
        return Err("a tree of aggregators gives another result".into());
    }
    println!("a tree of {LEAVES} aggregators gives the same mean, bit by bit");
    Ok(())
}

fn aggregator(layout: &Arc<Layout>) -> Result<Aggregator, Error> {
    // Bounds as a coordinator sets them; nobody reaches them.
    let (max_norm, max_statistic_norm) = (1e6, 1e6);
    let options = AggregatorOptions { max_norm, max_statistic_norm, ..Default::default() };
    Aggregator::new(layout.clone(), 1, 0, options)
}

/// What training changes, the same for every client: it is the folding that is measured.
fn change(layout: &Layout) -> Vec<Parameter> {
    let param = |(i, param): (usize, &fedpress_fl::ParamLayout)| {
        let mut change = Parameter::zeros(param.name.clone(), &layout.shape(i));
        let draw = |at| fedpress::derive_key(&[i as u64, at]) as i64 as f32 / 2f32.powi(70);
        change.values.iter_mut().zip(0..).for_each(|(value, at)| *value = draw(at));
        change
    };
    layout.params().iter().enumerate().map(param).collect()
}

/// What this client was sent.
fn choice(client: u64) -> (Choice, Digest) {
    let choice = Choice { rule: Rule::Random { seed: client }, keep: Keep::from(0.75) };
    (choice, Digest::of(&client.to_le_bytes()))
}

/// The update of a client whose download was all zeros.
fn update(
    layout: &Layout,
    change: &[Parameter],
    client: u64,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (choice, digest) = choice(client);
    let trained = pack(layout, &choice.select(layout)?, change)?;
    let header = Broadcast {
        run: 1,
        round: 0,
        client: Some(client),
        seed: 7,
        choice,
        gains: vec![],
        up: "hadamard|q=2|zstd".parse()?,
        task: String::new(),
        integers: None,
    };
    let zeros = |p: &Parameter| Parameter::zeros(p.name.clone(), &p.shape);
    let base = trained.iter().map(zeros).collect();
    Ok(Download { header, base, digest }.update(
        client,
        &trained,
        1 + client % 600,
        RoundingSeed(client),
    )?)
}

/// How long it takes.
fn fold(
    sums: &mut Aggregator,
    client: u64,
    update: &[u8],
) -> Result<Duration, Box<dyn std::error::Error>> {
    let (choice, digest) = choice(client);
    sums.expect(client, digest, &choice)?;
    let start = Instant::now();
    let received = sums.receive(client, update);
    match received {
        Received::Folded { .. } => Ok(start.elapsed()),
        other => Err(format!("client {client}: {other:?}").into()),
    }
}

fn bits(sums: &Aggregator, i: usize) -> Vec<Option<u64>> {
    sums.mean(i).into_iter().map(|mean| mean.map(f64::to_bits)).collect()
}

/// Of this process in KiB, where Linux counts it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
