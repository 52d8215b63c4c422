//! `fedpress train`: federated training in one process, with real messages between its parts.

mod arguments;
mod chart;
mod curves;
mod edge;
mod folder;
mod paired;
mod report;
mod section;
mod target;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedpress_train::{Algorithm, Device, RoundRecord, Run, Training, device};

pub use arguments::Arguments;

use crate::console::Console;
use crate::exit::{Interrupted, Outcome, Usage};
use crate::interrupt;
use crate::size::human;
use folder::Folder;
use report::Finished;

/// How long a training may go on without being saved.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn run(args: &Arguments, console: &Console) -> Result<Outcome> {
    let grid = args.grid()?;
    if let Some(remark) = args.remark(&grid) {
        console.note(&remark);
    }
    let device = device(&args.device).map_err(|e| Usage::new(e.to_string()))?;
    let out = args.folder()?;
    let stop = interrupt::finish_first();
    let mut finished = Vec::new();
    for run in &grid.runs {
        let folder = Folder::new(&out, &run.name)?;
        let mut training = begin(run, &folder, args, &device, console)?;
        train(run, &mut training, &folder, args, stop, console)?;
        finished.push(Finished::new(run, &training)?);
        if !training.is_done() {
            break;
        }
    }
    let frontier = out.join("frontier.svg");
    match curves::frontier(&finished) {
        Some(picture) => folder::replace(&frontier, picture.as_bytes())?,
        // What is there is of other trainings.
        None if frontier.exists() => std::fs::remove_file(&frontier)?,
        None => {}
    }
    let path = out.join("report.html");
    folder::replace(&path, report::html(&grid, &finished).as_bytes())?;
    if console.json {
        console.print_json("train", report::Summary { runs: &finished, report: &path })?;
    } else if args.markdown {
        console.print(&report::markdown(&finished))?;
    } else {
        console.print(&format!("{}\nreport: {}\n", report::table(&finished), path.display()))?;
    }
    match finished.len() == grid.runs.len() && finished.iter().all(Finished::is_done) {
        true => Ok(Outcome::Done),
        false => Err(Interrupted("saved; --resume goes on".into()).into()),
    }
}

/// One training, as it was left.
fn begin(
    run: &Run,
    folder: &Folder,
    args: &Arguments,
    device: &Device,
    console: &Console,
) -> Result<Training> {
    let mut config = run.config.clone();
    // Used only where features do not fit in memory.
    config.gkt.folder.get_or_insert_with(|| folder.features());
    if config.algorithm == Algorithm::FedAvg && config.specs()?.0.to_string().contains("subsample")
    {
        console.note(&format!(
            "{}: down leaves out part of the model, which every client then misses; fewer bits cost \
             less for as many bytes (Caldas et al. 2018)",
            run.name
        ));
    }
    let training = match folder.checkpoint(args.resume, args.force)? {
        Some(bytes) => Training::restore(config, &bytes).with_context(|| folder.to_string())?,
        None => Training::new(config)?,
    }
    .on(device.clone());
    folder.write_config(&training)?;
    Ok(training)
}

/// Its rounds, until they are over or somebody asks to stop.
fn train(
    run: &Run,
    training: &mut Training,
    folder: &Folder,
    args: &Arguments,
    stop: &AtomicBool,
    console: &Console,
) -> Result<()> {
    let bar = console.rounds(training.config().rounds, &run.name);
    bar.set_position(training.records().len() as u64);
    let mut saved = Instant::now();
    while !training.is_done() && !stop.load(Ordering::SeqCst) {
        let record = training.round(args.threads())?;
        bar.set_message(progress(record));
        bar.inc(1);
        console.detail(|| format!("{} round {}: {}", run.name, record.round, progress(record)));
        if saved.elapsed() > SAVE_EVERY {
            folder.save(training)?;
            saved = Instant::now();
        }
    }
    bar.finish_and_clear();
    folder.save(training)
}

fn progress(record: &RoundRecord) -> String {
    let accuracy = record.accuracy.map(|a| format!("{:.2} %, ", 100.0 * a)).unwrap_or_default();
    let (down, up) = (human(record.bytes_down), human(record.bytes_up));
    let clock = record.gkt.as_ref().map(|gkt| format!(", at {:.1} virtual s", gkt.clock));
    let missing = match record.clients_missing {
        0 => String::new(),
        n => format!(", {n} clients missing"),
    };
    format!("{accuracy}{down} down, {up} up{}{missing}", clock.unwrap_or_default())
}
