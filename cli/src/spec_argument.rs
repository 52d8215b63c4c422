//! Pipelines on the command line: what is misspelt is answered with what was probably meant.

use fedpress::{PRESETS, Spec, stages};

/// Names that are near enough to be meant: of the letters, so many may be wrong.
const NEAR: usize = 3;

/// Parses a preset or stages.
pub fn parse(text: &str) -> Result<Spec, String> {
    text.parse::<Spec>().map_err(|error| {
        let meant =
            error.to_string().contains("unknown stage").then(|| text.split('|').find_map(meant));
        let meant = meant.flatten();
        let meant = meant.map_or(String::new(), |meant| format!("did you mean {meant:?}? "));
        format!("{meant}{error}")
    })
}

/// What a stage that does not exist was probably meant to be.
fn meant(stage: &str) -> Option<&'static str> {
    let end = stage.find(['=', ',']).unwrap_or(stage.len());
    let name = stage[..end].trim().to_ascii_lowercase();
    let presets = PRESETS.iter().map(|preset| preset.name);
    let names =
        || stages().map(|stage| stage.name).chain(["none", "lossless"]).chain(presets.clone());
    if names().any(|known| known == name) {
        return None;
    }
    let distance = |known: &&str| strsim::damerau_levenshtein(known, &name);
    // An abbreviation is nearer than any other word.
    let begins = |known: &&str| name.len() >= 2 && known.starts_with(&name);
    let nearest = names()
        .min_by_key(distance)
        .filter(|n| distance(n) <= NEAR.min(name.len() - name.len() / 2));
    names().find(begins).or(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first() {
        for (text, meant) in [
            ("hadamrd|q=4", "hadamard"),
            ("Hadamard|q=4|zst", "zstd"),
            ("blanced", "balanced"),
            ("loss", "lossless"),
            ("kashin,lambda=1.25|g=4", "q"),
            ("subsmaple=0.5|q=2", "subsample"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("did you mean {meant:?}? ")), "{text}: {error}");
        }
        let far = parse("something-else").unwrap_err();
        assert!(!far.contains("did you mean"), "{far}");
        for known in ["q=99", "auto|rate=0.01", "small|rate=x"] {
            assert!(!parse(known).unwrap_err().contains("did you mean"), "{known}");
        }
        assert_eq!(parse("careful"), Ok("careful".parse().unwrap()));
    }
}
