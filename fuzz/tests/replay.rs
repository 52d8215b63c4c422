//! Every input that ever crashed a target, and the seeds, through the same functions on stable.
//! A crash becomes a file `fuzz/regressions/TARGET/NAME`.

use std::path::Path;

#[test]
fn regressions_stay_fixed() {
    for (target, run) in fedpress_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
        let Ok(files) = std::fs::read_dir(folder) else { continue };
        for file in files {
            let path = file.unwrap().path();
            println!("replaying {}", path.display());
            run(&std::fs::read(path).unwrap());
        }
    }
}

#[test]
fn seeds_run_clean() {
    for (target, run) in fedpress_fuzz::TARGETS {
        for (name, content) in fedpress_fuzz::seeds::of(target) {
            println!("{target}: {name}");
            run(&content);
        }
    }
}

#[test]
fn a_few_thousand_arbitrary_inputs_run_clean() {
    let mut state = 1u64;
    for (_, run) in fedpress_fuzz::TARGETS {
        for length in 0..400 {
            let bytes: Vec<u8> = (0..length % 200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 33) as u8
                })
                .collect();
            run(&bytes);
        }
    }
}
